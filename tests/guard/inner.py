"""Tests that ``test_guard.py`` runs in a separate pytest, so that their violations do not fail the outer run.

They try to change the folder ``outside``, which is beside the basetemp of the inner run and in the folder of the outer
test. If the guard failed, only the outer test's own files would be changed. The guard must fail each test whose name
starts with ``test_fails``. In a child, ``main`` attempts every operation and prints those that were not refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import guard
from tests.guard import policy
from tests.guard.policy import GuardViolation

CHECKOUT = Path(__file__).resolve().parents[2]
OUTSIDE = Path(os.environ["GUARD_OUTSIDE"])
FILE, FULL, EMPTY = OUTSIDE / "file", OUTSIDE / "full", OUTSIDE / "empty"
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

Operation = Callable[[Path], object]


def _at(operation: Callable[[int], Any], folder: Path = OUTSIDE) -> None:
    """Call ``operation`` with a descriptor of ``folder``."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        operation(fd)
    finally:
        os.close(fd)


def _on_file(operation: Callable[[int], Any]) -> None:
    _at(operation, FILE)


def _made(path: Path) -> Path:
    path.write_text("inside")
    return path


def _link(inside: Path) -> Path:
    link = inside / "link"
    if not link.is_symlink():
        link.symlink_to(OUTSIDE, target_is_directory=True)
    return link


def _from(folder: Path, operation: Callable[[], Any]) -> None:
    before = Path.cwd()
    os.chdir(folder)
    try:
        operation()
    finally:
        os.chdir(before)


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


WRITES: dict[str, Operation] = {
    "open w": lambda inside: FILE.open("w"),
    "open a": lambda inside: FILE.open("a"),
    "open r+": lambda inside: FILE.open("r+"),
    "open x": lambda inside: (OUTSIDE / "new").open("x"),
    "open bytes": lambda inside: open(os.fsencode(FILE), "wb"),  # noqa: PTH123, SIM115
    "open relative": lambda inside: _from(OUTSIDE, lambda: open("file", "w")),  # noqa: PTH123, SIM115
    "open dots": lambda inside: (inside / ".." / ".." / "outside" / "file").open("w"),
    "open link": lambda inside: (_link(inside) / "file").open("w"),
    "os.open": lambda inside: os.open(FILE, os.O_WRONLY),
    "os.open create": lambda inside: os.open(OUTSIDE / "new", os.O_RDONLY | os.O_CREAT),
    "touch": lambda inside: (OUTSIDE / "new").touch(),
    "truncate": lambda inside: os.truncate(FILE, 0),
    "utime": lambda inside: os.utime(FILE),
    "chmod": lambda inside: FILE.chmod(0o777),
    "remove": lambda inside: FILE.unlink(),
    "remove link/": lambda inside: (_link(inside) / "file").unlink(),
    "rmdir": lambda inside: EMPTY.rmdir(),
    "rmdir dot": lambda inside: os.rmdir(f"{EMPTY}/."),  # noqa: PTH106
    "mkdir": lambda inside: (OUTSIDE / "new").mkdir(),
    "makedirs": lambda inside: (OUTSIDE / "new" / "er").mkdir(parents=True),
    "rename out": lambda inside: FILE.rename(inside / "taken"),
    "rename in": lambda inside: _made(inside / "mine").rename(FILE),
    "replace": lambda inside: _made(inside / "mine").replace(FILE),
    "link": lambda inside: os.link(_made(inside / "mine"), OUTSIDE / "new"),
    "link of outside": lambda inside: os.link(FILE, inside / "hard"),
    "symlink": lambda inside: (OUTSIDE / "new").symlink_to(inside),
    "rmtree": lambda inside: shutil.rmtree(FULL),
    "rmtree ignore_errors": lambda inside: shutil.rmtree(FULL, ignore_errors=True),
    "rmtree link/": lambda inside: shutil.rmtree(f"{_link(inside)}/full/"),
    "rmtree of all": lambda inside: shutil.rmtree(OUTSIDE.parent),
    "move out": lambda inside: shutil.move(FULL, inside / "moved"),
    "move in": lambda inside: shutil.move(_made(inside / "mine"), OUTSIDE),
    "copy": lambda inside: shutil.copy(_made(inside / "mine"), FILE),
    "copy2": lambda inside: shutil.copy2(_made(inside / "mine"), OUTSIDE),
    "copytree": lambda inside: shutil.copytree(inside, OUTSIDE / "new"),
    "archive": lambda inside: shutil.make_archive(str(OUTSIDE / "new"), "zip", inside),
    "mkstemp": lambda inside: tempfile.mkstemp(dir=OUTSIDE),
    "mkdtemp": lambda inside: tempfile.mkdtemp(dir=OUTSIDE),
    "named temporary file": lambda inside: tempfile.NamedTemporaryFile(dir=OUTSIDE),  # noqa: SIM115
    "sqlite": lambda inside: sqlite3.connect(OUTSIDE / "new.db"),
    "sqlite uri": lambda inside: sqlite3.connect(f"file:{OUTSIDE}/new.db?mode=rwc", uri=True),
    "temporary root": lambda inside: shutil.rmtree(policy.policies[-1].roots[0]),
    "basetemp": lambda inside: shutil.rmtree(inside.parent),
    "rename of basetemp": lambda inside: inside.parent.rename(inside.parent.parent / "new"),
    "report": lambda inside: Path(policy.policies[-1].report).write_text(""),
}
if hasattr(os, "mkfifo"):
    WRITES |= {
        "os.open at": lambda inside: _at(lambda fd: os.open("file", os.O_WRONLY, dir_fd=fd)),
        "remove at": lambda inside: _at(lambda fd: os.unlink("file", dir_fd=fd)),
        "rmdir at": lambda inside: _at(lambda fd: os.rmdir("empty", dir_fd=fd)),
        "mkdir at": lambda inside: _at(lambda fd: os.mkdir("new", dir_fd=fd)),
        "rename at": lambda inside: _at(lambda fd: os.rename("file", "new", src_dir_fd=fd, dst_dir_fd=fd)),
        "symlink at": lambda inside: _at(lambda fd: os.symlink("file", "new", dir_fd=fd)),
        "link at": lambda inside: _at(lambda fd: os.link("file", "new", src_dir_fd=fd, dst_dir_fd=fd)),
        "utime at": lambda inside: _at(lambda fd: os.utime("file", dir_fd=fd)),
        "chmod at": lambda inside: _at(lambda fd: os.chmod("file", 0o777, dir_fd=fd)),
        "fchmod": lambda inside: _on_file(lambda fd: os.fchmod(fd, 0o777)),
        "fchown": lambda inside: _on_file(lambda fd: os.fchown(fd, os.getuid(), os.getgid())),
        "utime fd": lambda inside: _on_file(os.utime),
        "chown": lambda inside: os.chown(FILE, os.getuid(), os.getgid()),
        "lchown": lambda inside: os.lchown(FILE, os.getuid(), os.getgid()),
        "mkfifo": lambda inside: os.mkfifo(OUTSIDE / "new"),
        "mknod": lambda inside: os.mknod(OUTSIDE / "new"),
        "bind": lambda inside: _bind(OUTSIDE / "new"),
    }
