"""The events of a stream, the client that gets them, and the end of the stream."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pytest
from event_streams import Blocks
from flask import Flask
from flask_silo import Silo, current_task
from flask_silo.binding import Binding
from flask_silo.served import BINDING
from flask_silo.server import Server
from flask_silo.tasks.event_id import EventId
from flask_silo.tasks.events import StreamTiming
from flask_silo.tasks.states import Snapshot, StateReader
from flask_silo_helpers import as_
from server_fixtures import own_redis, redis_server, redis_url
from servers import RedisServer
from silo_store.testing import SID, TTL, Clock
from store_urls import urls
from werkzeug.test import TestResponse

pytestmark = pytest.mark.slow

__all__ = ["own_redis", "redis_server", "redis_url"]

THREADS = {"wsgi.multithread": True, "SERVER_SOFTWARE": "Werkzeug/3"}
FAST = StreamTiming(look=0.005)
NEVER = StreamTiming(look=3600)


class App:
    """An application whose tasks the tests control."""

    def __init__(self, url: str, clock: Clock, **settings: Any) -> None:
        self.flask = Flask("app")
        self.silo = Silo(
            self.flask, ttl=TTL, store_url=url, auto_cleanup=False, clock=clock, accept_client_ids=True, **settings
        )
        self.silo.register("counter", lambda: {"value": 0})
        self.words: dict[str, queue.Queue[str]] = {}
        self.client = self.flask.test_client()
        self.pace(FAST)
        for name in ("one", "two"):
            self._task(name)

        @self.flask.post("/api/increment")
        def increment() -> Any:
            self.silo.state("counter")["value"] += 1
            return self.silo.state("counter")

        @self.flask.post("/api/rotate")
        def rotate() -> Any:
            return {"sid": self.silo.rotate()}

    def _task(self, name: str) -> None:
        words = self.words[name] = queue.Queue()

        @self.silo.task(name=name)
        def listen() -> None:
            task = current_task()
            assert task is not None
            while (word := words.get()) != "end":
                task.log(word)
                task.checkpoint()

        @self.flask.post(f"/api/start/{name}", endpoint=name)
        def start() -> Any:
            listen.start()
            return {}

    def pace(self, pace: StreamTiming) -> None:
        binding: Binding = self.flask.extensions[BINDING]
        binding.task_views.timing = pace

    def start(self, *names: str) -> None:
        for name in names:
            assert self.client.post(f"/api/start/{name}", headers=as_(SID)).status_code == 200

    def say(self, name: str, word: str) -> None:
        self.words[name].put(word)

    def open(self, last: str = "", sid: str = SID) -> Stream:
        headers = {"Last-Event-ID": last} if last else {}
        path = f"/api/tasks/events?_sid={sid}"
        return Stream(self.client.get(path, headers=headers, environ_overrides=THREADS))


class Stream(Blocks):
    """A stream of an application, without a server; its first block has come once the object is there."""

    def __init__(self, answer: TestResponse) -> None:
        self.answer = answer
        self.close = answer.close
        super().__init__(line for chunk in answer.iter_encoded() for line in chunk.splitlines(keepends=True))
        if answer.status_code == 200:
            self.first = next(iter(self))


url = urls("memory://", "memory://?copy=1", "sqlite", "redis")


Make = Callable[..., App]


@pytest.fixture
def make(url: str, clock: Clock) -> Iterator[Make]:
    """Return a function that makes applications, which share their sessions if the store allows it."""
    made: list[App] = []

    def make(**settings: Any) -> App:
        if not (made and url.startswith("memory:")):
            made.append(App(url, clock, **settings))
        return made[-1]

    yield make
    for app in made:
        for words in app.words.values():
            words.put("end")


def test_a_task_from_its_start_to_its_end(make: Make) -> None:
    app = make()
    app.start("one")
    with closing(app.open()) as stream:
        headers = stream.answer.headers
        assert headers["Content-Type"] == "text/event-stream"
        assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")
        assert headers["X-Session-ID"] == SID
        assert stream.first == {"retry": "1000", "id": str(EventId())}
        assert next(stream.states())["running"]
        app.say("one", "hello")
        assert stream.until(last_seq=1)["logs"] == ["hello"]
        app.say("one", "end")
        assert stream.until(running=False)["status"] == "succeeded"
        assert stream.rest() == []
    again = app.open(stream.last)
    assert (again.answer.status_code, again.answer.data) == (204, b"")
    assert again.answer.headers["Cache-Control"] == "no-store"
    assert [state["complete"] for state in app.open().rest()] == [True], "a new client is told what there is"


def test_a_client_that_reconnects_gets_what_is_new_from_any_process(make: Make) -> None:
    app, other = make(), make()
    app.start("one", "two")
    app.say("one", "hello")
    with closing(app.open()) as stream:
        heard: dict[str, int] = {}
        for state in stream.states():
            heard[state["name"]] = state["last_seq"]
            if heard == {"one": 1, "two": 0}:
                break
    app.say("two", "end")
    with closing(other.open(stream.last)) as stream:
        for state in stream.states():
            assert state["name"] == "two"
            if not state["running"]:
                break
        app.say("one", "again")
        assert stream.until(last_seq=2)["logs"] == ["hello", "again"]
        app.say("one", "end")
        assert [state["name"] for state in stream.rest()][-1:] == ["one"]
    assert app.open(stream.last).answer.status_code == 204
    assert other.open(stream.last).answer.status_code == 204


def test_nothing_was_started_yet(make: Make) -> None:
    app = make()
    stream = app.open()
    assert stream.rest() == []
    assert app.silo.store.active_count == 0, "looking begins no session"
    assert app.open(stream.last).answer.status_code == 204
    app.start("one")
    with closing(app.open(stream.last)) as stream:
        assert next(stream.states())["name"] == "one"


@pytest.mark.parametrize("last", ["7", "1.abc", "2.abcdabcdefgh", "1.abcd abcdefg", "1.äöüäöüäöüäöü"])
def test_an_id_that_is_none_counts_as_nothing(last: str, make: Make) -> None:
    app = make()
    assert app.open(last.encode().decode("latin-1")).answer.status_code == 204
    app.start("one")
    with closing(app.open(last.encode().decode("latin-1"))) as stream:
        assert stream.first["id"] == str(EventId())
        assert next(stream.states())["name"] == "one"


def test_what_an_id_says_of_no_task_is_not_said_again(make: Make) -> None:
    app = make()
    app.start("one")
    with closing(app.open(str(EventId()) + "".join(f"{number:012}" for number in range(1000)))) as stream:
        assert stream.first["id"] == str(EventId())


def test_a_session_that_ends_takes_its_tasks_along(make: Make) -> None:
    app, other = make(), make()
    app.start("one")
    with closing(other.open()) as stream:
        next(stream.states())
        app.silo.store.destroy(SID)
        assert stream.until(status="idle")["name"] == "one"
        assert stream.rest() == []
    app.say("one", "end")
    assert other.open(stream.last).answer.status_code == 204


def test_a_client_with_an_id_from_before_a_rotation_sees_nothing_more(make: Make) -> None:
    app, other = make(), make()
    app.start("one")
    with closing(other.open()) as stream:
        next(stream.states())
        new = app.client.post("/api/rotate", headers=as_(SID)).json["sid"]  # type: ignore[index]
        app.say("one", "hello")
        app.say("one", "end")
        assert stream.rest() == []
    with closing(other.open(sid=new)) as stream:
        stream.until(last_seq=1, status="succeeded")


def test_a_stream_neither_waits_nor_is_waited_for(make: Make) -> None:
    app = make(lock_timeout=0.5)
    app.start("one")
    with closing(app.open()) as stream:
        next(stream.states())
        assert app.client.post("/api/increment", headers=as_(SID)).json == {"value": 1}
        with app.silo.store.lock(SID) as lock:
            lock.take(1)
            app.say("one", "hello")
            stream.until(last_seq=1)


def test_the_start_and_end_of_a_run_reach_open_streams_at_once(make: Make) -> None:
    app = make()
    app.start("one")
    app.pace(NEVER)
    with closing(app.open()) as stream:
        next(stream.states())
        app.start("two")
        assert stream.until(name="two", running=True)
        app.say("two", "end")
        assert stream.until(name="two", running=False)["complete"]
        app.say("one", "hello")
        app.say("one", "end")
        assert [(state["name"], state["logs"]) for state in stream.rest()] == [("one", ["hello"])]


def test_a_session_that_this_process_ends_reaches_open_streams_at_once(make: Make) -> None:
    app = make()
    app.start("one")
    app.pace(NEVER)
    with closing(app.open()) as stream:
        next(stream.states())
        app.silo.store.destroy(SID)
        assert [state["status"] for state in stream.rest()] == ["idle"]


def test_all_streams_of_a_session_share_one_look(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    look = StateReader.look

    def counted(*args: Any) -> Snapshot:
        looks.append(args)
        return look(*args)

    app = make()
    app.start("one")
    app.pace(NEVER)
    with ExitStack() as stack:
        streams = [stack.enter_context(closing(app.open())) for _ in range(20)]
        for stream in streams:
            next(stream.states())
        monkeypatch.setattr(StateReader, "look", counted)
        with ThreadPoolExecutor(len(streams)) as threads:
            rest = [threads.submit(stream.rest) for stream in streams]
            app.say("one", "end")
            ends = [each.result() for each in rest]
        assert [[state["complete"] for state in end] for end in ends] == [[True]] * len(streams)
        assert len(looks) == 1


@pytest.mark.parametrize("url", ["memory://"], indirect=True)
def test_an_open_stream_renews_nothing(make: Make, clock: Clock) -> None:
    app = make()
    app.start("one")

    def active() -> float:
        session = app.silo.store.peek(SID)
        assert session is not None
        return session.active

    with closing(app.open()) as stream:
        next(stream.states())
        before = active()
        clock.advance(TTL / 2)
        app.say("one", "hello")
        stream.until(last_seq=1)
        assert active() == before


@pytest.mark.parametrize("url", ["memory://"], indirect=True)
def test_it_breathes_while_nothing_happens_and_does_not_get_old(make: Make) -> None:
    app = make()
    app.start("one")
    app.pace(StreamTiming(look=0.001, heartbeat=0.002, lifetime=60))
    with closing(app.open()) as stream:
        stream.until(status="running")
        breaths = 0
        for block in stream:
            breaths += block == {"": ""}
            if breaths == 3:
                break
    app.pace(StreamTiming(look=0.001, lifetime=0))
    stream = app.open(stream.last)
    assert stream.rest() == [], "the task runs still"
    app.say("one", "hello")
    with closing(app.open(stream.last)) as stream:
        assert len(stream.rest()) <= 1


@pytest.mark.parametrize("url", ["memory://"], indirect=True)
def test_more_than_may_be_open_say_what_there_is(make: Make) -> None:
    app = make(max_streams=1)
    app.start("one")
    with closing(app.open()) as first:
        assert first.retry == 1000
        first.until(status="running")
        second = app.open()
        assert second.retry == 2000
        assert [state["running"] for state in second.rest()] == [True]
        third = app.open(second.last)
        assert (third.answer.status_code, third.rest()) == (200, [])
    assert app.client.head(f"/api/tasks/events?_sid={SID}", environ_overrides=THREADS).data == b""
    with closing(app.open()) as fourth:
        assert fourth.retry == 1000, "the first has left its place, and HEAD took none"


def test_a_stream_goes_on_once_the_store_can_be_reached_again(own_redis: RedisServer, clock: Clock) -> None:
    app = App(f"{own_redis.url}?timeout=0.2", clock)
    app.silo.add_data_endpoints("/api/*")
    app.start("one")
    with closing(app.open()) as stream:
        next(stream.states())
        own_redis.pause()
        away = app.open(stream.last)
        assert (away.answer.status_code, away.first, away.rest()) == (200, {"retry": "2000"}, [])
        own_redis.resume()
        app.say("one", "end")
        assert stream.until(running=False)["complete"]


def test_an_unknown_server_is_trusted_with_nothing() -> None:
    assert Server.from_environ({"wsgi.multithread": True, "SERVER_SOFTWARE": "WSGIServer/0.2"}).max_streams(None) == 0
    assert Server.from_environ({"wsgi.multithread": True}).max_streams(7) == 7, "the operator knows"
    assert Server.from_environ({"wsgi.multithread": False}).max_streams(7) == 0
    assert Server.from_environ({"SERVER_SOFTWARE": "gevent/25 Python/3"}).max_streams(7) == 0, (
        "it sleeps without greenlets here"
    )
    assert Server(threads=3).max_streams(None) == 1
    assert Server(threads=3).max_streams(7) == 2
    assert Server(threads=8).max_streams(None, waiting=2) == 4
    assert Server(threads=8).max_streams(None, waiting=4) == 3
    assert Server(threads=8).max_streams(7, waiting=7) == 0
    assert not Server(threads=3).is_closing()
