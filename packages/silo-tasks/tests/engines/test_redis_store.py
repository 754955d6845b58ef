"""`RedisTaskStore`, on real servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from links import RoundTrips
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import RedisServer, until
from silo_tasks import BackgroundTask, RunnerUnavailable
from silo_tasks.stores.redis import RedisTaskStore
from silo_tasks.testing import TaskStoreContract

pytestmark = pytest.mark.slow


class TestRedisTaskStore(TaskStoreContract):
    @pytest.fixture(autouse=True, params=["redis", "valkey"])
    def _url(self, request: pytest.FixtureRequest) -> None:
        self.url: str = request.getfixturevalue(f"{request.param}_url")

    def make_store(self) -> RedisTaskStore:
        return RedisTaskStore(self.url)


class TestWithAClient(TaskStoreContract):
    """A client that decodes its answers works too."""

    @pytest.fixture(autouse=True)
    def _client(self, redis_url: str) -> Iterator[None]:
        self.client = redis.Redis.from_url(redis_url, decode_responses=True)
        yield
        self.client.close()

    def make_store(self) -> RedisTaskStore:
        return RedisTaskStore(self.client)


def test_a_record_is_seen_through_another_store(redis_url: str) -> None:
    task = BackgroundTask("add", store=RedisTaskStore(redis_url), owner="me")
    task.start(lambda task: 3)
    other = RedisTaskStore(redis_url)
    until(lambda: not (other.read("me", "add") or ("", {}))[1]["running"], "the end is not stored")
    found = other.read("me", "add")
    assert found is not None
    assert (found[1]["status"], found[1]["value"]) == ("succeeded", 3)
    assert RedisTaskStore(redis_url, prefix="other").read("me", "add") is None


def test_round_trips(redis_server: RedisServer) -> None:
    """A read, a begin and a claim take one, and so does a change after one of them. Otherwise a change takes two."""
    link = RoundTrips(redis_server.port)
    clients = [redis.Redis(port=link.port) for _ in range(3)]
    store, other, worker = map(RedisTaskStore, clients)
    other.read("", "another")
    steps: list[tuple[Callable[[], object], int]] = [
        (lambda: store.read("", "trips"), 1),
        (lambda: store.begin("", "trips", "a", {"running": True}, expect=None, wait=60), 1),
        (lambda: store.claim("", "trips", "a"), 1),
        (lambda: store.publish("", "trips", "a", {"running": True, "n": 1}), 1),
        (lambda: other.begin("", "trips", "b", {"running": True}, expect="a", wait=60), 1),
        (lambda: worker.claim("", "trips", "b"), 1),
        (lambda: worker.publish("", "trips", "b", {"running": True}), 1),
        (lambda: other.begin("", "trips", "a", {"running": True}, expect="b"), 1),
        (lambda: store.publish("", "trips", "a", {"running": True, "n": 1}), 3),  # One that fails, then as anew.
        (lambda: RedisTaskStore(redis_server.url).request_cancel("", "trips", "a"), 0),
        (lambda: store.publish("", "trips", "a", {"running": True, "n": 2}), 3),  # One that fails, then as anew.
        (lambda: store.cancel_requested("", "trips", "a"), 1),
        (lambda: store.forget("", "trips", "a"), 1),
        (lambda: not store.forget("", "trips", "a"), 1),
    ]
    store.forget("", "trips", "none")
    worker.claim("", "trips", "none")
    for step, expected in steps:
        link.reset()
        assert step() is not False
        assert link.count == expected
    for client in clients:
        client.close()
    link.close()


def test_texts_that_utf8_cannot_hold(redis_url: str) -> None:
    store = RedisTaskStore(redis_url)
    assert store.begin("\ud800", "ä\0:", "a", {"message": "\udfff"}, expect=None)
    assert store.read("\ud800", "ä\0:") == ("a", {"message": "\udfff"})


def test_keys_expire(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    store = RedisTaskStore(redis_url, prefix="p", retain=100)
    store.begin("me", "now", "a", {"running": True}, expect=None)
    store.begin("me", "queued", "a", {"running": True}, expect=None, wait=1000)
    assert 90 < client.ttl("p:2:me:now") <= 100
    assert 1090 < client.ttl("p:2:me:queued") <= 1100
    store.claim("me", "queued", "a")
    assert 90 < client.ttl("p:2:me:queued") <= 100
    client.close()


def test_wrong_arguments_are_refused() -> None:
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="retain must be positive, and not infinite"):
            RedisTaskStore("redis://127.0.0.1:1", retain=wrong)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="lease must be positive"):
            RedisTaskStore("redis://127.0.0.1:1", lease=wrong)
    with pytest.raises(ValueError, match="scheme"):
        RedisTaskStore("http://127.0.0.1:1")


def test_a_lease_runs_out(redis_url: str) -> None:
    store, hasty = RedisTaskStore(redis_url), RedisTaskStore(redis_url, lease=0.05)
    store.begin("", "task", "a", {"running": True, "status": "running"}, expect=None)
    until(lambda: not (hasty.read("", "task") or ("", {}))[1]["running"], "it is not lost")
    found = store.read("", "task")
    assert found is not None
    assert found[1]["running"]


def test_a_claimed_run_reads_as_running(redis_url: str) -> None:
    """Before the worker has reported anything: the claim alone says so, and counts as a sign of life."""
    store, worker = RedisTaskStore(redis_url), RedisTaskStore(redis_url)
    queued = {"running": True, "status": "queued", "message": "Waiting for a worker"}
    store.begin("", "task", 'a"\ud800', queued, expect=None, wait=60)
    assert not worker.claim("", "task", "a")
    assert worker.claim("", "task", 'a"\ud800')
    assert store.read("", "task") == ('a"\ud800', {**queued, "status": "running", "message": "Running"})
    stored, now = store.look("", "task")
    assert stored is not None
    assert stored.wait is None
    assert now - 10 < stored.seen <= now
    assert store.request_cancel("", "task", 'a"\ud800')
    assert worker.cancel_requested("", "task", 'a"\ud800')
    assert not worker.claim("", "task", 'a"\ud800')


def test_a_change_whose_answer_is_lost_is_done_once(redis_url: str) -> None:
    """The client sends it again, to a server that has done it already."""
    store = RedisTaskStore(redis_url)
    plain, calls = store._run, []

    def twice(*what: Any) -> Any:
        calls.append(plain(*what) is not None)
        return plain(*what)

    store._run = twice  # type: ignore[assignment]
    assert store.begin("", "task", "a", {}, expect=None)
    assert store.begin("", "task", "b", {"running": True}, expect="a", wait=60)
    assert store.claim("", "task", "b")
    assert len(calls) == 4  # A look, and one call for each change.


def test_without_a_server(own_redis: RedisServer) -> None:
    store = RedisTaskStore(own_redis.url)
    task = BackgroundTask("task", store=store)
    own_redis.stop()
    with pytest.raises(RunnerUnavailable):
        task.start(lambda task: None)
    assert task.state.status == "idle"
    own_redis.restart()
    task.start(lambda task: None)
    task.result(10)


def test_a_server_that_hangs(own_redis: RedisServer) -> None:
    """A caller waits no longer than the client does."""
    client = redis.Redis.from_url(own_redis.url, socket_timeout=1, retry=Retry(NoBackoff(), 0))
    task = BackgroundTask("task", store=RedisTaskStore(client))
    client.ping()
    own_redis.pause()
    with pytest.raises(RunnerUnavailable, match="cannot be reached: Timeout reading from"):
        task.start(lambda task: None)
    own_redis.resume()
    assert task.state.status == "idle"
    client.close()


def test_a_server_that_is_away_for_a_while(own_server: RedisServer) -> None:
    """The run goes on, and its end is stored once the server is back."""
    client = redis.Redis.from_url(own_server.url, retry=Retry(NoBackoff(), 0))
    store, go = RedisTaskStore(client), threading.Event()
    task = BackgroundTask("task", store=store)
    task.start(lambda task: go.wait(60))
    own_server.stop()
    go.set()
    assert task.wait(60)
    own_server.restart()
    until(lambda: not (store.read("", "task") or ("", {}))[1]["running"], "the end is not stored")
    client.close()