if hasattr(os, "setxattr"):
    WRITES["setxattr"] = lambda inside: os.setxattr(FILE, "user.a", b"1")

NOTHING = [sys.executable, "-c", "pass"]
PROGRAMS: dict[str, Operation] = {
    "rm": lambda inside: subprocess.run(["rm", "--version"]),
    "mv": lambda inside: subprocess.run(["mv", "--version"]),
    "find": lambda inside: subprocess.run(["find", "--version"]),
    "env rm": lambda inside: subprocess.run(["env", "rm", "--version"]),
    "sh -c": lambda inside: subprocess.run(["sh", "-c", "true"]),
    "shell=True": lambda inside: subprocess.run("true", shell=True),
    "os.system": lambda inside: os.system("true"),
    "os.popen": lambda inside: os.popen("true"),
    "python -I": lambda inside: subprocess.run([sys.executable, "-I", "-c", "pass"]),
    "python -BS": lambda inside: subprocess.run([sys.executable, "-BS", "-c", "pass"]),
    "python -X a -E": lambda inside: subprocess.run([sys.executable, "-X", "a", "-E", "-c", "pass"]),
    "python env={}": lambda inside: subprocess.run(NOTHING, env={}),
    "python with a path": lambda inside: subprocess.run(NOTHING, env={**os.environ, "PYTHONPATH": str(inside)}),
    "python with roots": lambda inside: subprocess.run(NOTHING, env={**os.environ, policy.ROOTS_VARIABLE: "root /"}),
}
if hasattr(os, "posix_spawn"):
    PROGRAMS |= {
        "posix_spawn": lambda inside: os.posix_spawn(sys.executable, NOTHING, {}),
        "execve": lambda inside: os.execve(sys.executable, NOTHING, {}),
        "execv rm": lambda inside: os.execvp("rm", ["rm", "--version"]),
    }
OPERATIONS = WRITES | PROGRAMS


