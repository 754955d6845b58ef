"""Contract suites for runners and task stores, to subclass.

Use a suite in a test module of yours::

    from silo_tasks.testing import TaskStoreContract

    class TestMyStore(TaskStoreContract):
        def make_store(self):
            return MyStore(...)

The suites use plain asserts and need no test framework.
"""

from .runner import LocalRunnerContract, PlainRun, RunnerContract
from .store import TaskStoreContract

__all__ = ["LocalRunnerContract", "PlainRun", "RunnerContract", "TaskStoreContract"]
