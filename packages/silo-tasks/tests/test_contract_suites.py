"""The contract suites fail for a class that does nothing, and ``BackgroundTask`` refuses one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from silo_tasks import BackgroundTask, InlineRunner, MemoryTaskStore, Runner, TaskStore
from silo_tasks.testing import RunnerContract, TaskStoreContract

SUITES = """
import silo_tasks.testing.runner
import silo_tasks.testing.store
from silo_tasks import Runner, TaskError, TaskStore
from silo_tasks.testing import LocalRunnerContract, RunnerContract, TaskStoreContract

silo_tasks.testing.runner.WAIT = silo_tasks.testing.store.WAIT = 0.02  # No wait succeeds.
RESULTS = {"None": None, "True": True, "pair": (None, 0.0), "error": NotImplementedError, "own": TaskError}


def idle(seam, names, result):
    def method(self, *args, **kwargs):
        if isinstance(result, type):
            raise result
        return result

    return type("Idle", (seam,), {name: method for name in names})


def add(suite, maker, name, made):
    globals()[f"Test_{suite.__name__}_{name}"] = type("Test", (suite,), {maker: lambda self: made()})


for suite, seam, maker in (
    (TaskStoreContract, TaskStore, "make_store"),
    (RunnerContract, Runner, "make_runner"),
    (LocalRunnerContract, Runner, "make_runner"),
):
    names = [name for name in vars(seam) if name[0] != "_"]
    add(suite, maker, "empty", type("Empty", (), {}))
    add(suite, maker, "abstract", type("Abstract", (seam,), {}))
    for name, result in RESULTS.items():
        add(suite, maker, name, idle(seam, seam.__abstractmethods__, result))
        add(suite, maker, name + "_not_derived", idle(object, names, result))


for result in (True, False, None):
    methods = {"look": lambda self, owner, name: (None, 0.0), "change": lambda self, *args, result=result: result}
    add(TaskStoreContract, "make_store", f"forgetful_{result}", type("Forgetful", (TaskStore,), methods))

nothing = {"submit": lambda self, job: None, "shutdown": lambda self, timeout=None: True}
add(LocalRunnerContract, "make_runner", "lazy", type("Lazy", (Runner,), nothing))
"""
"""Suites for an empty class, for the interfaces themselves, and for classes whose methods all return the same."""


@pytest.mark.slow
def test_no_test_of_a_suite_passes_for_a_class_that_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_idle.py").write_text(SUITES, encoding="utf-8")

    printed = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rp", "--tb=no", "-p", "no:cacheprovider", "test_idle.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=100,
    ).stdout

    assert re.findall(r"^PASSED .*::(\w+::\w+)", printed, re.M) == []
    assert re.match(r"\d{3,} failed(, \d+ warnings)? in ", printed.splitlines()[-1])


class Empty:
    pass


@pytest.mark.parametrize("given", [Empty(), 5], ids=["empty", "number"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "runner",
            "runner must be a silo_tasks.Runner such as ThreadRunner(), not a {}; one of your own derives from "
            "silo_tasks.Runner and has the methods shutdown and submit",
        ),
        (
            "store",
            "store must be a task store such as MemoryTaskStore() or RedisTaskStore(url), not a {}; one of your own "
            "derives from silo_tasks.TaskStore and has the methods change and look",
        ),
    ],
)
def test_a_task_refuses_another_object_and_says_what_a_runner_or_store_needs(name: str, given: Any, words: str) -> None:
    with pytest.raises(TypeError) as caught:
        BackgroundTask(**{name: given})
    assert str(caught.value) == words.format(type(given).__name__)


@pytest.mark.parametrize("seam", [Runner, TaskStore])
def test_a_class_without_its_methods_has_no_instances(seam: type[Any]) -> None:
    with pytest.raises(TypeError, match=r"Can't instantiate abstract class Half .*" + min(seam.__abstractmethods__)):
        type("Half", (seam,), {})()


@pytest.mark.parametrize(
    ("use", "base", "name", "method", "reason"),
    [
        ("runner", InlineRunner, "submit", lambda self: None, r"its submit must take \(job\), and cannot \(too many"),
        ("runner", InlineRunner, "shutdown", lambda self: True, r"its shutdown must take \(timeout=None\), and cannot"),
        (
            "runner",
            InlineRunner,
            "check",
            lambda self, function, args, kwargs: None,
            r"its check must take \(function, args, kwargs, \*, given=1\), and cannot \(.*'given'",
        ),
        (
            "store",
            MemoryTaskStore,
            "look",
            lambda self, key: (None, 0.0),
            r"its look must take \(owner, name\), and cannot \(too many",
        ),
        (
            "store",
            MemoryTaskStore,
            "begin",
            lambda self, owner, name, token, record, *, expect: True,
            r"its begin must take \(owner, name, token, record, \*, expect, wait=None\), and cannot \(.*'wait'",
        ),
        ("store", MemoryTaskStore, "label", "text", "its label is not a method"),
    ],
)
def test_a_task_refuses_a_method_that_it_cannot_call(
    use: str, base: type[Any], name: str, method: Any, reason: str
) -> None:
    odd = type("Odd", (base,), {name: method})()
    suite: Any = RunnerContract() if use == "runner" else TaskStoreContract()
    suite.make_runner = suite.make_store = lambda: odd
    in_suite = suite.test_is_a_runner if use == "runner" else suite.test_is_a_task_store
    for refuse in (lambda: BackgroundTask(**{use: odd}), in_suite):
        with pytest.raises(TypeError, match=rf"^{use} must be a \w+, but this Odd does not fit: {reason}"):
            refuse()


def test_a_method_may_take_more_and_have_other_names() -> None:
    class Store(MemoryTaskStore):
        def look(self, *key: str) -> Any:
            return super().look(*key)

        def label(self, who: str, what: str, why: str = "") -> str:
            return what

    store = Store()
    assert BackgroundTask(store=store)._settings.store is store
    assert BackgroundTask(store=store)._settings.store is store