def _snapshot() -> list[tuple[str, int, bytes]]:
    """All that lies outside, with modes and content."""
    with policy.exempt():
        return [
            (str(path), path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
            for path in sorted(OUTSIDE.rglob("*"))
        ]


def _swallow(operation: Operation, inside: Path) -> None:
    with contextlib.suppress(BaseException):
        operation(inside)


def _remove_swallowed(path: Path) -> None:
    _swallow(lambda inside: path.unlink(), path)


@pytest.mark.parametrize("name", OPERATIONS)
def test_is_refused(name: str, tmp_path: Path) -> None:
    before = _snapshot()
    with pytest.raises(GuardViolation):
        OPERATIONS[name](tmp_path)
    assert guard.drain()
    assert _snapshot() == before


def test_is_refused_in_a_child(tmp_path: Path) -> None:
    before = _snapshot()
    code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); from tests.guard import inner; inner.main()"
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n"), done
    assert len(guard.drain()) >= len(OPERATIONS)
    assert _snapshot() == before


def test_is_refused_in_a_child_of_a_child(tmp_path: Path) -> None:
    code = f"import subprocess, sys; subprocess.call([sys.executable, '-c', {f'open({str(FILE)!r}, chr(119))'!r}])"
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
    assert len(guard.drain()) == 1


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_is_refused_in_multiprocessing(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=_remove_swallowed, args=(FILE,))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert len(guard.drain()) == 1
    assert FILE.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no multiprocessing by fork_exec")
def test_multiprocessing_without_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(policy.ROOTS_VARIABLE)
    process = multiprocessing.get_context("spawn").Process(target=os.getpid)
    with pytest.raises(GuardViolation):
        process.start()
    assert guard.drain()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_is_refused_in_a_fork() -> None:
    child = os.fork()
    if child == 0:
        try:
            _remove_swallowed(FILE)
        finally:
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert len(guard.drain()) == 1


def test_fails_when_swallowed(tmp_path: Path) -> None:
    _remove_swallowed(FILE)


def test_fails_when_swallowed_in_a_thread(tmp_path: Path) -> None:
    thread = threading.Thread(target=_remove_swallowed, args=(FILE,))
    thread.start()
    thread.join()


def test_fails_when_swallowed_in_a_child(tmp_path: Path) -> None:
    code = f"import os\ntry: os.unlink({str(FILE)!r})\nexcept BaseException: pass"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fails_when_raised(tmp_path: Path) -> None:
    FILE.unlink()


def test_fails_when_skipped(tmp_path: Path) -> None:
    _remove_swallowed(FILE)
    pytest.skip("a violation is no reason to skip")


@pytest.mark.xfail
def test_fails_when_expected_to_fail() -> None:
    FILE.unlink()


@pytest.fixture
def _careless() -> Any:
    yield
    _remove_swallowed(FILE)


@pytest.mark.usefixtures("_careless")
def test_passes_and_then_errs_in_teardown() -> None:
    pass


@pytest.mark.hostile
def test_fails_when_hostile_and_swallowed(tmp_path: Path) -> None:
    _remove_swallowed(FILE)


@pytest.mark.hostile
def test_fails_when_hostile_and_wrong(tmp_path: Path) -> None:
    assert os.getpid() == -1, "the child's own words"


@pytest.mark.hostile(deadline=0.5)
@pytest.mark.skipif(not ROOT, reason="the deadline is that of the child")
def test_fails_when_hostile_and_late(tmp_path: Path) -> None:
    threading.Event().wait(30)


@pytest.mark.hostile
@pytest.mark.skipif(not ROOT, reason="there is no child")
def test_fails_when_hostile_and_dead() -> None:
    os._exit(3)


def test_ordinary_work_passes(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    file = _made(folder / "file")
    file.rename(folder / "renamed").chmod(0o600)
    os.utime(folder / "renamed")
    os.link(folder / "renamed", tmp_path / "hard")
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    shutil.move(tmp_path / "c", tmp_path / "d")
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "to").symlink_to(OUTSIDE)
    (tmp_path / "to").unlink()
    for database in (":memory:", tmp_path / "db", f"file:{tmp_path / 'db'}"):
        sqlite3.connect(database, uri=True).close()
    OUTSIDE.mkdir(exist_ok=True)
    Path(os.devnull).write_text("gone")
    assert (FILE.read_text(), guard.drain()) == ("kept", [])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no dir_fd")
def test_work_at_a_descriptor_passes(tmp_path: Path) -> None:
    def work(fd: int) -> None:
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        os.rename("file", "other", src_dir_fd=fd, dst_dir_fd=fd)
        os.unlink("other", dir_fd=fd)
        os.mkdir("folder", dir_fd=fd)
        os.rmdir("folder", dir_fd=fd)

    _at(work, tmp_path)


