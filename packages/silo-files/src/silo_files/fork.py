"""Lets objects put themselves right in a forked child."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """An object with locks, threads or open locks that a forked child must not share."""

    def after_fork(self) -> None:
        """Start afresh; runs in the child before anything else."""


_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def call_after_fork(subject: ForkAware) -> None:
    """Have `subject.after_fork()` called in each forked child, for as long as `subject` lives."""
    _aware.add(subject)


def _in_child() -> None:
    for subject in list(_aware):
        subject.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
