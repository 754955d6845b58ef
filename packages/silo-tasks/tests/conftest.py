from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from silo_tasks import ThreadRunner

sys.path.insert(0, str(Path(__file__).with_name("support")))  # An unpacked sdist is without the workspace's settings.

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
def runner() -> Iterator[ThreadRunner]:
    runner = ThreadRunner(workers=4)
    yield runner
    assert runner.shutdown(30), "a test left a task running"
