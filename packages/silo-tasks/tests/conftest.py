from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from silo_tasks import ThreadRunner

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
def runner() -> Iterator[ThreadRunner]:
    runner = ThreadRunner(workers=4)
    yield runner
    assert runner.shutdown(30), "a test left a task running"
