"""The program: arguments, output and exit status."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import FileStoreError
from ..escaping import printable
from . import listing
from .findings import LEFTOVERS, PROBLEMS, Finding
from .folder import Folder, FolderRefused
from .fsck import Fsck
from .text import Progress, plural

_ABOUT = "Looks at the folder in which a store keeps files, and repairs it."
_EPILOG = (
    "The exit status is 0 if all is well, 1 if something is damaged and was not repaired, 2 if the arguments are wrong "
    "or the folder cannot be used. Only the application knows its sessions: no command deletes a saved file."
)
# For each command what it does, and the word for its progress.
_COMMANDS = {
    "usage": ("show the number and the size of all files", "counted"),
    "ls": ("list all files, by the hash of their session's key", "listed"),
    "sweep": ("delete what ended processes left: unfinished files, removed files, locks, reservations", "swept"),
    "fsck": ("find what is damaged", "checked"),
}


class Output(NamedTuple):
    """What a command says: a document for ``--json``, lines of text, and the exit status."""

    document: dict[str, Any]
    lines: list[str]
    status: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Return the exit status.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    options = _parser().parse_args(arguments)
    progress = Progress(_COMMANDS[options.command][1])
    try:
        output = _run(options, Folder(options.root), progress)
    except (FolderRefused, FileStoreError, OSError) as error:
        output = Output({"error": "folder_refused", "message": str(error)}, [], 2)
    finally:
        progress.clear()
    _show(output, as_json=options.json)
    return output.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m silo_files", description=_ABOUT, epilog=_EPILOG)
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    for name, (text, _) in _COMMANDS.items():
        each = commands.add_parser(name, help=text, description=f"{text.capitalize()}.", epilog=_EPILOG)
        each.add_argument("root", metavar="ROOT", help="the base_dir of a store")
        each.add_argument("--json", action="store_true", help="print one JSON document")
        if name == "fsck":
            each.add_argument(
                "--repair", action="store_true", help="repair what can be repaired; no saved file is deleted"
            )
    return parser


def _run(options: argparse.Namespace, folder: Folder, progress: Progress) -> Output:
    if options.command == "usage":
        document = listing.usage(folder, progress.show)
        return Output(document, listing.usage_lines(document))
    if options.command == "ls":
        document = listing.ls(folder, progress.show)
        return Output(document, listing.ls_lines(document))
    if options.command == "sweep":
        return _sweep(folder, progress)
    return _fsck(folder, progress, repair=options.repair)


def _sweep(folder: Folder, progress: Progress) -> Output:
    document, found = _check(folder, progress, repair=True, only=LEFTOVERS | {"unreadable"})
    deleted = Counter(PROBLEMS[finding.code].kind for finding in found if finding.repaired)
    lines = [f"{plural(count, *kind)} deleted" for kind, count in deleted.items()] or ["nothing to delete"]
    lines += [line for finding in found if not finding.repaired for line in _lines(finding)]
    return Output(document, lines, 1 if document["left"] else 0)


def _fsck(folder: Folder, progress: Progress, *, repair: bool) -> Output:
    document, found = _check(folder, progress, repair=repair)
    summary = f"{plural(document['areas'], 'area')}: {plural(len(found), 'finding')}"
    if found:
        summary += f", {document['repaired']:,} repaired, {document['left']:,} left"
    return Output(
        document, [*(line for finding in found for line in _lines(finding)), summary], int(document["left"] > 0)
    )


def _check(
    folder: Folder, progress: Progress, *, repair: bool, only: frozenset[str] | None = None
) -> tuple[dict[str, Any], list[Finding]]:
    if repair:
        folder.require_writable()
    fsck = Fsck(folder, repair=repair, only=only, on_area=progress.show)
    found = fsck.run()
    repaired = sum(finding.repaired for finding in found)
    document = {
        "root": folder.root,
        "areas": fsck.areas,
        "findings": [finding.as_dict() for finding in found],
        "repaired": repaired,
        "left": len(found) - repaired,
    }
    return document, found


def _lines(finding: Finding) -> list[str]:
    problem = PROBLEMS[finding.code]
    note = f" ({finding.note})" if finding.note else ""
    state = f"repaired{note}" if finding.repaired else f"left{note}; --repair {problem.repair}"
    return [f"{finding.code}: {finding.place}: {problem.text}", f"    {state}"]


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
