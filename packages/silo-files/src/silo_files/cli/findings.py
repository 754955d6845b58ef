"""What can be wrong in the folder of a store. The codes are stable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """What a code means.

    Attributes:
        text: What is wrong.
        repair: What ``--repair`` does.
        kind: What a sweep deletes: one of them, several.
    """

    text: str
    repair: str
    kind: tuple[str, str] = ("entry", "entries")


PROBLEMS: dict[str, Problem] = {
    "not-a-folder": Problem("a link or a file is in place of a folder", "moves it to set-aside"),
    "not-a-file": Problem("a link, a folder or a device is in place of a file", "moves it to set-aside"),
    "foreign-entry": Problem("a store does not create such an entry", "moves it to set-aside"),
    "wrong-mode": Problem("other users may have access, or the owner has none", "gives access to the owner alone"),
    "unreadable": Problem("the system refuses to read this", "does nothing: remove the reason, and check again"),
    "dead-owner": Problem("the process with this lock file has ended", "deletes it", ("lock file", "lock files")),
    "undeleted-trash": Problem(
        "no process will delete these removed files", "deletes them", ("removed area", "removed areas")
    ),
    "unfinished-file": Problem(
        "the process that wrote it has ended", "deletes it", ("unfinished file", "unfinished files")
    ),
    "unfinished-folder": Problem(
        "the process that prepared it has ended", "deletes it", ("unfinished folder", "unfinished folders")
    ),
    "empty-area": Problem("it has no files and belongs to no session", "removes it", ("empty area", "empty areas")),
    "missing-journal": Problem("a process has no journal of names here", "removes the folder, or writes a journal"),
    "torn-journal": Problem("lines of a journal are cut short or damaged", "keeps its whole lines"),
    "unnamed-file": Problem("no journal has the name of this file", "gives it the name recovered-<8 hex digits>"),
    "missing-counts": Problem("the files are not counted", "counts them"),
    "torn-counts": Problem("the counts cannot be read", "counts the files again"),
    "dirty-counts": Problem("a process was killed while it changed files", "counts the files again"),
    "wrong-counts": Problem("the counts differ from the files", "counts the files again"),
    "dead-reservation": Problem(
        "a process that has ended holds room for a file", "frees the room", ("dead reservation", "dead reservations")
    ),
    "lost-key": Problem(
        "no journal says which session these files belong to",
        "does nothing, as only the session has the key: the files stay, and the next save of their session restores it",
    ),
}
"""What each code means."""

LEFTOVERS = frozenset(
    {"dead-owner", "dead-reservation", "empty-area", "undeleted-trash", "unfinished-file", "unfinished-folder"}
)
"""The codes of what ended processes leave: a sweep deletes it."""


class Damage(NamedTuple):
    """Something that is wrong now.

    Attributes:
        code: One of ``PROBLEMS``.
        path: Where it is.
        mend: Repairs it. May return a str, a note. None if only the application can repair it.
        note: More about it.
    """

    code: str
    path: str
    mend: Callable[[], object] | None = None
    note: str | None = None


class Finding(NamedTuple):
    """What ``fsck`` reports.

    Attributes:
        code: One of ``PROBLEMS``.
        place: Path as seen from the folder of the store.
        repaired: Whether it was repaired.
        note: More about it, such as the new name of a file; None if there is no more.
    """

    code: str
    place: str
    repaired: bool
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        problem = PROBLEMS[self.code]
        return {**self._asdict(), "problem": problem.text, "repair": problem.repair}
