"""The lock on an open file, as Windows has it: the calls of ``msvcrt`` are simulated."""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from silo_files.local import file_lock

Answers = Callable[..., Any]


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Return the module as Windows loads it. Each of the errors is raised by one call of ``locking()``."""

    def load(*errors: int) -> Any:
        left = iter(errors)

        def locking(fd: int, mode: int, count: int) -> None:
            number = next(left, 0)
            if number:
                raise OSError(number, os.strerror(number))

        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_LOCK=1, LK_NBLCK=2, LK_UNLCK=0))
        assert file_lock.__file__ is not None
        spec = importlib.util.spec_from_file_location("file_lock_of_windows", file_lock.__file__)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_a_wait_goes_on_after_each_ten_seconds(tmp_path: Path, on_windows: Answers) -> None:
    module = on_windows(errno.EDEADLK, errno.EACCES, errno.EDEADLK)

    with (tmp_path / "lock").open("w") as file:
        assert module.lock_fd(file.fileno())
        module.unlock_fd(file.fileno())


def test_a_lock_of_another_process_is_not_waited_for(tmp_path: Path, on_windows: Answers) -> None:
    module = on_windows(errno.EACCES)

    with (tmp_path / "lock").open("w") as file:
        assert not module.lock_fd(file.fileno(), wait=False)
        assert module.lock_fd(file.fileno(), wait=False)


@pytest.mark.parametrize("wait", [True, False])
def test_a_file_that_cannot_be_locked_raises(tmp_path: Path, on_windows: Answers, wait: bool) -> None:
    module = on_windows(errno.EINVAL)

    with (tmp_path / "lock").open("w") as file, pytest.raises(OSError, match="Invalid argument"):
        module.lock_fd(file.fileno(), wait=wait)
