"""Runs a function of a script on a small disk that only that process sees."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

MOUNT = "mount -t tmpfs -o size=4m,nr_inodes=400 tmpfs "


def run_on_small_disk(script: Path, function: str, folder: Path) -> None:
    """Run ``script`` with the arguments ``function`` and ``folder``, where a disk of 4 MB with 400 files is mounted.

    The disk is in a mount namespace of the process, so the system has no part in it, and it ends with the process.
    """
    if sys.platform != "linux":
        pytest.skip("mounts a small disk as Linux lets users do")
    guard = pytest.importorskip("tests.guard", reason="needs the guard of the repository, which an sdist does not have")
    mount = MOUNT + shlex.quote(str(folder))
    with guard.unguarded_child():  # the shell; the script runs under the guard
        tried = subprocess.run(["unshare", "-Urm", "sh", "-c", mount], capture_output=True, text=True)
        if tried.returncode:
            pytest.skip(f"this system does not let users mount: {tried.stderr.strip()}")
        program = shlex.join([sys.executable, str(script), function, str(folder)])
        command = ["unshare", "-Urm", "sh", "-c", f"{mount} && exec {program}"]
        folders = [os.environ.get("PYTHONPATH", ""), *filter(None, sys.path)]  # pytest has added those of helpers
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
        ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def run_named(functions: dict[str, object]) -> None:
    """Call the function that the first argument of this script names, with the second as a folder."""
    function = functions[sys.argv[1]]
    assert callable(function)
    assert Path(sys.argv[2]).is_mount(), "not on the small disk"
    function(Path(sys.argv[2]))
