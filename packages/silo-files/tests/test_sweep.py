"""A sweep removes files of dead sessions and keeps what another living process uses. With real processes."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from silo_files import FileStore
from silo_files.cli.program import main
from silo_files.living import ask
from silo_files.local import journal, walk
from silo_files.local.file_lock import lock_fd
from silo_files.local.owners import Owners
from silo_files.names import hash_key

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and signals")
# These tests fork a process with threads on purpose.
fork_warning = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

WRITER = """
import sys
import threading
from silo_files import FileStore
store = FileStore(sys.argv[1])
staged = store.backend.stage("half", "a")
staged.write(b"half")
store.save("whole", "a", b"whole")
print("saved", flush=True)
if sys.stdin.readline() == "abort\\n":
    staged.abort()
else:
    # A daemon thread has the file when the process ends, so the file is not collected as garbage and deleted.
    threading.Thread(target=lambda file: threading.Event().wait(), args=(staged,), daemon=True).start()
"""


def never(keys: list[str]) -> list[str]:
    return []


def always(keys: list[str]) -> list[str]:
    return keys


class Asked:
    """Records the keys it is called with, and calls none of them live."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def refuse(self, keys: list[str]) -> list[str]:
        self.keys += keys
        return []


@contextmanager
def writer(base: Path, first: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run a process that has saved one file, is in the middle of another, and waits. It executes ``first`` before."""
    command = [sys.executable, "-c", first + WRITER, str(base)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "saved\n"
            yield process
        finally:
            process.kill()


def files(base: Path) -> list[Path]:
    return [path for path in base.rglob("*") if path.is_file() and path.parent.name != "owners"]


def test_a_killed_process_leaves_its_files_to_the_sweep(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    with writer(tmp_path) as process:
        assert store.sweep(never) == 0
        assert store.list_files("whole") == ["a"]
        process.kill()
        process.wait()
        asked = Asked()
        assert store.sweep(asked.refuse) == 2
    assert sorted(asked.keys) == ["half", "whole"]
    assert files(tmp_path) == []
    assert sorted(path.name for path in (tmp_path / "owners").iterdir()) == ["areas.lock"]


def test_a_process_that_ends_normally_leaves_no_lock_file(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        process.communicate("abort\n")
    assert [path.name for path in (tmp_path / "owners").iterdir()] == ["areas.lock"]
    assert FileStore(tmp_path).sweep(never) == 2


def test_a_process_that_ends_during_a_save_leaves_the_file_to_the_sweep(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        process.communicate("\n")
    assert len(list((tmp_path / "owners").iterdir())) == 2, "its lock file says that it left something"
    assert list(tmp_path.rglob("*.part"))
    store = FileStore(tmp_path)
    assert store.sweep(always) == 0
    assert not list(tmp_path.rglob("*.part"))
    assert [path.name for path in (tmp_path / "owners").iterdir()] == ["areas.lock"]
    assert store.sweep(never) == 2


def test_live_sessions_outlive_their_process(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        process.kill()
        process.wait()
    store = FileStore(tmp_path)
    assert list(tmp_path.rglob("*.part"))
    assert store.sweep(always) == 0
    assert store.list_files("whole") == ["a"]
    assert not list(tmp_path.rglob("*.part"))


def test_unfinished_files_of_living_processes_stay(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    with writer(tmp_path):
        assert store.sweep(always) == 0
        assert store.sweep(never) == 0
        assert list(tmp_path.rglob("*.part"))


def test_an_area_with_two_writers_waits_for_both(tmp_path: Path) -> None:
    mine = FileStore(tmp_path)
    third = FileStore(tmp_path)
    with writer(tmp_path) as process:
        mine.save("whole", "b", b"mine")
        process.kill()
        process.wait()
        assert third.sweep(never) == 1  # the unfinished one
        assert mine.list_files("whole") == ["a", "b"]
    mine.close()
    assert third.sweep(never) == 1


def test_own_areas_can_be_swept(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.save("sid", "a", b"1")
    assert store.sweep(never) == 1
    store.save("sid", "b", b"1")
    assert store.list_files("sid") == ["b"]


def test_a_deleted_store_object_owns_nothing(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    other = FileStore(tmp_path)
    other.save("sid", "a", b"1")
    assert store.sweep(never) == 0
    del other
    assert store.sweep(never) == 1


@posix
@fork_warning
def test_a_forked_child_is_an_owner_of_its_own(tmp_path: Path, fork: Callable[[Callable[[], object]], int]) -> None:
    store = FileStore(tmp_path)
    other = FileStore(tmp_path)
    store.save("parent", "a", b"1")
    ready, ready_child = os.pipe()
    wait, release = os.pipe()

    def work() -> None:
        store.save("child", "a", b"1")
        os.write(ready_child, b"x")
        os.read(wait, 1)

    child = fork(work)
    os.close(ready_child)
    assert os.read(ready, 1) == b"x"
    store.close()
    asked = Asked()
    assert other.sweep(asked.refuse) == 1, "the child keeps the parent's lock"
    assert asked.keys == ["parent"]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert other.sweep(never) == 1
    for fd in (ready, wait, release):
        os.close(fd)


def test_a_lost_lock_file_is_created_again(tmp_path: Path) -> None:
    store, other = FileStore(tmp_path), FileStore(tmp_path)
    store.save("one", "a", b"1")
    shutil.rmtree(tmp_path / "owners")
    store.save("two", "a", b"1")
    assert other.sweep(never) == 0


def test_living_runs_without_a_lock(tmp_path: Path) -> None:
    store = FileStore(tmp_path, max_store_bytes=1000)
    for sid in ("a", "b", "c"):
        store.save(sid, "a", b"1")

    def living(keys: list[str]) -> list[str]:
        thread = threading.Thread(target=store.save, args=("new", "n", b"1"))
        thread.start()
        thread.join(30)
        assert not thread.is_alive(), "a lock is held"
        store.cleanup("c")
        return ["b"]

    assert store.sweep(living) == 1
    assert [store.list_files(sid) for sid in ("a", "b", "c", "new")] == [[], ["a"], [], ["n"]]


def fail(keys: list[str]) -> list[str]:
    raise RuntimeError("no answer")


@pytest.mark.parametrize(
    ("living", "said"),
    [
        (fail, "living failed, so 2 areas stay"),
        (lambda keys: None, "living returned a NoneType, not a collection of keys, so 2 areas stay"),
        (lambda keys: False, "living returned a bool, not a collection of keys, so 2 areas stay"),
        (lambda keys: iter(keys), "living returned a list_iterator, not a collection of keys, so 2 areas stay"),
        (lambda keys: "dead", "living returned a str, not a collection of keys, so 2 areas stay"),
        (lambda keys: [b"live"], "living returned a list, not a collection of keys, so 2 areas stay"),
        (lambda keys: b"live", "living returned a bytes, not a collection of keys, so 2 areas stay"),
        (lambda keys: ["live", []], "living failed, so 2 areas stay"),
    ],
)
def test_areas_stay_if_living_gives_no_answer(
    living: Any, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FileStore(tmp_path)
    for sid in ("live", "dead"):
        store.save(sid, "a", b"1")
    assert store.sweep(living) == 0
    assert [record.getMessage() for record in caplog.records] == [said]
    assert store.sweep(lambda keys: {"live": 1, "another": 2}) == 1
    assert [store.list_files(sid) for sid in ("live", "dead")] == [["a"], []]


def test_a_question_that_fails_keeps_the_areas_of_its_slice_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("silo_files.local.sweeping.SLICE", 2)
    store = FileStore(tmp_path)
    for number in range(5):
        store.save(str(number), "a", b"1")
    asked: list[int] = []
    told: list[tuple[int, int]] = []

    def living(keys: list[str]) -> list[str]:
        asked.append(len(keys))
        keys.clear()
        return fail([]) if len(asked) == 1 else []

    assert store.sweep(living, on_progress=lambda *seen: told.append(seen)) == 3
    assert (asked, told) == ([2, 2, 1], [(2, 5), (4, 5), (5, 5)])
    assert sum(bool(store.list_files(str(number))) for number in range(5)) == 2


def test_the_last_progress_says_that_all_were_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if areas come and go during the sweep, or something else has the name of one."""
    monkeypatch.setattr("silo_files.local.sweeping.SLICE", 1)
    store = FileStore(tmp_path)
    for number in range(3):
        store.save(str(number), "a", b"1")
    digest = hash_key("not a folder")
    (tmp_path / "areas" / digest[:2]).mkdir()
    (tmp_path / "areas" / digest[:2] / digest).touch()
    (tmp_path / "areas" / digest[:2] / "other").mkdir()
    told: list[tuple[int, int]] = []
    assert store.sweep(always, on_progress=lambda *seen: told.append(seen)) == 0
    assert [seen for seen, _ in told] == [1, 2, 3]
    assert all(total >= 3 for _, total in told)
    assert told[-1] == (3, 3)


@pytest.mark.parametrize("links", [0, 1, 2], ids=["as they are", "always 1", "always 2"])
def test_areas_are_counted_on_any_file_system(links: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path)
    for number in range(5):
        store.save(str(number), "a", b"1")
    lstat = os.lstat

    def linked(path: str) -> os.stat_result:
        found = list(lstat(path))
        found[stat.ST_NLINK] = links
        return os.stat_result(found)

    if links:
        monkeypatch.setattr(os, "lstat", linked)
    assert walk.count(str(tmp_path / "areas")) == 5
    assert walk.count(str(tmp_path / "missing")) == 0


def test_a_backend_may_ask_about_any_number_of_keys(tmp_path: Path) -> None:
    asked: list[int] = []

    def living(keys: list[str]) -> list[str]:
        asked.append(len(keys))
        return keys[1:]

    assert len(ask(living, [str(number) for number in range(2500)])) == 2497
    assert asked == [1000, 1000, 500]


def test_a_writer_that_comes_while_living_runs_is_respected(tmp_path: Path) -> None:
    store, other = FileStore(tmp_path), FileStore(tmp_path)
    store.save("sid", "a", b"1")

    def living(keys: list[str]) -> list[str]:
        other.save("sid", "b", b"2")
        return []

    assert store.sweep(living) == 0
    assert store.list_files("sid") == ["a", "b"]


def test_an_unfinished_area_is_removed(tmp_path: Path) -> None:
    digest = hash_key("sid")
    area = tmp_path / "areas" / digest[:2] / digest
    (area / "t-0123456789abcdef-0").mkdir(parents=True)
    (area / "t-0123456789abcdef-0" / "names").write_bytes(b'{"key": "si')
    assert FileStore(tmp_path).sweep(always) == 1
    assert not area.exists()


def test_the_sweep_empties_the_trash(tmp_path: Path) -> None:
    entry = tmp_path / "trash" / ("0" * 32 + ".gone")
    entry.mkdir(parents=True)
    (entry / "a").write_bytes(b"1")
    assert FileStore(tmp_path).sweep(always) == 0
    assert not entry.exists()


HAMMER = """
import sys
from silo_files import FileStore
from silo_files.local import journal
store = FileStore(sys.argv[1])
for turn in range(150):
    key = f"{sys.argv[2]}-{turn}"
    store.save(key, "a", b"1")
    assert store.list_files(key) == ["a"], key
    store.sweep(lambda keys: [key for key in keys if key.startswith(sys.argv[2])])
assert store.total_size_bytes >= 150
"""


@pytest.mark.slow
def test_processes_never_sweep_each_other(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", HAMMER, str(tmp_path), name] for name in ("one", "two", "three")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    outcomes = [(process.communicate()[1], process.returncode) for process in processes]
    assert [error for error, status in outcomes if status] == []


SHARED = """
import sys
from silo_files import FileStore
from silo_files.local import journal
store = FileStore(sys.argv[1])
for turn in range(200):
    store.save("shared", f"{sys.argv[2]}-{turn % 20}", b"%d" % turn)
    if turn % 3 == 0:
        store.delete("shared", f"{sys.argv[2]}-{turn % 20}")
"""


def test_processes_share_an_area(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", SHARED, str(tmp_path), name] for name in ("one", "two")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    outcomes = [(process.communicate()[1], process.returncode) for process in processes]
    assert [error for error, status in outcomes if status] == []
    left = [turn for turn in range(180, 200) if turn % 3]
    expected = sorted(f"{name}-{turn % 20}" for name in ("one", "two") for turn in left)
    assert FileStore(tmp_path).list_files("shared") == expected


SAVER = """
import sys
from silo_files import AreaGone, FileStore
store = FileStore(sys.argv[1], max_session_bytes=10_000_000, max_store_bytes=10_000_000, max_files=10)
saved = 0
for turn in range(400):
    try:
        path = store.save("shared", f"{turn % 10}.bin", bytes(turn))
    except AreaGone:
        continue
    saved += 1
assert saved
"""

CLEANER = """
import sys
from silo_files import FileStore
from silo_files.local import journal
store = FileStore(sys.argv[1])
for turn in range(400):
    store.cleanup("shared")
    store.sweep(lambda keys: keys)
"""


def test_one_process_saves_while_another_cleans_up(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", code, str(tmp_path)] for code in (SAVER, CLEANER, SAVER)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    outcomes = [(process.communicate()[1], process.returncode) for process in processes]
    assert [error for error, status in outcomes if status] == []
    store = FileStore(tmp_path)
    assert {info.name for info in store.files("shared")} <= {f"{number}.bin" for number in range(10)}
    assert len(store.files("shared")) == store.usage("shared").files, "a file without a name"
    store.cleanup("shared")
    store.purge()
    assert files(tmp_path) == []


def test_files_whose_key_was_lost_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A power cut may keep files and lose their journal. Their session may be live."""
    store = FileStore(tmp_path)
    path = Path(store.save("sid", "a", b"1"))
    for lost in tmp_path.rglob("names"):
        lost.write_bytes(b"\0" * 20)
    (path.parent / ("w-" + "0" * 16)).mkdir()
    assert store.sweep(never) == 0
    assert store.sweep(never) == 0
    assert path.exists()
    assert len(caplog.records) == 1
    assert hash_key("sid")[:8] in caplog.text
    path.unlink()
    assert store.sweep(never) == 1


def test_unfinished_folders_of_dead_processes_are_removed(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    area = Path(store.session_dir("sid"))
    for number, dead in enumerate(("t-" + "0" * 16 + "-0", "t-" + "1" * 16 + "-17")):
        (area / dead).mkdir()
        if number:
            (area / dead / "names").write_bytes(b'{"key": "s')
    (own,) = area.glob("w-*")
    mine = area / f"t{own.name[1:]}-5"
    mine.mkdir()
    assert store.sweep(always) == 0
    assert sorted(area.iterdir()) == [mine, own]


def test_a_process_that_locks_its_file_during_a_sweep_is_left_to_the_next(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.save("sid", "a", b"1")
    store.close()
    (tmp_path / "owners" / ("0" * 16 + ".lock")).touch(0o600)  # made by a process that has not locked it yet

    def living(keys: list[str]) -> list[str]:
        with writer(tmp_path, "import os; os.urandom = bytes") as process:
            process.kill()
            process.wait()
        return keys

    store = FileStore(tmp_path)
    assert store.sweep(living) == 0
    assert [path.name for path in tmp_path.rglob("*.part")] == ["0.part"]
    assert store.sweep(always) == 0
    assert [path.name for path in tmp_path.rglob("*.part")] == []
    assert [path.name for path in (tmp_path / "owners").iterdir()] == ["areas.lock"]


def test_a_lock_file_that_was_never_locked_is_deleted_by_a_sweep_and_a_repair(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.save("sid", "a", b"1")
    path = tmp_path / "owners" / ("0" * 16 + ".lock")
    path.touch(0o600)
    assert store.sweep(always) == 0
    assert not path.exists()
    path.touch(0o600)
    assert main(["fsck", str(tmp_path), "--repair"]) == 0
    assert not path.exists()


def test_a_lock_file_is_deleted_only_while_its_lock_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a sweep could delete the file of a process that is just locking it, and take the process for dead."""
    looker = Owners(str(tmp_path / "owners"))
    (tmp_path / "owners").mkdir()
    path = tmp_path / "owners" / ("0" * 16 + ".lock")
    path.write_bytes(b"1")  # it was locked
    taken: list[bool] = []
    unlink = os.unlink

    def watch(target: str) -> None:
        fd = os.open(path, os.O_RDWR)
        taken.append(lock_fd(fd, wait=False))
        os.close(fd)
        unlink(target)

    monkeypatch.setattr(os, "unlink", watch)
    looker.delete(looker.ended())
    assert taken == [sys.platform == "win32"]
    assert not path.exists()


@posix
def test_no_lock_file_is_deleted_behind_a_link(tmp_path: Path) -> None:
    owners, elsewhere = tmp_path / "owners", tmp_path / "elsewhere"
    owners.mkdir()
    (owners / ("0" * 16 + ".lock")).write_bytes(b"1")
    (owners / ("1" * 16 + ".lock")).touch()
    looker = Owners(str(owners))
    ended = looker.ended()
    owners.rename(elsewhere)
    owners.symlink_to(elsewhere)
    looker.delete(ended)
    looker.delete_unused()
    assert len(list(elsewhere.iterdir())) == 2


def test_a_renewed_entry_keeps_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new lock file cannot be locked while another process tests its lock."""
    owners = Owners(str(tmp_path / "owners"))
    owner = owners.own_id()
    (tmp_path / "owners" / f"{owner}.lock").unlink()
    answers = [False, False, True]
    monkeypatch.setattr("silo_files.local.owners.lock_fd", lambda fd, **_: answers.pop(0))
    owners.renew()
    assert owners.own_id() == owner
    assert answers == []
    owners.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_lock_that_fails_leaves_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("silo_files.local.owners.lock_fd", no_locks)
    store = FileStore(tmp_path)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        with pytest.raises(OSError, match="No locks"):
            store.save("sid", "a", b"1")
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_an_area_finished_during_a_sweep_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An area that seems unfinished may be finished before it is removed."""
    store = FileStore(tmp_path)
    digest = hash_key("sid")
    (tmp_path / "areas" / digest[:2] / digest).mkdir(parents=True)
    lock = Owners.areas_lock

    def late(self: Owners, *, shared: bool) -> AbstractContextManager[None]:
        if not shared:
            store.save("sid", "a", b"1")
        return lock(self, shared=shared)

    monkeypatch.setattr(Owners, "areas_lock", late)
    asked = Asked()
    assert store.sweep(asked.refuse) == 0
    assert asked.keys == []
    assert store.list_files("sid") == ["a"]


def test_a_key_found_at_the_second_look_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = FileStore(tmp_path)
    store.save("sid", "a", b"1")
    read_head = journal.read_head
    looks = 0

    def missed_at_first(folder: str, digest: str) -> tuple[str, str | None] | None:
        nonlocal looks
        looks += 1
        return None if looks == 1 else read_head(folder, digest)

    monkeypatch.setattr(journal, "read_head", missed_at_first)
    assert store.sweep(never) == 0
    assert store.list_files("sid") == ["a"]
    assert caplog.text == ""


def test_unfinished_files_of_dead_processes_go_beside_a_living_writer(tmp_path: Path) -> None:
    mine, third = FileStore(tmp_path), FileStore(tmp_path)
    with writer(tmp_path) as process:
        mine.save("half", "b", b"mine")
        staged = mine.backend.stage("half", "c")
        (path,) = (path for path in tmp_path.rglob("*.part") if path.stat().st_size == 0)
        process.kill()
        process.wait()
    assert third.sweep(never) == 1, "whole: its writer is dead"
    assert list(tmp_path.rglob("*.part")) == [path]
    staged.finish()
    staged.commit()
    assert mine.list_files("half") == ["b", "c"]


STARTING = """
import sys
from silo_files import FileStore
from silo_files.local import journal
start, calls = journal.start, []

def slow(*args, **options):
    calls.append(args)
    print("starting", flush=True)
    sys.stdin.readline()
    start(*args, **options)

journal.start = slow
store = FileStore(sys.argv[1])
store.save("sid", "a", b"1")
print(len(calls), store.list_files("sid"), flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("is_known", [True, False], ids=["alive", "without its lock file"])
def test_a_sweep_waits_for_a_process_that_is_starting_to_write(
    is_known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the lock of the areas until its folder there is complete."""
    arrived = threading.Event()
    lock = Owners.areas_lock

    def watched(self: Owners, *, shared: bool) -> AbstractContextManager[None]:
        arrived.set()
        return lock(self, shared=shared)

    monkeypatch.setattr(Owners, "areas_lock", watched)
    store = FileStore(tmp_path)
    removed: list[int] = []
    command = [sys.executable, "-c", STARTING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "starting\n"
            (fresh,) = tmp_path.glob("areas/*/*/t-*")
            if not is_known:
                (tmp_path / "owners" / f"{fresh.name[2:18]}.lock").unlink()
            sweep = threading.Thread(target=lambda: removed.append(store.sweep(never)))
            sweep.start()
            if not is_known:
                assert arrived.wait(30)
            assert fresh.is_dir()
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "1 ['a']\n"
            sweep.join(30)
            assert removed == [0]
            assert store.list_files("sid") == ["a"]
        finally:
            process.kill()
