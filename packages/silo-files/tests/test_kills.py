"""Processes that are killed while they save, delete, clean up and sweep leave old or new files, and nothing else.

``SILO_KILLS`` sets the number of kills at random points; 50 without it. ``SILO_KILLS_SEED`` repeats a run.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from folder_walk import leftovers, size, stored
from killing import Countdown, content, version_of
from silo_files import AreaGone, FileStore, NameTaken, SessionQuotaExceeded, StoreQuotaExceeded
from silo_files.cli.folder import Folder
from silo_files.cli.fsck import Fsck

KILLS = int(os.environ.get("SILO_KILLS", "50"))
SEED = os.environ.get("SILO_KILLS_SEED")

SESSION_BYTES = 500_000
STORE_BYTES = 1_500_000
MAX_FILES = 10
SIDS = ("shared", "own-0", "own-1", "own-2", "mixed", "dead")

# What a kill may leave after a sweep: the next save or sweep takes no notice of it, or drops it.
HARMLESS = {"dead-reservation", "empty-area", "torn-journal"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="forks processes and kills them by a signal"),
    # A child of this process is a process with one thread, on purpose.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

Fork = Callable[[Callable[[], object]], int]


def open_store(base: Path) -> FileStore:
    return FileStore(base, max_session_bytes=SESSION_BYTES, max_store_bytes=STORE_BYTES, max_files=MAX_FILES)


def living(keys: list[str]) -> list[str]:
    return [key for key in keys if not key.startswith("dead")]


def incoming(base: Path, version: str) -> Path:
    """Return the path of a file that is moved into the store."""
    return base.with_name("incoming") / version


class Reader:
    """A source of which each read returns a few bytes."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, count: int = -1) -> bytes:
        return self._file.read(min(count, 20_000) if count >= 0 else 20_000)


def blocks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 50_000):
        yield data[start : start + 50_000]


SOURCES: list[Callable[[bytes], Any]] = [bytes, bytearray, memoryview, io.BytesIO, Reader, blocks]


class Worker:
    """A child process that changes files at random until it is killed. It tells its parent of each change.

    Args:
        base: The store's folder.
        number: Of this worker among those that run at the same time. It alone changes the files with its number.
        seed: Of its random choices.
        report: Descriptor of the pipe to the parent.
    """

    def __init__(self, base: Path, number: int, seed: int, report: int) -> None:
        self._base = base
        self._store = open_store(base)
        self._number = number
        self._random = random.Random(seed)
        self._versions = (f"{seed:x}-{count}" for count in range(1_000_000))
        self._report = report
        self._write = os.write  # the countdown replaces os.write

    def run(self) -> None:
        weighted = [(self.save, 6), (self.delete, 2), (self.clean_up, 1), (self.sweep, 1), (self._store.purge, 1)]
        acts = [act for act, weight in weighted for _ in range(weight)]
        for _ in range(100_000):
            self._random.choice(acts)()

    def save(self) -> None:
        sid, name = self._any_file()
        version = next(self._versions)
        data = content(sid, name, version, self._random.choice((0, 100, 5000, 70_000, 300_000)))
        expected = self._random.choice((None, len(data)))
        ways = [self._save_source, self._save_source, self._move, self._write_blocks]
        try:
            self._random.choice(ways)(sid, name, version, data, expected)
        except (AreaGone, NameTaken, SessionQuotaExceeded, StoreQuotaExceeded):
            self._tell("refused")
        else:
            self._tell("done")

    def _save_source(self, sid: str, name: str, version: str, data: bytes, expected: int | None) -> None:
        on_conflict: Any = self._random.choice(("replace", "replace", "error"))
        source = self._random.choice(SOURCES)(data)
        self._tell("change", sid, name, version)
        self._store.save(sid, name, source, size=expected, on_conflict=on_conflict)

    def _move(self, sid: str, name: str, version: str, data: bytes, expected: int | None) -> None:
        path = incoming(self._base, version)
        path.write_bytes(data)
        self._tell("move", sid, name, version)
        self._store.save(sid, name, path, size=expected)

    def _write_blocks(self, sid: str, name: str, version: str, data: bytes, expected: int | None) -> None:
        self._tell("change", sid, name, version)
        with self._store.writer(sid, name, size=expected) as out:
            for block in blocks(data):
                out.write(block)

    def delete(self) -> None:
        sid, name = self._any_file()
        self._tell("change", sid, name, None)
        self._store.delete(sid, name)
        self._tell("done")

    def clean_up(self) -> None:
        sid = self._random.choice((f"own-{self._number}", "mixed"))
        self._tell("clean up", sid)
        self._store.cleanup(sid)
        self._tell("done")

    def sweep(self) -> None:
        self._tell("sweep")
        self._store.sweep(living)
        self._tell("done")

    def _any_file(self) -> tuple[str, str]:
        sid = self._random.choice(("shared", f"own-{self._number}", f"own-{self._number}", "mixed", "dead"))
        return sid, f"{self._random.choice('ab')}-{self._number}.csv"

    def _tell(self, *event: str | None) -> None:
        self._write(self._report, json.dumps(event).encode() + b"\n")


