"""Several processes on one SQLite file."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from children import PRELUDE, Child
from silo_store import Change, Life, LockLost, LockTimeout, Moment, SessionStore, StoreUnavailable
from silo_store.backends.sqlite import SQLiteBackend
from silo_store.backends.sqlite import file as database_file
from silo_store.testing import SID, TTL, at, in_threads
from sqlite_files import LIFE, MINE, Open, begin, write

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def backend(open_sqlite: Open) -> SQLiteBackend:
    return open_sqlite()


# Forks

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
warns = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def in_child(work: Callable[[], object]) -> int:
    """Call ``work`` in a forked child; its exit status, 1 where it raised."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@forks
@warns
def test_a_child_uses_the_store_and_leaves_the_parents_claims_and_holds(open_sqlite: Open) -> None:
    backend = open_sqlite()
    begin(backend)
    claim, _ = backend.claim("sid-a", at(0.0), 1.0)
    backend.hold("uid-1")
    owner = backend._holds.owner

    def work() -> None:
        assert not backend._database._all
        backend.release(claim)
        with pytest.raises(LockLost):
            backend.write(LIFE, {"ns": Change(1, b"late")}, at(1.0), claim)
        with pytest.raises(LockTimeout):
            backend.claim("sid-a", at(0.0), 0.01)
        assert backend.held("uid-1")
        assert backend.expire([LIFE], at(1e6)) == [LIFE]
        begin(backend, MINE)
        backend.hold("uid-mine")
        assert backend._holds.owner not in (0, owner)

    assert in_child(work) == 0
    assert not backend.held("uid-mine"), "the child is dead"
    backend.write(LIFE, {"ns": Change(1, b"two")}, at(1.0), claim, last=True)
    assert sorted(backend.sids()) == ["sid-a", "sid-mine"]
    assert backend._holds.owner == owner


@forks
@warns
def test_a_fork_waits_for_what_other_threads_are_doing(open_sqlite: Open) -> None:
    backend = open_sqlite()
    begin(backend)
    stop: list[bool] = []

    def write_on() -> None:
        version = 1
        while not stop:
            write(backend, version)
            version += 1

    def fork() -> None:
        try:
            for number in range(10):
                life = Life(f"sid-{number}", f"uid-{number}")
                assert in_child(partial(begin, backend, life)) == 0
        finally:
            stop.append(True)

    in_threads(3, lambda number: fork() if number == 0 else (write_on() if number == 1 else read_on(backend, stop)))
    assert backend.count() == 11


def test_a_fork_does_not_wait_for_busy_threads_to_pause(backend: SQLiteBackend) -> None:
    """What a thread gives back, and takes again the next moment, is closed when it is given back."""
    begin(backend)
    database = backend._database
    connection = database.take()
    database._draining = True
    database.give(connection)
    assert not database._all
    assert not database._idle
    database.after_fork_in_parent()
    database.give(database.take())
    assert len(database._idle) == 1


def read_on(backend: SQLiteBackend, stop: list[bool]) -> None:
    while not stop:
        assert backend.load("sid-a", at(0.0)) is not None


def test_a_child_of_a_fork_that_python_does_not_know_of_refuses(backend: SQLiteBackend) -> None:
    begin(backend)
    backend._database.after_fork()
    try:
        with pytest.raises(StoreUnavailable, match="forked"):
            backend.load("sid-a", at(0.0))
    finally:
        while database_file._inherited:
            database_file._inherited.pop().close()


