"""What ``usage`` and ``ls`` show: what is on the disk now, also where counts are damaged."""
# ruff: noqa: PTH119  (see disk.py)

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from ..local import journal
from ..local.disk import names_in
from ..names import STORED_NAME, hash_name
from .folder import Folder
from .text import columns, moment, plural, size


def usage(folder: Folder, on_area: Callable[[int], object]) -> dict[str, Any]:
    """Return the numbers and bytes of finished files, of unfinished ones and of what is in the trash."""
    areas = 0
    finished, unfinished = [0, 0], [0, 0]
    for areas, area in enumerate(folder.areas_in_order(), 1):
        for entry in _scan(area):
            if STORED_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                _add(finished, entry)
            elif journal.owner_of(entry.name) is not None and entry.is_dir(follow_symlinks=False):
                for part in _scan(entry.path):
                    if part.name.endswith(".part") and part.is_file(follow_symlinks=False):
                        _add(unfinished, part)
        on_area(areas)
    return {
        "root": folder.root,
        "areas": areas,
        "files": finished[0],
        "bytes": finished[1],
        "unfinished": {"files": unfinished[0], "bytes": unfinished[1]},
        "trash": {"areas": len(names_in(folder.trash))},
    }


def usage_lines(document: dict[str, Any]) -> list[str]:
    """Return the document of ``usage()`` as text."""
    unfinished, trash = document["unfinished"], document["trash"]
    rows = [
        ("finished", plural(document["files"], "file"), size(document["bytes"])),
        ("unfinished", plural(unfinished["files"], "file"), size(unfinished["bytes"])),
        ("trash", plural(trash["areas"], "area"), ""),
    ]
    return [plural(document["areas"], "area"), *columns(rows, right=(1, 2))]


def ls(folder: Folder, on_area: Callable[[int], object]) -> dict[str, Any]:
    """Return each area with its files, in the order of their names. A file whose name is lost has the name None."""
    areas = []
    for number, area in enumerate(folder.areas_in_order(), 1):
        names = {hash_name(name): name for path, _ in journal.writers(area) for name in journal.read_names(path)}
        files = []
        for entry in _scan(area):
            if STORED_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                name = names.get(entry.name)
                files.append({"name": name, "size": status.st_size, "modified": status.st_mtime})
        files.sort(key=lambda file: (file["name"] is None, file["name"] or ""))
        areas.append({"area": os.path.basename(area), "files": files})
        on_area(number)
    return {"root": folder.root, "areas": areas}


def ls_lines(document: dict[str, Any]) -> list[str]:
    """Return the document of ``ls()`` as a table."""
    rows = []
    for area in document["areas"]:
        short = area["area"][:8]
        rows += [
            (short, size(file["size"]), moment(file["modified"]), file["name"] or "(its name is lost: see fsck)")
            for file in area["files"]
        ] or [(short, "", "", "(no files)")]
    return columns(rows, right=(1,)) if rows else ["no areas"]


def _scan(path: str) -> Iterator[os.DirEntry[str]]:
    try:
        entries = os.scandir(path)
    except (FileNotFoundError, NotADirectoryError):  # removed meanwhile
        return
    with entries:
        yield from entries


def _add(total: list[int], entry: os.DirEntry[str]) -> None:
    try:
        total[1] += entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # deleted meanwhile
        return
    total[0] += 1
