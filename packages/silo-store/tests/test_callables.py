"""A function that cannot be called as it will be is refused where it is given, not by the first request."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Optional

import pytest
from silo_store import SessionStore
from silo_store.testing import SID


@dataclass
class Cart:
    items: list[str] = field(default_factory=list)


@dataclass
class Box:
    size: int


class Loader:
    async def __call__(self) -> dict[str, int]:
        return {}


class Making:
    def __call__(self) -> dict[str, int]:
        return {"value": 0}

    async def load(self) -> dict[str, int]:
        return {}


async def load() -> dict[str, int]:
    return {}


async def load_each() -> Any:
    yield {}


def for_one(sid: str) -> dict[str, str]:
    return {"sid": sid}


def without_address(value: object) -> str:
    """Name a case the same in every process that collects it."""
    return re.sub(r" at 0x[0-9A-Fa-f]+", "", str(value))


@pytest.fixture(params=["memory://", "memory://?copy=1"])
def store(request: pytest.FixtureRequest) -> SessionStore:
    return SessionStore(backend=request.param)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"value": 0}, "not {'value': 0}: register('c', lambda: {'value': 0})"),
        (None, "not None: register('c', lambda: None)"),
        (0, "not 0: register('c', lambda: 0)"),
        ("text", "not 'text': register('c', lambda: 'text')"),
        (list(range(100)), "not a list: register('c', lambda: list(...))"),
        (Cart(["a"]), "not Cart(items=['a']): register('c', lambda: Cart(...))"),
        (load, "load is async and returns a coroutine; give a plain function"),
        (load_each, "load_each is async"),
        (functools.partial(load), "is async"),
        (Loader(), "is async"),
        (Making().load, "Making.load is async"),
        (for_one, "for_one cannot be called that way (missing a required argument: 'sid')"),
        (Box, "Give register('c', lambda: Box(...))"),
        (Cart | None, "register('c', <a function>, type="),
        (Optional[int], "register('c', <a function>, type="),  # noqa: UP045 - it can be called, unlike int | None
        (Literal["a"], "register('c', <a function>, type="),
        (Sequence, "register('c', <a function>, type="),
        (Sequence[int], "register('c', <a function>, type="),
    ],
    ids=without_address,
)
def test_what_is_no_factory_is_refused(store: SessionStore, given: Any, shown: str) -> None:
    with pytest.raises(TypeError, match=r"^namespace 'c' needs a factory") as caught:
        store.register_namespace("c", given)
    assert shown in str(caught.value)
    assert store.get(SID) == {}


@pytest.mark.parametrize(
    "factory",
    [
        dict,
        list,
        int,
        Cart,
        Making(),
        dict[str, int],
        Annotated[dict[str, int], "by name"],
        lambda: {"value": 0},
        lambda value=0: {"value": value},
        functools.partial(for_one, SID),
    ],
    ids=without_address,
)
def test_a_factory_is_whatever_can_be_called(store: SessionStore, factory: Any) -> None:
    store.register_namespace("c", factory)
    assert store.get(SID)["c"] == factory()


def test_name_and_factory_in_the_wrong_order_are_refused(store: SessionStore) -> None:
    with pytest.raises(TypeError, match=r"name of the namespace first, and then its factory: .* is not a str"):
        store.register_namespace(dict, "c")  # type: ignore[arg-type]


TAKEN = {
    "on_create": "function(sid)",
    "on_expire": "function(sid)",
    "on_end": "function(sid, uid, reason)",
    "set_busy_check": "function(sid, session)",
}


@pytest.mark.parametrize(("use", "form"), TAKEN.items(), ids=TAKEN)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, "not 5"),
        ("notify", "not 'notify'"),
        (load, "load is async and would never run"),
        (lambda: None, "cannot be called that way (too many positional arguments)"),
        (lambda a, b, c, d: None, "cannot be called that way (missing a required argument: "),
    ],
    ids=["number", "text", "async", "takes-none", "takes-four"],
)
def test_what_cannot_be_called_back_is_refused(store: SessionStore, use: str, form: str, given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=f"^{use} takes a function that is called as {re.escape(form)}") as caught:
        getattr(store, use)(given)
    assert said in str(caught.value)


def test_a_busy_check_can_be_taken_away(store: SessionStore) -> None:
    """Release 0.1 took None for that."""
    store.get(SID)
    store.set_busy_check(lambda sid, session: True)
    store.set_busy_check(None)  # type: ignore[arg-type]
    assert store.expire(SID)


@pytest.mark.parametrize("use", ["clock", "sid_generator"])
@pytest.mark.parametrize("given", [1700000000.0, load, lambda sid: sid], ids=["value", "async", "takes-one"])
def test_what_is_asked_for_times_and_ids_is_checked(use: str, given: Any) -> None:
    options: dict[str, Any] = {use: given}
    with pytest.raises(TypeError, match=rf"^{use} takes a function that is called as function\(\)"):
        SessionStore(**options)


def test_an_async_change_is_refused_and_changes_nothing(store: SessionStore) -> None:
    async def change(state: dict[str, int]) -> None:
        state["value"] = 1

    store.register_namespace("c", lambda: {"value": 0})
    given: list[Callable[[Any], Any]] = [change, lambda state: change(state)]
    for each in given:
        with pytest.raises(TypeError, match="is async and returns a coroutine"):
            store.update(SID, "c", each)
    assert store.get(SID)["c"] == {"value": 0}


@pytest.mark.parametrize("given", [{"value": 7}, 7, Box(7)], ids=["dict", "number", "object"])
def test_state_in_place_of_a_change_is_refused_before_the_session_is_read(store: SessionStore, given: Any) -> None:
    store.register_namespace("c", lambda: {"value": 0})
    message = rf"^update takes a function that is called as function\(state\), not a {type(given).__name__}: [^7]*$"
    with pytest.raises(TypeError, match=message):
        store.update(SID, "c", given)
    assert not store.exists(SID)
    with store.edit(SID) as session, pytest.raises(TypeError, match=message):
        session.apply("c", given)