def test_a_fork_waits_no_longer_than_for_a_while(open_sqlite: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_sqlite(timeout=0.01)
    monkeypatch.setattr(database_file, "_FORK_WAIT", 0.01)
    database = backend._database
    connection = database.take()
    database._gate.acquire()
    database.before_fork()
    database._gate.release()
    database.after_fork_in_parent()
    database.give(connection)
    begin(backend)


# Real processes

COUNT = """
store = open_store(sys.argv[1])
say("ready")
hear()
for _ in range(100):
    store.update("a" * 32, "counter", lambda state: {"value": state["value"] + 1})
say("done")
"""

SWEEP = """
store = open_store(sys.argv[1], ttl=60)
store.on_expire(lambda sid: say("expired", sid))
say("ready")
hear()
store.cleanup()
say("done")
hear()
store.cleanup()
say("done")
"""

SWEEP_AND_STOP = """
store = open_store(sys.argv[1], ttl=60)
told = []

def stop_at_100(sid):
    told.append(sid)
    if len(told) <= 100:
        say("expired", sid)
    if len(told) == 100:
        say("stopped")
        hear()

store.on_expire(stop_at_100)
store.cleanup()
"""

KEEP = """
store = open_store(sys.argv[1])
sid = "a" * 32
store.get(sid)
with store.hold(sid), store.edit(sid):
    say("ready")
    hear()
"""


def url_of(path: Path) -> str:
    return f"sqlite:///{quote(str(path))}"


def start(program: str, path: Path, count: int, stack: contextlib.ExitStack) -> list[Child]:
    """Start processes that are ready and wait."""
    children = [stack.enter_context(Child(program, url_of(path))) for _ in range(count)]
    for child in children:
        assert child.hear() == "ready"
    return children


def expired(child: Child) -> list[str]:
    """What a sweeper tells until it is done, or has stopped."""
    return [line.removeprefix("expired ") for line in iter(child.hear, "done") if line != "stopped"]


def begin_due(backend: SQLiteBackend, count: int) -> list[str]:
    lives = [Life(f"{number:032x}", f"uid-{number}") for number in range(count)]
    past = time.time() - 1000
    for life in lives:
        begin(backend, life, past)
    return [life.sid for life in lives]


def test_processes_lose_no_update(path: Path) -> None:
    with contextlib.ExitStack() as stack:
        children = start(COUNT, path, 4, stack)
        for child in children:
            child.tell()
        for child in children:
            assert child.hear() == "done"
    store = SessionStore(backend=url_of(path))
    store.register_namespace("counter", dict)
    assert store.get(SID)["counter"] == {"value": 400}
    store.close()


def test_processes_make_one_database(tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / f"{number}.db"
        with contextlib.ExitStack() as stack:
            children = start(
                'say("ready"); hear(); open_store(sys.argv[1]).get(sys.argv[1][-4] * 32); say("done")', path, 4, stack
            )
            for child in children:
                child.tell()
            assert [child.hear() for child in children] == ["done"] * 4
        backend = SQLiteBackend(path)
        assert backend.count() == 1
        backend.close()


def test_each_expiry_is_told_once_by_one_of_the_processes(path: Path, backend: SQLiteBackend) -> None:
    sids = begin_due(backend, 2000)
    with contextlib.ExitStack() as stack:
        children = start(SWEEP, path, 4, stack)
        told: list[str] = []
        for _ in range(2):  # one may leave what another just expired to that one, and it comes back for the rest
            for child in children:
                child.tell()
            for child in children:
                told += expired(child)
    assert sorted(told) == sids
    assert (backend.count(), backend.expired_count(), backend.ended()) == (0, 2000, [])


def test_what_a_killed_sweeper_left_is_done_by_others(path: Path, backend: SQLiteBackend) -> None:
    sids = begin_due(backend, 600)
    store = SessionStore(backend=backend, ttl=60)
    told: list[str] = []
    store.on_expire(told.append)
    with Child(SWEEP_AND_STOP, url_of(path)) as child:
        first = [line.removeprefix("expired ") for line in iter(child.hear, "stopped")]
        rest = store.cleanup()
        assert len(rest) == 600 - 256, "one batch is the sweeper's while it lives"
        child.kill()
        again = store.cleanup()
    assert sorted({*first, *told}) == sids
    assert rest + again == told
    assert len(first) + len(told) == 601, "it is not known whether the callback ran during which it was killed"


def test_the_claims_and_holds_of_a_killed_process_end_with_it(path: Path, backend: SQLiteBackend) -> None:
    with Child(KEEP, url_of(path)) as child:
        assert child.hear() == "ready"
        record = backend.peek(SID)
        assert record is not None
        life = Life(SID, record.uid)
        with pytest.raises(LockTimeout):
            backend.claim(SID, at(0.0), 0.01)
        assert backend.held(life.uid)
        assert backend.expire([life], Moment(record.active + 1000, TTL)) == [life]
        child.kill()
        claim, record = backend.claim(SID, at(0.0), 0.0)
        backend.release(claim)
        assert not backend.held(life.uid)
        assert record is not None
        assert backend.expire([life], Moment(record.active + 1000, TTL)) == []


@forks
@warns
def test_a_kill_at_any_moment_undoes_nothing_that_was_acknowledged(path: Path) -> None:
    store = SessionStore(backend=url_of(path))
    for name in ("first", "second"):
        store.register_namespace(name, int)
    store.get(SID)
    chance = random.Random(20240)
    for _ in range(200):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                while True:
                    with store.edit(SID) as session:
                        session["first"] += 1
                        session["second"] += 1
                    os.write(write, b"%d\n" % session["first"])
            finally:
                os._exit(1)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            acknowledged = [pipe.readline() for _ in range(chance.randrange(1, 12))]
            os.kill(child, signal.SIGKILL)
            acknowledged += pipe.readlines()
        os.waitpid(child, 0)
        session = store.get(SID)
        assert session["first"] == session["second"]
        assert session["first"] - int(acknowledged[-1]) in (0, 1)
    with store.backend._database.reading() as connection:  # type: ignore[attr-defined]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.close()


FILL = """
import pathlib
store = open_store(sys.argv[1], lock_timeout=1)
store.register_namespace("notes", str)
sid = "a" * 32
kept = 0
other = pathlib.Path(sys.argv[2])
other.write_bytes(bytes(64 * 1024))
try:
    for size in range(1, 1000):
        store.update(sid, "notes", lambda notes: "x" * size * 1000)
        kept = size
except StoreUnavailable as error:
    say("full" if "full" in str(error) or "I/O" in str(error) else error)
session = store.open(sid)
assert len(session["notes"]) == kept * 1000, kept
assert store.backend._database.take().execute("PRAGMA integrity_check").fetchone() == ("ok",)
other.unlink()  # how much a write needs depends on how the file is laid out: make room for any
store.update(sid, "notes", lambda notes: "")
assert store.open(sid)["notes"] == ""
say("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk as Linux lets users do")
def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    guard = pytest.importorskip("tests.guard", reason="needs the guard of the repository, which an sdist does not have")
    mount = f"mount -t tmpfs -o size=512k tmpfs {shlex.quote(str(tmp_path))}"
    with guard.unguarded_child() as env:
        if subprocess.run(["unshare", "-Urm", "sh", "-c", mount], env=env, capture_output=True).returncode:
            pytest.skip("this system does not let users mount")
        program = [sys.executable, "-c", PRELUDE + FILL, url_of(tmp_path / "sessions.db"), str(tmp_path / "other")]
        command = ["unshare", "-Urm", "sh", "-c", f"{mount} && exec {shlex.join(program)}"]
        ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("full\ndone\n", "")
