"""Namespaces with a type: what comes back, what is refused, and what is written."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import logging
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pytest
from silo_store import (
    Backend,
    Change,
    Life,
    MemoryBackend,
    NamespaceError,
    Record,
    SessionConflict,
    SessionStore,
    StateDecodeError,
    StateEncodeError,
    StateTooLarge,
    StateValueError,
    short,
)
from silo_store.testing import SID, TTL, Clock

Make = Callable[..., SessionStore]


class Recorder(MemoryBackend):
    """Keeps copies, and notes what is written."""

    def __init__(self) -> None:
        super().__init__(copy=True)
        self.writes: list[set[str]] = []

    def create(self, record: Record, *args: Any, **options: Any) -> Record:
        self.writes.append(set(record))
        return super().create(record, *args, **options)

    def write(self, life: Life, changes: Mapping[str, Change], *args: Any, **options: Any) -> Record:
        self.writes.append(set(changes))
        return super().write(life, changes, *args, **options)


@pytest.fixture
def backend() -> Recorder:
    return Recorder()


def on(backend: Backend | str, **namespaces: Any) -> SessionStore:
    """A store with namespaces, each a factory or a pair of a factory and a type."""
    store = SessionStore(backend=backend, ttl=TTL, clock=Clock())
    for name, given in namespaces.items():
        store.register_namespace(name, *(given if isinstance(given, tuple) else (given,)))
    return store


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1


class Name(str, enum.Enum):
    ANN = "ann"


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Row(TypedDict):
    id: UUID
    when: dt.date


class Point(msgspec.Struct, frozen=True):
    x: int
    y: int = 0


@dataclass
class Line:
    points: list[Point] = field(default_factory=list)
    colour: Colour = Colour.RED


@dataclass
class Cart:
    items: list[str] = field(default_factory=list)
    prices: dict[str, Decimal] = field(default_factory=dict)
    lines: dict[int, Line] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    note: str | None = None


UTC = dt.timezone.utc
EAST = dt.timezone(dt.timedelta(hours=2))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dict, {"b": [1, None], "a": {"c": b"x"}}),
        (list, [1, "x", [True]]),
        (tuple, (1, "x")),
        (tuple[int, str], (1, "x")),
        (set, {1, "x", (1, 2)}),
        (set[str], {"a", "b"}),
        (frozenset, frozenset({1})),
        (str, "naïve ✓ \x00"),
        (bytes, b"\x00\xff"),
        (int, -(2**63)),
        (int, 2**64 - 1),
        (float, float("inf")),
        (bool, True),
        (int | None, None),
        (Cart | None, Cart(["a"])),
        (int | str | list[int], [1]),
        (Literal["a", "b"], "b"),
        (dt.datetime, dt.datetime(2026, 7, 1, 12, 0, 0, 5)),  # noqa: DTZ001 - naive on purpose
        (dt.datetime, dt.datetime(2026, 7, 1, 12, tzinfo=UTC)),
        (dt.datetime, dt.datetime(2026, 7, 1, 12, tzinfo=EAST)),
        (dt.date, dt.date(2026, 7, 1)),
        (dt.time, dt.time(12, 30, 1, 5)),
        (dt.time, dt.time(12, 30, tzinfo=EAST)),
        (dt.timedelta, dt.timedelta(days=-1, microseconds=3)),
        (Decimal, Decimal("1.50")),
        (UUID, UUID(int=7)),
        (Colour, Colour.BLUE),
        (Size, Size.SMALL),
        (Name, Name.ANN),
        (Pair, Pair(1)),
        (Row, {"id": UUID(int=7), "when": dt.date(2026, 7, 1)}),
        (Point, Point(1, 2)),
        (Line, Line([Point(1)], Colour.BLUE)),
        (Cart, Cart(["a"], {"a": Decimal("1.50")}, {3: Line([Point(1)])}, {"x", "y"}, "n")),
        (dict[int, Point], {1: Point(1)}),
        (dict[UUID, dict[dt.date, Colour]], {UUID(int=1): {dt.date(2026, 1, 1): Colour.RED}}),
        (dict[tuple[int, int], str], {(1, 2): "x"}),
    ],
)
def test_what_a_type_names_comes_back_as_what_it_names(backend: Recorder, kind: Any, value: Any) -> None:
    store = on(backend, ns=(lambda: value, kind))
    store.get(SID)
    back = store.get(SID)["ns"]
    assert back == value
    assert type(back) is type(value)
    if isinstance(value, (str, Decimal, Mapping, list)):
        assert repr(back) == repr(value), "also what lies in it"
    del backend.writes[:]
    store.save(SID, store.open(SID))
    assert backend.writes == []


def test_an_aware_datetime_comes_back_as_the_same_moment_in_utc() -> None:
    store = on("memory://?copy=1", ns=(lambda: dt.datetime(2026, 7, 1, 12, tzinfo=EAST), dt.datetime))
    store.get(SID)
    assert store.get(SID)["ns"].tzinfo is UTC
    assert store.get(SID)["ns"].hour == 10


def test_not_a_number_comes_back_and_is_no_change(backend: Recorder) -> None:
    store = on(backend, typed=(lambda: [float("nan")], list[float]), untyped=lambda: {"x": float("nan")})
    store.get(SID)
    session = store.open(SID)
    assert session["typed"][0] != session["typed"][0]
    store.save(SID, session)
    assert len(backend.writes) == 1


def test_the_number_0_may_begin_a_float(backend: Recorder) -> None:
    store = on(backend, sum=(lambda: 0, float))
    store.get(SID)
    assert repr(store.get(SID)["sum"]) == "0.0"
    store.save(SID, store.open(SID))
    assert len(backend.writes) == 1


# Registering


class Unknown:
    pass


@dataclass
class Holder:
    thing: Unknown


@dataclass
class Lost:
    thing: Nowhere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Unknown, "msgspec does not support Unknown"),
        (Holder, "msgspec does not support Unknown"),
        (dict[str, list[Unknown]], "msgspec does not support Unknown"),
        (complex, "msgspec does not support complex"),
        (Line | Cart, "more than one dataclass"),
        (set[int] | list[int], "array-like"),
        (Lost, "Nowhere"),
        ("Cart", "'Cart'"),
    ],
)
def test_a_type_that_cannot_be_bytes_is_refused_at_once(kind: Any, reason: str) -> None:
    store = SessionStore(backend="memory://?copy=1")
    with pytest.raises(TypeError, match=r"namespace 'ns' cannot be kept as bytes with the type .*" + reason):
        store.register_namespace("ns", dict, type=kind)
    assert store.get(SID) == {}, "nothing was registered"


def test_a_registry_is_looked_at_when_a_store_that_keeps_bytes_takes_it() -> None:
    live = on("memory://", ns=Unknown)
    with pytest.raises(TypeError, match="Unknown"):
        SessionStore(backend="memory://?copy=1", registry=live.registry)


def test_live_objects_can_be_anything() -> None:
    store = on("memory://", ns=Unknown, lock=threading.Lock, wrong=(lambda: object(), dict[str, int]))
    assert type(store.get(SID)["ns"]) is Unknown


class Maker:
    @classmethod
    def new(cls) -> dict[str, int]:
        return {"made": 1}


def test_a_factory_that_is_no_class_has_no_type() -> None:
    def function() -> dict[str, int]:
        return {"made": 1}

    uses: list[Callable[[], Any]] = [function, lambda: {"made": 1}, Maker.new, functools.partial(dict, made=1)]
    for use in uses:
        store = on("memory://?copy=1", ns=use)
        assert store.get(SID)["ns"] == {"made": 1}
        assert store.update(SID, "ns", lambda _: ["anything"]) == ["anything"]
        assert store.get(SID)["ns"] == ["anything"]


def test_a_class_is_its_own_type_but_dict_and_list_are_none() -> None:
    store = on("memory://?copy=1", one=dict, many=list, seen=set, count=int, text=str)
    assert store.get(SID) == {"one": {}, "many": [], "seen": set(), "count": 0, "text": ""}
    store.update(SID, "seen", lambda seen: seen.add(3))
    store.update(SID, "count", lambda count: count + 1)
    store.update(SID, "one", lambda _: ["no dict any more"])
    session = store.get(SID)
    assert (session["seen"], session["count"], session["one"]) == ({3}, 1, ["no dict any more"])


def test_a_type_with_parameters_is_a_factory_too() -> None:
    store = on("memory://?copy=1", prices=dict[str, Decimal], pair=tuple[int, ...])
    store.update(SID, "prices", lambda prices: prices.update(book=Decimal("1.50")))
    store.update(SID, "pair", lambda pair: (*pair, 1))
    assert store.get(SID) == {"prices": {"book": Decimal("1.50")}, "pair": (1,)}


def test_any_takes_the_type_away() -> None:
    store = on("memory://?copy=1", ns=int)
    store.register_namespace("ns", int, Any)
    store.get(SID)
    assert store.update(SID, "ns", lambda _: "text") == "text"


@pytest.mark.parametrize(
    ("factory", "back"), [(Cart, "dict"), (tuple, "list"), (set, "list"), (Decimal, "str"), (Unknown, None)]
)
def test_a_first_state_that_would_come_back_as_something_else_is_refused(factory: Any, back: str | None) -> None:
    store = on("memory://?copy=1", fine=dict, ns=lambda: factory())
    with pytest.raises(StateEncodeError) as caught:
        store.get(SID)
    assert caught.value.type_name == factory.__name__
    if back:
        assert f"it would come back as a {back}: register the namespace with type={factory.__name__}" in str(
            caught.value
        )
    assert store.active_count == 0


# Encoding


class Task:
    def is_running(self) -> None: ...


class Frame:
    def to_parquet(self) -> None: ...


class Broken:
    def __init__(self) -> None:
        self.inner = self

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("ask me nothing")


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def loop() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["own"] = [value]
    return value


REFUSED: list[tuple[Any, str, str, str]] = [
    ({"a": [1, object()]}, "['a'][1]", "object", "plain data"),
    ({"a": Task()}, "['a']", "Task", "running task"),
    ({"a": Frame()}, "['a']", "Frame", "table"),
    ({"a": threading.RLock()}, "['a']", "RLock", "lock"),
    ({"a": (number for number in range(3))}, "['a']", "generator", "list"),
    ({"a": len}, "['a']", "builtin_function_or_method", "name"),
    ({"a": Cart}, "['a']", "type", "name"),
    ({"a": {"b": Broken()}}, "['a']['b']", "Broken", "plain data"),
    ({"a": range(3)}, "['a']", "range", "list"),
    ({"a": 2**64}, "['a']", "int", "64 bits"),
    ({"a": "\ud800"}, "['a']", "str", "surrogate"),
    ({"a": {"\ud800": 1}}, "['a'].keys()", "str", "surrogate"),
    ({"a": {(1, object()): 1}}, "['a'].keys()[1]", "object", "plain data"),
    ({object(): 1}, ".keys()", "object", "plain data"),
    ({3: {None: {UUID(int=1): object()}}}, "[3][None][<UUID>]", "object", "plain data"),
    ({"a": {object()}}, "['a']{…}", "object", "plain data"),
    ({"a": Line([Point(1), Point(object())])}, "['a'].points[1].x", "object", "plain data"),  # type: ignore[arg-type]
    ({"a": dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-5)))}, "['a']", "datetime", "years"),
    (loop(), "['own'][0]", "dict", "itself"),
    ({"a": {Point(1): 2}}, "", "value", "hashable|cannot be one"),
]


@pytest.mark.parametrize(("state", "path", "kind", "advice"), REFUSED)
def test_what_cannot_be_encoded_is_refused_before_anything_is_written(
    backend: Recorder, state: Any, path: str, kind: str, advice: str
) -> None:
    store = on(backend, other=dict, ns=dict)
    store.get(SID)
    del backend.writes[:]
    with pytest.raises(StateEncodeError, match=advice) as caught, store.edit(SID) as session:
        session.update(other={"changed": True}, ns=state)
    error = caught.value
    assert (error.namespace, error.path, error.type_name) == ("ns", path, kind)
    assert f"session {short(SID)}: ns{path} ({kind}) cannot be stored: " in str(error)
    assert SID not in str(error)
    assert backend.writes == []
    assert store.get(SID) == {"other": {}, "ns": {}}


@pytest.mark.parametrize(
    "state",
    [
        {"a": 2**70},
        {"a": [-(2**64)]},
        {"a": "\ud800"},
        {"a": {"\udfff": 1}},
        {"a": [[{"b": [1, "x", "\ud800"]}]]},
        {"a": dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=5)))},
        {"a": deep(100_000)},
    ],
)
def test_plain_data_that_cannot_be_encoded_is_a_value_error(backend: Recorder, state: Any) -> None:
    store = on(backend, ns=dict)
    with pytest.raises(StateValueError) as caught:
        store.update(SID, "ns", lambda _: state)
    assert caught.value.path.startswith("['a']")
    assert isinstance(caught.value, ValueError)
    assert backend.writes == []


class Huge(enum.IntEnum):
    NUMBER = 2**70


@pytest.mark.parametrize(
    "state",
    [state for state, _, kind, _ in REFUSED if kind not in ("int", "str", "datetime")] + [{"a": Huge.NUMBER}],
)
def test_an_object_that_has_no_encoding_is_no_value_error(state: Any) -> None:
    store = on("memory://?copy=1", ns=dict)
    with pytest.raises(StateEncodeError) as caught:
        store.update(SID, "ns", lambda _: state)
    assert type(caught.value) is StateEncodeError


@pytest.mark.parametrize(
    ("kind", "state", "expected"),
    [
        (Cart, Cart(items=["a", 3]), StateValueError),  # type: ignore[list-item]
        (Cart, None, StateValueError),
        (dict[str, Point], {"p": Point(2**70)}, StateValueError),
        (dict[str, int], {"x": deep(5)}, StateValueError),
        (dict[str, dt.date], {"x": "no date"}, StateValueError),
        (set, {Point(1)}, StateEncodeError),
    ],
)
def test_a_plain_value_that_does_not_fit_the_type_is_a_value_error(
    kind: Any, state: Any, expected: type[Exception]
) -> None:
    store = on("memory://?copy=1", ns=kind)
    with pytest.raises(StateEncodeError) as caught, store.edit(SID) as session:
        session["ns"] = state
    assert type(caught.value) is expected


def test_what_a_factory_makes_is_no_value_of_a_client() -> None:
    for made in (2**70, "text"):
        store = SessionStore(backend="memory://?copy=1")
        store.register_namespace("ns", lambda made=made: made, int)  # type: ignore[misc]
        with pytest.raises(StateEncodeError) as caught:
            store.get(SID)
        assert type(caught.value) is StateEncodeError


def test_a_file_is_refused_with_advice(tmp_path: Any) -> None:
    store = on("memory://?copy=1", ns=dict)
    with (tmp_path / "file").open("w") as file, pytest.raises(StateEncodeError, match="open file"):
        store.update(SID, "ns", lambda _: {"file": file})


def test_what_is_nested_too_deeply_is_refused_with_a_short_path() -> None:
    store = on("memory://?copy=1", ns=list)
    with pytest.raises(StateEncodeError, match="nested too deeply") as caught:
        store.update(SID, "ns", lambda _: deep(100_000))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("kind", "state", "path", "found"),
    [
        (Cart, Cart(items=["a", 3]), ".items[1]", "int"),  # type: ignore[list-item]
        (Cart, Cart(lines={1: Line(["p"])}), ".lines[...].points[0]", "str"),  # type: ignore[list-item]
        (Cart, Cart(note=object()), ".note", "object"),  # type: ignore[arg-type]
        (Cart, Cart(seen={threading.Lock}), ".seen{…}", "builtin_function_or_method|type"),  # type: ignore[arg-type]
        (Cart, None, "", "None"),
        (dict[int, str], {"x": "y"}, ".keys()", "str"),
        (dict[str, Point], {"p": Point(2**70)}, "['p'].x", "int"),
        (int, "text", "", "str"),
        (set, {Point(1)}, "", "value"),
    ],
)
def test_state_that_would_not_come_back_is_refused_before_it_is_written(
    backend: Recorder, kind: Any, state: Any, path: str, found: str
) -> None:
    store = on(backend, ns=kind)
    first = store.get(SID)["ns"]
    del backend.writes[:]
    with pytest.raises(StateEncodeError) as caught, store.edit(SID) as session:
        session["ns"] = state
    assert caught.value.path == path
    assert caught.value.type_name in found.split("|")
    assert backend.writes == []
    assert store.get(SID)["ns"] == first


def test_a_subclass_of_plain_data_comes_back_as_that() -> None:
    class Text(str): ...

    class Number(float): ...

    class Whole(int): ...

    store = on("memory://?copy=1", ns=dict)
    store.update(SID, "ns", lambda _: {Text("k"): [Text("v"), Number(1.5), Whole(3)]})
    back = store.get(SID)["ns"]
    assert back == {"k": ["v", 1.5, 3]}
    assert [type(each) for each in (*back, *back["k"])] == [str, str, float, int]


# Changes


def test_a_change_deep_inside_is_noticed_and_it_alone_is_written(backend: Recorder) -> None:
    store = on(backend, cart=Cart, other=Cart)
    store.get(SID)
    del backend.writes[:]
    with store.edit(SID, "cart") as cart:
        cart.lines[3] = Line()
    with store.edit(SID, "cart") as cart:
        cart.lines[3].points.append(Point(1))
    with store.edit(SID) as session:
        session["cart"].seen.add("x")
        assert session["other"].lines == {}
    session = store.open(SID)
    session["cart"].lines[3].colour = Colour.BLUE
    store.save(SID, session)
    assert backend.writes == [{"cart"}] * 4
    assert store.get(SID)["cart"] == Cart(lines={3: Line([Point(1)], Colour.BLUE)}, seen={"x"})


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (set, {f"item {number}" for number in range(100)}),
        (set[str], {f"item {number}" for number in range(100)}),
        (frozenset[int], frozenset(range(0, 10**6, 997))),
        (dict[str, set[str]], {"a": {"x", "y", "z"}}),
        (dict[str, float], {"a": 1, "b": float("nan"), "c": -0.0}),
        (float, 3),
        (Any, {"set": {"b", "a"}, "when": dt.datetime(2026, 7, 1, tzinfo=EAST), "nan": float("nan"), "t": (1, 2)}),
        (dt.datetime, dt.datetime(2026, 7, 1, tzinfo=EAST)),
        (dt.time, dt.time(1, tzinfo=EAST)),
        (Decimal, Decimal("1E+3")),
        (Cart, Cart(seen=set("abcdefgh"))),
    ],
)
def test_reading_writes_nothing(backend: Recorder, kind: Any, state: Any) -> None:
    store = on(backend, ns=(lambda: state, kind), other=dict)
    store.get(SID)
    store.update(SID, "other", lambda _: {"x": 1})
    store.save(SID, {"ns": state})
    del backend.writes[:]
    for _ in range(2):
        store.save(SID, store.open(SID))
        store.save(SID, store.get(SID))
        with store.edit(SID) as session:
            list(session["ns"]) if isinstance(session["ns"], (list, set)) else repr(session)
        with store.edit(SID, "ns"):
            pass
        store.update(SID, "other", lambda _: None)
    assert backend.writes == []


def test_reading_after_a_deployment_that_added_a_field_writes_nothing(backend: Recorder) -> None:
    @dataclass
    class Before:
        items: list[str] = field(default_factory=list)

    @dataclass
    class After:
        items: list[str] = field(default_factory=list)
        colour: Colour = Colour.RED
        tags: set[str] = field(default_factory=lambda: {"new"})

    on(backend, cart=Before).update(SID, "cart", lambda cart: cart.items.append("a"))
    store = on(backend, cart=After)
    del backend.writes[:]
    with store.edit(SID, "cart") as cart:
        assert cart == After(["a"], Colour.RED, {"new"})
    store.save(SID, store.get(SID))
    assert backend.writes == []
    store.update(SID, "cart", lambda cart: cart.tags.add("old"))
    assert backend.writes == [{"cart"}]
    assert on(backend, cart=Before).get(SID)["cart"] == Before(["a"]), "and back: a removed field is passed over"


def test_a_namespace_that_is_not_asked_for_is_not_decoded(backend: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    store = on(backend, a=dict, b=set)
    store.get(SID)
    assert store._codecs is not None
    codec = store._codecs["b"]
    monkeypatch.setattr(codec, "decode", lambda data: pytest.fail("not asked for"))
    session = store.open(SID, lazy=True)
    session["a"] = {"x": 1}
    store.save(SID, session)
    monkeypatch.undo()
    assert store.whole(session) == store.get(SID) == {"a": {"x": 1}, "b": set()}


def test_a_lazy_session_finds_each_namespace_by_name(backend: Recorder) -> None:
    on(backend, a=dict, b=list).get(SID)
    store = on(backend, a=dict, b=list, late=lambda: [1])
    session = store.open(SID, lazy=True)
    assert session.get("a") == {}
    assert session.get("late") == [1]
    assert session.get("typo") is None
    assert session["_meta"]["sid"] == SID
    with pytest.raises(NamespaceError, match="typo"):
        session["typo"]
    assert session["a"] is session["a"]
    assert store.whole(session) is session
    assert session == {"a": {}, "b": [], "late": [1]}
    with pytest.raises(NamespaceError):
        session["typo"]


def test_a_factory_that_raises_a_key_error_is_not_taken_for_a_missing_namespace(backend: Recorder) -> None:
    on(backend).get(SID)
    empty: dict[str, int] = {}
    store = on(backend, ns=lambda: empty["no such key"])
    with pytest.raises(KeyError, match="no such key") as caught:
        store.get_namespace(SID, "ns")
    assert type(caught.value) is KeyError


def test_two_readers_of_a_session_without_a_new_namespace_do_not_conflict(backend: Recorder) -> None:
    numbers = iter(range(9))
    on(backend, old=dict).update(SID, "old", lambda old: old.update(x=1))
    store = on(backend, old=dict, new=lambda: {"made": next(numbers)}, other=list)
    first, second = store.open(SID), store.open(SID)
    store.save(SID, second)
    store.save(SID, first)
    assert store.get(SID) == {"old": {"x": 1}, "new": {"made": 1}, "other": []}


def test_a_change_wins_over_the_first_state_that_a_reader_wrote(backend: Recorder) -> None:
    on(backend).get(SID)
    store = on(backend, new=dict)
    reader = store.open(SID)
    with store.edit(SID, "new") as new:
        new["x"] = 1
        store.save(SID, reader)
    assert store.get(SID)["new"] == {"x": 1}
    late = on(backend, new=dict, newer=dict)
    reader, other = late.open(SID), late.open(SID)
    other["newer"]["x"] = 1
    late.save(SID, other)
    reader["newer"]["x"] = 2
    with pytest.raises(SessionConflict):
        late.save(SID, reader)


# Decoding


class Grown(msgspec.Struct):
    items: list[int]
    colour: Colour = Colour.RED


def test_what_does_not_fit_any_more_is_named_without_being_shown(backend: Recorder) -> None:
    secret = "hunter2"
    on(backend, cart=dict, fine=dict).save(SID, {"cart": {"items": [1, secret]}, "fine": {"x": 1}})
    store = on(backend, cart=(lambda: Grown([]), Grown), fine=dict)
    uses: list[Callable[[], object]] = [
        lambda: store.get(SID),
        lambda: store.open(SID),
        lambda: store.peek(SID),
        lambda: store.get_namespace(SID, "cart"),
        lambda: store.update(SID, "cart", lambda cart: None),
        lambda: store.edit(SID).__enter__(),
    ]
    for use in uses:
        with pytest.raises(StateDecodeError) as caught:
            use()
        error = caught.value
        assert (error.namespace, error.path) == ("cart", ".items[1]")
        assert str(error) == (
            f"session {short(SID)}: what is stored of cart.items[1] does not fit its type: Expected `int`, got `str`; "
            "change the type, or reset the session"
        )
        assert error.__cause__ is None
        assert error.__suppress_context__
    assert store.get_namespace(SID, "fine") == {"x": 1}
    store.update(SID, "fine", lambda fine: fine.update(x=2))
    store.save(SID, {"cart": Grown([1])})
    assert store.get(SID) == {"cart": Grown([1]), "fine": {"x": 2}}


@dataclass
class Picky:
    word: str = ""

    def __post_init__(self) -> None:
        if self.word == "hunter2":
            raise ValueError(f"{self.word} is no good")


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (dict[str, Colour], {"k": "hunter2"}),
        (dict[str, Literal["a"]], {"k": "hunter2"}),
        (dict[str, Picky], {"k": {"word": "hunter2"}}),
        (dict[str, UUID], {"k": "hunter2"}),
        (dict[str, dict[str, int]], {"hunter2": {"hunter2": "hunter2"}}),
        (dict[int, int], {"hunter2": 1}),
    ],
)
def test_no_error_shows_what_is_stored(backend: Recorder, kind: Any, state: Any) -> None:
    on(backend, ns=dict).save(SID, {"ns": state})
    with pytest.raises(StateDecodeError) as caught:
        on(backend, ns=(dict, kind)).get(SID)
    assert "hunter2" not in str(caught.value)


def test_bytes_that_are_none_of_ours_are_named(backend: Recorder) -> None:
    store = on(backend, ns=dict)
    store.get(SID)
    with backend._lock:
        backend.records[SID]["ns"] = backend.records[SID]["ns"]._replace(data=b"\xc1")
    with pytest.raises(StateDecodeError, match="ns does not fit"):
        store.get(SID)


def test_a_session_that_cannot_be_read_can_be_ended(backend: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    other = "b" * 32
    for sid in (SID, other):
        on(backend, ns=dict).save(sid, {"ns": {"x": "text"}})
    store = on(backend, ns=(dict, dict[str, int]))
    store.set_busy_check(lambda sid, session: False)
    with caplog.at_level(logging.ERROR):
        store.reset(SID)
    assert "counts as not busy" in caplog.text
    assert store.get(SID)["ns"] == {}
    store.destroy(other)
    on(backend, ns=dict).save(other, {"ns": {"x": "text"}})
    late = SessionStore(backend=backend, ttl=TTL, clock=Clock(store._clock() + 2 * TTL), registry=store.registry)
    assert sorted(late.cleanup()) == sorted([SID, other])


# Limits


@pytest.mark.parametrize("typed", [False, True])
def test_too_much_state_is_refused_before_anything_is_written(backend: Recorder, typed: bool) -> None:
    store = SessionStore(backend=backend, clock=Clock(), max_state_bytes=1000)
    store.register_namespace("small", dict)
    store.register_namespace("large", dict, dict[str, str] if typed else Any)
    store.update(SID, "large", lambda large: large.update(text="x" * 900))
    del backend.writes[:]
    with pytest.raises(StateTooLarge) as caught, store.edit(SID, "small") as small:
        small["text"] = "y" * 500
    error = caught.value
    assert (error.limit, error.namespace) == (1000, "large"), "the one that was not loaded counts too"
    assert error.size > 1400
    assert str(error) == (
        f"the state of session {short(SID)} takes {error.size:,} bytes and may take 1,000; "
        "the largest namespace is 'large': keep what is large in files of the session"
    )
    with pytest.raises(StateTooLarge):
        store.save("b" * 32, {"small": {"text": "z" * 2000}})
    assert backend.writes == []
    store.update(SID, "small", lambda small: small.update(text="y" * 50))
    assert backend.writes == [{"small"}]
    store.max_state_bytes = None
    store.update(SID, "small", lambda small: small.update(text="y" * 5000))


def test_what_was_stored_below_another_limit_is_read() -> None:
    backend = Recorder()
    on(backend, ns=dict).update(SID, "ns", lambda ns: ns.update(text="x" * 900))
    store = SessionStore(backend=backend, clock=Clock(), max_state_bytes=100)
    store.register_namespace("ns", dict)
    assert len(store.get(SID)["ns"]["text"]) == 900
    store.save(SID, store.open(SID))
    assert store.update(SID, "ns", lambda _: {"text": "x"}) == {"text": "x"}


# The table in TYPES.md


class Text(str): ...


TABLE = re.findall(
    r"^\| (.+?) \| `(.+?)` \| (.+?) \| (.+?) \|$",
    (Path(__file__).parent.parent / "TYPES.md").read_text(encoding="utf-8").partition("without the type")[2],
    re.M,
)
SCOPE: dict[str, Any] = {
    **{each.__name__: each for each in (Colour, Decimal, Pair, Text, UUID, defaultdict)},
    "dt": dt,
    "EAST": EAST,
    "UTC": UTC,
    "Line": dataclasses.make_dataclass("Line", [("x", int)]),
    "Point": msgspec.defstruct("Point", [("x", int)]),
}


def evaluated(cell: str, otherwise: Any) -> Any:
    return otherwise if cell == "the same" else eval(cell.strip("`"), SCOPE)


@pytest.mark.parametrize("url", ["memory://?copy=1", "sqlite", "redis"], indirect=True)
@pytest.mark.parametrize(("kind", "example", "without", "with_it"), TABLE)
def test_the_table_is_true(kind: str, example: str, without: str, with_it: str, make_store: Make) -> None:
    store = make_store()
    value = evaluated(example, None)
    store.register_namespace("untyped", dict)
    store.update(SID, "untyped", lambda _: {"state": value})
    back = store.get(SID)["untyped"]["state"]
    expected = evaluated(without, value)
    assert (back, type(back)) == (expected, type(expected))
    given = eval(kind.split("`")[1], SCOPE) if kind.startswith("`") else type(value)
    if with_it == "refused":
        with pytest.raises(TypeError, match="msgspec does not support"):
            store.register_namespace("typed", lambda: value, given)
        return
    store.register_namespace("typed", lambda: value, given)
    store.save(SID, store.get(SID))
    back = store.get(SID)["typed"]
    expected = evaluated(with_it, value)
    assert (back, type(back)) == (expected, type(expected))
    assert repr(back) == repr(expected)


def test_the_table_is_found() -> None:
    assert len(TABLE) == 20
