"""The contract suites fail for a class that does nothing, and ``SessionStore`` refuses one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from silo_store import Backend, Codec, MemoryBackend, MsgpackCodec, SessionStore
from silo_store.testing import BackendContract

SUITES = """
import itertools

import silo_store
from silo_store.testing import BackendContract, CodecContract

RESULTS = {"None": None, "list": [], "bytes": b"", "pair": (None, 0.0), "error": NotImplementedError}


def idle(seam, result, **attributes):
    def method(self, *args, **kwargs):
        if result is NotImplementedError:
            raise NotImplementedError
        return result

    return type("Idle", (), {name: method for name in vars(seam) if name[0] != "_"} | attributes)


def add(suite, maker, name, made):
    body = {maker: lambda self: made()}
    if getattr(made, "shared", False):
        body["make_peer"] = lambda self, backend: made()
    globals()[f"Test_{suite.__name__}_{name}"] = type("Test", (suite,), body)


for suite, seam, maker, attributes in (
    (BackendContract, silo_store.Backend, "make_backend", ("live", "shared", "origin")),
    (CodecContract, silo_store.Codec, "make_codec", ("exact",)),
):
    add(suite, maker, "empty", type("Empty", (), {}))
    add(suite, maker, "stubs", type("Stubs", (seam,), dict.fromkeys(attributes, False)))
    for name, result in RESULTS.items():
        for values in itertools.product(*(("a place",) if each == "origin" else (False, True) for each in attributes)):
            made = idle(seam, result, **dict(zip(attributes, values)))
            add(suite, maker, "_".join((name, *map(str, values))), made)
"""
"""Suites for an empty class, for the stubs of the protocol, and for classes whose methods all return the same."""

UNUSED = {
    False: {"fetch", "attached", "claim", "release", "write", "attach", "settle", "close"},
    True: {"put", "release", "settle", "close"},
}
"""Methods that may do nothing in a backend of one process, or are not called, by whether it keeps copies."""


@pytest.mark.slow
def test_no_test_of_a_suite_passes_for_a_class_that_does_nothing(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("name", [name for name in vars(Backend) if not name.startswith("_")])
def test_a_backend_with_one_method_that_does_nothing_fails(name: str, copy: bool) -> None:
    idle = type("Idle", (MemoryBackend,), {name: lambda self, *args, **kwargs: None})
    suite = type("Suite", (BackendContract,), {"make_backend": lambda self: idle(copy=copy)})

    assert any(fails(getattr(suite(), test)) for test in dir(suite) if test.startswith("test_")) == (
        name not in UNUSED[copy]
    )


def fails(test: Callable[[], object]) -> bool:
    try:
        test()
    except Exception:
        return True
    return False


class Empty:
    pass


Stubs: Any = type("Stubs", (Backend,), {"live": False, "shared": False, "origin": None})


NAMES = [name for name in (*Backend.__annotations__, *vars(Backend)) if not name.startswith("_")]


@pytest.mark.parametrize(
    ("backend", "lacking"),
    [(Empty(), NAMES), (Stubs(), NAMES[3:]), (5, NAMES)],
    ids=["empty", "stubs", "number"],
)
def test_a_store_refuses_an_incomplete_backend_and_lists_what_is_missing(backend: Any, lacking: list[str]) -> None:
    with pytest.raises(TypeError) as caught:
        SessionStore(backend=backend)
    assert str(caught.value) == (
        f"backend must be a Backend, but this {type(backend).__name__} does not fit: it has no {', '.join(lacking)}. "
        "See BACKENDS.md of silo-store"
    )
    assert {"load", "write", "put", "close"} <= set(lacking)


def without_base(self: object, life: object, changes: object, at: object, claim: object = None, *, last: bool) -> None:
    pass


async def find(self: object, uid: str) -> None:
    pass


@pytest.mark.parametrize(
    ("name", "method", "reason"),
    [
        (
            "write",
            without_base,
            r"its write must take \(life, changes, at, claim=None, \*, last=False, base=None\), and cannot \(.*'base'",
        ),
        ("peek", lambda self, sid, at: None, r"its peek must take \(sid\), and cannot \(missing .* 'at'\)"),
        ("touch", lambda self, life: None, r"its touch must take \(life, at\), and cannot \(too many"),
        (
            "create",
            lambda self, record, at: None,
            r"its create must take \(record, at, claim=None, \*, last=False, lim",
        ),
        ("count", 5, "its count is not a method"),
        ("find", find, "its find is async"),
    ],
)
def test_a_store_refuses_a_backend_with_a_method_that_it_cannot_call(name: str, method: Any, reason: str) -> None:
    backend = type("Odd", (MemoryBackend,), {name: method})()
    with pytest.raises(TypeError, match=f"^backend must be a Backend, but this Odd does not fit: {reason}") as caught:
        SessionStore(backend=backend)
    suite = type("Suite", (BackendContract,), {"make_backend": lambda self: backend})()
    with pytest.raises(TypeError, match=re.escape(str(caught.value).removeprefix("backend"))):
        suite.test_it_has_what_a_store_calls()


def test_a_method_may_take_more_and_have_other_names() -> None:
    more: dict[str, Any] = {
        "peek": lambda self, key, more=None: None,
        "count": lambda self, *args, **kwargs: 0,
        "sids": staticmethod(list),
        "check": print,  # Python has no signature of some builtins.
    }
    SessionStore(backend=type("More", (MemoryBackend,), more)())


def test_a_store_accepts_a_backend_that_passes_calls_on() -> None:
    class Counted:
        def __init__(self) -> None:
            self.inner = MemoryBackend(copy=True)
            self.calls: list[str] = []

        def __getattr__(self, name: str) -> Any:
            self.calls.append(name)
            return getattr(self.inner, name)

    backend: Any = Counted()
    assert SessionStore(backend=backend).backend is backend


@pytest.mark.parametrize("use", ["backend", "codec"])
def test_a_store_refuses_a_class_in_place_of_an_object(use: str) -> None:
    given: dict[str, Any] = {use: MemoryBackend if use == "backend" else MsgpackCodec}
    with pytest.raises(TypeError, match=rf"^{use} takes an object, not a class: give M\w+\(...\)$"):
        SessionStore(**given)


def test_a_store_refuses_an_incomplete_codec_and_lists_what_is_missing() -> None:
    codec: Any = Empty()
    with pytest.raises(TypeError) as caught:
        SessionStore(backend="memory://?copy=1", codec=codec)
    assert str(caught.value) == (
        "codec must be a Codec, but this Empty does not fit: it has no exact, typed, encode, decode. "
        "See silo_store.Codec"
    )
    assert set(Codec.__annotations__) == {"exact"}
