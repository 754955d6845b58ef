from __future__ import annotations

from collections.abc import Iterator

import pytest
from silo_tasks import ThreadRunner


@pytest.fixture
def runner() -> Iterator[ThreadRunner]:
    runner = ThreadRunner(workers=4)
    yield runner
    assert runner.shutdown(30), "a test left a task running"
