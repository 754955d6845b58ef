from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from silo_tasks import ThreadRunner

sys.path.insert(0, str(Path(__file__).with_name("support")))  # An unpacked sdist is without the workspace's settings.

# The first three may be missing in an environment, the last in an sdist that was not built for a release.
missing = [name for name in ("celery", "redis", "rq", "server_fixtures") if find_spec(name) is None]
if missing:
    collect_ignore = ["engines"]

    def pytest_report_header() -> str:
        return f"left out, as there is no module {', '.join(missing)}: tests/engines"


# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Set what the workspace's settings set, which an unpacked sdist does not have."""
    config.addinivalue_line("markers", "slow: starts processes or servers, or takes more than a second")
    config.addinivalue_line("filterwarnings", "error")
    if not config.getini("timeout"):
        config.option.timeout = config.option.timeout or 120


@pytest.fixture
def runner() -> Iterator[ThreadRunner]:
    runner = ThreadRunner(workers=4)
    yield runner
    assert runner.shutdown(30), "a test left a task running"


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Let the threads of this process take turns as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
