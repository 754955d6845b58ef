# ruff: noqa: PTH100, PTH118, PTH120
"""What the guard allows, and how a violation is recorded and raised.

This module and those which the hook is made of (``paths``, ``programs``, ``hook``) need nothing but the
standard library's start-up modules: ``sitecustomize`` loads them in every Python process that a test starts. They use
``os.path`` because ``pathlib`` is not loaded that early and would cost each child its import.
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

    It does not derive from ``Exception``, so ``except Exception``, ``except OSError`` and ``ignore_errors=True`` do not
    swallow it, and a loop that deletes many files stops at the first. Each violation is also recorded, in case other
    code swallows it.
    """


class Local(thread_local):
    """The exemptions of one thread from the policies."""

    opening: bool = False
    exempt: int = 0
    unguarded: int = 0


local = Local()


class Policy:
    """What one test run may change. A nested run adds a policy of its own, and every policy must agree.

    ``hostile`` is set while a hostile test runs, in its process and its children: then no C library may be called.
    """

    __slots__ = ("comes_and_goes", "hostile", "owner", "prefixes", "protected", "report", "roots", "seen")

    def __init__(
        self, roots: Sequence[str], protected: Sequence[str], prefixes: Sequence[str], report: str, owner: int
    ) -> None:
        self.roots = tuple(map(canonical, roots))
        self.protected = tuple(map(canonical, protected))
        self.comes_and_goes = set(self.roots) - set(self.protected)  # tools create them on demand
        self.prefixes = tuple(prefixes)
        self.report = report
        self.owner = owner
        self.hostile = False
        self.seen: list[str] = []

    def allows(self, path: str, opened: bool) -> bool:
        """Return whether a resolved path may change; ``opened`` if only the content of the file changes."""
        inner = path + os.sep
        if any(name == path or name.startswith(inner) for name in self.protected):
            return False
        if any(path.startswith(root + os.sep) for root in self.roots):
            return True
        return opened and path.startswith(self.prefixes)

    def record(self, text: str) -> None:
        """Write a violation to the report of the run, in case the exception is swallowed or the process dies."""
        if self.owner == os.getpid():
            if len(self.seen) < MOST_RECORDS:
                self.seen.append(text)
            return
        line = (text + "\0").encode("utf-8", "backslashreplace")
        local.opening = True
        try:
            fd = os.open(self.report, os.O_WRONLY | os.O_APPEND)
        except OSError:
            os.write(2, line)  # the report cannot be written: the run has ended, or its folder is not visible here
            return
        finally:
            local.opening = False
        os.write(fd, line)
        os.close(fd)

    def lines(self) -> str:
        """Return the policy as text for the environment of a child."""
        named = [("root", self.roots), ("protected", self.protected), ("prefix", self.prefixes)]
        rows = [f"{kind} {path}" for kind, paths in named for path in paths]
        rows += ["hostile yes"] if self.hostile else []
        return "\n".join([*rows, f"report {self.report}"])


policies: list[Policy] = []


def canonical(path: str) -> str:
    """Return the spelling of a path that is used for comparisons."""
    return os.path.normcase(os.path.realpath(path))


def enforced() -> str:
    """Return the current policies as text for the environment of a child."""
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
    """Exempt this thread from the policies, for the guard's own work. Not for tests."""
    local.exempt += 1
    try:
        yield
    finally:
        local.exempt -= 1


@contextmanager
def unguarded_child() -> Iterator[dict[str, str]]:
    """Allow this thread to start programs that the guard cannot watch; yields an environment without the guard.

    Only for fixed, harmless commands that must write elsewhere, such as ``python -m venv``, pip or a uv build. A child
    stays guarded unless it is given the yielded environment: ``subprocess.run([...], env=env)``.
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
