"""The limits hold among processes, and the counts are right after any of them was killed."""

from __future__ import annotations

import io
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from folder_walk import size, stored
from silo_files import FileStore, SessionQuotaExceeded, StoreQuotaExceeded, Usage
from silo_files.ledger import Ledger

if sys.platform == "win32":
    pytest.skip("forks processes and kills them by a signal", allow_module_level=True)

from killing import Countdown

pytestmark = [
    pytest.mark.slow,
    # A child of this process is a process with one thread, on purpose.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

Fork = Callable[[Callable[[], object]], int]
SESSION_BYTES, STORE_BYTES = 900_000, 1_000_000


class Blocks:
    """A source whose blocks come from an iterator."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks

    def read(self, _: int) -> bytes:
        return next(self._blocks, b"")


def blocks(*sizes: int) -> Any:
    return Blocks(iter([b"x" * each for each in sizes]))


def open_store(base: Path, **limits: Any) -> FileStore:
    return FileStore(base, **({"max_session_bytes": SESSION_BYTES, "max_store_bytes": STORE_BYTES} | limits))


def walked(base: Path, sid: str | None = None) -> Usage:
    paths = stored(base, sid)
    return Usage(size(paths), len(paths))


ACTS: dict[str, Callable[[FileStore], object]] = {
    "save": lambda store: store.save("sid", "new", b"x" * 300),
    "save of unknown size": lambda store: store.save("sid", "new", blocks(300, 40_000, 20)),
    "save of known size": lambda store: store.save("sid", "new", io.BytesIO(b"x" * 400_000), size=400_000),
    "replace": lambda store: store.save("sid", "old", b"x" * 300),
    "replace of unknown size": lambda store: store.save("sid", "old", blocks(300, 40_000)),
    "save in a new session": lambda store: store.save("new", "new", b"x" * 300),
    "delete": lambda store: store.delete("sid", "old"),
    "clean-up": lambda store: store.cleanup("sid"),
    "clean-up of all": lambda store: store.cleanup_all(),
    "first look": lambda store: (store.usage("uncounted"), store.total()),
}


def look_at_usage(store: FileStore) -> None:
    for sid in ("sid", "other", "new", "uncounted"):
        assert store.usage(sid) == walked(Path(store.base_dir), sid)


def look_at_total(store: FileStore) -> None:
    assert store.total() == walked(Path(store.base_dir))


def save_once_more(store: FileStore) -> None:
    store.save("sid", "more", b"x")


LOOKS = [look_at_usage, look_at_total, save_once_more]


def examine(base: Path, first: Callable[[FileStore], None]) -> None:
    """In a process of its own and without a sweep: compare all counts with the disk, and use up the room."""
    store = open_store(base)
    first(store)
    look_at_total(store)
    look_at_usage(store)
    room = min(SESSION_BYTES - store.usage("sid").bytes, STORE_BYTES - store.total().bytes)
    with pytest.raises((SessionQuotaExceeded, StoreQuotaExceeded)):
        store.save("sid", "rest", io.BytesIO(bytes(room + 1)), size=room + 1)
    store.save("sid", "rest", io.BytesIO(bytes(room)), size=room)
    look_at_total(store)
    look_at_usage(store)


def run(fork: Fork, work: Callable[[], object]) -> int:
    _, status = os.waitpid(fork(work), 0)
    return status


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("has_total", [True, False], ids=["with a total", "without"])
def test_counts_are_right_at_the_next_look_after_a_kill(tmp_path: Path, fork: Fork, act: str, has_total: bool) -> None:
    """A process is killed at its n-th system call that changes something or takes a lock, for each n."""
    limits: dict[str, Any] = {} if has_total else {"max_store_bytes": None}
    for steps in range(1, 200):
        base = tmp_path / str(steps)

        def work(base: Path = base, steps: int = steps) -> None:
            FileStore(base).backend.stage("uncounted", "a").abort()
            (path,) = (base / "areas").glob("??/*")
            (path / ("0" * 32)).write_bytes(b"left by an earlier version")
            store = open_store(base, **limits)
            store.save("sid", "old", b"x" * 1000)
            store.save("other", "old", b"x" * 500)
            Countdown(steps).start()
            ACTS[act](store)

        status = run(fork, work)
        assert status in (0, signal.SIGKILL), "the act failed: see its traceback above"
        look = LOOKS[steps % len(LOOKS)]
        assert run(fork, partial(examine, base, look)) == 0, f"{look.__name__} after {steps}"
        if status == 0:
            break
    assert status == 0
    assert steps > len(LOOKS)


def upload(base: Path, number: int, report: int, limits: dict[str, Any]) -> None:
    """Upload files of random sizes, known and unknown, until even one byte has no room."""
    store = FileStore(base, **limits)
    choose = random.Random(number)
    largest, count = 400_000, 0
    while largest:
        length = choose.randrange(1, largest + 1)
        source: Any = io.BytesIO(b"x" * length) if choose.random() < 0.5 else blocks(*[1000] * (length // 1000), 1)
        known = length if isinstance(source, io.BytesIO) else None
        try:
            store.save(f"sid{number % 2}", f"{number}-{count}", source, size=known)
        except (SessionQuotaExceeded, StoreQuotaExceeded):
            largest //= 2
        count += 1
    os.write(report, b"1")


@pytest.mark.parametrize(
    "limits",
    [
        {"max_session_bytes": 3_000_000},
        {"max_session_bytes": 3_000_000, "max_store_bytes": 4_000_000},
        {"max_files": 15},
        {"max_session_bytes": 3_000_000, "max_files": 60, "max_store_bytes": 5_000_001},
    ],
    ids=lambda limits: " ".join(limits),
)
def test_eight_processes_stay_within_the_limits(tmp_path: Path, fork: Fork, limits: dict[str, Any]) -> None:
    store = FileStore(tmp_path, **limits)
    done, report = os.pipe()
    for number in range(8):
        fork(partial(upload, tmp_path, number, report, limits))
    os.close(report)
    os.set_blocking(done, False)
    looks, finished = 0, 0
    while finished < 8:
        # Files are only added, so a walk finds at most what is there at its end.
        sessions = [walked(tmp_path, f"sid{number}") for number in range(2)]
        assert all(usage.bytes <= limits.get("max_session_bytes", 1e9) for usage in sessions)
        assert all(usage.files <= limits.get("max_files", 1e9) for usage in sessions)
        assert walked(tmp_path).bytes <= limits.get("max_store_bytes", 1e9)
        looks += 1
        try:
            answer = os.read(done, 8)
        except BlockingIOError:
            time.sleep(0.001)
        else:
            assert answer, "a process failed: see its traceback above"
            finished += len(answer)
    os.close(done)
    assert looks > 1
    assert [store.usage("sid0"), store.usage("sid1")] == [walked(tmp_path, "sid0"), walked(tmp_path, "sid1")]
    assert store.total() == walked(tmp_path)
    fill_up(store, limits)


def fill_up(store: FileStore, limits: dict[str, Any]) -> None:
    """Check that exactly the rest has room: nothing is reserved any more."""
    usage, total = store.usage("sid0"), store.total()
    if usage.files < limits.get("max_files", usage.files + 1):
        rooms = [10_000_000, limits.get("max_session_bytes", 10**9) - usage.bytes]
        room = min(*rooms, limits.get("max_store_bytes", 10**9) - total.bytes)
        if room < 10_000_000:
            with pytest.raises((SessionQuotaExceeded, StoreQuotaExceeded)):
                store.save("sid0", "rest", b"x" * (room + 1))
        store.save("sid0", "rest", b"x" * room)
        store.delete("sid0", "rest")
    else:
        with pytest.raises(SessionQuotaExceeded):
            store.save("sid0", "rest", b"")


@pytest.mark.parametrize("known", [True, False])
def test_what_a_killed_process_has_reserved_comes_back(tmp_path: Path, fork: Fork, known: bool) -> None:
    limits: dict[str, Any] = {"max_session_bytes": 1_000_000, "max_files": 1, "max_store_bytes": 1_000_000}
    begun, report = os.pipe()

    def begin() -> None:
        def source() -> Iterator[bytes]:
            yield b"x" * 300_000
            os.write(report, b"1")
            signal.pause()

        FileStore(tmp_path, **limits).save("sid", "a", Blocks(source()), size=900_000 if known else None)  # type: ignore[arg-type]

    child = fork(begin)
    assert os.read(begun, 1) == b"1"
    store = FileStore(tmp_path, **limits)
    with pytest.raises(SessionQuotaExceeded):
        store.save("sid", "b", b"")
    with pytest.raises(StoreQuotaExceeded):
        store.save("other", "b", b"x" * 700_001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    store.save("sid", "b", b"x" * 1_000_000)
    assert store.total() == Usage(1_000_000, 1) == walked(tmp_path)


def test_a_child_does_not_keep_the_lock_of_a_parent_that_was_killed(tmp_path: Path, fork: Fork) -> None:
    """A thread of the parent changes files when the parent forks. The child lives on."""
    store = open_store(tmp_path)
    store.save("sid", "a", b"x")
    wait, end = os.pipe()

    def hold(ledger: Ledger, is_held: threading.Event) -> None:
        with ledger.change("sid") as change:
            change.add(bytes=50, files=1)
            is_held.set()
            time.sleep(100)

    def parent() -> None:
        is_held = threading.Event()
        threading.Thread(target=hold, args=(open_store(tmp_path)._ledger, is_held), daemon=True).start()
        assert is_held.wait(10)
        if os.fork() == 0:
            os.close(end)
            os.read(wait, 1)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    assert run(fork, parent) == signal.SIGKILL
    assert store.usage("sid") == Usage(1, 1)
    assert store.total() == Usage(1, 1)
    os.close(end)


@pytest.mark.parametrize("is_counted", [True, False])
def test_a_process_that_may_only_read_gets_the_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_counted: bool
) -> None:
    store = open_store(tmp_path)
    store.save("sid", "a", b"x" * 10)
    if not is_counted:
        for counts in tmp_path.rglob("counts"):
            counts.unlink()
    store.close()
    reader = FileStore(tmp_path, auto_create=False)
    opened = os.open

    def read_only(path: str, flags: int, *rest: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", read_only)
    assert reader.usage("sid") == Usage(10, 1)
    assert reader.usage("unknown") == Usage(0, 0)
    assert reader.total() == Usage(10, 1)
    assert reader.total_size_bytes == 10
