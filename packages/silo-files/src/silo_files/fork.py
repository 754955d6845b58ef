"""Resets objects in a forked child."""

from __future__ import annotations

import contextlib
import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """An object with locks, threads or open files that a forked child must not share with its parent."""

    def _after_fork(self) -> None:
        """Reset the object in the child, where only the forking thread continues."""


class _Owner(weakref.ref[ForkAware]):
    """A reference that is equal only to itself: the class of an owner may define a hash."""

    __slots__ = ()

    __hash__ = object.__hash__
    __eq__ = object.__eq__
    __ne__ = object.__ne__


# A dict keeps the owners in the order in which they were made: an owner may use older ones while it is reset. It has no
# lock and is not a weak dictionary: adding and removing are one step each, and must be fast, as tasks are owners.
_owners: dict[_Owner, None] = {}


def reset_after_fork(owner: ForkAware) -> None:
    """Have ``owner._after_fork()`` called in every child that this process forks, for as long as the owner lives.

    Otherwise a lock that another thread held at the moment of the fork would stay locked in the child for ever.
    """
    _owners[_Owner(owner, _owners.pop)] = None


def _reset_all() -> None:
    for reference in list(_owners):
        owner = reference()
        if owner is not None:
            with contextlib.suppress(Exception):  # an owner that raises must not keep the others from being reset
                owner._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
