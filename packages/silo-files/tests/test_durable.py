"""With ``durable``, a save reaches the disk in an order that survives a power cut at any point.

The bytes of the file come first, then its name in the journal, then the file in its folder.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from silo_files import FileStore
from silo_files.local import journal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no way to sync a folder")


def saved(*, new: bool) -> list[str]:
    """Return the steps of a save: the bytes, the name if it is new, the rename, the folder."""
    folder = "base/areas/AREA"
    return [
        f"write {folder}/w-OWNER/N.part",
        f"sync {folder}/w-OWNER/N.part",
        *([f"write {folder}/w-OWNER/names", f"sync {folder}/w-OWNER/names"] if new else []),
        f"replace {folder}/w-OWNER/N.part {folder}/FILE.txt",
        f"sync {folder}",
    ]


class Disk:
    """Records what is created, written, synced and renamed below a folder, by names that are the same in each run."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder = str(folder)
        self._paths: dict[int, str] = {}
        self.events: list[str] = []
        self._patch(patch)

    def take(self) -> list[str]:
        """Return what was recorded since the last call."""
        taken, self.events = self.events, []
        return taken

    def _record(self, *words: str) -> None:
        # Lock files need not survive a power cut.
        if any(word.startswith(self._folder) and "/owners" not in word for word in words):
            self.events.append(" ".join(map(self._short, words)))

    def _short(self, path: str) -> str:
        path = path.removeprefix(self._folder).lstrip("/") or "."
        path = re.sub(r"[0-9a-f]{2}/[0-9a-f]{64}", "AREA", path)
        path = re.sub(r"AREA/[0-9a-f]{32}", "AREA/FILE", path)
        path = re.sub(r"areas/[0-9a-f]{2}$", "areas/PREFIX", path)
        return re.sub(r"([tw])-[0-9a-f]{16}(?:-[0-9]+)?", r"\1-OWNER", re.sub(r"[0-9]+\.part", "N.part", path))

    def _patch(self, patch: pytest.MonkeyPatch) -> None:
        plain: dict[str, Any] = {
            name: getattr(os, name) for name in ("open", "write", "fsync", "rename", "replace", "mkdir")
        }

        def opened(path: Any, *args: Any, **options: Any) -> int:
            fd: int = plain["open"](path, *args, **options)
            self._paths[fd] = os.fspath(path)
            return fd

        def write(fd: int, data: Any) -> int:
            self._record("write", self._paths.get(fd, ""))
            count: int = plain["write"](fd, data)
            return count

        def fsync(fd: int) -> None:
            self._record("sync", self._paths[fd])
            plain["fsync"](fd)

        def named(name: str) -> Any:
            def call(*paths: Any, **options: Any) -> None:
                self._record(name, *(path for path in paths if isinstance(path, str)))
                plain[name](*paths, **options)

            return call

        patch.setattr(os, "open", opened)
        patch.setattr(os, "write", write)
        patch.setattr(os, "fsync", fsync)
        for name in ("rename", "replace", "mkdir"):
            patch.setattr(os, name, named(name))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


def test_a_new_folder_is_synced_with_the_ones_above_it(tmp_path: Path, disk: Disk) -> None:
    FileStore(tmp_path / "top" / "base", durable=True)
    assert disk.take() == ["mkdir top", "sync .", "mkdir top/base", "sync top"]


def test_the_first_save_of_a_session(tmp_path: Path, disk: Disk) -> None:
    store = FileStore(tmp_path / "base", durable=True)
    disk.take()
    store.save("sid", "a.txt", b"1")
    assert disk.take() == [
        "mkdir base/areas",
        "mkdir base/trash",
        "mkdir base/areas/PREFIX",
        "mkdir base/areas/AREA",
        "mkdir base/areas/AREA/t-OWNER",
        "write base/areas/AREA/t-OWNER/names",
        "sync base/areas/AREA/t-OWNER/names",
        "sync base/areas/AREA/t-OWNER",
        "sync base/areas/AREA",
        "sync base/areas/PREFIX",
        "sync base/areas",
        "sync base",
        "rename base/areas/AREA/t-OWNER base/areas/AREA/w-OWNER",
        *saved(new=True),
    ]


def test_later_saves(tmp_path: Path, disk: Disk) -> None:
    store = FileStore(tmp_path / "base", durable=True)
    store.save("sid", "a.txt", b"1")
    disk.take()
    store.save("sid", "b.txt", b"2")
    assert disk.take() == saved(new=True)
    store.save("sid", "b.txt", b"3")
    assert disk.take() == saved(new=False)


def test_a_journal_that_is_rewritten(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path / "base", durable=True)
    store.save("sid", "a.txt", b"1")
    disk.take()
    monkeypatch.setattr(journal, "_COMPACT_FROM", 10)
    events: list[str] = []
    for number in range(100):
        store.save("sid", f"{number}.txt", b"1")
        store.delete("sid", f"{number}.txt")
        if len(events := disk.take()) != len(saved(new=True)):
            break
    folder = "base/areas/AREA/w-OWNER"
    assert events == [
        *saved(new=True)[:4],
        f"write {folder}/names.part",
        f"sync {folder}/names.part",
        f"replace {folder}/names.part {folder}/names",
        f"sync {folder}",
        *saved(new=True)[4:],
    ]
    assert store.list_files("sid") == ["a.txt"]


def test_nothing_is_synced_without_durable(tmp_path: Path, disk: Disk) -> None:
    FileStore(tmp_path / "top" / "base").save("sid", "a.txt", b"1")
    events = disk.take()
    assert "replace top/base/areas/AREA/w-OWNER/N.part top/base/areas/AREA/FILE.txt" in events
    assert [event for event in events if event.startswith("sync")] == []
