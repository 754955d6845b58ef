"""Runs a function in a forked child that has given up root's rights.

The child becomes the user ``nobody``. Of root's capabilities it keeps CAP_DAC_READ_SEARCH, which lets it read every
file: interpreter and checkout may be in folders that other users cannot enter, such as root's home, and Python imports
late. It may change only files that were handed over to it. The capability is ambient, so Python children of the test
keep it too. If the run itself lacks it, as in many containers, ``nobody`` must be able to read the interpreter.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  (these are imported late, by a child that perhaps may not read them)
import ctypes
import encodings.idna  # noqa: F401
import faulthandler
import linecache  # noqa: F401
import os
import pickle
import select
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION = 0x20080522
PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 4, 8, 38, 47
PR_CAP_AMBIENT_RAISE = 2
NOBODY = 65534

Outcome = tuple[str, str]


def privileged() -> bool:
    """Return whether this process has root's rights and can give them up."""
    return hasattr(os, "fork") and hasattr(os, "geteuid") and os.geteuid() == 0


def nobody() -> tuple[int, int]:
    """Return the user id and group id of the system's unprivileged user."""
    import pwd

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return NOBODY, NOBODY
    return entry.pw_uid, entry.pw_gid


def hand_over(folder: Path, root: Path) -> None:
    """Make the user ``nobody`` own ``folder``, a resolved path below ``root``, with its content, and let it in."""
    user, group = nobody()
    open_way(folder, root)
    os.chown(folder, user, group, follow_symlinks=False)
    for parent, folders, files in os.walk(folder, followlinks=False):
        for name in folders + files:
            os.chown(Path(parent, name), user, group, follow_symlinks=False)


def open_way(folder: Path, root: Path) -> None:
    """Let every user traverse the folders from ``root`` down to ``folder``, but not list them."""
    if root not in folder.parents:
        raise ValueError(f"{folder} is not below {root}")
    for parent in list(folder.parents)[: list(folder.parents).index(root) + 1]:
        if (mode := parent.stat().st_mode) & 0o111 != 0o111:
            parent.chmod(mode | 0o111)


def drop() -> None:
    """Become the user ``nobody`` for good; on Linux keep the right to read everything, if the process has it."""
    user, group = nobody()
    os.setgroups([])
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
        _keep_reading(libc)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    else:
        os.setgid(group)
        os.setuid(user)
    with suppress(PermissionError):
        os.setuid(0)
        raise RuntimeError("root's rights could be taken back")
    if 0 in (os.getuid(), os.geteuid(), os.getgid(), os.getegid()):
        raise RuntimeError("root's rights were not given up")


def _keep_reading(libc: ctypes.CDLL) -> None:
    """Reduce the capabilities to CAP_DAC_READ_SEARCH, or to none if that one is missing."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: of the capabilities 0-31, then of 32-63
    if libc.capget(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capget failed")
    kept = data[1] & 1 << CAP_DAC_READ_SEARCH
    data[:] = [kept, kept, kept, 0, 0, 0]
    if libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset failed")
    if kept:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0)


def run(body: Callable[[], None], describe: Callable[[BaseException], str], deadline: float) -> None:
    """Call ``body`` in an unprivileged child and return, fail with its traceback, skip or xfail as the child does."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of a fork beside threads
        child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            os.setsid()
            _send(writer, _outcome(body, describe, deadline))
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(0)
    os.close(writer)
    try:
        kind, text = _receive(reader, deadline)
    finally:
        os.close(reader)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # its children too; it is not reaped yet, so its id was not reused
        _, status = os.waitpid(child, 0)
    if kind == "skipped":
        pytest.skip(text)
    if kind == "xfailed":
        pytest.xfail(text)
    if kind != "passed":
        pytest.fail(text or f"the child ended without an outcome, with status {status}", pytrace=False)


def _outcome(body: Callable[[], None], describe: Callable[[BaseException], str], deadline: float) -> Outcome:
    """Call ``body`` in the child and return its outcome."""
    try:
        drop()
        faulthandler.dump_traceback_later(deadline * 0.9, file=2)  # the parent kills the child at the deadline
        warnings.filterwarnings("ignore", message=".*default location is unusable")  # hypothesis may not write there
        body()
    except pytest.skip.Exception as skipped:
        return "skipped", str(skipped)
    except pytest.xfail.Exception as xfailed:
        return "xfailed", str(xfailed)
    except BaseException as error:
        try:
            return "failed", describe(error)
        except BaseException:
            return "failed", "".join(traceback.format_exception(error))
    finally:
        faulthandler.cancel_dump_traceback_later()
    return "passed", ""


def _send(fd: int, outcome: Outcome) -> None:
    data = pickle.dumps(outcome)
    data = struct.pack("!Q", len(data)) + data
    while data:
        data = data[os.write(fd, data) :]


def _receive(fd: int, deadline: float) -> Outcome:
    """Return the child's outcome. Its length comes first, because processes of the child may keep the pipe open."""
    end = time.monotonic() + deadline
    data, wanted = b"", 8
    while len(data) < wanted:
        if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
            return "failed", f"the hostile test took more than {deadline} s"
        piece = os.read(fd, 1 << 16)
        if not piece:
            return "failed", ""
        data += piece
        if wanted == 8 and len(data) >= 8:
            wanted += struct.unpack("!Q", data[:8])[0]
    kind, text = pickle.loads(data[8:])
    return str(kind), str(text)
