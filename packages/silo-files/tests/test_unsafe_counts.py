"""Anything but a file in place of a file of counts is an error that names the repair, and the repair mends it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from silo_files import FileStore, UnsafeCounts, Usage
from silo_files.cli.program import main
from silo_files.names import hash_key

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such entries of a folder")


def link(place: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep")
    place.symlink_to(tmp_path / "precious")


def dangling_link(place: Path, tmp_path: Path) -> None:
    place.symlink_to(tmp_path / "missing")


def pipe(place: Path, tmp_path: Path) -> None:
    os.mkfifo(place)


def listening(place: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, socket.socket(socket.AF_UNIX) as server:
        patch.chdir(place.parent)  # the path of a socket must be short
        server.bind(place.name)


def folder(place: Path, tmp_path: Path) -> None:
    place.mkdir()


OTHERS = pytest.mark.parametrize(
    ("plant", "found"),
    [(link, "a link"), (dangling_link, "a link"), (pipe, "a pipe"), (listening, "a socket"), (folder, "a folder")],
)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    store = FileStore(tmp_path / "base", max_store_bytes=1000)
    store.save("sid", "a.txt", b"123")
    return store


def counts_of_area(store: FileStore) -> Path:
    digest = hash_key("sid")
    return Path(store.base_dir) / "areas" / digest[:2] / digest / "counts"


def counts_of_store(store: FileStore) -> Path:
    return Path(store.base_dir) / "owners" / "counts"


def assert_unsafe(act: Callable[[], object], place: Path, found: str, base: str) -> None:
    with pytest.raises(UnsafeCounts) as caught:
        act()
    error = caught.value
    assert (error.path, error.found, error.base_dir) == (str(place), found, base)
    assert f"python -m silo_files fsck {base} --repair" in str(error)


@OTHERS
@pytest.mark.parametrize("where", [counts_of_area, counts_of_store])
def test_the_error_names_the_repair(
    store: FileStore,
    tmp_path: Path,
    plant: Callable[[Path, Path], None],
    found: str,
    where: Callable[[FileStore], Path],
) -> None:
    place = where(store)
    place.unlink()
    plant(place, tmp_path)

    assert_unsafe(lambda: store.save("sid", "b.txt", b"4"), place, found, store.base_dir)
    assert_unsafe(lambda: store.delete("sid", "a.txt"), place, found, store.base_dir)
    if where is counts_of_store and plant is not dangling_link:  # which counts as no file of counts
        assert_unsafe(lambda: store.cleanup("sid"), place, found, store.base_dir)
    assert store.usage("sid") == Usage(3, 1)
    assert store.total() == Usage(3, 1)
    assert list(Path(store.base_dir).rglob("*.part")) == []

    main(["fsck", store.base_dir, "--repair"])
    assert main(["fsck", store.base_dir]) == 0
    store.save("sid", "b.txt", b"4")
    assert store.usage("sid") == store.total() == Usage(4, 2)
    store.cleanup("sid")
    assert store.total() == Usage(0, 0)
    if plant is link:
        assert (tmp_path / "precious").read_text() == "keep"
    if plant is dangling_link:
        assert not (tmp_path / "missing").exists()


@OTHERS
def test_an_area_can_go_without_its_counts(
    store: FileStore, tmp_path: Path, plant: Callable[[Path, Path], None], found: str
) -> None:
    place = counts_of_area(store)
    place.unlink()
    plant(place, tmp_path)

    store.cleanup("sid")

    assert store.files("sid") == []
    assert store.total() == Usage(0, 0)
    store.purge()
    if plant is link:
        assert (tmp_path / "precious").read_text() == "keep"