class Book:
    """The versions that each file may have, None for none, by what the workers told."""

    def __init__(self, base: Path) -> None:
        self.may: dict[tuple[str, str], set[str | None]] = {}
        self._base = base
        self._moving: dict[tuple[str, str], str] = {}

    def read(self, events: Iterable[list[Any]]) -> None:
        """Take the events of one worker, in their order. The last change may have happened or not."""
        before: dict[tuple[str, str], set[str | None]] = {}
        after: dict[tuple[str, str], set[str | None]] = {}
        for kind, *values in events:
            if kind in ("done", "refused"):
                self.may |= after if kind == "done" else before
                before, after = {}, {}
            elif kind in ("change", "move"):
                sid, name, version = values
                before = {(sid, name): self.may.get((sid, name), {None})}
                after = {(sid, name): {version}}
            elif kind == "clean up":
                before = {file: versions for file, versions in self.may.items() if file[0] == values[0]}
                after = {file: {None} for file in before}
        for file, versions in after.items():
            self.may[file] = before[file] | versions
            if kind == "move":
                self._moving[file] = version

    def check(self, found: dict[tuple[str, str], str]) -> None:
        """Compare with the files that were found. They are what the files are from now on."""
        for file, versions in self.may.items():
            # Other workers clean up "mixed", and sweep "dead".
            if file[0] not in ("mixed", "dead"):
                assert found.get(file) in versions, f"{file} is {found.get(file)}, and may be {versions}"
        for (sid, name), version in self._moving.items():
            # Another worker may have removed the file once it was there.
            if sid not in ("mixed", "dead") and found.get((sid, name)) != version:
                assert version_of(sid, name, incoming(self._base, version).read_bytes()) == version
        self._moving = {}
        self.may = {file: {found.get(file)} for file in {*self.may, *found}}


def start(fork: Fork, base: Path, number: int, seed: int, steps: int | None) -> tuple[int, int]:
    """Start a worker that kills itself at the point ``steps``, if given. Return its id and the pipe of its events."""
    events, report = os.pipe()

    def work() -> None:
        worker = Worker(base, number, seed, report)
        if steps is not None:
            Countdown(steps).start()
        worker.run()

    child = fork(work)
    os.close(report)
    return child, events


def read_lines(fd: int) -> Iterator[list[Any]]:
    """Yield the events of a worker. It may have been killed in the middle of a line."""
    with os.fdopen(fd, "rb") as pipe:
        for line in pipe:
            if line.endswith(b"\n"):
                yield json.loads(line)


def examine(base: Path, result: int, *, repair: bool) -> None:
    """In a process of its own: sweep, look at all files and counts, and send what was found."""
    with closing(open_store(base)) as store:
        store.sweep(living)
        store.purge()
        found = []
        for sid in SIDS:
            paths = stored(base, sid)
            names = store.list_files(sid)
            assert len(names) == len(paths), f"{sid}: {len(paths)} files, of which {len(names)} have a name"
            usage = store.usage(sid)
            assert (usage.bytes, usage.files) == (size(paths), len(paths)), f"{sid}: counted {usage}"
            for name in names:
                with store.open(sid, name) as file:
                    found.append((sid, name, version_of(sid, name, file.read())))
        assert store.total_size_bytes == size(stored(base))
        assert all(store.usage(sid).bytes <= SESSION_BYTES for sid in SIDS)
        assert store.total_size_bytes <= STORE_BYTES
        room = min(SESSION_BYTES, STORE_BYTES - store.total_size_bytes)
        if room > 0:
            with pytest.raises((SessionQuotaExceeded, StoreQuotaExceeded)):
                store.save("fills", "all", bytes(room + 1))
            store.save("fills", "all", bytes(room))  # no reservation of a killed process is left
            store.cleanup("fills")
            store.purge()
    assert leftovers(base) == []
    findings = Fsck(Folder(str(base))).run()
    assert {finding.code for finding in findings} <= HARMLESS, findings
    if repair:
        findings = Fsck(Folder(str(base)), repair=True).run()
        assert all(finding.repaired for finding in findings), findings
        assert Fsck(Folder(str(base))).run() == []
    with os.fdopen(result, "w") as pipe:
        json.dump(found, pipe)


