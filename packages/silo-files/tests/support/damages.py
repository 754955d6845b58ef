"""Damages the folder of a store as crashes and other programs do. Links lead to ``outside`` only."""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from silo_files import FileStore
from silo_files.local.record import Record, mark_uncertain, read_record, write_record
from silo_files.names import hash_key

DATA = {
    ("one", "a.csv"): b"first" * 100,
    ("one", "b.csv"): b"second" * 1000,
    ("one", "c.tar.gz"): b"third",
    ("two", "big.txt"): b"fourth" * 10_000,
    ("two", "none"): b"",
}


def open_store(base: Path) -> FileStore:
    return FileStore(base, max_session_bytes=1_000_000, max_store_bytes=3_000_000, max_files=100)


def make_store(base: Path) -> None:
    """Fill a folder by two processes that have ended."""
    for writer in (0, 1):
        store = open_store(base)
        for number, ((sid, name), data) in enumerate(DATA.items()):
            if number % 2 == writer:
                store.save(sid, name, data)
        store.save("empty", "a", b"1")
        store.delete("empty", "a")
        store.close()


Damage = Callable[[Path, Path, random.Random], str]
"""Damages the folder, the first argument. Returns the code of the finding; "" if there is no place for the damage. The
second argument is outside."""

DAMAGES: list[Damage] = []


def damage(
    code: str, places: Callable[[Path, random.Random], list[Path]]
) -> Callable[[Callable[[Path, Path, random.Random], object]], None]:
    """Add a damage, done by the function to one of the places that another damage has not taken."""

    def add(function: Callable[[Path, Path, random.Random], object]) -> None:
        def apply(base: Path, outside: Path, choose: random.Random) -> str:
            found = places(base, choose)
            if not found:
                return ""
            function(choose.choice(found), outside, choose)
            return code

        apply.__name__ = function.__name__
        DAMAGES.append(apply)

    return add


def _hex(choose: random.Random, digits: int) -> str:
    return f"{choose.getrandbits(4 * digits):0{digits}x}"


def _areas(base: Path) -> list[Path]:
    return sorted(path for path in (base / "areas").glob("??/*") if len(path.name) == 64 and _is_dir(path))


def _writers(base: Path) -> list[Path]:
    return sorted(path for area in _areas(base) for path in area.glob("w-*") if _is_dir(path))


def _journals(base: Path) -> list[Path]:
    found = (path / "names" for path in _writers(base))
    return [path for path in found if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK | os.W_OK)]


def _is_dir(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and os.access(path, os.R_OK | os.W_OK | os.X_OK)


def _folders(base: Path) -> list[Path]:
    top = [base / name for name in ("areas", "owners", "trash")]
    return [path for path in [*top, *base.glob("areas/??"), *_areas(base), *_writers(base)] if _is_dir(path)]


def _top(base: Path, *names: str) -> list[Path]:
    return [path for name in names if _is_dir(path := base / name)]


def _in(folders: list[Path], *names: str) -> list[Path]:
    """Return where in the folders there can be new entries."""
    return [path for folder in folders for name in names if not os.path.lexists(path := folder / name)]


def _used(base: Path) -> list[Path]:
    """Return the areas with files."""
    used = {hash_key(sid) for sid, _ in DATA}
    return [path for path in _areas(base) if path.name in used]


def _counts(base: Path, *, store: bool = True) -> list[Path]:
    """Return the files of counts of areas with files, and that of the store, which are whole."""
    paths = [folder / "counts" for folder in [*_used(base), *_top(base, *(["owners"] if store else []))]]
    return [path for path in paths if _is_whole(path)]


def _is_whole(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
        return False
    fd = os.open(path, os.O_RDONLY)
    try:
        record, is_certain = read_record(fd)
    finally:
        os.close(fd)
    return record is not None and is_certain


def _prefix(base: Path, digest: str) -> list[Path]:
    """Return the folder for an area, created if it is missing."""
    path = base / "areas" / digest[:2]
    if _is_dir(path.parent) and not os.path.lexists(path):
        path.mkdir(0o700)
    return [path] if _is_dir(path) else []


def _make_odd(path: Path, outside: Path, choose: random.Random) -> None:
    """Make something that is neither a file nor a folder of the store."""
    kinds = ["link", "dangling", "folder link", "pipe"]
    kind = choose.choice([*kinds, "socket"] if sys.platform == "linux" else kinds)
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as end:
            here = os.open(path.parent, os.O_RDONLY)
            try:  # the path of a socket may have 107 bytes only
                end.bind(f"/proc/self/fd/{here}/{path.name}")
            finally:
                os.close(here)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"link": outside / "precious", "dangling": outside / "missing"}.get(kind, outside))


