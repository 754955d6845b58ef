"""A disk that is full: a save fails whole, the store goes on, and what is deleted gives its space back."""

from __future__ import annotations

from pathlib import Path

import full_disk
import pytest
from small_disk import run_on_small_disk

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scenario", full_disk.FUNCTIONS)
def test_a_full_disk(tmp_path: Path, scenario: str) -> None:
    run_on_small_disk(Path(full_disk.__file__), scenario, tmp_path)