def examined(fork: Fork, base: Path, *, repair: bool = True) -> dict[tuple[str, str], str]:
    """Return the version of each file, once a fresh process has swept and has found nothing wrong."""
    events, report = os.pipe()
    child = fork(lambda: examine(base, report, repair=repair))
    os.close(report)
    with os.fdopen(events, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, "a fresh process found damage: see its traceback above"
    return {(sid, name): version for sid, name, version in json.loads(answer)}


@pytest.mark.timeout(60 + KILLS)
def test_kills_at_random_leave_old_or_new_files(tmp_path: Path, fork: Fork) -> None:
    """One to three workers share the folder. Each kills itself at a system call, or its parent does at any time."""
    seed = int(SEED or random.SystemRandom().getrandbits(32))
    print(f"SILO_KILLS_SEED={seed}")
    choose = random.Random(seed)
    base = tmp_path / "base"
    incoming(base, "").mkdir()
    book = Book(base)
    kills = 0
    while kills < KILLS:
        crew = []
        for number in range(choose.choice((1, 2, 3))):
            steps = choose.choice((None, choose.randrange(1, 60), choose.randrange(1, 600)))
            crew.append((*start(fork, base, number, choose.getrandbits(32), steps), steps))
        for child, events, steps in crew:
            lines = read_lines(events)
            told: list[list[Any]] = []
            if steps is None:
                told += islice(lines, choose.randrange(40))
                os.kill(child, signal.SIGKILL)
            told += lines
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status), "a worker failed: see its traceback above"
            assert os.WTERMSIG(status) == signal.SIGKILL
            book.read(told)
            kills += 1
        book.check(examined(fork, base, repair=choose.random() < 0.2))


def prepare(base: Path) -> FileStore:
    store = open_store(base)
    for name in ("old.csv", "other.csv"):
        store.save("own-0", name, content("own-0", name, "1", 5000))
    return store


def leave_traces(base: Path) -> None:
    """Leave an unfinished file, a session that ended and a full trash, as a killed process does."""
    store = open_store(base)
    store.save("dead", "a.csv", b"1")
    store.save("mixed", "a.csv", b"1")
    store.backend.stage("own-0", "half.csv").write(b"half")
    os.rename(stored(base, "mixed")[0].parent, base / "trash" / ("0" * 32 + ".gone"))  # noqa: PTH104
    (base / "owners" / "counts").unlink()  # it does not know of what was done by hand


def save_new(store: FileStore) -> None:
    store.save("own-0", "new.csv", io.BytesIO(content("own-0", "new.csv", "2", 300_000)))


def replace(store: FileStore) -> None:
    store.save("own-0", "old.csv", content("own-0", "old.csv", "2", 70_000))


def write_blocks(store: FileStore) -> None:
    with store.writer("own-0", "new.csv") as out:
        for block in blocks(content("own-0", "new.csv", "2", 120_000)):
            out.write(block)


def move(store: FileStore) -> None:
    store.save("own-0", "new.csv", incoming(Path(store.base_dir), "2"))


def save_in_a_new_session(store: FileStore) -> None:
    store.save("own-1", "new.csv", content("own-1", "new.csv", "2", 100))


def delete(store: FileStore) -> None:
    store.delete("own-0", "old.csv")


def clean_up(store: FileStore) -> None:
    store.cleanup("own-0")
    store.purge()


def clean_up_all(store: FileStore) -> None:
    store.cleanup_all()
    store.purge()


def sweep(store: FileStore) -> None:
    store.sweep(living)


OLD = {("own-0", "old.csv"): "1", ("own-0", "other.csv"): "1"}
AFTER: dict[Callable[[FileStore], None], dict[tuple[str, str], str]] = {
    save_new: {**OLD, ("own-0", "new.csv"): "2"},
    write_blocks: {**OLD, ("own-0", "new.csv"): "2"},
    move: {**OLD, ("own-0", "new.csv"): "2"},
    replace: {**OLD, ("own-0", "old.csv"): "2"},
    save_in_a_new_session: {**OLD, ("own-1", "new.csv"): "2"},
    delete: {("own-0", "other.csv"): "1"},
    clean_up: {},
    clean_up_all: {},
    sweep: OLD,
}


@pytest.mark.parametrize("act", AFTER, ids=lambda act: act.__name__)
def test_a_kill_between_any_two_system_calls(tmp_path: Path, fork: Fork, act: Callable[[FileStore], None]) -> None:
    """The act is repeated in new folders, and killed one point later each time, until it comes to its end."""
    seen = []
    for steps in range(1, 500):
        base = tmp_path / str(steps) / "base"
        moved = incoming(base, "2")
        moved.parent.mkdir(parents=True)
        moved.write_bytes(content("own-0", "new.csv", "2", 5000))

        def work(base: Path = base, steps: int = steps) -> None:
            if act is sweep:
                (base / "trash").mkdir(0o700, parents=True)
                child = fork(lambda: leave_traces(base))
                assert os.waitpid(child, 0)[1] == 0
            store = prepare(base)
            Countdown(steps).start()
            act(store)
            store.close()

        child = fork(work)
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL), "the act failed: see its traceback above"
        found = examined(fork, base)
        assert found in (OLD, AFTER[act]), f"killed at point {steps}"
        if act is move and found == OLD:
            assert version_of("own-0", "new.csv", moved.read_bytes()) == "2", f"killed at point {steps}"
        seen.append(found)
        if status == 0:
            break
    assert status == 0
    assert seen[0] == OLD
    assert seen[-1] == AFTER[act]
    assert len(seen) > 2