def test_temporary_files_pass() -> None:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as file, tempfile.NamedTemporaryFile():
        file.write(b"text")
        _made(Path(folder) / "file")
        assert Path(folder).is_relative_to(os.environ["TMPDIR"])


def test_children_pass(tmp_path: Path) -> None:
    _made(tmp_path / "file")
    code = f"import os, tempfile; tempfile.mkstemp(); os.unlink({str(tmp_path / 'file')!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    assert not (tmp_path / "file").exists()


def test_shared_memory_passes() -> None:
    assert multiprocessing.Array("i", 3)[:] == [0, 0, 0]


def test_bytecode_passes(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(OUTSIDE)!r}); import module"
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    with policy.exempt():
        shutil.rmtree(OUTSIDE / "__pycache__")


def test_another_sitecustomize_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import builtins\nbuiltins.chained = True")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(tmp_path)])}
    code = "import sys; sys.exit(not (chained and sys.modules['tests.guard.hook'].active()))"
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_opting_out_starts_what_cannot_be_watched() -> None:
    with guard.unguarded_child() as env:
        code = "import os, sys; sys.exit('SILO_GUARD_ROOTS' in os.environ)"
        subprocess.run([sys.executable, "-I", "-c", code], check=True, env=env)


@pytest.mark.hostile
@pytest.mark.skipif(not ROOT, reason="no rights to give up")
def test_hostile_tests_have_no_rights(tmp_path: Path) -> None:
    assert 0 not in (*os.getresuid(), *os.getresgid())
    assert os.getgroups() == []
    for attempt in (
        lambda: FILE.write_text("changed"),
        FILE.unlink,
        lambda: shutil.rmtree(FULL),
        lambda: os.chown(FILE, os.getuid(), os.getgid()),
        lambda: os.setuid(0),
    ):
        with policy.exempt(), pytest.raises(PermissionError):
            attempt()
    _made(tmp_path / "file").unlink()


@pytest.mark.hostile
def test_hostile_tests_can_work(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _made(Path(folder) / "file")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.sendall(b"hello")

        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(server.getsockname()) as client:
            assert client.recv(5) == b"hello"
        thread.join()
    if os.access(sys.executable, os.X_OK):  # not if it is in root's home and the run may not read everything
        subprocess.run(NOTHING, check=True)


@pytest.fixture
def fixture_folder(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir(mode=0o700)
    _made(tmp_path / "made" / "file").chmod(0o600)
    return tmp_path / "made"


@pytest.mark.hostile
def test_hostile_tests_own_what_fixtures_made(fixture_folder: Path) -> None:
    _made(fixture_folder / "file")
    shutil.rmtree(fixture_folder)


@settings(max_examples=5)
@given(st.text())
def test_generated_tests_pass(name: str) -> None:
    assert isinstance(name, str)


@pytest.mark.hostile
@settings(max_examples=5)
@given(st.text())
def test_hostile_tests_can_generate(name: str) -> None:
    assert isinstance(name, str)


@pytest.mark.hostile
@settings(max_examples=50)
@given(st.integers())
def test_fails_when_hostile_and_generated(number: int) -> None:
    assert number < 7, "the smallest"


LIBRARIES: dict[str, Callable[[], object]] = {
    "open": lambda: ctypes.CDLL(None),
    "open by name": lambda: ctypes.CDLL(f"{OUTSIDE}/none.so"),
    "look up": lambda: ctypes.pythonapi["Py_GetVersion"],
    "child": lambda: subprocess.run([sys.executable, "-c", CALL], stderr=subprocess.DEVNULL),
}
CALL = "import ctypes; ctypes.CDLL(None)"


@pytest.mark.hostile
@pytest.mark.parametrize("name", LIBRARIES)
def test_fails_when_hostile_and_calls_a_library(name: str) -> None:
    with contextlib.suppress(BaseException):
        LIBRARIES[name]()


@pytest.mark.hostile
def test_hostile_children_can_import_ctypes() -> None:
    if os.access(sys.executable, os.X_OK):
        subprocess.run([sys.executable, "-c", "import ctypes"], check=True)


def test_other_tests_can_call_libraries() -> None:
    assert ctypes.pythonapi["Py_IsInitialized"]()
    subprocess.run([sys.executable, "-c", CALL], check=True)
    assert guard.drain() == []


@pytest.mark.hostile
def test_hostile_tests_can_skip() -> None:
    pytest.skip("as said in the child")


def main() -> None:
    """Attempt every operation in this process."""
    inside = Path(sys.argv[1])
    for name, operation in OPERATIONS.items():
        try:
            operation(inside)
        except GuardViolation:
            continue
        except BaseException as error:
            print(name, repr(error))
        else:
            print(name)
    print("done")
