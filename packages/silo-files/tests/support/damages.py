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
"""Damages the folder, the first argument. Returns the code of the finding. The second argument is outside."""

DAMAGES: list[Damage] = []


def damage(function: Damage) -> Damage:
    DAMAGES.append(function)
    return function


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


@damage
def top_folder_is_a_link(base: Path, outside: Path, choose: random.Random) -> str:
    path = base / choose.choice(("owners", "trash"))
    if path.is_symlink():
        return ""
    path.rename(outside / f"was-{_hex(choose, 8)}")
    path.symlink_to(outside)
    return "not-a-folder"


@damage
def odd_in_place_of_a_folder(base: Path, outside: Path, choose: random.Random) -> str:
    digest = _hex(choose, 64)
    prefix = base / "areas" / digest[:2]
    kind = choose.choice(("prefix", "area", "writer"))
    if kind == "writer":
        path = choose.choice(_areas(base)) / f"{choose.choice('tw')}-{digest[:16]}"
    elif kind == "area":
        prefix.mkdir(0o700, exist_ok=True)
        path = prefix / digest
    else:
        path = prefix
    if path.exists() or not _is_dir(path.parent):
        return ""
    _make_odd(path, outside, choose)
    return "not-a-folder"


@damage
def odd_in_place_of_a_file(base: Path, outside: Path, choose: random.Random) -> str:
    places = [area / (_hex(choose, 32) + choose.choice(("", ".csv"))) for area in _areas(base)]
    places += [writer / f"{choose.randrange(1000)}.part" for writer in _writers(base)]
    if _is_dir(base / "owners"):
        places.append(base / "owners" / (_hex(choose, 16) + ".lock"))
    path = choose.choice(places)
    if os.path.lexists(path):
        return ""
    if choose.random() < 0.3:
        path.mkdir()
        (path / "precious").write_bytes(b"keep")
    else:
        _make_odd(path, outside, choose)
    return "not-a-file"


@damage
def foreign_entry(base: Path, outside: Path, choose: random.Random) -> str:
    path = choose.choice(_folders(base)) / choose.choice(
        (".DS_Store", "e\x1b[31mvil\u202e", "lost+found", "x" * 255, "\u0436" * 127)
    )
    if os.path.lexists(path):
        return ""
    kind = choose.choice(("file", "folder", "link"))
    if kind == "file":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(outside)
    return "foreign-entry"


@damage
def wrong_mode(base: Path, outside: Path, choose: random.Random) -> str:
    files = [*_journals(base), *(path for area in _areas(base) for path in area.iterdir() if path.is_file())]
    path = choose.choice([*_folders(base), *files])
    if path.is_symlink():
        return ""
    path.chmod(choose.choice((0o777, 0o755, 0o644, 0o500, 0o000)))
    return "wrong-mode"


@damage
def lock_of_a_dead_process(base: Path, outside: Path, choose: random.Random) -> str:
    if not _is_dir(base / "owners"):
        return ""
    path = base / "owners" / (_hex(choose, 16) + ".lock")
    path.touch(0o600)
    return "dead-owner"


@damage
def area_in_the_trash(base: Path, outside: Path, choose: random.Random) -> str:
    if not _is_dir(base / "trash"):
        return ""
    path = base / "trash" / (_hex(choose, 32) + ".gone")
    path.mkdir(0o700)
    (path / "file").write_bytes(b"removed")
    (path / "link").symlink_to(outside)
    return "undeleted-trash"


@damage
def unfinished_file(base: Path, outside: Path, choose: random.Random) -> str:
    writers = _writers(base)
    path = choose.choice(writers) / choose.choice(("names.part", f"{choose.randrange(1000)}.part"))
    if os.path.lexists(path):
        return ""
    path.write_bytes(b"half")
    return "unfinished-file"


@damage
def unfinished_folder(base: Path, outside: Path, choose: random.Random) -> str:
    path = choose.choice(_areas(base)) / f"t-{_hex(choose, 16)}-{choose.randrange(9)}"
    path.mkdir(0o700)
    (path / "names").write_bytes(b'{"key": "o')
    return "unfinished-folder"


