"""The programs that a release uses: git, uv, pip, and interpreters in environments of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


class Refused(Exception):
    """A command cannot do what it was asked to do. The message has one reason on each line."""


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Return what a program prints. Raises ``Refused`` with what it prints if it fails."""
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Refused(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def uv() -> str:
    """Return the path of uv: the one that runs this, the one in ``.uv``, or the one on the ``PATH``."""
    own = Path(__file__).parents[2] / ".uv" / "bin" / "uv"
    found = os.environ.get("UV") or shutil.which(own) or shutil.which("uv")
    if found is None:
        raise Refused("uv is not installed: the README says how to install it")
    return found


def environment(folder: Path, python: str | None = None) -> Path:
    """Make an environment for a Python, by default the one that uv chooses, and return its interpreter."""
    run(uv(), "venv", "--quiet", *(["--python", python] if python else []), folder, cwd=folder.parent)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def alone() -> dict[str, str]:
    """Return the variables for a program that uses only what it is given: no other index, package or option."""
    settings = ("PIP_", "PYTEST_", "PYTHON", "UV_DEFAULT_INDEX", "UV_EXTRA", "UV_FIND", "UV_INDEX", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    return kept | {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
