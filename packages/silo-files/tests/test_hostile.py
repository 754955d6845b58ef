"""Hostile ids and names: nothing outside the store's own folder is created, read, changed or deleted.

All targets lie in tmp_path. The tests run only under the guard, without root privileges.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from silo_files import FileMissing, FileStore, InvalidFileName, InvalidKey, UnsafeFolder, Usage
from silo_files.names import hash_key, hash_name

guard = pytest.importorskip("tests.guard", reason="hostile names could do harm: run in the repository, under its guard")
if not guard.active():
    pytest.skip("the guard is not active", allow_module_level=True)

pytestmark = pytest.mark.hostile

_watched: list[tuple[str, str]] | None = None


def _hook(event: str, args: tuple[object, ...]) -> None:
    if _watched is not None and event != "os.symlink" and event.startswith(("open", "os.", "shutil.")):
        _watched.extend((event, os.fsdecode(arg)) for arg in args if isinstance(arg, (str, bytes, os.PathLike)))


sys.addaudithook(_hook)


class Asked:
    """Records the keys it is called with, and calls none of them live."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def refuse(self, keys: list[str]) -> list[str]:
        self.keys += keys
        return []


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return modes, sizes, times and contents of everything in ``folder``."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino, data)
    return found


@contextmanager
def nothing_outside(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder for a store. Its neighbours must be neither changed nor read."""
    global _watched
    for neighbour in (tmp_path / "neighbour", tmp_path / "base-2", tmp_path / "areas"):
        (neighbour / "deep").mkdir(parents=True)
        (neighbour / "deep" / "precious").write_text("keep")
        (neighbour / "victim.txt").write_text("keep")
    base = tmp_path / "base"
    base.mkdir()
    (base / "precious").write_text("keep")
    before = {**snapshot(tmp_path / "neighbour"), **snapshot(tmp_path / "base-2"), **snapshot(tmp_path / "areas")}
    entries = sorted(tmp_path.iterdir())
    _watched = []
    try:
        yield base
    finally:
        watched, _watched = _watched, None
    after = {**snapshot(tmp_path / "neighbour"), **snapshot(tmp_path / "base-2"), **snapshot(tmp_path / "areas")}
    assert after == before
    assert sorted(tmp_path.iterdir()) == entries
    assert (base / "precious").read_text() == "keep"
    own = [str(base / name) for name in ("areas", "owners", "trash")]
    for event, path in watched:
        absolute = os.path.abspath(path)  # noqa: PTH100 - links are not wanted here
        inside = absolute == str(base) or any(absolute == root or absolute.startswith(root + os.sep) for root in own)
        assert inside or not absolute.startswith(str(tmp_path)), f"{event} of {path}"


def hostile_strings(tmp_path: Path) -> list[str]:
    neighbour = str(tmp_path / "neighbour")
    return [
        "..", ".", "../neighbour", "../neighbour/", "../neighbour/victim.txt", "./../neighbour", "x/../../neighbour",
        neighbour, neighbour + "/victim.txt", "/" + neighbour, "file://" + neighbour, "../base-2", "../areas",
        "..\\neighbour", "..\\neighbour\\victim.txt", "%2e%2e/neighbour", "..%2fneighbour", "..%c0%afneighbour",
        "..\u2215neighbour", "..\uff0fneighbour", "\uff0e\uff0e/neighbour", "../neighbour\0", "\0../neighbour",
        "../neighbour\0.txt", "../neighbour\n", "\ud800../neighbour", "areas", "owners", "trash", "precious",
        "areas/" + "0" * 64, hash_key("victim"), "*", "-rf", "$HOME", "`id`", "", " ", "...", "CON", "x" * 5000,
        "../neighbour/" * 3, "w-0123456789abcdef", "names", "0.part", "{}", "{0.__class__}", "%s%n",
    ]  # fmt: skip


def calls(store: FileStore, text: str) -> list[Callable[[], object]]:
    """Return calls of every method that takes an id or a name, with ``text`` as the id, as the name and as both."""
    by_name: list[Callable[[str, str], object]] = [
        lambda sid, name: store.save(sid, name, b"evil"),
        store.get_path,
        store.info,
        lambda sid, name: store.writer(sid, name).abort(),
        lambda sid, name: store.open(sid, name).close(),
        store.delete,
    ]
    by_id: list[Callable[[str], object]] = [
        store.session_dir, store.list_files, store.files, store.usage, store.cleanup, store.cleanup_key,
    ]  # fmt: skip
    pairs = [(text, "a.txt"), ("sid", text), (text, text)]
    return [
        *(lambda call=call, pair=pair: call(*pair) for pair in pairs for call in by_name),
        *(lambda call=call: call(text) for call in by_id),
    ]


def test_hostile_ids_and_names(tmp_path: Path) -> None:
    with nothing_outside(tmp_path) as base:
        store = FileStore(base, max_session_bytes=1_000_000, max_store_bytes=10_000_000, max_files=100)
        store.save("victim", "mine.txt", b"keep")
        said: set[str] = set()
        for text in hostile_strings(tmp_path):
            for call in calls(store, text):
                try:
                    call()
                except (InvalidKey, InvalidFileName) as error:
                    said.add(str(error))
                except FileNotFoundError:
                    pass
            assert store.list_files("victim") == ["mine.txt"]
        store.sweep(lambda keys: ["victim"])
        store.purge()
        assert store.list_files("victim") == ["mine.txt"]
        store.cleanup_all()
        store.purge()
    assert said
    assert not [text for text in said if "neighbour" in text or str(tmp_path) in text]


def test_a_hostile_source_name_is_never_used(tmp_path: Path) -> None:
    """Werkzeug passes the client's file name along with the stream. Only ``filename`` counts."""
    with nothing_outside(tmp_path) as base:
        store = FileStore(base)

        class Upload:
            filename = name = "../neighbour/victim.txt"

            def __init__(self) -> None:
                self.blocks = [b"evil", b""]

            def read(self, size: int) -> bytes:
                return self.blocks.pop(0)

            def save(self, target: object) -> None:
                raise AssertionError("not asked for")

        store.save("sid", "a.txt", Upload())  # type: ignore[arg-type]
        assert store.list_files("sid") == ["a.txt"]


def test_a_hostile_journal_names_nothing_outside(tmp_path: Path) -> None:
    """A journal that another program wrote cannot lead the store out of its area."""
    with nothing_outside(tmp_path) as base:
        store = FileStore(base)
        store.save("sid", "a.txt", b"1")
        (path,) = (base / "areas").rglob("names")
        with path.open("ab") as file:
            file.write(b'{"name": "../../../../../neighbour/victim.txt"}\n{"key": "../neighbour"}\n')
        assert store.list_files("sid") == ["a.txt"]
        asked = Asked()
        assert store.sweep(asked.refuse) == 1
        assert asked.keys == ["sid"]


def test_links_in_an_area_are_not_followed(tmp_path: Path) -> None:
    with nothing_outside(tmp_path) as base:
        store = FileStore(base)
        path = Path(store.save("sid", "a.txt", b"1"))
        path.unlink()
        path.symlink_to(tmp_path / "neighbour" / "victim.txt")
        assert store.get_path("sid", "a.txt") is None
        assert store.list_files("sid") == []
        assert store.backend.total() == Usage(0, 0)
        with pytest.raises(FileMissing):
            store.open("sid", "a.txt")
        store.save("sid", "a.txt", b"new")
        assert store.list_files("sid") == ["a.txt"]
        (path.parent / "folder").symlink_to(tmp_path / "neighbour", target_is_directory=True)
        store.cleanup("sid")
        store.purge()


def test_hostile_owner_and_trash_entries(tmp_path: Path) -> None:
    with nothing_outside(tmp_path) as base:
        store = FileStore(base)
        store.save("sid", "a.txt", b"1")
        (base / "owners" / ("0" * 16 + ".lock")).symlink_to(tmp_path / "neighbour" / "victim.txt")
        (base / "trash" / ("0" * 32 + ".gone")).symlink_to(tmp_path / "neighbour", target_is_directory=True)
        (base / "trash" / "neighbour").symlink_to(tmp_path / "neighbour", target_is_directory=True)
        area = next((base / "areas").glob("??/*"))
        (area / ("w-" + "1" * 16)).symlink_to(tmp_path / "neighbour", target_is_directory=True)
        store.purge()
        store.sweep(lambda keys: keys)
        store.cleanup_all()
        store.purge()


@pytest.mark.parametrize("umask", [0o777, 0o277, 0o177, 0o077])
@pytest.mark.parametrize("base_is_there", [False, True])
def test_the_store_works_with_any_umask(tmp_path: Path, umask: int, base_is_there: bool) -> None:
    """This test is here because modes have no effect on root."""
    base = tmp_path / "above" / "base"
    if base_is_there:
        base.mkdir(parents=True)
        base.chmod(0o755)
    old = os.umask(umask)
    try:
        store = FileStore(base, max_store_bytes=1000)
        for sid in ("one", "two"):
            store.save(sid, "a.txt", b"1")
        other = FileStore(base)
        assert other.sweep(lambda keys: []) == 0
        other.save("one", "b.txt", b"1")
        store.close()
        assert other.sweep(lambda keys: []) == 2
        other.save("one", "a.txt", b"1")
        other.cleanup_all()
        other.purge()
    finally:
        os.umask(old)
    assert base.stat().st_mode & 0o777 == (0o755 if base_is_there else 0o700)
    assert other.total_size_bytes == 0


def victim_like(base: Path, victim: Path) -> None:
    """Make ``victim`` look like the inside of a store."""
    digest = hash_key("sid")
    for root in (victim, victim / digest[:2]):
        area = root / digest
        (area / ("w-" + "0" * 16)).mkdir(parents=True)
        (area / ("w-" + "0" * 16) / "0.part").write_text("keep")
        (area / ("w-" + "0" * 16) / "names").write_text('{"key": "sid"}\n{"name": "a.txt"}\n')
        (area / hash_name("a.txt")).write_text("keep")
        (area / "counts").write_text("keep counts")
    (victim / ("w-" + "0" * 16)).mkdir()
    (victim / ("w-" + "0" * 16) / "0.part").write_text("keep")
    (victim / hash_name("a.txt")).write_text("keep")
    (victim / "counts").write_text("keep counts")
    (victim / ("0" * 16 + ".lock")).touch()
    (victim / ("0" * 32 + ".gone")).mkdir()


@pytest.mark.parametrize("planted", ["areas", "prefix", "area", "owners", "trash"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_planted_links_are_not_followed(tmp_path: Path, planted: str, when: str) -> None:
    """No call writes, moves or deletes through a link, whether the link or the store was there first."""
    base, victim = tmp_path / "base", tmp_path / "victim"
    victim.mkdir()
    victim_like(base, victim)
    digest = hash_key("sid")
    places = {"prefix": base / "areas" / digest[:2], "area": base / "areas" / digest[:2] / digest}
    place = places.get(planted, base / planted)
    store = FileStore(base, max_store_bytes=1000)
    if when == "after":
        store.save("sid", "a.txt", b"mine")
        store.save("gone", "a.txt", b"mine")
        store.cleanup("gone")
        store.purge()
        place.rename(tmp_path / "aside")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(victim, target_is_directory=True)
    before = snapshot(victim)
    for act in (
        lambda: store.delete("sid", "a.txt"),
        lambda: store.save("sid", "a.txt", b"evil"),
        lambda: store.save("sid", "b.txt", b"evil"),
        lambda: store.session_dir("sid"),
        lambda: store.sweep(lambda keys: keys),
        lambda: store.sweep(lambda keys: []),
        lambda: store.cleanup("sid"),
        store.cleanup_all,
        store.purge,
        store.close,
    ):
        with suppress(UnsafeFolder):
            act()
        assert snapshot(victim) == before


def test_a_planted_link_is_an_error(tmp_path: Path) -> None:
    for planted in ("areas", "owners"):
        store = FileStore(tmp_path / planted)
        (tmp_path / planted / planted).symlink_to(tmp_path)
        with pytest.raises(UnsafeFolder):
            store.save("sid", "a.txt", b"1")
