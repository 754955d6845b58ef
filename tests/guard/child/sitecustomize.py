# ruff: noqa: PTH100, PTH118, PTH120
"""Installs the guard in a Python process started by a test, before any other code of it runs."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import traceback

FOLDER = os.path.dirname(os.path.abspath(__file__))


def _run(name: str, path: str) -> None:
    """Import the file `path` as the module `name`."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _guard() -> None:
    """Install the hook; without it the process must not go on."""
    text = os.environ.get("SILO_GUARD_ROOTS")
    if not text:
        return
    try:
        for name in ("policy", "paths", "programs", "hook"):  # Each needs those before it.
            _run(f"tests.guard.{name}", os.path.join(os.path.dirname(FOLDER), f"{name}.py"))
        sys.modules["tests.guard.hook"].inherit(text)
    except BaseException:
        traceback.print_exc()
        os._exit(97)


def _chain() -> None:
    """Run the `sitecustomize` which this one hides, if there is one."""
    others = [entry for entry in sys.path if os.path.abspath(entry) != FOLDER]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.origin is not None:
        _run("sitecustomize", spec.origin)


_guard()
_chain()
