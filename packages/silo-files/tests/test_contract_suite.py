"""The contract suite fails for a class that does nothing, and ``FileStore`` refuses one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from silo_files import FileBackend, FileStore, LocalFileBackend
from silo_files.testing import FileBackendContract

SUITES = """
from silo_files import FileBackend, Usage
from silo_files.backend import StagedFile
from silo_files.testing import FileBackendContract

RESULTS = {"None": None, "True": True, "list": [], "usage": Usage(0, 0), "error": NotImplementedError}


def idle(seam, result, **methods):
    def method(self, *args, **kwargs):
        if result is NotImplementedError:
            raise NotImplementedError
        return result

    return type("Idle", (), {name: method for name in vars(seam) if name[0] != "_"} | methods)


def add(name, made):
    globals()["Test_" + name] = type("Test", (FileBackendContract,), {"make_backend": lambda self: made()})


add("empty", type("Empty", (), {}))
add("stubs", type("Stubs", (FileBackend,), {}))
for name, result in RESULTS.items():
    add(name, idle(FileBackend, result))
    add(name + "_staged", idle(FileBackend, result, stage=lambda self, key, name: idle(StagedFile, None)()))
"""
"""Suites for an empty class, for the stubs of the protocol, and for classes whose methods all return the same."""


@pytest.mark.slow
def test_no_test_of_the_suite_passes_for_a_class_that_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_idle.py").write_text(SUITES, encoding="utf-8")

    printed = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rp", "--tb=no", "-p", "no:cacheprovider", "test_idle.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=100,
    ).stdout

    assert re.findall(r"^PASSED .*::(\w+::\w+)", printed, re.M) == []
    assert re.match(r"\d{3,} failed(, \d+ warnings)? in ", printed.splitlines()[-1])


UNNOTICED = {"area_path", "path", "purge", "close"}
"""Methods that may do nothing in a backend without folders, whose files are gone at once when they are removed."""
NAMES = [name for name in vars(FileBackend) if not name.startswith("_")]


@pytest.mark.parametrize("name", NAMES)
def test_a_backend_with_one_method_that_does_nothing_fails(name: str, tmp_path: Path) -> None:
    idle = type("Idle", (LocalFileBackend,), {name: lambda self, *args, **kwargs: None})
    suite = type("Suite", (FileBackendContract,), {})
    tests = [test for test in dir(suite) if test.startswith("test_")]

    def fails(test: str) -> bool:
        suite.make_backend = lambda self: idle(str(tmp_path / test))  # type: ignore[attr-defined]
        try:
            getattr(suite(), test)()
        except Exception:
            return True
        return False

    assert any(map(fails, tests)) == (name not in UNNOTICED)


class Empty:
    pass


STUBS: Any = type("Stubs", (FileBackend,), {})


@pytest.mark.parametrize("backend", [Empty(), STUBS(), 5], ids=["empty", "stubs", "number"])
def test_a_store_refuses_an_incomplete_backend_and_lists_what_is_missing(backend: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError) as caught:
        FileStore(tmp_path / "unused", backend=backend)
    assert str(caught.value) == (
        f"backend must be a FileBackend, but this {type(backend).__name__} does not fit: it has no {', '.join(NAMES)}. "
        "See silo_files.FileBackend"
    )
    assert {"stage", "open", "sweep", "close"} <= set(NAMES)
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize(
    ("name", "method", "reason"),
    [
        ("area_path", lambda self, key: None, r"its area_path must take \(key, \*, create\), and cannot \(.* 'create'"),
        (
            "stat",
            lambda self, key, name, more: None,
            r"its stat must take \(key, name\), and cannot \(missing .* 'more'\)",
        ),
        ("names", (), "its names is not a method"),
    ],
)
def test_a_store_refuses_a_backend_with_a_method_that_it_cannot_call(
    name: str, method: Any, reason: str, tmp_path: Path
) -> None:
    backend = type("Odd", (LocalFileBackend,), {name: method})(str(tmp_path / "files"))
    with pytest.raises(
        TypeError, match=f"^backend must be a FileBackend, but this Odd does not fit: {reason}"
    ) as caught:
        FileStore(tmp_path, backend=backend)
    suite = type("Suite", (FileBackendContract,), {"make_backend": lambda self: backend})()
    with pytest.raises(TypeError, match=re.escape(str(caught.value).removeprefix("backend"))):
        suite.test_is_a_file_backend()


def test_a_store_refuses_a_class_in_place_of_a_backend(tmp_path: Path) -> None:
    backend: Any = LocalFileBackend
    with pytest.raises(TypeError, match=r"^backend takes an object, not a class: give LocalFileBackend\(...\)$"):
        FileStore(tmp_path, backend=backend)
