"""A system call fails, each in turn: nothing stays locked, open or reserved, and the counts are right."""

from __future__ import annotations

import errno
import gc
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from silo_files import FileStore
from silo_files.local.trash import Trash

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="counts the open files in /proc"),
]

LIMIT = 400_000
CALLS = (  # noqa: SIM905
    "access chmod close fstat link lseek lstat mkdir open pread pwrite rename replace rmdir stat unlink utime write"
).split()


class Failing:
    """Lets one call of the functions of ``os``, and of ``flock()``, fail.

    Attributes:
        rest: Number of calls before the one that fails; negative for none, and once it has failed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import fcntl

        self.rest: int = -1
        for name in CALLS:
            monkeypatch.setattr(os, name, self._wrap(getattr(os, name)))
        monkeypatch.setattr(fcntl, "flock", self._wrap(fcntl.flock))

    def _wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():  # of an earlier test
                return call(*args, **options)
            self.rest -= self.rest >= 0
            if self.rest != 0:
                return call(*args, **options)
            self.rest = -1
            if call.__name__ == "access":
                return False
            if call.__name__ == "close":  # Linux closes it in any case
                call(*args, **options)
            raise OSError(errno.EIO, "Input/output error")

        return wrapped


def stream(store: FileStore, _: Path) -> None:
    store.save("sid", "new", iter([b"x" * 50_000] * 6))


def abort(store: FileStore, _: Path) -> None:
    out = store.writer("sid", "new", size=300_000)
    out.write(b"x")
    out.abort()


def move(store: FileStore, source: Path) -> None:
    store.save("sid", "new", source)


def delete(store: FileStore, _: Path) -> None:
    store.delete("sid", "old")


def cleanup(store: FileStore, _: Path) -> None:
    store.cleanup("sid")


def open_in(folder: Path) -> int:
    """Return how many files below a folder this process has open. Other tests may have left others."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the descriptor of this look is gone
            count += entry.readlink().is_relative_to(folder)
    return count


@pytest.mark.parametrize("act", [stream, abort, move, delete, cleanup])
def test_a_call_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[FileStore, Path], object]
) -> None:
    monkeypatch.setattr(Trash, "_enqueue", lambda *_: None)  # its thread would make calls meanwhile
    gc.collect()  # closes the files of earlier tests
    failing = Failing(monkeypatch)
    number = 0
    is_reached = True
    while is_reached:
        number += 1
        source = tmp_path / f"source-{number}"
        source.write_bytes(b"m" * 300_000)
        store = FileStore(tmp_path / str(number), max_session_bytes=LIMIT, max_store_bytes=LIMIT, max_files=2)
        store.save("sid", "old", b"o" * 1000)
        before = open_in(tmp_path)
        failing.rest = number
        with suppress(OSError):
            act(store, source)
        is_reached = failing.rest < 0
        failing.rest = -1

        assert open_in(tmp_path) <= before, number
        assert store.usage("sid") == store.backend.usage("sid"), number
        assert store.total() == store.backend.total(), number
        names = store.list_files("sid")
        assert source.exists() or "new" in names, number
        assert "old" in names or act in (delete, cleanup), number
        store.cleanup_all()
        other = FileStore(store.base_dir, max_session_bytes=LIMIT, max_store_bytes=LIMIT)
        other.save("other", "full", b"f" * LIMIT)
        other.close()
        store.close()
    assert number > 10
