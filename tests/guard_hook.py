# ruff: noqa: PTH100, PTH109, PTH112, PTH115, PTH117, PTH118, PTH119, PTH120, PTH123
"""The audit hook that refuses changes outside the tests' folders.

The module needs nothing but the standard library's start-up modules: `sitecustomize` loads it in every Python process
that a test starts. It uses `os.path` because `pathlib` is not loaded that early and would cost each child its import.
An audit hook cannot be removed, so what is allowed lies in `_policies`; with no policy the hook does nothing.
"""

from __future__ import annotations

import os
import sys
from _thread import _local as thread_local
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, NoReturn

ROOTS_VARIABLE = "SILO_GUARD_ROOTS"
CHILD_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guard_child")
MOST_RECORDS = 100
PROBE = "silo.guard.probe"


class GuardViolation(BaseException):
    """A refused operation.

    It is no `Exception`, so that `except Exception`, `except OSError` and `ignore_errors=True` do not swallow it and a
    loop that deletes one name after the other stops at the first. Each one is recorded too, for what still hides it.
    """


class _Local(thread_local):
    """What one thread may do beyond the policies."""

    opening: bool = False
    exempt: int = 0
    unguarded: int = 0


_local = _Local()


class Policy:
    """What one test run may change; a nested run adds its own, and every policy must agree."""

    __slots__ = ("comes_and_goes", "owner", "prefixes", "protected", "report", "roots", "seen")

    def __init__(
        self, roots: Sequence[str], protected: Sequence[str], prefixes: Sequence[str], report: str, owner: int
    ) -> None:
        self.roots = tuple(map(canonical, roots))
        self.protected = tuple(map(canonical, protected))
        self.comes_and_goes = set(self.roots) - set(self.protected)  # A tool makes it when it needs it.
        self.prefixes = tuple(prefixes)
        self.report = report
        self.owner = owner
        self.seen: list[str] = []

    def allows(self, path: str, opened: bool) -> bool:
        """Whether `path`, already resolved, may change; `opened` if the change is the file's content alone."""
        inner = path + os.sep
        if any(name == path or name.startswith(inner) for name in self.protected):
            return False
        if any(path.startswith(root + os.sep) for root in self.roots):
            return True
        return opened and path.startswith(self.prefixes)

    def record(self, text: str) -> None:
        """Keep the violation where its run finds it even if the exception is swallowed or the process dies."""
        if self.owner == os.getpid():
            if len(self.seen) < MOST_RECORDS:
                self.seen.append(text)
            return
        line = (text + "\0").encode("utf-8", "backslashreplace")
        _local.opening = True
        try:
            fd = os.open(self.report, os.O_WRONLY | os.O_APPEND)
        except OSError:
            os.write(2, line)  # The run is over, or its folder is out of sight. The operation is refused all the same.
            return
        finally:
            _local.opening = False
        os.write(fd, line)
        os.close(fd)

    def lines(self) -> str:
        """The policy as text for the environment of a child."""
        named = [("root", self.roots), ("protected", self.protected), ("prefix", self.prefixes)]
        rows = [f"{kind} {path}" for kind, paths in named for path in paths]
        return "\n".join([*rows, f"report {self.report}"])


_policies: list[Policy] = []
_state = {"installed": False, "alive": False}


def canonical(path: str) -> str:
    """The one spelling under which paths are compared."""
    return os.path.normcase(os.path.realpath(path))


def add_policy(policy: Policy) -> None:
    """Enforce `policy` from now on, in this process and the Python processes it starts."""
    _policies.append(policy)
    _install()
    os.environ[ROOTS_VARIABLE] = "\n\n".join(policy.lines() for policy in _policies)
    rest = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry not in ("", CHILD_FOLDER)]
    os.environ["PYTHONPATH"] = os.pathsep.join([CHILD_FOLDER, *rest])


def inherit(text: str) -> None:
    """Enforce the policies that the parent process put into the environment."""
    for block in text.split("\n\n"):
        rows = [line.partition(" ")[::2] for line in block.split("\n")]
        roots, protected, prefixes, report = (
            [path for kind, path in rows if kind == wanted] for wanted in ("root", "protected", "prefix", "report")
        )
        _policies.append(Policy(roots, protected, prefixes, report[0], owner=-1))
    _install()