@damage
def empty_area(base: Path, outside: Path, choose: random.Random) -> str:
    digest = _hex(choose, 64)
    path = base / "areas" / digest[:2] / digest
    if os.path.lexists(path.parent) and not _is_dir(path.parent):
        return ""
    path.parent.mkdir(0o700, exist_ok=True)
    path.mkdir(0o700)
    if choose.random() < 0.5:
        (path / f"w-{_hex(choose, 16)}").mkdir(0o700)
    return "empty-area"


@damage
def writer_without_a_journal(base: Path, outside: Path, choose: random.Random) -> str:
    path = choose.choice(_areas(base)) / f"w-{_hex(choose, 16)}"
    path.mkdir(0o700)
    return "missing-journal"


@damage
def torn_line(base: Path, outside: Path, choose: random.Random) -> str:
    path = choose.choice(_journals(base))
    with path.open("ab") as file:
        file.write(choose.choice((b'\n{"name": "ab', b"\n\0\0\0\0", b'\n{"name": "a"}}', b"\xff\xfe\n", b"\n[1]\n")))
    return "torn-journal"


@damage
def lost_lines(base: Path, outside: Path, choose: random.Random) -> str:
    """Cut names off a journal, within a line or not. Its key stays."""
    path = choose.choice(_journals(base))
    data = path.read_bytes()
    first = data.find(b"\n") + 1
    path.write_bytes(data[: choose.randrange(first, len(data) + 1)])
    return "maybe"


@damage
def file_without_a_name(base: Path, outside: Path, choose: random.Random) -> str:
    used = {hash_key(sid) for sid, _ in DATA}  # a file in another area would also be one whose key is lost
    area = choose.choice([path for path in _areas(base) if path.name in used])
    path = area / (_hex(choose, 32) + choose.choice(("", ".csv")))
    path.write_bytes(b"unnamed")
    path.chmod(0o600)
    return "unnamed-file"


@damage
def missing_counts(base: Path, outside: Path, choose: random.Random) -> str:
    path = _choose_counts(base, choose, store=False)
    if path is None:
        return ""
    path.unlink()
    return "missing-counts"


@damage
def torn_counts(base: Path, outside: Path, choose: random.Random) -> str:
    path = _choose_counts(base, choose)
    if path is None:
        return ""
    data = path.read_bytes()
    if not data or len(data) > 1000:
        return ""
    kept = choose.randrange(1, len(data))
    path.write_bytes(choose.choice((data[:kept], data[:kept] + b"x" * 3000, b"x" * 3000)))
    return "torn-counts"


@damage
def dirty_counts(base: Path, outside: Path, choose: random.Random) -> str:
    path = _choose_counts(base, choose)
    if path is None:
        return ""
    _change(path, lambda record: None, is_certain=False)
    return "dirty-counts"


@damage
def wrong_counts(base: Path, outside: Path, choose: random.Random) -> str:
    path = _choose_counts(base, choose)
    if path is None:
        return ""

    def change(record: Record) -> None:
        record.bytes += choose.randrange(1, 1_000_000)
        record.files += choose.randrange(3)

    _change(path, change)
    return "wrong-counts"


@damage
def dead_reservation(base: Path, outside: Path, choose: random.Random) -> str:
    path = _choose_counts(base, choose)
    if path is None:
        return ""
    _change(path, lambda record: record.reserved.update({_hex(choose, 16): (choose.randrange(1_000_000), 1)}))
    return "dead-reservation"


@damage
def odd_in_place_of_counts(base: Path, outside: Path, choose: random.Random) -> str:
    path = _choose_counts(base, choose)
    if path is None:
        return ""
    path.unlink()
    _make_odd(path, outside, choose)
    return "not-a-file"


def _choose_counts(base: Path, choose: random.Random, *, store: bool = True) -> Path | None:
    """Return the counts of the store, or of an area with files; None if another damage has taken them."""
    used = sorted({hash_key(sid) for sid, _ in DATA})
    paths = [base / "areas" / digest[:2] / digest / "counts" for digest in used]
    paths += [base / "owners" / "counts"] if store else []
    path = choose.choice(paths)
    if path.is_symlink() or not _is_dir(path.parent) or not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
        return None
    fd = os.open(path, os.O_RDONLY)
    try:
        record, is_certain = read_record(fd)
    finally:
        os.close(fd)
    return path if record is not None and is_certain else None


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
