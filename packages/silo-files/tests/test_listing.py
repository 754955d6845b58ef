"""Listings know every file after a crash, and journals do not grow for ever."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from silo_files import FileStore, StorageFull
from silo_files.local import journal, walk
from silo_files.names import hash_key

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def journals(store: FileStore) -> list[Path]:
    return list(Path(store.base_dir).rglob("names"))


def test_names_are_known_to_another_process(tmp_path: Path) -> None:
    names = ["a.csv", "\u00fc\U0001f600", "x" * 255, 'quote"s', '{"name": "b"}', "b"]
    for name in names:
        FileStore(tmp_path).save("sid", name, b"1")
    assert FileStore(tmp_path).list_files("sid") == sorted(names)


def test_a_line_cut_short_damages_no_other(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.save("sid", "whole", b"1")
    (path,) = journals(store)
    with path.open("ab") as file:
        file.write(b'{"name": "cut sho')
    assert store.list_files("sid") == ["whole"]
    assert FileStore(tmp_path).list_files("sid") == ["whole"]


def test_damaged_lines_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_bytes(b'{"key": "sid"}\n\xff\xfe\n[]\n5\n{"name": 7}\n{"name": "a"}\n{"name": "a"}\n{"key": 1}\n')
    assert journal.read_names(str(tmp_path)) == ["a", "a"]
    assert journal.read_head(str(tmp_path), hash_key("sid")) == ("sid", None)
    assert journal.read_head(str(tmp_path), hash_key("other")) is None
    assert journal.read_names(str(tmp_path / "missing")) == []


def test_a_key_is_found_behind_a_damaged_line_or_with_a_long_origin(tmp_path: Path) -> None:
    path = tmp_path / "names"
    for start in (b"", b"\n", b"\0" * 20 + b"\n", b'{"key": "other"}\n', b'{"key": "si\n'):
        for origin in ("", "o", "\u00e4" * 2000):
            line = json.dumps({"key": "sid", "origin": origin}).encode()
            path.write_bytes(start + line + b"\n")
            assert journal.read_head(str(tmp_path), hash_key("sid")) == ("sid", origin)
            path.write_bytes(start + line[:-1])
            assert journal.read_head(str(tmp_path), hash_key("sid")) is None, "a line that was cut short"


@given(TEXT, st.none() | TEXT, st.lists(TEXT))
def test_every_key_and_name_is_read_as_it_was_written(key: str, origin: str | None, names: list[str]) -> None:
    with TemporaryDirectory() as folder:
        journal.start(folder, key, origin, durable=False)
        for name in names:
            journal.append(folder, name, durable=False)
        assert journal.read_names(folder) == names
        assert journal.read_head(folder, hash_key(key)) == (key, origin)


def test_half_a_character_in_a_damaged_journal_is_ignored(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.save("sid", "a", b"1")
    (path,) = journals(store)
    path.write_bytes(b'{"key": "\\ud83d"}\n{"name": "\\ud83d"}\n' + path.read_bytes())
    assert store.list_files("sid") == ["a"]
    assert store.sweep(lambda keys: [key for key in keys if key != "sid"]) == 1


def test_names_are_listed_without_a_look_at_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path)
    names = [f"file-{number:02}" for number in range(50)]
    for name in names:
        store.save("sid", name, b"1")
    (path,) = journals(store)
    calls: list[str] = []

    def watch(call: Any) -> Any:
        def watched(path: str, *args: Any, **options: Any) -> Any:
            calls.append(path)
            return call(path, *args, **options)

        return watched

    with monkeypatch.context() as patch:
        for function in ("stat", "lstat", "open"):
            patch.setattr(os, function, watch(getattr(os, function)))
        assert store.list_files("sid") == names
    assert calls == [str(path)]


def test_a_process_that_saves_for_the_first_time_during_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path)
    store.save("sid", "a", b"1")
    scan = walk.scan
    monkeypatch.setattr(walk, "scan", lambda area: (scan(area)[0], []))
    assert store.list_files("sid") == ["a"]


def test_a_file_without_a_name_hides_no_other(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    path = Path(store.save("sid", "a", b"1"))
    (path.parent / ("0" * 32)).write_bytes(b"2")
    assert store.list_files("sid") == ["a"]


def test_replacing_a_file_adds_no_line(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.save("sid", "a", b"1")
    (path,) = journals(store)
    before = path.stat().st_size
    store.save("sid", "a", b"2")
    assert path.stat().st_size == before


def test_names_of_deleted_files_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_COMPACT_FROM", 2000)
    store = FileStore(tmp_path)
    for number in range(5):
        store.save("sid", f"kept-{number}", b"1")
    largest = 0
    for number in range(1000):
        store.save("sid", f"gone-{number}", b"1")
        store.delete("sid", f"gone-{number}")
        largest = max(largest, journals(store)[0].stat().st_size)
    assert largest < 6000
    assert store.list_files("sid") == [f"kept-{number}" for number in range(5)]
    assert store.sweep(lambda keys: ["sid"]) == 0


def test_a_file_whose_name_makes_the_journal_too_long_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_COMPACT_FROM", 100)
    store = FileStore(tmp_path)
    for number in range(300):
        store.save("sid", f"new-{number}", b"1")
        assert store.list_files("sid") == [f"new-{number}"]
        store.delete("sid", f"new-{number}")


def test_a_journal_without_deleted_names_is_not_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_COMPACT_FROM", 100)
    replaced: list[str] = []
    replace = os.replace

    def watch(source: str, target: str) -> None:
        replaced.append(os.path.basename(target))  # noqa: PTH119
        replace(source, target)

    looked_at: list[str] = []
    monkeypatch.setattr(os, "replace", watch)
    monkeypatch.setattr(os.path, "lexists", looked_at.append)
    store = FileStore(tmp_path)
    for number in range(200):
        store.save("sid", f"kept-{number}", b"1")
    assert "names" not in replaced
    assert looked_at == []  # it would hold the lock of the area for seconds
    assert len(store.list_files("sid")) == 200


def test_a_line_cut_short_by_a_full_disk_damages_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path)
    store.save("sid", "one", b"1")
    write = os.write

    def cut_short(fd: int, data: Any) -> int:
        if b'"name"' in bytes(data):
            write(fd, bytes(data)[:9])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", cut_short)
        with pytest.raises(StorageFull):
            store.save("sid", "two", b"2")
    store.save("sid", "three", b"3")
    store.save("sid", "four", b"4")
    assert store.list_files("sid") == ["four", "one", "three"]
    assert FileStore(tmp_path).list_files("sid") == ["four", "one", "three"]


def test_a_compacted_journal_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_COMPACT_FROM", 500)
    synced: list[str] = []
    replaced: list[str] = []
    replace = os.replace

    def watch(source: str, target: str) -> None:
        replace(source, target)
        if os.path.basename(target) == "names":  # noqa: PTH119
            replaced.append(os.path.dirname(target))  # noqa: PTH120
            synced.clear()

    monkeypatch.setattr(os, "replace", watch)
    monkeypatch.setattr(journal, "sync_dir", synced.append, raising=False)
    store = FileStore(tmp_path, durable=True)
    while not replaced:
        store.save("sid", "gone" * 20, b"1")
        store.delete("sid", "gone" * 20)
    assert synced == replaced


def test_a_pipe_in_place_of_a_journal_does_not_block(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs pipes")
    os.mkfifo(tmp_path / "names")
    assert journal.read_names(str(tmp_path)) == []
    with pytest.raises(OSError):
        journal.append(str(tmp_path), "a", durable=False)
