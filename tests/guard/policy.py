# ruff: noqa: PTH100, PTH118, PTH120
"""What the guard allows, and how a violation is recorded and raised.

This module and those which the hook is made of (`paths`, `programs`, `hook`) need nothing but the
standard library's start-up modules: `sitecustomize` loads them in every Python process that a test starts. They use
`os.path` because `pathlib` is not loaded that early and would cost each child its import.
"""

from __future__ import annotations

import os
import sys
from _thread import _local as thread_local
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

ROOTS_VARIABLE = "SILO_GUARD_ROOTS"
FOLDER = os.path.dirname(os.path.abspath(__file__))
CHILD_FOLDER = os.path.join(FOLDER, "child")
MOST_RECORDS = 100
_OWN_FILES = tuple(os.path.join(FOLDER, name) for name in ("policy.py", "paths.py", "programs.py", "hook.py"))


class GuardViolation(BaseException):
    """A refused operation.

    It is no `Exception`, so that `except Exception`, `except OSError` and `ignore_errors=True` do not swallow it and a
    loop that deletes one name after the other stops at the first. Each one is recorded too, for what still hides it.
    """


class Local(thread_local):
    """What one thread may do beyond the policies."""

    opening: bool = False
    exempt: int = 0
    unguarded: int = 0


local = Local()


class Policy:
    """What one test run may change; a nested run adds its own, and every policy must agree.

    `hostile` is set while a hostile test runs, in its process and its children: then no C library may be called.
    """

    __slots__ = ("comes_and_goes", "hostile", "owner", "prefixes", "protected", "report", "roots", "seen")

    def __init__(
        self, roots: Sequence[str], protected: Sequence[str], prefixes: Sequence[str], report: str, owner: int
    ) -> None:
        self.roots = tuple(map(canonical, roots))
        self.protected = tuple(map(canonical, protected))
        self.comes_and_goes = set(self.roots) - set(self.protected)  # A tool makes it when it needs it.
        self.prefixes = tuple(prefixes)
        self.report = report
        self.owner = owner
        self.hostile = False
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
        local.opening = True
        try:
            fd = os.open(self.report, os.O_WRONLY | os.O_APPEND)
        except OSError:
            os.write(2, line)  # The run is over, or its folder is out of sight. The operation is refused all the same.
            return
        finally:
            local.opening = False
        os.write(fd, line)
        os.close(fd)

    def lines(self) -> str:
        """The policy as text for the environment of a child."""
        named = [("root", self.roots), ("protected", self.protected), ("prefix", self.prefixes)]
        rows = [f"{kind} {path}" for kind, paths in named for path in paths]
        rows += ["hostile yes"] if self.hostile else []
        return "\n".join([*rows, f"report {self.report}"])


policies: list[Policy] = []


def canonical(path: str) -> str:
    """The one spelling under which paths are compared."""
    return os.path.normcase(os.path.realpath(path))


def enforced() -> str:
    """The policies in force, as a child gets them in its environment."""
    return "\n\n".join(policy.lines() for policy in policies)


def refuse(policies: Sequence[Policy], what: str) -> NoReturn:
    frames: list[str] = []
    frame = sys._getframe(1)
    while len(frames) < 8:
        if frame.f_code.co_filename not in _OWN_FILES:
            frames.append(f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}")
        if frame.f_back is None:
            break
        frame = frame.f_back
    text = "\n".join([f"refused {what}", *frames])
    for policy in policies:
        policy.record(text)
    raise GuardViolation(text)


@contextmanager
def exempt() -> Iterator[None]:
    """For the guard's own housekeeping; tests have no use for it."""
    local.exempt += 1
    try:
        yield
    finally:
        local.exempt -= 1


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
    local.unguarded += 1
    try:
        yield env
    finally:
        local.unguarded -= 1
