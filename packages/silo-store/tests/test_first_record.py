"""The first record of an empty server or file, made by many threads and processes at once, does not count as a loss."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from children import Child
from silo_store import SessionStore
from silo_store.backends.redis import RedisBackend
from silo_store.testing import SID

pytestmark = pytest.mark.slow

ROUNDS = 200
PROCESSES = 3

AT_ONCE = """
import threading
from silo_store.testing import in_threads

THREADS = 4

def begin(store, number):
    sid = new_sid()
    barrier.wait(30)
    if number % 2:
        store.is_expired(sid)
    with store.edit(sid, "counter") as counter:
        counter["value"] += 1

say("ready")
while True:
    store = open_store(hear())
    barrier = threading.Barrier(THREADS)
    in_threads(THREADS, lambda number: begin(store, number))
    say(store.is_expired(new_sid()))
    store.close()
"""


@pytest.fixture(params=["redis", "sqlite"])
def url_of_round(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], str]:
    if request.param == "sqlite":
        return lambda number: f"sqlite:///{quote(str(tmp_path / f'{number}.db'))}"
    server: str = request.getfixturevalue("redis_url")
    return lambda number: f"{server}?prefix=round-{number}"


def test_newcomers_at_once_are_no_loss(url_of_round: Callable[[int], str]) -> None:
    taken_for_a_loss = []
    with ExitStack() as stack:
        children = [stack.enter_context(Child(AT_ONCE)) for _ in range(PROCESSES)]
        assert [child.hear() for child in children] == ["ready"] * PROCESSES
        for number in range(ROUNDS):
            for child in children:
                child.tell(url_of_round(number))
            said = [child.hear() for child in children]
            if said != ["False"] * PROCESSES:
                taken_for_a_loss.append((number, said))
    assert taken_for_a_loss == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.find(SID),
        lambda store: store.lookup(SID),
        lambda store: store.get(SID),
        lambda store: store.is_expired(SID),
        lambda store: store.update(SID, "counter", lambda _: {"value": 1}),
    ],
    ids=["find", "lookup", "get", "is_expired", "update"],
)
def test_an_answer_from_before_the_first_record_is_no_loss(redis_url: str, ask: Callable[[SessionStore], Any]) -> None:
    """Another thread begins a session between the answer and what is made of it."""
    store = SessionStore(backend=redis_url)
    store.register_namespace("counter", lambda: {"value": 0})
    backend = store.backend
    assert isinstance(backend, RedisBackend)
    real = backend._server.run

    def overtaken(*words: Any) -> Any:
        answer = real(*words)
        backend._server.run = real  # type: ignore[method-assign]
        store.get("b" * 32)
        return answer

    backend._server.run = overtaken  # type: ignore[assignment, method-assign]
    ask(store)
    assert not store.is_expired("c" * 32)
    store.close()
