"""A save into a taken name replaces the file, is refused, or gets a number."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from silo_files import FileStore, InvalidFileName, NameTaken, SessionQuotaExceeded, Usage, portable_names
from silo_files.names import free_name
from store_files import content, parts


def test_replacing_is_the_default(store: FileStore) -> None:
    for data in (b"1", b"2"):
        store.save("sid", "a", data)
    assert content(store, "a") == b"2"
    store.save("sid", "a", b"3", on_conflict="replace")
    assert content(store, "a") == b"3"


def test_a_taken_name_can_be_an_error(store: FileStore) -> None:
    store.save("sid", "a", b"old", on_conflict="error")
    for save in (
        lambda: store.save("sid", "a", b"new", on_conflict="error"),
        lambda: store.writer("sid", "a", on_conflict="error"),
    ):
        with pytest.raises(NameTaken) as caught:
            save()
        assert isinstance(caught.value, FileExistsError)
    assert content(store, "a") == b"old"
    assert parts(store) == []
    store.delete("sid", "a")
    store.save("sid", "a", b"new", on_conflict="error")


def test_a_name_that_is_taken_meanwhile_is_an_error(store: FileStore) -> None:
    out = store.writer("sid", "a", on_conflict="error")
    out.write(b"late")
    store.save("sid", "a", b"first")
    with pytest.raises(NameTaken):
        out.commit()
    assert content(store, "a") == b"first"
    assert parts(store) == []


def test_a_taken_name_can_get_a_number(store: FileStore) -> None:
    names = [store.save("sid", "a.csv", bytes([n]), on_conflict="rename").info.name for n in range(20)]
    assert names == ["a.csv", *(f"a ({n}).csv" for n in range(2, 21))]
    assert sorted(names) == store.list_files("sid")
    assert [content(store, name) for name in names] == [bytes([n]) for n in range(20)]
    assert set(portable_names(["a.csv", "A.csv"]).values()) == {"a.csv", "A (2).csv"}


def test_a_renamed_file_is_where_its_info_says(store: FileStore) -> None:
    store.save("sid", "a", b"1")
    with store.writer("sid", "a", on_conflict="rename") as out:
        out.write(b"2")
    assert out.info == store.info("sid", "a (2)")
    assert out.path == store.get_path("sid", "a (2)")
    assert content(store, "a") == b"1"


def test_a_number_that_is_free_again_is_used(store: FileStore) -> None:
    for _ in range(4):
        store.save("sid", "a", b"", on_conflict="rename")
    store.delete("sid", "a (2)")
    assert store.save("sid", "a", b"", on_conflict="rename").info.name == "a (2)"
    store.delete("sid", "a")
    assert store.save("sid", "a", b"", on_conflict="rename").info.name == "a"


def test_a_free_number_is_found_without_looking_at_all() -> None:
    asked = 0

    def is_taken(name: str) -> bool:
        nonlocal asked
        asked += 1
        return name == "a.txt" or int(name[3:-5]) <= 50_000

    assert free_name("a.txt", is_taken) == "a (50001).txt"
    assert asked < 40


@pytest.mark.parametrize(
    ("name", "renamed"),
    [
        ("x" * 251 + ".csv", "x" * 247 + " (2).csv"),
        ("x" * 255, "x" * 251 + " (2)"),
        ("é" * 127, "é" * 125 + " (2)"),
        ("a." + "x" * 40, "a." + "x" * 40 + " (2)"),
        (".hidden", ".hidden (2)"),
        ("a (2).csv", "a (2) (2).csv"),
        ("x" * 246 + " y.csv".rjust(5), "x" * 246 + " (2).csv"),
        ("a.tar.gz", "a.tar (2).gz"),
    ],
)
def test_numbers_fit_into_long_names(store: FileStore, name: str, renamed: str) -> None:
    store.save("sid", name, b"1")
    assert store.save("sid", name, b"2", on_conflict="rename").info.name == renamed
    assert len(renamed.encode()) <= 255


def test_a_number_keeps_an_extension_of_the_policy(tmp_path: Path) -> None:
    long = "." + "x" * 40
    store = FileStore(tmp_path / "base", extensions=[".gz", ".tar.gz", long])
    for name, renamed in [
        ("a.TAR.gz", "a (2).TAR.gz"),
        ("a.gz", "a (2).gz"),
        ("a" + long, "a (2)" + long),
        ("y" * 214 + long, "y" * 210 + " (2)" + long),
    ]:
        store.save("sid", name, b"1")
        assert store.save("sid", name, b"2", on_conflict="rename").info.name == renamed


def test_an_extension_without_room_for_a_number_is_refused(tmp_path: Path) -> None:
    extension = "." + "x" * 252
    store = FileStore(tmp_path / "base", extensions=[extension])
    store.save("sid", "ab" + extension, b"1")
    with pytest.raises(InvalidFileName):
        store.save("sid", "ab" + extension, b"1", on_conflict="rename")
    assert store.usage("sid") == Usage(1, 1)


def test_another_conflict_is_a_mistake(store: FileStore) -> None:
    with pytest.raises(ValueError, match="'replace', 'error' or 'rename', not 'keep'"):
        store.save("sid", "a", b"1", on_conflict="keep")  # type: ignore[arg-type]


def test_a_renamed_file_counts_in_full(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_session_bytes=10, max_files=3)
    store.save("sid", "a", b"1234")
    first, second = (store.writer("sid", "a", on_conflict="rename") for _ in range(2))
    first.write(b"123")
    second.write(b"12")
    with pytest.raises(SessionQuotaExceeded):
        store.save("sid", "a", b"12", on_conflict="rename")
    first.commit()
    second.commit()
    assert store.list_files("sid") == ["a", "a (2)", "a (3)"]
    store.save("sid", "a", b"12345")
    with pytest.raises(SessionQuotaExceeded):
        store.save("sid", "a", b"123456")
    with pytest.raises(SessionQuotaExceeded):
        store.save("sid", "a", b"", on_conflict="rename")
    assert store.usage("sid") == Usage(10, 3)


@pytest.mark.parametrize("on_conflict", ["error", "rename"])
def test_each_name_is_given_once_among_threads(store: FileStore, on_conflict: Any) -> None:
    names: list[str] = []
    refused = 0
    start = threading.Barrier(8)

    def work() -> None:
        nonlocal refused
        start.wait(30)
        for number in range(10):
            try:
                names.append(store.save("sid", f"{number}", b"1", on_conflict=on_conflict).info.name)
            except NameTaken:
                refused += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == len(names) == (10 if on_conflict == "error" else 80)
    assert sorted(names) == store.list_files("sid")
    assert parts(store) == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("on_conflict", ["error", "rename"])
@pytest.mark.parametrize("limits", [{}, {"max_files": 1000, "max_store_bytes": 10**6}], ids=["free", "limited"])
def test_each_name_is_given_once_among_processes(
    tmp_path: Path, fork: Callable[[Callable[[], None]], int], on_conflict: Any, limits: dict[str, Any]
) -> None:
    def work(worker: int) -> None:
        store = FileStore(tmp_path / "base", **limits)
        saved = []
        for number in range(20):
            with suppress(NameTaken):
                name = f"{number % 4}.csv" if on_conflict == "rename" else f"{number}.csv"
                saved.append(
                    store.save("sid", name, [f"{worker} {number}".encode()], on_conflict=on_conflict).info.name
                )
        (tmp_path / f"saved-{worker}").write_text("\n".join(saved))

    children = [fork(partial(work, worker)) for worker in range(8)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8

    names = [name for worker in range(8) for name in (tmp_path / f"saved-{worker}").read_text().splitlines()]
    store = FileStore(tmp_path / "base")
    assert sorted(names) == store.list_files("sid")
    assert len(set(names)) == len(names) == (20 if on_conflict == "error" else 160)
    assert len({content(store, name) for name in names}) == len(names)
    assert store.usage("sid") == Usage(sum(info.size for info in store.files("sid")), len(names))
