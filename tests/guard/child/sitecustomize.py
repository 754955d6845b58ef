# ruff: noqa: PTH100, PTH118, PTH120
"""Installs the guard in a Python process that a test starts, before any other code of the process runs."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import traceback

FOLDER = os.path.dirname(os.path.abspath(__file__))


def _run(name: str, path: str) -> None:
    """Import the file ``path`` as the module ``name``."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _guard() -> None:
    """Install the hook. If that fails, end the process."""
    text = os.environ.get("SILO_GUARD_ROOTS")
    if not text:
        return
    try:
        for name in ("policy", "paths", "programs", "hook"):  # each imports the earlier ones
            _run(f"tests.guard.{name}", os.path.join(os.path.dirname(FOLDER), f"{name}.py"))
        sys.modules["tests.guard.hook"].inherit(text)
    except BaseException:
        traceback.print_exc()
        os._exit(97)


def _chain() -> None:
    """Run the ``sitecustomize`` that this one shadows, if there is one."""
    others = [entry for entry in sys.path if os.path.abspath(entry) != FOLDER]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.origin is not None:
        _run("sitecustomize", spec.origin)


_guard()
_chain()
