"""What ``usage`` and ``ls`` show: what is on the disk now, also where counts are damaged."""
# ruff: noqa: PTH119  (see disk.py)

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from ..local import journal
from ..local.disk import names_in
from ..names import STORED_NAME, hash_name
from .folder import Folder
from .text import Output, columns, moment, plural, size


def usage(folder: Folder, on_area: Callable[[int], object]) -> Output:
    """Return the numbers and bytes of finished files, of unfinished ones and of what is in the trash."""
    areas = 0
    finished: list[int] = []
    unfinished: list[int] = []
    for areas, area in enumerate(folder.areas_in_order(), 1):
        for entry in _scan(area):
            if STORED_NAME.fullmatch(entry.name):
                finished += (status.st_size for status in _status(entry))
            elif journal.owner_of(entry.name) is not None and entry.is_dir(follow_symlinks=False):
                parts = (part for part in _scan(entry.path) if part.name.endswith(".part"))
                unfinished += (status.st_size for part in parts for status in _status(part))
        on_area(areas)
    removed = len(names_in(folder.trash_path))
    document = {
        "root": folder.root,
        "areas": areas,
        "files": len(finished),
        "bytes": sum(finished),
        "unfinished": {"files": len(unfinished), "bytes": sum(unfinished)},
        "trash": {"areas": removed},
    }
    rows = [
        ("finished", plural(len(finished), "file"), size(sum(finished))),
        ("unfinished", plural(len(unfinished), "file"), size(sum(unfinished))),
        ("trash", plural(removed, "area"), ""),
    ]
    return Output(document, [plural(areas, "area"), *columns(rows, right=(1, 2))])


def ls(folder: Folder, on_area: Callable[[int], object]) -> Output:
    """Return each area with its files, in the order of their names. A file whose name is lost has the name None."""
    areas, rows = [], []
    for number, area in enumerate(folder.areas_in_order(), 1):
        digest = os.path.basename(area)
        names = {hash_name(name): name for path, _ in journal.writers(area) for name in journal.read_names(path)}
        stored = (entry for entry in _scan(area) if STORED_NAME.fullmatch(entry.name))
        found = [(names.get(entry.name), status) for entry in stored for status in _status(entry)]
        found.sort(key=lambda file: (file[0] is None, file[0] or ""))
        files = [{"name": name, "size": status.st_size, "modified": status.st_mtime} for name, status in found]
        areas.append({"area": digest, "files": files})
        rows += [
            (digest[:8], size(status.st_size), moment(status.st_mtime), name or "(its name is lost: see fsck)")
            for name, status in found
        ] or [(digest[:8], "", "", "(no files)")]
        on_area(number)
    return Output({"root": folder.root, "areas": areas}, columns(rows, right=(1,)) if rows else ["no areas"])


def _scan(path: str) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as entries:  # removed meanwhile
        yield from entries


def _status(entry: os.DirEntry[str]) -> Iterator[os.stat_result]:
    """Yield the status of a regular file; nothing of anything else, or if it was deleted meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        if entry.is_file(follow_symlinks=False):
            yield entry.stat(follow_symlinks=False)
