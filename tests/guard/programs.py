# ruff: noqa: PTH118, PTH119, PTH120, PTH123
"""Refuses programs and libraries that the hook cannot watch, and Python children that would not load it."""

from __future__ import annotations

import os
import sys

from .policy import CHILD_FOLDER, ROOTS_VARIABLE, enforced, local, policies, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_DELETERS = frozenset(
    ("chgrp", "chmod", "chown", "cp", "dd", "find", "install", "ln", "mv", "rm", "rmdir", "rsync", "shred", "tee")
) | frozenset(("truncate", "unlink", "wipefs", "robocopy"))
_SHELLS = frozenset(("ash", "bash", "cmd", "csh", "dash", "fish", "ksh", "powershell", "pwsh", "sh", "tcsh", "zsh"))
_LAUNCHERS = frozenset(
    ("busybox", "chroot", "doas", "env", "nice", "nohup", "runuser", "setpriv", "setsid", "stdbuf", "su", "sudo")
) | frozenset(("time", "timeout", "toybox", "unshare", "xargs"))
_UNWATCHED = _DELETERS | _SHELLS | _LAUNCHERS


def text_of(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, (bytes, os.PathLike)) else str(value)


def _name(program: str) -> str:
    name = os.path.normcase(os.path.basename(program)).lower()
    return name[: -len(".exe")] if name.endswith(".exe") else name


def _found(program: str, search: str) -> str:
    """Return the file that ``execvp`` would run for ``program``."""
    if os.path.dirname(program):
        return program
    for folder in search.split(os.pathsep):
        if os.access(candidate := os.path.join(folder, program), os.X_OK):
            return candidate
    return program


def _shebang(path: str) -> list[str] | None:
    """Return the words of a script's ``#!`` line; None for a binary."""
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
    """Return whether an interpreter's options (-I, -E, -S) prevent the import of the guard's ``sitecustomize``."""
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
    return first == CHILD_FOLDER and env.get(ROOTS_VARIABLE) == enforced()


def judge_program(event: str, program: Any, args: Any, env: Any) -> None:
    if local.unguarded or local.exempt:
        return
    variables = {text_of(name): text_of(value) for name, value in (os.environ if env is None else env).items()}
    words = args.split() if isinstance(args, str) else [text_of(word) for word in args]
    program = text_of(program or (words[0] if words else ""))
    path = _found(program.strip('"'), variables.get("PATH", os.defpath))
    target = os.path.realpath(path)
    names = {_name(program), _name(target), _name(words[0]) if words else ""}
    if refused := names & _UNWATCHED:
        refuse(policies, f"{event}: {min(refused)} cannot be watched; see guard.unguarded_child()")
    script = _shebang(path)
    options = words[1:]
    python = any(map(_is_python, names))
    if script is not None:
        at = next((at for at, word in enumerate(script) if _is_python(_name(word))), len(script))
        options, python = script[at + 1 :], True
    if not python:
        return
    if _drops_sitecustomize(options):
        refuse(policies, f"{event}: {words} would not load the guard; see guard.unguarded_child()")
    if not _keeps_guard(variables):
        refuse(
            policies,
            f"{event}: {words} gets an environment without the guard: keep {ROOTS_VARIABLE} and the first entry of"
            " PYTHONPATH, or see guard.unguarded_child()",
        )


def on_program(event: str, args: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        judge_program(event, args[0], args[1], args[3])
    elif event == "os.spawn":
        judge_program(event, args[1], args[2], args[3])
    elif event == "pty.spawn":
        judge_program(event, None, args[0], None)
    else:
        judge_program(event, args[0], args[1], args[2])


def on_command(event: str, args: tuple[Any, ...]) -> None:
    if not local.unguarded:
        refuse(policies, f"{event} of {args[0]!r}: a shell cannot be watched; see guard.unguarded_child()")


def on_library(event: str, args: tuple[Any, ...]) -> None:
    """Refuse C libraries in hostile tests, because calls into them raise no audit event."""
    against = [policy for policy in policies if policy.hostile]
    if not against or local.exempt:
        return
    importing = getattr(sys.modules.get("ctypes"), "__spec__", None)
    if not getattr(importing, "_initializing", False):  # the import of ctypes itself loads libraries
        refuse(against, f"{event} of {args[-1]!r}: what a library does cannot be watched")
