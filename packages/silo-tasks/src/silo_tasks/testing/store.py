"""The contract suite for task stores."""

from __future__ import annotations

import threading
import time
from typing import Any

from ..fitting import check_store
from ..stores.base import TaskStore
from .wait import WAIT


class TaskStoreContract:
    """The rules of ``TaskStore``."""

    def make_store(self) -> TaskStore:
        """Return an empty store."""
        raise NotImplementedError

    def test_is_a_task_store(self) -> None:
        """The methods take the arguments of ``TaskStore``, and a run is kept."""
        store = self.make_store()
        check_store(store)
        assert store.begin("owner", "task", "a", {"run": 1}, expect=None)
        assert store.read("owner", "task") == ("a", {"run": 1})

    def test_nothing_is_there_at_first(self) -> None:
        """An unknown task has no record, and no run of it can be changed."""
        store = self.make_store()
        assert store.read("owner", "task") is None
        assert not store.publish("owner", "task", "a", {})
        assert not store.request_cancel("owner", "task", "a")
        assert not store.forget("owner", "task", "a")
        assert store.begin("owner", "task", "a", {}, expect=None), "the store must be empty, and take a run"
        assert store.forget("owner", "task", "a")
        assert store.read("owner", "task") is None

    def test_begin_compares_and_sets(self) -> None:
        """A run begins only if the caller names the newest run."""
        store = self.make_store()
        assert store.begin("owner", "task", "a", {"run": 1}, expect=None)
        assert not store.begin("owner", "task", "b", {"run": 2}, expect=None)
        assert not store.begin("owner", "task", "b", {"run": 2}, expect="x")
        assert store.read("owner", "task") == ("a", {"run": 1})
        assert store.begin("owner", "task", "b", {"run": 2}, expect="a")
        assert store.read("owner", "task") == ("b", {"run": 2})

    def test_one_of_many_begins(self) -> None:
        """Of runs that begin at the same time, exactly one does."""
        store = self.make_store()
        together = threading.Barrier(8)
        won: list[str] = []

        def race(token: str) -> None:
            together.wait(WAIT)
            if store.begin("owner", "task", token, {}, expect=None):
                won.append(token)

        threads = [threading.Thread(target=race, args=(str(i),)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert len(won) == 1

    def test_an_old_run_cannot_publish(self) -> None:
        """The token of an older run changes nothing."""
        store = self.make_store()
        store.begin("owner", "task", "a", {}, expect=None)
        assert store.publish("owner", "task", "a", {"n": 1})
        store.begin("owner", "task", "b", {"n": 2}, expect="a")
        assert not store.publish("owner", "task", "a", {"n": 3})
        assert not store.forget("owner", "task", "a")
        assert not store.request_cancel("owner", "task", "a")
        assert store.read("owner", "task") == ("b", {"n": 2})

    def test_cancel_flag_belongs_to_a_run(self) -> None:
        """The flag is set for one run, and a run that is no longer the newest should stop too."""
        store = self.make_store()
        store.begin("owner", "task", "a", {}, expect=None)
        assert not store.cancel_requested("owner", "task", "a")
        assert store.request_cancel("owner", "task", "a")
        assert store.cancel_requested("owner", "task", "a")
        store.begin("owner", "task", "b", {}, expect="a")
        assert not store.cancel_requested("owner", "task", "b")
        assert store.cancel_requested("owner", "task", "a")

    def test_a_run_that_waits_is_claimed_once(self) -> None:
        """Of two workers that get the same run, one claims it. A run that does not wait cannot be claimed."""
        store = self.make_store()
        assert not store.claim("owner", "task", "a")
        store.begin("owner", "task", "a", {"running": True}, expect=None, wait=60)
        assert not store.claim("owner", "task", "x")
        assert store.claim("owner", "task", "a")
        assert not store.claim("owner", "task", "a")
        store.begin("owner", "task", "b", {"running": True}, expect="a")
        assert not store.claim("owner", "task", "a")
        assert not store.claim("owner", "task", "b")

    def test_a_run_that_has_reported_cannot_be_claimed(self) -> None:
        """A claim may be lost, as after a failover to a server that lagged behind. The run is not claimed again."""
        store = self.make_store()
        store.begin("owner", "task", "a", {"running": True}, expect=None, wait=60)
        assert store.publish("owner", "task", "a", {"running": True, "n": 1})
        assert not store.claim("owner", "task", "a")

    def test_one_of_many_claims(self) -> None:
        """Of workers that claim a run at the same time, exactly one does."""
        store = self.make_store()
        store.begin("owner", "task", "a", {"running": True}, expect=None, wait=60)
        together = threading.Barrier(8)
        won: list[int] = []

        def race(number: int) -> None:
            together.wait(WAIT)
            if store.claim("owner", "task", "a"):
                won.append(number)

        threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert len(won) == 1

    def test_a_waiting_run_that_is_cancelled_never_runs(self) -> None:
        """The run is cancelled at once, and no worker can claim it: its watchers do not wait for a worker."""
        store = self.make_store()
        store.begin("owner", "task", "a", {"running": True, "status": "queued"}, expect=None, wait=60)
        assert store.request_cancel("owner", "task", "a")
        found = store.read("owner", "task")
        assert found is not None
        assert (found[1]["running"], found[1]["status"]) == (False, "cancelled")
        assert not store.claim("owner", "task", "a")

    def test_a_run_that_waited_too_long_is_lost(self) -> None:
        """The run reads as lost, and no worker can claim it later."""
        store = self.make_store()
        store.begin("owner", "task", "a", {"running": True, "status": "queued"}, expect=None, wait=0.01)
        pause, late = threading.Event(), time.monotonic() + WAIT
        while (store.read("owner", "task") or ("", {}))[1]["running"]:
            assert time.monotonic() < late, "a run that no worker claims must read as lost after its ``wait``"
            pause.wait(0.005)
        found = store.read("owner", "task")
        assert found is not None
        assert (found[1]["status"], found[1]["error_type"]) == ("failed", "TaskLost")
        assert not store.claim("owner", "task", "a")
        assert store.request_cancel("owner", "task", "a")
        assert store.read("owner", "task") == found

    def test_the_record_of_the_end_stays(self) -> None:
        """A late record does not bring the run back, and a second record of its end does not replace the first."""
        store = self.make_store()
        store.begin("owner", "task", "a", {"running": True}, expect=None)
        assert store.publish("owner", "task", "a", {"running": False, "n": 5})
        assert store.publish("owner", "task", "a", {"running": True, "n": 4})
        assert store.publish("owner", "task", "a", {"running": False, "n": 4})
        assert store.publish("owner", "task", "a", {"running": False, "returning": True, "n": 4})
        assert store.read("owner", "task") == ("a", {"running": False, "n": 5})

    def test_records_are_copied(self) -> None:
        """Neither the caller nor the store can change the other's record."""
        store = self.make_store()
        record: dict[str, Any] = {"logs": ["one"]}
        store.begin("owner", "task", "a", record, expect=None)
        record["logs"].append("two")
        found = store.read("owner", "task")
        assert found == ("a", {"logs": ["one"]})
        found[1]["logs"].append("three")
        assert store.read("owner", "task") == ("a", {"logs": ["one"]})

    def test_a_later_change_stores_no_change_of_the_caller(self) -> None:
        """What a caller does to a record that it has passed in or read stays with the caller."""
        store = self.make_store()
        record: dict[str, Any] = {"logs": ["one"]}
        store.begin("owner", "passed in", "a", record, expect=None)
        record["logs"].append("two")
        store.begin("owner", "read", "a", {"logs": ["one"]}, expect=None)
        found = store.read("owner", "read")
        assert found is not None
        found[1]["logs"].append("two")
        for name in ("passed in", "read"):
            assert store.request_cancel("owner", name, "a")
            assert store.read("owner", name) == ("a", {"logs": ["one"]})

    def test_owners_and_names_are_apart(self) -> None:
        """The key is the pair of owner and name, not a text made of both."""
        store = self.make_store()
        assert store.begin("a", "b:c", "1", {}, expect=None)
        assert store.begin("a:b", "c", "2", {}, expect=None)
        assert store.forget("a", "b:c", "1")
        assert store.read("a", "b:c") is None
        assert store.read("a:b", "c") == ("2", {})
