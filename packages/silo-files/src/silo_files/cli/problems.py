"""What can be wrong in the folder of a store, and its repair. The codes are stable."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from . import mending
from .folder import Folder


class Problem(NamedTuple):
    """What a code means.

    Attributes:
        text: What is wrong.
        repair: What ``--repair`` does.
        mend: Repairs it, given the folder and the path. May return a note. None if only the application can repair it.
        kind: What a sweep deletes; None if a sweep leaves it.
    """

    text: str
    repair: str
    mend: Callable[[Folder, str], str | None] | None
    kind: str | None = None


PROBLEMS: dict[str, Problem] = {
    "not-a-folder": Problem("a link or a file is in place of a folder", "moves it to set-aside", mending.set_aside),
    "not-a-file": Problem(
        "a link, a folder or a device is in place of a file", "moves it to set-aside", mending.set_aside
    ),
    "foreign-entry": Problem("a store does not create such an entry", "moves it to set-aside", mending.set_aside),
    "wrong-mode": Problem(
        "other users may have access, or the owner has none", "gives access to the owner alone", mending.set_mode
    ),
    "unreadable": Problem("the system refuses to read this", "does nothing: remove the reason, and check again", None),
    "dead-owner": Problem("the process with this lock file has ended", "deletes it", mending.drop_lock, "lock file"),
    "undeleted-trash": Problem(
        "no process will delete these removed files", "deletes them", mending.purge, "removed area"
    ),
    "unfinished-file": Problem(
        "the process that wrote it has ended", "deletes it", mending.delete_file, "unfinished file"
    ),
    "unfinished-folder": Problem(
        "the process that prepared it has ended", "deletes it", mending.delete_unfinished, "unfinished folder"
    ),
    "empty-area": Problem("it has no files and belongs to no session", "removes it", mending.remove_area, "empty area"),
    "missing-journal": Problem(
        "a process has no journal of names here", "removes the folder, or writes a journal", mending.replace_journal
    ),
    "torn-journal": Problem(
        "lines of a journal are cut short or damaged", "keeps its whole lines", mending.keep_whole_lines
    ),
    "unnamed-file": Problem(
        "no journal has the name of this file", "gives it the name recovered-<8 hex digits>", mending.name_file
    ),
    "missing-counts": Problem("the files are not counted", "counts them", mending.count_again),
    "torn-counts": Problem("the counts cannot be read", "counts the files again", mending.count_again),
    "dirty-counts": Problem(
        "a process was killed while it changed files", "counts the files again", mending.count_again
    ),
    "wrong-counts": Problem("the counts differ from the files", "counts the files again", mending.count_again),
    "dead-reservation": Problem(
        "a process that has ended holds room for a file", "frees the room", mending.count_again, "dead reservation"
    ),
    "lost-key": Problem(
        "no journal says which session these files belong to",
        "does nothing, as only the session has the key: the files stay, and the next save of their session restores it",
        None,
    ),
}
"""What each code means."""

LEFTOVERS = frozenset(code for code, problem in PROBLEMS.items() if problem.kind is not None)
"""The codes of what ended processes leave: a sweep deletes it."""


class Finding(NamedTuple):
    """Something that is wrong, or was until its repair.

    Attributes:
        code: One of ``PROBLEMS``.
        path: Where it is.
        note: More about it, such as the new name of a file; None if there is no more.
        repaired: Whether it was repaired.
    """

    code: str
    path: str
    note: str | None = None
    repaired: bool = False
