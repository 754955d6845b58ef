"""The contract suite, run on the local backend and on one in memory."""

from __future__ import annotations

import io
import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from silo_files import (
    AreaGone,
    FileBackend,
    FileInfo,
    FileMissing,
    FileStore,
    LocalFileBackend,
    NoLocalPath,
    SavedPath,
    Usage,
)
from silo_files import SessionQuotaExceeded as QuotaExceeded
from silo_files.backend import Block, Living
from silo_files.testing import FileBackendContract

Area = dict[str, tuple[bytes, FileInfo]]


class MemoryStagedFile:
    """A file that is a list of blocks."""

    def __init__(self, backend: MemoryFileBackend, key: str, area: Area, name: str) -> None:
        self.backend, self.key, self.area, self.name = backend, key, area, name
        self.data = bytearray()

    def write(self, block: Block, /) -> None:
        self.data += block

    def adopt(self, path: str, status: os.stat_result, /) -> bool:
        return False

    def finish(self) -> None:
        return

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)

    def commit(self, name: str | None = None, /) -> SavedPath:
        name = name or self.name
        with self.backend.mutex:
            if self.backend.areas.get(self.key) is not self.area:
                raise AreaGone
            saved = FileInfo(name, len(self.data), time.time(), etag=str(next(self.backend.numbers)))
            self.area[name] = (bytes(self.data), saved)
        return SavedPath(f"memory:{name}", saved)

    def abort(self) -> None:
        self.data.clear()


class MemoryFileBackend:
    """Like an object store: no paths, no folders."""

    def __init__(self) -> None:
        self.areas: dict[str, Area] = {}
        self.mutex = threading.Lock()
        self.numbers = itertools.count()

    def stage(self, key: str, name: str) -> MemoryStagedFile:
        with self.mutex:
            return MemoryStagedFile(self, key, self.areas.setdefault(key, {}), name)

    def path(self, key: str, name: str) -> str | None:
        return None

    def area_path(self, key: str, *, create: bool) -> str | None:
        return None

    def stat(self, key: str, name: str) -> FileInfo | None:
        found = self.areas.get(key, {}).get(name)
        return found[1] if found else None

    def size(self, key: str, name: str) -> int | None:
        found = self.areas.get(key, {}).get(name)
        return len(found[0]) if found else None

    def open(self, key: str, name: str) -> tuple[BinaryIO, FileInfo]:
        try:
            data, info = self.areas[key][name]
        except KeyError:
            raise FileMissing from None
        return io.BytesIO(data), info

    def names(self, key: str) -> list[str]:
        return sorted(self.areas.get(key, {}))

    def list(self, key: str) -> list[FileInfo]:
        area = self.areas.get(key, {})
        return [area[name][1] for name in sorted(area)]

    def delete(self, key: str, name: str) -> bool:
        return self.areas.get(key, {}).pop(name, None) is not None

    def remove_area(self, key: str) -> bool:
        with self.mutex:
            return self.areas.pop(key, None) is not None

    def remove_all(self) -> None:
        self.areas.clear()

    def usage(self, key: str) -> Usage:
        area = self.areas.get(key, {})
        return Usage(sum(len(data) for data, _ in area.values()), len(area))

    def total(self) -> Usage:
        usages = [self.usage(key) for key in self.areas]
        return Usage(sum(usage.bytes for usage in usages), sum(usage.files for usage in usages))

    def purge(self) -> None:
        return

    def sweep(self, living: Living, *, on_progress: Callable[[int, int], object] | None = None) -> int:
        keys = list(self.areas)
        alive = living(keys)
        count = sum(self.remove_area(key) for key in keys if key not in alive)
        if on_progress is not None:
            on_progress(len(keys), len(keys))
        return count

    def close(self) -> None:
        return


class TestLocal(FileBackendContract):
    durable = False

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.base_dir = str(tmp_path / "store")

    def make_backend(self) -> FileBackend:
        return LocalFileBackend(self.base_dir, durable=self.durable)


class TestLocalDurable(TestLocal):
    durable = True


class TestMemory(FileBackendContract):
    def make_backend(self) -> FileBackend:
        return MemoryFileBackend()


def test_the_store_works_over_a_backend_without_paths(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "unused", backend=MemoryFileBackend(), max_session_bytes=10)
    assert store.save("sid", "a", io.BytesIO(b"12345")) == "memory:a"
    assert store.get_path("sid", "a") is None
    assert store.open("sid", "a").read() == b"12345"
    with pytest.raises(NoLocalPath):
        store.session_dir("sid")
    with pytest.raises(QuotaExceeded):
        store.save("sid", "b", b"123456")
    store.cleanup("sid")
    store.save("sid", "b", b"123456")
    assert not (tmp_path / "unused").exists()