@damage("not-a-folder", lambda base, choose: _top(base, "owners", "trash"))
def top_folder_is_a_link(path: Path, outside: Path, choose: random.Random) -> None:
    path.rename(outside / f"was-{_hex(choose, 8)}")
    path.symlink_to(outside)


def _places_of_folders(base: Path, choose: random.Random) -> list[Path]:
    digest = _hex(choose, 64)
    kind = choose.choice(("prefix", "area", "writer"))
    if kind == "writer":
        return _in(_areas(base), f"{choose.choice('tw')}-{digest[:16]}")
    return _in(_prefix(base, digest), digest) if kind == "area" else _in(_top(base, "areas"), digest[:2])


@damage("not-a-folder", _places_of_folders)
def odd_in_place_of_a_folder(path: Path, outside: Path, choose: random.Random) -> None:
    _make_odd(path, outside, choose)


def _places_of_files(base: Path, choose: random.Random) -> list[Path]:
    return [
        *_in(_areas(base), _hex(choose, 32) + choose.choice(("", ".csv"))),
        *_in(_writers(base), f"{choose.randrange(1000)}.part"),
        *_in(_top(base, "owners"), _hex(choose, 16) + ".lock"),
    ]


@damage("not-a-file", _places_of_files)
def odd_in_place_of_a_file(path: Path, outside: Path, choose: random.Random) -> None:
    if choose.random() < 0.3:
        path.mkdir()
        (path / "precious").write_bytes(b"keep")
    else:
        _make_odd(path, outside, choose)


_FOREIGN = (".DS_Store", "e\x1b[31mvil\u202e", "lost+found", "x" * 255, "\u0436" * 127)


@damage("foreign-entry", lambda base, choose: _in(_folders(base), *_FOREIGN))
def foreign_entry(path: Path, outside: Path, choose: random.Random) -> None:
    make: Callable[[], object] = choose.choice((path.touch, path.mkdir, lambda: path.symlink_to(outside)))
    make()


def _with_modes(base: Path, choose: random.Random) -> list[Path]:
    files = [*_journals(base), *(path for area in _areas(base) for path in area.iterdir() if path.is_file())]
    return [path for path in (*_folders(base), *files) if not path.is_symlink()]


@damage("wrong-mode", _with_modes)
def wrong_mode(path: Path, outside: Path, choose: random.Random) -> None:
    path.chmod(choose.choice((0o777, 0o755, 0o644, 0o500, 0o000)))


@damage("dead-owner", lambda base, choose: _in(_top(base, "owners"), _hex(choose, 16) + ".lock"))
def lock_of_a_dead_process(path: Path, outside: Path, choose: random.Random) -> None:
    path.write_bytes(b"1")
    path.chmod(0o600)


@damage("undeleted-trash", lambda base, choose: _in(_top(base, "trash"), _hex(choose, 32) + ".gone"))
def area_in_the_trash(path: Path, outside: Path, choose: random.Random) -> None:
    path.mkdir(0o700)
    (path / "file").write_bytes(b"removed")
    (path / "link").symlink_to(outside)


@damage("unfinished-file", lambda base, choose: _in(_writers(base), "names.part", f"{choose.randrange(1000)}.part"))
def unfinished_file(path: Path, outside: Path, choose: random.Random) -> None:
    path.write_bytes(b"half")