def active() -> bool:
    """Whether the hook is called by this interpreter and a policy is in force."""
    _state["alive"] = False
    sys.audit(PROBE)
    return _state["alive"] and bool(_policies)


@contextmanager
def exempt() -> Iterator[None]:
    """For the guard's own housekeeping; tests have no use for it."""
    _local.exempt += 1
    try:
        yield
    finally:
        _local.exempt -= 1


@contextmanager
def unguarded_child() -> Iterator[dict[str, str]]:
    """Allow this thread to start programs that the guard cannot watch; yields an environment without the guard.

    Only for fixed, harmless commands that must write elsewhere, such as `python -m venv`, pip or a uv build. A child
    stays guarded unless it is given the yielded environment: `subprocess.run([...], env=env)`.
    """
    env = {name: value for name, value in os.environ.items() if name != ROOTS_VARIABLE}
    rest = [entry for entry in env.pop("PYTHONPATH", "").split(os.pathsep) if entry not in ("", CHILD_FOLDER)]
    if rest:
        env["PYTHONPATH"] = os.pathsep.join(rest)
    _local.unguarded += 1
    try:
        yield env
    finally:
        _local.unguarded -= 1


# --- Where an operation would land ---

# LEAF acts on the name itself, FOLLOW on what a link there points to, INTO fills a folder that may be a root itself,
# MAKE creates a folder.
LEAF, FOLLOW, INTO, MAKE = "leaf", "follow", "into", "make"
NO_FD = -1

