"""The guard refuses what it must. Every target is a folder of the test itself, never a path of the system."""

from __future__ import annotations

import os

import pytest

from tests import guard


def test_active() -> None:
    assert guard.active()


@pytest.mark.hostile
def test_hostile_tests_have_no_root_rights() -> None:
    assert not hasattr(os, "geteuid") or os.geteuid() != 0
