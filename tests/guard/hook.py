"""The audit hook that refuses changes outside the tests' folders.

An audit hook cannot be removed, so ``policies`` says what is allowed. Without a policy the hook does nothing.
"""

from __future__ import annotations

import os
import sys

from .paths import FOLLOW, LEAF, PATHS, WRITING, judge, on_bind, on_open, on_paths, on_sqlite
from .policy import CHILD_FOLDER, ROOTS_VARIABLE, Policy, enforced, local, policies
from .programs import judge_program, on_command, on_library, on_program, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

PROBE = "silo.guard.probe"
_state = {"installed": False, "alive": False}


def add_policy(policy: Policy) -> None:
    """Enforce ``policy`` from now on, in this process and in the Python processes that it starts."""
    policies.append(policy)
    _install()
    os.environ[ROOTS_VARIABLE] = enforced()
    rest = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry not in ("", CHILD_FOLDER)]
    os.environ["PYTHONPATH"] = os.pathsep.join([CHILD_FOLDER, *rest])


def inherit(text: str) -> None:
    """Enforce the policies that the parent process put into the environment."""
    for block in text.split("\n\n"):
        rows = [line.partition(" ")[::2] for line in block.split("\n")]
        roots, protected, prefixes, report = (
            [path for kind, path in rows if kind == wanted] for wanted in ("root", "protected", "prefix", "report")
        )
        policy = Policy(roots, protected, prefixes, report[0], owner=-1)
        policy.hostile = ("hostile", "yes") in rows
        policies.append(policy)
    _install()


def active() -> bool:
    """Return whether this interpreter calls the hook and there is a policy."""
    _state["alive"] = False
    sys.audit(PROBE)
    return _state["alive"] and bool(policies)


def _on_probe(event: str, args: tuple[Any, ...]) -> None:
    _state["alive"] = True


_CHECKS: dict[str, Callable[[str, tuple[Any, ...]], None]] = {
    "open": on_open,
    "sqlite3.connect": on_sqlite,
    "socket.bind": on_bind,
    "subprocess.Popen": on_program,
    "os.exec": on_program,
    "os.posix_spawn": on_program,
    "os.spawn": on_program,
    "pty.spawn": on_program,
    "os.system": on_command,
    "os.startfile": on_command,
    "os.startfile/2": on_command,
    "ctypes.dlopen": on_library,
    "ctypes.dlsym": on_library,
    "ctypes.dlsym/handle": on_library,
    PROBE: _on_probe,
    **dict.fromkeys(PATHS, on_paths),
}


def _make_hook() -> Callable[[str, tuple[Any, ...]], None]:
    """Return the hook. Its closure holds all it needs, because a module's globals are emptied at interpreter exit."""
    find, present = _CHECKS.get, policies

    def hook(event: str, args: tuple[Any, ...]) -> None:
        check = find(event)
        if check is not None and present:
            check(event, args)

    return hook


def _guarded_open() -> Callable[..., int]:
    """Wrap ``os.open`` to check ``dir_fd``, which its audit event leaves out."""
    plain = os.open

    def open_at(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is None or not flags & WRITING or not policies:
            return plain(path, flags, mode, dir_fd=dir_fd)
        judge("open", [(path, dir_fd, FOLLOW)])
        before, local.opening = local.opening, True
        try:
            return plain(path, flags, mode, dir_fd=dir_fd)
        finally:
            local.opening = before

    return open_at


def _guarded_node(name: str) -> Callable[..., None]:
    """Wrap ``os.mkfifo`` or ``os.mknod``, which raise no audit event."""
    plain: Callable[..., None] = getattr(os, name)

    def make(path: Any, *args: Any, dir_fd: int | None = None) -> None:
        judge(f"os.{name}", [(path, dir_fd, LEAF)])
        plain(path, *args, dir_fd=dir_fd)

    return make


def _guarded_fork_exec(plain: Callable[..., int]) -> Callable[..., int]:
    """Wrap ``fork_exec``, which starts multiprocessing's children and raises no audit event."""

    def fork_exec(args: Sequence[Any], executables: Sequence[Any], *rest: Any) -> int:
        env = rest[3]
        pairs = None if env is None else dict(text_of(pair).split("=", 1) for pair in env)
        judge_program("fork_exec", executables[0], args, pairs)
        return plain(args, executables, *rest)

    return fork_exec


def _install() -> None:
    """Add the hook, once in each process, and wrap the functions whose audit events lack information."""
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