@damage("unfinished-folder", lambda base, choose: _in(_areas(base), f"t-{_hex(choose, 16)}-{choose.randrange(9)}"))
def unfinished_folder(path: Path, outside: Path, choose: random.Random) -> None:
    path.mkdir(0o700)
    (path / "names").write_bytes(b'{"key": "o')


def _places_of_areas(base: Path, choose: random.Random) -> list[Path]:
    digest = _hex(choose, 64)
    return _in(_prefix(base, digest), digest)


@damage("empty-area", _places_of_areas)
def empty_area(path: Path, outside: Path, choose: random.Random) -> None:
    path.mkdir(0o700)
    if choose.random() < 0.5:
        (path / f"w-{_hex(choose, 16)}").mkdir(0o700)


@damage("missing-journal", lambda base, choose: _in(_areas(base), f"w-{_hex(choose, 16)}"))
def writer_without_a_journal(path: Path, outside: Path, choose: random.Random) -> None:
    path.mkdir(0o700)


@damage("torn-journal", lambda base, choose: _journals(base))
def torn_line(path: Path, outside: Path, choose: random.Random) -> None:
    with path.open("ab") as file:
        file.write(choose.choice((b'\n{"name": "ab', b"\n\0\0\0\0", b'\n{"name": "a"}}', b"\xff\xfe\n", b"\n[1]\n")))


@damage("maybe", lambda base, choose: _journals(base))
def lost_lines(path: Path, outside: Path, choose: random.Random) -> None:
    """Cut names off a journal, within a line or not. Its key stays."""
    data = path.read_bytes()
    first = data.find(b"\n") + 1
    path.write_bytes(data[: choose.randrange(first, len(data) + 1)])


# A file in another area would also be one whose key is lost.
@damage("unnamed-file", lambda base, choose: _in(_used(base), _hex(choose, 32) + choose.choice(("", ".csv"))))
def file_without_a_name(path: Path, outside: Path, choose: random.Random) -> None:
    path.write_bytes(b"unnamed")
    path.chmod(0o600)


@damage("missing-counts", lambda base, choose: _counts(base, store=False))
def missing_counts(path: Path, outside: Path, choose: random.Random) -> None:
    path.unlink()


@damage("torn-counts", lambda base, choose: _counts(base))
def torn_counts(path: Path, outside: Path, choose: random.Random) -> None:
    data = path.read_bytes()
    kept = choose.randrange(1, len(data))
    path.write_bytes(choose.choice((data[:kept], data[:kept] + b"x" * 3000, b"x" * 3000)))


@damage("dirty-counts", lambda base, choose: _counts(base))
def dirty_counts(path: Path, outside: Path, choose: random.Random) -> None:
    _change(path, lambda record: None, is_certain=False)


@damage("wrong-counts", lambda base, choose: _counts(base))
def wrong_counts(path: Path, outside: Path, choose: random.Random) -> None:
    def change(record: Record) -> None:
        record.bytes += choose.randrange(1, 1_000_000)
        record.files += choose.randrange(3)

    _change(path, change)


@damage("dead-reservation", lambda base, choose: _counts(base))
def dead_reservation(path: Path, outside: Path, choose: random.Random) -> None:
    _change(path, lambda record: record.reserved.update({_hex(choose, 16): (choose.randrange(1_000_000), 1)}))


@damage("not-a-file", lambda base, choose: _counts(base))
def odd_in_place_of_counts(path: Path, outside: Path, choose: random.Random) -> None:
    path.unlink()
    _make_odd(path, outside, choose)


def _change(path: Path, change: Callable[[Record], object], *, is_certain: bool = True) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        record, _ = read_record(fd)
        assert record is not None
        change(record)
        write_record(fd, record)
        if not is_certain:
            mark_uncertain(fd)
    finally:
        os.close(fd)


def forget_the_key(base: Path, sid: str) -> None:
    digest = hash_key(sid)
    for path in (base / "areas" / digest[:2] / digest).glob("w-*/names"):
        path.write_bytes(path.read_bytes().partition(b"\n")[2])
