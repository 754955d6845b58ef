"""Locks that a forked child finds free."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class _HasLocks(Protocol):
    def after_fork(self) -> None: ...


_owners: weakref.WeakSet[_HasLocks] = weakref.WeakSet()


def reset_after_fork(owner: _HasLocks) -> None:
    """Call ``owner.after_fork()`` in every child that this process forks, for as long as the owner lives.

    A lock that another thread held at the moment of the fork would stay locked in the child for ever.
    """
    _owners.add(owner)


def _run() -> None:
    for owner in list(_owners):
        owner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_run)
