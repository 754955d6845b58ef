"""A store, and child processes that end with their test."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from silo_files import FileStore

# An unpacked sdist is without the workspace's settings.
sys.path.insert(0, str(Path(__file__).with_name("support")))


def pytest_configure(config: pytest.Config) -> None:
    """Set what the workspace's settings set, which an unpacked sdist does not have."""
    config.addinivalue_line("markers", "slow: starts processes or servers, or takes more than a second")
    config.addinivalue_line("filterwarnings", "error")
    if not config.getini("timeout"):
        config.option.timeout = config.option.timeout or 120


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "base")


@pytest.fixture
def fork() -> Iterator[Callable[[Callable[[], object]], int]]:
    """Fork a child that runs a function; its status is 1 if that raises. Children still running are killed by pid."""
    children: list[int] = []

    def start(work: Callable[[], object]) -> int:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
        return child

    yield start
    for child in children:
        with suppress(ChildProcessError):  # the test has waited for it
            if os.waitpid(child, os.WNOHANG) == (0, 0):
                os.kill(child, signal.SIGKILL)  # not reaped yet, so the id is its own
                os.waitpid(child, 0)
