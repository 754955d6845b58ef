"""A forked child begins with free locks and without the threads of its parent."""

from __future__ import annotations

import contextlib
import os
import weakref
from typing import Protocol

from .run.context import current_run


class Forked(Protocol):
    """What holds a lock or knows of threads."""

    def _after_fork(self) -> None:
        """Begin with free locks, in a child where only the forking thread lives on."""


# By id, as what is kept may be a subclass with a hash of its own. No lock: filled by one line, walked by one thread.
_all: weakref.WeakValueDictionary[int, Forked] = weakref.WeakValueDictionary()


def renew_after_fork(thing: Forked) -> None:
    """Have `thing._after_fork()` called in every forked child, as long as the thing lives."""
    _all[id(thing)] = thing


def _renew_all() -> None:
    # A run that was given up is known to its own code only, which may be what has forked.
    run = current_run.get()
    while run is not None:
        run.renew_locks()
        run = run.parent
    for thing in list(_all.values()):
        # A clock that raises must not keep the others from their locks.
        with contextlib.suppress(Exception):
            thing._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