# Event: (index of the path, index of its dir_fd or NO_FD, how the path is read) for each path that must be allowed.
_PATHS: dict[str, tuple[tuple[int, int, str], ...]] = {
    "os.chflags": ((0, NO_FD, FOLLOW),),
    "os.chmod": ((0, 2, FOLLOW),),
    "os.chown": ((0, 3, FOLLOW),),
    "os.link": ((0, 2, FOLLOW), (1, 3, LEAF)),  # A hard link to a file outside would open it for writing.
    "os.mkdir": ((0, 2, MAKE),),
    "os.remove": ((0, 1, LEAF),),
    "os.removexattr": ((0, NO_FD, FOLLOW),),
    "os.rename": ((0, 2, LEAF), (1, 3, LEAF)),
    "os.rmdir": ((0, 1, LEAF),),
    "os.setxattr": ((0, NO_FD, FOLLOW),),
    "os.symlink": ((1, 2, LEAF),),  # A link may point anywhere: nothing can be changed through it.
    "os.truncate": ((0, NO_FD, FOLLOW),),
    "os.utime": ((0, 3, FOLLOW),),
    "shutil.chown": ((0, NO_FD, FOLLOW),),
    "shutil.copyfile": ((1, NO_FD, FOLLOW),),
    "shutil.copymode": ((1, NO_FD, LEAF),),
    "shutil.copystat": ((1, NO_FD, INTO),),
    "shutil.copytree": ((1, NO_FD, INTO),),
    "shutil.make_archive": ((0, NO_FD, LEAF),),
    "shutil.move": ((0, NO_FD, LEAF), (1, NO_FD, INTO)),
    "shutil.rmtree": ((0, 1, LEAF),),
    "shutil.unpack_archive": ((1, NO_FD, INTO),),
    "tempfile.mkdtemp": ((0, NO_FD, LEAF),),
    "tempfile.mkstemp": ((0, NO_FD, LEAF),),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Terminals and the null device hold nothing that could be lost.
_DEVICES = tuple(map(os.path.normcase, (os.devnull, "/dev/tty", "/dev/ptmx")))
_SHARED_MEMORY = "/dev/shm/pym-"  # multiprocessing's heap makes and unlinks its arenas there.
_COMPILED = ("open", "os.mkdir", "os.rename")


def _fd_path(fd: int) -> str | None:
    """The path that `fd` was opened by, or None where the system does not tell."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        pass
    if sys.platform == "darwin":
        import fcntl

        return os.fsdecode(fcntl.fcntl(fd, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    return None


def _resolve(path: Any, dir_fd: Any, follow: bool) -> str | None:
    """The canonical path of what an operation would change; None if that cannot be told."""
    if isinstance(path, int):
        return _fd_path(path)
    name: str = os.fsdecode(os.getcwd() if path is None else path)
    if isinstance(dir_fd, int) and dir_fd >= 0 and not os.path.isabs(name):
        base = _fd_path(dir_fd)
        if base is None:
            return None
        name = os.path.join(base, name)
    head, tail = os.path.split(name)
    if follow or tail in ("", os.curdir, os.pardir):
        return canonical(name)
    return os.path.normcase(os.path.join(os.path.realpath(head or os.curdir), tail))


def _is_compiled(path: str, other: str | None) -> bool:
    """Whether `path` is a bytecode file that Python or pytest may write anywhere it imports from.

    They write `name.pyc.<number>` and rename it to `name.pyc`: a rename passes only from the one to the other.
    """
    folder, name = os.path.split(path)
    if name == "__pycache__":
        return other is None
    stem, _, number = name.rpartition(".")
    if os.path.basename(folder) != "__pycache__" or not (name.endswith(".pyc") or stem.endswith(".pyc")):
        return False
    return other is None or (number.isdigit() and stem == os.path.basename(other) and folder == os.path.dirname(other))


def _harmless(event: str, path: str, how: str, paths: Sequence[str]) -> bool:
    """What may happen anywhere because nothing can be lost by it."""
    if how == MAKE and os.path.lexists(path):
        return True  # It can but fail: `makedirs(exist_ok=True)` asks for folders that are there.
    if event == "open" and (path in _DEVICES or path.startswith("/dev/pts/") or os.path.isdir(path)):
        return True  # A folder is opened for writing only by tempfile, whose opener is judged on its own.
    if path.startswith(_SHARED_MEMORY) and event in ("open", "os.remove", "os.truncate", "tempfile.mkstemp"):
        return True
    if event in _COMPILED:
        return _is_compiled(paths[0], paths[1] if len(paths) > 1 else None)
    return False


def _refuse(policies: Sequence[Policy], what: str) -> NoReturn:
    frames: list[str] = []
    frame = sys._getframe(1)
    while len(frames) < 8:
        if frame.f_code.co_filename != __file__:
            frames.append(f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}")
        if frame.f_back is None:
            break
        frame = frame.f_back
    text = "\n".join([f"refused {what}", *frames])
    for policy in policies:
        policy.record(text)
    raise GuardViolation(text)


def _judge(event: str, wanted: Sequence[tuple[Any, Any, str]]) -> None:
    """Refuse `event` unless every policy allows each (path, dir_fd, how) of it."""
    if _local.exempt:
        return
    paths: list[str] = []
    for path, dir_fd, how in wanted:
        resolved = _resolve(path, dir_fd, how == FOLLOW)
        if resolved is None:
            _refuse(_policies, f"{event} of {path!r}: its descriptor names no path")
        paths.append(resolved)
    opened = event in ("open", "sqlite3.connect")
    for (path, _, how), resolved in zip(wanted, paths, strict=True):
        if isinstance(path, int) and not os.path.isabs(resolved):
            continue  # A pipe, a socket or memory: no file.
        inside = os.path.join(resolved, "inside") if how == INTO else resolved
        against = [policy for policy in _policies if not policy.allows(inside, opened)]
        if event in ("os.mkdir", "os.rmdir"):
            against = [policy for policy in against if resolved not in policy.comes_and_goes]
        if against and not _harmless(event, resolved, how, paths):
            _refuse(against, f"{event} of {path!r} ({resolved})")


def _on_paths(event: str, args: tuple[Any, ...]) -> None:
    wanted = [(args[index], args[at] if 0 <= at < len(args) else NO_FD, how) for index, at, how in _PATHS[event]]
    _judge(event, wanted)


def _on_open(event: str, args: tuple[Any, ...]) -> None:
    path, mode, flags = args
    if not flags & _WRITING and not (isinstance(mode, str) and set(mode) & set("wax+")):
        return
    if not isinstance(path, int) and not _local.opening:
        _judge(event, [(path, NO_FD, FOLLOW)])


def _on_sqlite(event: str, args: tuple[Any, ...]) -> None:
    name = os.fsdecode(args[0])
    if name in ("", ":memory:"):
        return
    if name.startswith("file:"):
        from urllib.parse import unquote

        name, _, query = name[len("file:") :].partition("?")
        if name == ":memory:" or "mode=memory" in query.split("&"):
            return
        name = unquote("/" + name.lstrip("/") if name.startswith("/") else name)
    _judge(event, [(name, NO_FD, FOLLOW)])


def _on_bind(event: str, args: tuple[Any, ...]) -> None:
    address = args[1]
    if isinstance(address, (str, bytes)) and address and os.fsencode(address)[0]:
        _judge(event, [(address, NO_FD, LEAF)])


# --- Programs that would run without the hook ---

_DELETERS = frozenset(
    ("chgrp", "chmod", "chown", "cp", "dd", "find", "install", "ln", "mv", "rm", "rmdir", "rsync", "shred", "tee")
) | frozenset(("truncate", "unlink", "wipefs", "robocopy"))
_SHELLS = frozenset(("ash", "bash", "cmd", "csh", "dash", "fish", "ksh", "powershell", "pwsh", "sh", "tcsh", "zsh"))
_LAUNCHERS = frozenset(
    ("busybox", "chroot", "doas", "env", "nice", "nohup", "runuser", "setpriv", "setsid", "stdbuf", "su", "sudo")
) | frozenset(("time", "timeout", "toybox", "unshare", "xargs"))
_UNWATCHED = _DELETERS | _SHELLS | _LAUNCHERS


def _text(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, (bytes, os.PathLike)) else str(value)


def _name(program: str) -> str:
    name = os.path.normcase(os.path.basename(program)).lower()
    return name[: -len(".exe")] if name.endswith(".exe") else name


def _found(program: str, search: str) -> str:
    """The file that `program` names, as `execvp` finds it."""
    if os.path.dirname(program):
        return program
    for folder in search.split(os.pathsep):
        if os.access(candidate := os.path.join(folder, program), os.X_OK):
            return candidate
    return program


def _shebang(path: str) -> list[str] | None:
    """The words of a script's first line; None for a binary."""
    try:
        with open(path, "rb") as file:
            first = file.read(256).partition(b"\n")[0]
    except (OSError, ValueError):
        return None
    return os.fsdecode(first[2:]).split() if first.startswith(b"#!") else None


def _is_python(name: str) -> bool:
    return any(
        name.startswith(prefix) and not name[len(prefix) :].strip("0123456789.tdw") for prefix in ("python", "pypy")
    )


def _drops_sitecustomize(words: Sequence[str]) -> bool:
    """Whether an interpreter's options (-I, -E, -S) keep the guard's `sitecustomize` from being imported."""
    skip = False
    for word in words:
        if skip:
            skip = False
        elif not word.startswith("-") or word in ("-", "--"):
            return False
        elif word.startswith("--"):
            skip = word == "--check-hash-based-pycs"
        else:
            for at, letter in enumerate(word[1:], 2):
                if letter in "IES":
                    return True
                if letter in "cm":
                    return False
                if letter in "WX":
                    skip = at == len(word)
                    break
    return False


def _keeps_guard(env: Mapping[str, str]) -> bool:
    first = env.get("PYTHONPATH", "").split(os.pathsep)[0]
    return first == CHILD_FOLDER and env.get(ROOTS_VARIABLE) == "\n\n".join(policy.lines() for policy in _policies)


def _judge_program(event: str, program: Any, args: Any, env: Any) -> None:
    if _local.unguarded or _local.exempt:
        return
    variables = {_text(name): _text(value) for name, value in (os.environ if env is None else env).items()}
    words = args.split() if isinstance(args, str) else [_text(word) for word in args]
    program = _text(program or (words[0] if words else ""))
    path = _found(program.strip('"'), variables.get("PATH", os.defpath))
    target = os.path.realpath(path)
    names = {_name(program), _name(target), _name(words[0]) if words else ""}
    if refused := names & _UNWATCHED:
        _refuse(_policies, f"{event}: {min(refused)} cannot be watched; see guard.unguarded_child()")
    script = _shebang(path)
    options = words[1:]
    python = any(map(_is_python, names))
    if script is not None:
        at = next((at for at, word in enumerate(script) if _is_python(_name(word))), len(script))
        options, python = script[at + 1 :], True
    if not python:
        return
    if _drops_sitecustomize(options):
        _refuse(_policies, f"{event}: {words} would not load the guard; see guard.unguarded_child()")
    if not _keeps_guard(variables):
        _refuse(
            _policies,
            f"{event}: {words} gets an environment without the guard: keep {ROOTS_VARIABLE} and the first entry of"
            " PYTHONPATH, or see guard.unguarded_child()",
        )


def _on_program(event: str, args: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        _judge_program(event, args[0], args[1], args[3])
    elif event == "os.spawn":
        _judge_program(event, args[1], args[2], args[3])
    elif event == "pty.spawn":
        _judge_program(event, None, args[0], None)
    else:
        _judge_program(event, args[0], args[1], args[2])


def _on_command(event: str, args: tuple[Any, ...]) -> None:
    if not _local.unguarded:
        _refuse(_policies, f"{event} of {args[0]!r}: a shell cannot be watched; see guard.unguarded_child()")


# --- The hook ---


def _on_probe(event: str, args: tuple[Any, ...]) -> None:
    _state["alive"] = True


_CHECKS: dict[str, Callable[[str, tuple[Any, ...]], None]] = {
    "open": _on_open,
    "sqlite3.connect": _on_sqlite,
    "socket.bind": _on_bind,
    "subprocess.Popen": _on_program,
    "os.exec": _on_program,
    "os.posix_spawn": _on_program,
    "os.spawn": _on_program,
    "pty.spawn": _on_program,
    "os.system": _on_command,
    "os.startfile": _on_command,
    "os.startfile/2": _on_command,
    PROBE: _on_probe,
    **dict.fromkeys(_PATHS, _on_paths),
}


def _make_hook() -> Callable[[str, tuple[Any, ...]], None]:
    """The hook with all it needs in its closure: a module's globals are emptied while the interpreter shuts down."""
    find, policies = _CHECKS.get, _policies

    def hook(event: str, args: tuple[Any, ...]) -> None:
        check = find(event)
        if check is not None and policies:
            check(event, args)

    return hook


def _guarded_open() -> Callable[..., int]:
    """`os.open` that judges `dir_fd`, which its audit event leaves out."""
    plain = os.open

    def open_at(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is None or not flags & _WRITING or not _policies:
            return plain(path, flags, mode, dir_fd=dir_fd)
        _judge("open", [(path, dir_fd, FOLLOW)])
        before, _local.opening = _local.opening, True
        try:
            return plain(path, flags, mode, dir_fd=dir_fd)
        finally:
            _local.opening = before

    return open_at


def _guarded_node(name: str) -> Callable[..., None]:
    """`os.mkfifo` and `os.mknod` raise no audit event."""
    plain: Callable[..., None] = getattr(os, name)

    def make(path: Any, *args: Any, dir_fd: int | None = None) -> None:
        _judge(f"os.{name}", [(path, dir_fd, LEAF)])
        plain(path, *args, dir_fd=dir_fd)

    return make


def _guarded_fork_exec(plain: Callable[..., int]) -> Callable[..., int]:
    """`fork_exec`, by which multiprocessing starts its children, raises no audit event."""

    def fork_exec(args: Sequence[Any], executables: Sequence[Any], *rest: Any) -> int:
        env = rest[3]
        pairs = None if env is None else dict(_text(pair).split("=", 1) for pair in env)
        _judge_program("fork_exec", executables[0], args, pairs)
        return plain(args, executables, *rest)

    return fork_exec


def _install() -> None:
    """Add the hook, once for the life of the process, and wrap the functions whose audit events say too little."""
    if _state["installed"]:
        return
    _state["installed"] = True
    wrapped: dict[str, Callable[..., Any]] = {"open": _guarded_open()}
    wrapped.update({name: _guarded_node(name) for name in ("mkfifo", "mknod") if hasattr(os, name)})
    for name, function in wrapped.items():
        if getattr(os, name) in os.supports_dir_fd:
            os.supports_dir_fd.add(function)
        setattr(os, name, function)
    try:
        import _posixsubprocess
    except ImportError:
        pass
    else:
        _posixsubprocess.fork_exec = _guarded_fork_exec(_posixsubprocess.fork_exec)
    sys.addaudithook(_make_hook())
