# ruff: noqa: PTH109, PTH112, PTH115, PTH117, PTH118, PTH119, PTH120
"""The paths that an operation on files would change, and whether the policies allow it."""

from __future__ import annotations

import os
import sys

from .policy import canonical, local, policies, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# LEAF acts on the name itself, FOLLOW on what a link there points to, INTO fills a folder that may be a root itself,
# MAKE creates a folder.
LEAF, FOLLOW, INTO, MAKE = "leaf", "follow", "into", "make"
NO_FD = -1

# Event: (index of the path, index of its dir_fd or NO_FD, how the path is read) for each path that must be allowed.
PATHS: dict[str, tuple[tuple[int, int, str], ...]] = {
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
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Terminals and the null device hold nothing that could be lost.
_DEVICES = tuple(map(os.path.normcase, (os.devnull, "/dev/tty", "/dev/ptmx")))
_SHARED_MEMORY = "/dev/shm/pym-"  # multiprocessing's heap makes and unlinks its arenas there.


def _fd_path(fd: int) -> str | None:
    """Return the path that ``fd`` was opened by; None if the system does not tell."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        pass
    if sys.platform == "darwin":
        import fcntl

        return os.fsdecode(fcntl.fcntl(fd, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    return None


def _resolve(path: Any, dir_fd: Any, follow: bool) -> str | None:
    """Return the canonical path of what an operation would change; None if it is unknown."""
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
    """Return whether ``path`` is a bytecode file, which Python or pytest may write beside any module.

    They write ``name.pyc.<number>`` and rename it to ``name.pyc``: a rename passes only from the one to the other.
    """
    folder, name = os.path.split(path)
    stem, _, number = name.rpartition(".")
    if os.path.basename(folder) != "__pycache__" or not (name.endswith(".pyc") or stem.endswith(".pyc")):
        return False
    return other is None or (number.isdigit() and stem == os.path.basename(other) and folder == os.path.dirname(other))


def _harmless(event: str, path: str, how: str, paths: Sequence[str]) -> bool:
    """Return whether an operation is allowed everywhere, because nothing can be lost."""
    if how == MAKE and os.path.lexists(path):
        return True  # it can only fail: ``makedirs(exist_ok=True)`` also creates existing folders
    if event == "open" and (path in _DEVICES or path.startswith("/dev/pts/") or os.path.isdir(path)):
        return True  # only tempfile opens a folder for writing, and its opener is checked separately
    if path.startswith(_SHARED_MEMORY) and event in ("open", "os.remove", "os.truncate", "tempfile.mkstemp"):
        return True
    if event == "os.mkdir":
        return os.path.basename(path) == "__pycache__"
    if event in ("open", "os.rename"):
        return _is_compiled(paths[0], paths[1] if len(paths) > 1 else None)
    return False


def judge(event: str, wanted: Sequence[tuple[Any, Any, str]]) -> None:
    """Refuse ``event`` unless every policy allows each (path, dir_fd, how) of it."""
    if local.exempt:
        return
    paths: list[str] = []
    for path, dir_fd, how in wanted:
        resolved = _resolve(path, dir_fd, how == FOLLOW)
        if resolved is None:
            refuse(policies, f"{event} of {path!r}: its descriptor names no path")
        paths.append(resolved)
    opened = event in ("open", "sqlite3.connect")
    for (path, _, how), resolved in zip(wanted, paths, strict=True):
        if isinstance(path, int) and not os.path.isabs(resolved):
            continue  # a pipe, a socket or memory, not a file
        inside = os.path.join(resolved, "inside") if how == INTO else resolved
        against = [policy for policy in policies if not policy.allows(inside, opened)]
        if event in ("os.mkdir", "os.rmdir"):
            against = [policy for policy in against if resolved not in policy.comes_and_goes]
        if against and not _harmless(event, resolved, how, paths):
            refuse(against, f"{event} of {path!r} ({resolved})")


def on_paths(event: str, args: tuple[Any, ...]) -> None:
    wanted = [(args[index], args[at] if 0 <= at < len(args) else NO_FD, how) for index, at, how in PATHS[event]]
    judge(event, wanted)


def on_open(event: str, args: tuple[Any, ...]) -> None:
    path, mode, flags = args
    if not flags & WRITING and not (isinstance(mode, str) and set(mode) & set("wax+")):
        return
    if not isinstance(path, int) and not local.opening:
        judge(event, [(path, NO_FD, FOLLOW)])


def on_sqlite(event: str, args: tuple[Any, ...]) -> None:
    name = os.fsdecode(args[0])
    if name in ("", ":memory:"):
        return
    if name.startswith("file:"):
        from urllib.parse import unquote

        name, _, query = name[len("file:") :].partition("?")
        if name == ":memory:" or "mode=memory" in query.split("&"):
            return
        name = unquote("/" + name.lstrip("/") if name.startswith("/") else name)
    judge(event, [(name, NO_FD, FOLLOW)])


def on_bind(event: str, args: tuple[Any, ...]) -> None:
    address = args[1]
    if isinstance(address, (str, bytes)) and address and os.fsencode(address)[0]:
        judge(event, [(address, NO_FD, LEAF)])
