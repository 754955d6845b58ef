"""The program: arguments, output and exit status."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from ..errors import FileStoreError
from ..escaping import printable
from . import listing
from .folder import Folder, FolderRefused
from .fsck import Fsck
from .problems import LEFTOVERS, PROBLEMS, Finding
from .text import Output, Progress, plural

_ABOUT = "Looks at the folder in which a store keeps files, and repairs it."
_EPILOG = (
    "The exit status is 0 if all is well, 1 if something is damaged and was not repaired, 2 if the arguments are wrong "
    "or the folder cannot be used. Only the application knows its sessions: no command deletes a saved file."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Return the exit status.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    options = vars(_parser().parse_args(arguments))
    root, run, verb, as_json = (options.pop(name) for name in ("root", "run", "verb", "json"))
    progress = Progress(verb)
    try:
        output: Output = run(Folder(root), progress.show, **options)
    except (FolderRefused, FileStoreError, OSError) as error:
        output = Output({"error": "folder_refused", "message": str(error)}, [], 2)
    finally:
        progress.clear()
    _show(output, as_json=as_json)
    return output.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m silo_files", description=_ABOUT, epilog=_EPILOG)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text, verb, run in _COMMANDS:
        each = commands.add_parser(name, help=text, description=f"{text.capitalize()}.", epilog=_EPILOG)
        each.set_defaults(run=run, verb=verb)
        each.add_argument("root", metavar="ROOT", help="the base_dir of a store")
        each.add_argument("--json", action="store_true", help="print one JSON document")
        if run is _fsck:
            each.add_argument("--repair", action="store_true", help="repair what can be; no saved file is deleted")
    return parser


def _fsck(
    folder: Folder, on_area: Callable[[int], object], *, repair: bool, only: frozenset[str] | None = None
) -> Output:
    """Run ``fsck``, or with ``only`` a sweep, which says how much of each kind it has deleted."""
    if repair:
        folder.require_writable()
    fsck = Fsck(folder, repair=repair, only=only, on_area=on_area)
    found = fsck.run()
    left = [finding for finding in found if not finding.repaired]
    document = {
        "root": folder.root,
        "areas": fsck.areas,
        "findings": [_document(folder, finding) for finding in found],
        "repaired": len(found) - len(left),
        "left": len(left),
    }
    if only is None:
        summary = f"{plural(fsck.areas, 'area')}: {plural(len(found), 'finding')}"
        counts = f", {len(found) - len(left):,} repaired, {len(left):,} left" if found else ""
        lines = [*_lines(folder, found), summary + counts]
    else:
        deleted = Counter(PROBLEMS[finding.code].kind for finding in found if finding.repaired)
        lines = [f"{plural(count, kind or '')} deleted" for kind, count in deleted.items()] or ["nothing to delete"]
        lines += _lines(folder, left)
    return Output(document, lines, 1 if left else 0)


def _document(folder: Folder, finding: Finding) -> dict[str, object]:
    problem = PROBLEMS[finding.code]
    return {
        "code": finding.code,
        "place": folder.place(finding.path),
        "repaired": finding.repaired,
        "note": finding.note,
        "problem": problem.text,
        "repair": problem.repair,
    }


def _lines(folder: Folder, found: list[Finding]) -> list[str]:
    lines = []
    for finding in found:
        problem = PROBLEMS[finding.code]
        note = f" ({finding.note})" if finding.note else ""
        lines.append(f"{finding.code}: {folder.place(finding.path)}: {problem.text}")
        lines.append(f"    repaired{note}" if finding.repaired else f"    left{note}; --repair {problem.repair}")
    return lines


# Name, what it does, what it has done with the areas that its progress shows, and the function that runs it.
_COMMANDS: tuple[tuple[str, str, str, Callable[..., Output]], ...] = (
    ("usage", "show the number and the size of all files", "counted", listing.usage),
    ("ls", "list all files, by the hash of their session's key", "listed", listing.ls),
    (
        "sweep",
        "delete what ended processes left: unfinished files, removed files, locks, reservations",
        "swept",
        partial(_fsck, repair=True, only=LEFTOVERS | {"unreadable"}),
    ),
    ("fsck", "find what is damaged", "checked", _fsck),
)


def _show(output: Output, *, as_json: bool) -> None:
    text = [json.dumps(output.document, indent=2)] if as_json else output.lines
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        for line in text:
            sys.stdout.write((line if as_json else printable(line, encoding)) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough; the flush at the end of the process must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if "error" in output.document:
        sys.stderr.write(f"error: {printable(output.document['message'])}\n")
