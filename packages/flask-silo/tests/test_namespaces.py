"""Namespaces with a type in requests and tasks: their static types, what is written, and the answers to errors.

mypy checks the ``assert_type`` calls and the ignored errors.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, jsonify, request
from flask_silo import (
    BackgroundTask,
    Namespace,
    NamespaceError,
    Silo,
    StateEncodeError,
    StateTooLarge,
    StateValueError,
    StoreUnavailable,
)
from flask_silo_helpers import as_
from silo_store import Change, Life, LockLost, SessionConflict
from silo_store.testing import SID
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:

    def assert_type(value: Any, kind: Any) -> None: ...


OTHER = "b" * 32


@dataclass
class Cart:
    items: list[str] = field(default_factory=list)
    prices: dict[str, Decimal] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)


def make(url: str, **options: Any) -> tuple[Silo, Flask]:
    app = Flask(__name__)
    return Silo(app, store_url=url, auto_cleanup=False, accept_client_ids=True, **options), app


def post(app: Flask, view: Callable[[], Any], sid: str = SID, method: str = "POST") -> TestResponse:
    """Call a function in a view, once."""
    name = f"view{len(app.url_map._rules)}"
    app._got_first_request = False
    app.add_url_rule(f"/api/{name}", name, lambda: view() or {}, methods=[method])
    return app.test_client().open(f"/api/{name}", method=method, headers=as_(sid))


get = functools.partial(post, method="GET")


def begin(silo: Silo, app: Flask) -> None:
    """Begin the session."""
    assert post(app, lambda: {"namespaces": len(silo.state())}).status_code == 200


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Callable[[Silo], list[str]]:
    """Return a function that records what a store writes from then on."""

    def start(silo: Silo) -> list[str]:
        backend, seen = silo.store.backend, list[str]()
        create, write = backend.create, backend.write

        def noted_create(record: Any, *args: Any, **options: Any) -> Any:
            seen.append("create")
            return create(record, *args, **options)

        def noted_write(life: Any, changes: dict[str, Change], *args: Any, **options: Any) -> Any:
            seen.extend(changes)
            return write(life, changes, *args, **options)

        monkeypatch.setattr(backend, "create", noted_create)
        monkeypatch.setattr(backend, "write", noted_write)
        return seen

    return start


def test_a_type_checker_knows_what_a_namespace_holds(url: str) -> None:
    silo, app = make(url)
    cart = silo.register("cart", Cart)
    counter = silo.register("counter", lambda: {"value": 0})
    prices = silo.register("prices", dict[str, Decimal])
    gift = silo.register("gift", Cart, type=Cart)
    wide = silo.register("wide", lambda: None, type=Cart | None)
    named: Namespace[Cart | None] = wide
    assert_type(cart, Namespace[Cart])
    assert_type(counter, Namespace[dict[str, int]])
    assert_type(prices, Namespace[dict[str, Decimal]])
    assert_type(gift, Namespace[Cart])
    assert_type(named.name, str)
    number = silo.register("number", int)

    def view() -> None:
        assert_type(cart.state, Cart)
        assert_type(prices.state, dict[str, Decimal])
        cart.state.items.append("book")
        with cart.edit() as changed:
            assert_type(changed, Cart)
            changed.seen.add("book")
        with cart.edit(sid=OTHER) as changed:
            assert_type(changed, Cart)
            changed.seen.add("pen")
        number.state = 3
        assert_type(number.update(lambda old: old + 1), int)
        prices.state["book"] = Decimal("1.50")

    assert post(app, view).status_code == 200
    session = silo.store.get(SID)
    assert session["cart"] == Cart(["book"], {}, {"book"})
    assert (session["number"], session["prices"]) == (4, {"book": Decimal("1.50")})
    assert silo.store.get(OTHER)["cart"].seen == {"pen"}
    assert repr(cart) == "Namespace('cart')"


def unsound(cart: Namespace[Cart], silo: Silo) -> None:
    """Never called: what mypy refuses. An error that were none would be an unused ignore, which is one."""
    cart.state = 3  # type: ignore[assignment]
    cart.state.itms  # type: ignore[attr-defined]  # noqa: B018
    cart.name.state  # type: ignore[attr-defined]  # noqa: B018
    cart.update(lambda old: len(old.items))  # type: ignore[arg-type, return-value]
    with cart.edit() as changed:
        changed.items.append(3)  # type: ignore[arg-type]
    silo.register("bare")  # type: ignore[call-overload]
    silo.register("text", "text")  # type: ignore[call-overload]
    vague = silo.register("vague", dict)  # type: ignore[var-annotated]
    exact: Namespace[dict[str, int]] = silo.register("exact", dict)
    assert_type([vague, exact], list[Any])  # type: ignore[assert-type]


def test_a_namespace_can_be_changed_in_a_reading_request(url: str) -> None:
    silo, app = make(url)
    pair = silo.register("pair", tuple[int, ...])
    cart = silo.register("cart", Cart)

    def view() -> Any:
        pair.state = (*pair.state, 1)
        assert silo.store.get(SID)["pair"] == pair.state == (1,), "it is saved already"
        pair.update(lambda old: (*old, 2))
        with cart.edit() as changed:
            changed.items.append("book")
        return jsonify([*pair.state, *cart.state.items])

    assert get(app, view).json == [1, 2, "book"]
    assert silo.store.get(SID) == {"pair": (1, 2), "cart": Cart(["book"])}


def test_a_namespace_can_be_changed_in_a_task(url: str) -> None:
    silo, app = make(url)
    number = silo.register("number", int)
    cart = silo.register("cart", Cart)

    @silo.task
    def work() -> int:
        number.state = 5
        number.update(lambda old: old + 1)
        with cart.edit() as changed:
            changed.seen.add("task")
        return number.state

    def wait() -> Any:
        return {"result": work.result(30)}

    assert post(app, work.start).status_code == 200
    assert get(app, wait).json == {"result": 6}
    assert silo.store.get(SID) == {"number": 6, "cart": Cart(seen={"task"})}


def test_strings_name_the_same_namespaces(url: str) -> None:
    silo, app = make(url)
    cart = silo.register("cart", Cart)

    def view() -> None:
        assert silo.state("cart") is cart.state is silo.state()["cart"]
        with silo.edit("cart") as changed:
            changed.items.append("book")
        assert cart.state.items == ["book"]
        silo.state("typo")

    app.testing = True
    with pytest.raises(NamespaceError, match="typo"):
        post(app, view)


def test_a_namespace_serves_every_application_of_its_silo(url: str) -> None:
    silo = Silo(auto_cleanup=False, store_url=url, accept_client_ids=True)
    cart = silo.register("cart", Cart)
    first, second = Flask("first"), Flask("second")
    silo.init_app(first)
    silo.init_app(second)
    seen = silo.register("seen", set[str])

    def view() -> Any:
        cart.state.items.append("book")
        seen.state.add("book")
        return jsonify(cart.state.items)

    assert [post(app, view).json for app in (first, second, second)] == [["book"], ["book"], ["book", "book"]]
    with pytest.raises(RuntimeError, match="no session here"):
        cart.state  # noqa: B018 - the access raises
    with pytest.raises(RuntimeError, match="unclear which application"):
        cart.state = Cart()


class Unknown:
    pass


def test_what_only_live_objects_can_hold_is_refused_once_the_config_asks_for_copies() -> None:
    silo = Silo(auto_cleanup=False)
    unknown = silo.register("unknown", Unknown)
    lock = silo.register("lock", threading.Lock)
    app = Flask("live")
    silo.init_app(app)
    assert post(app, lambda: {"kind": f"{type(unknown.state).__name__} {hasattr(lock.state, 'acquire')}"}).json == {
        "kind": "Unknown True"
    }
    strict = Flask("copies")
    strict.config["SILO_STORE_URL"] = "memory://?copy=1"
    with pytest.raises(TypeError, match=r"namespace 'unknown' .* msgspec does not support Unknown"):
        silo.init_app(strict)
    with pytest.raises(TypeError, match="'late'"):
        make("memory://?copy=1")[0].register("late", Unknown)


# What is written

COPIES = "memory://?copy=1"


def test_requests_that_only_read_write_nothing(written: Callable[[Silo], list[str]]) -> None:
    silo, app = make(COPIES)
    cart = silo.register("cart", lambda: Cart(["a"], {"a": Decimal("1.0")}, set("abcdef")), type=Cart)
    silo.register("plain", lambda: {"nan": float("nan"), "items": [1]})
    silo.register("floats", lambda: {"a": 1, "b": float("nan")}, type=dict[str, float])
    silo.register("seen", lambda: {str(number) for number in range(50)}, type=set[str])
    begin(silo, app)
    seen = written(silo)

    def whole() -> Any:
        return {name: str(state) for name, state in silo.state().items()}

    def part() -> Any:
        with cart.edit() as same:
            return {"items": [*same.items, *sorted(same.seen)], "plain": silo.state("plain")["items"]}

    for _ in range(2):
        assert len(get(app, whole).json or {}) == 4
        post(app, whole)
        get(app, part)
        post(app, part)
        post(app, dict)
    assert seen == []

    def change() -> None:
        cart.state.prices["b"] = Decimal(2)
        silo.state()

    post(app, change)
    assert seen == ["cart"]


def test_the_first_reader_of_a_new_namespace_keeps_it(written: Callable[[Silo], list[str]]) -> None:
    silo, app = make(COPIES)
    silo.register("old", dict)
    begin(silo, app)
    numbers = iter(range(9))
    new = silo.register("new", lambda: {"number": next(numbers)})
    seen = written(silo)
    assert [get(app, lambda: new.state).json for _ in range(3)] == [{"number": 0}] * 3
    assert seen == ["new"]


# Answers to errors


def break_cart(silo: Silo) -> None:
    """Store what an earlier release of an application might have stored."""
    backend = silo.store.backend
    record = backend.peek(SID)
    assert record is not None
    blob = record["cart"]
    assert silo.store._codecs is not None
    data = silo.store._codecs.untyped.encode({"items": [1, {"secret": "hunter2"}]})
    backend.write(Life(SID, record.uid), {"cart": Change(blob.version, data)}, silo.store.moment())


def test_state_that_no_longer_fits_fails_only_callers_that_read_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    silo, app = make(COPIES)
    cart = silo.register("cart", Cart)
    fine = silo.register("fine", lambda: {"value": 0})

    @silo.task
    def work() -> int:
        return fine.update(lambda old: {"value": old["value"] + 1})["value"]

    begin(silo, app)
    break_cart(silo)

    def count() -> None:
        with fine.edit() as state:
            state["value"] += 1

    for method in ("GET", "POST"):
        caplog.clear()
        answer = post(app, lambda: {"items": cart.state.items}, method=method)
        assert answer.status_code == 500
        assert "cart.items[0] does not fit its type" in caplog.text
        assert "hunter2" not in caplog.text + answer.text
        assert SID not in caplog.text
        assert post(app, lambda: {"all": silo.state()}).status_code == 500
        assert post(app, count, method=method).status_code == 200
    assert post(app, work.start).status_code == 200
    assert get(app, lambda: {"result": work.result(30)}).json == {"result": 3}
    assert silo.files.begin(SID)
    assert post(app, silo.rotate).headers["X-Session-ID"] != SID
    new = silo.store.all_sids[0]
    assert post(app, silo.reset_current, new).status_code == 200
    assert get(app, lambda: {"items": cart.state.items}, new).json == {"items": []}


def test_a_broken_namespace_can_be_replaced() -> None:
    silo, app = make(COPIES)
    cart = silo.register("cart", Cart)
    begin(silo, app)
    for method in ("GET", "POST"):
        break_cart(silo)

        def repair() -> None:
            cart.state = Cart(["new"])

        assert post(app, repair, method=method).status_code == 200
        assert silo.store.get(SID)["cart"] == Cart(["new"])


def test_state_that_cannot_be_stored_is_500_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    silo, app = make(COPIES)
    cart = silo.register("cart", Cart)
    plain = silo.register("plain", dict[str, Any])
    begin(silo, app)

    def spoil(value: Any) -> TestResponse:
        def view() -> None:
            cart.state.items.append("lost")
            plain.state["value"] = value() if callable(value) else value

        caplog.clear()
        return post(app, view)

    @silo.task
    def work() -> None: ...

    def upload() -> Any:
        return FileStorage(BytesIO(b"x"), "x.txt")

    values: list[tuple[Any, str]] = [
        (lambda: request, "LocalProxy.*keep what you need"),
        (lambda: request._get_current_object(), "Request.*keep what you need"),  # type: ignore[attr-defined]
        (upload, "FileStorage.*file of the session"),
        (lambda: work.task or work, "SessionTask"),
    ]
    for value, message in values:
        assert spoil(value).status_code == 500
        assert any(
            isinstance(record.exc_info[1], StateEncodeError) and re.search(message, str(record.exc_info[1]))
            for record in caplog.records
            if record.exc_info
        ), caplog.text
        assert SID not in caplog.text
    assert silo.store.get(SID) == {"cart": Cart(), "plain": {}}
    assert spoil({1, "x"}).status_code == 200


@pytest.mark.parametrize(
    ("sent", "place", "advice"),
    [
        ('{"n": 1180591620717411303424}', "plain['value']['n']", "64 bits"),
        (r'{"rows": [1, {"a": "x\ud800"}]}', "plain['value']['rows'][1]['a']", "surrogate pair"),
        (r'{"\udfff": 1}', "plain['value'].keys()", "surrogate pair"),
        ("[" * 150 + "1180591620717411303424" + "]" * 150, "plain['value'][0][0]", "nested too deeply"),
    ],
)
@pytest.mark.parametrize("at", ["commit", "edit"])
def test_a_value_of_a_client_that_cannot_be_stored_is_422_and_names_its_place(
    sent: str, place: str, advice: str, at: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_silo.replies._logged", {})
    silo, app = make(COPIES)
    silo.register("plain", dict[str, Any])

    @app.route("/api/keep", methods=["POST", "GET"])
    def keep() -> Any:
        value = request.get_json()
        if at == "edit":
            with silo.store.edit(SID, "plain") as plain:
                plain["value"] = value
        else:
            silo.state("plain")["value"] = value
        return {}

    answers = [
        app.test_client().open("/api/keep", method=method, headers=as_(SID), data=sent, content_type="application/json")
        for method in ("POST", "GET")
    ]
    for answer in answers:
        said = answer.json or {}
        assert (answer.status_code, said["error"]) == (422, "invalid_value")
        assert said["message"].startswith(f"{place}")
        assert re.search(advice, said["message"])
        assert SID[:5] not in answer.text
        assert answer.headers["Cache-Control"] == "no-store"
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert f"422 invalid_value: session {SID[:5]}" in record.getMessage(), "it may be the view's own mistake"
    assert silo.store.get(SID)["plain"] == {}


def test_a_value_that_does_not_fit_the_type_is_422() -> None:
    silo, app = make(COPIES)
    cart = silo.register("cart", Cart)
    answer = post(app, lambda: cart.state.items.append(3))  # type: ignore[arg-type]
    said = answer.json or {}
    assert (answer.status_code, said["error"]) == (422, "invalid_value")
    assert said["message"].startswith("cart.items[0] cannot be stored: ")


def test_a_running_task_is_refused_as_state() -> None:
    silo, _ = make(COPIES)
    silo.register("plain", dict)
    with pytest.raises(StateEncodeError, match="running task is a live object"):
        silo.store.update(SID, "plain", lambda _: {"task": BackgroundTask("work")})


def test_too_much_state_is_413_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    silo, app = make(COPIES, max_state_bytes=200)
    cart = silo.register("cart", Cart)

    def fill() -> None:
        cart.state.items.append("x" * 300)

    with caplog.at_level(logging.INFO):
        answer = post(app, fill)
    assert (answer.status_code, (answer.json or {})["error"]) == (413, "state_too_large")
    assert "Retry-After" not in answer.headers
    assert answer.headers["X-Session-ID"] == SID
    assert silo.store.active_count == 0
    with pytest.raises(StateTooLarge):
        silo.store.update(SID, "cart", lambda cart: Cart(["x" * 300]))


@pytest.mark.parametrize(
    ("error", "status", "name", "retry_after"),
    [
        (SessionConflict(SID), 409, "session_conflict", None),
        (LockLost(SID), 409, "session_conflict", None),
        (StateTooLarge(SID, 2, 1, "cart"), 413, "state_too_large", None),
        (StateValueError(SID, "cart", ".items[0]", "int", "too large"), 422, "invalid_value", None),
        (StoreUnavailable("down"), 503, "store_unavailable", "1"),
        (StoreUnavailable("down", retry_after=30), 503, "store_unavailable", "30"),
    ],
)
@pytest.mark.parametrize("at", ["view", "commit"])
def test_what_a_client_may_know_is_answered(
    error: Exception, status: int, name: str, retry_after: str | None, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    silo, app = make(COPIES)
    cart = silo.register("cart", Cart)

    def fail(*args: Any, **options: Any) -> Any:
        raise error

    def view() -> None:
        if at == "view":
            fail()
        cart.state.items.append("x")
        monkeypatch.setattr(silo.store.backend, "create", fail)

    answer = post(app, view)
    assert (answer.status_code, (answer.json or {})["error"]) == (status, name)
    assert answer.headers.get("Retry-After") == retry_after
    assert SID not in answer.text


# Settings


def test_slack_and_size_are_settings() -> None:
    app = Flask(__name__)
    app.config.update(SILO_TOUCH_INTERVAL=0, SILO_MAX_STATE_BYTES=1000, SILO_STORE_URL=COPIES)
    silo = Silo(app)
    assert (silo.store.touch_interval, silo.store.max_state_bytes) == (0, 1000)
    silo, _ = make(COPIES, touch_interval=2.5, max_state_bytes=10)
    assert (silo.store.touch_interval, silo.store.max_state_bytes) == (2.5, 10)
    silo, _ = make(COPIES)
    assert (silo.store.touch_interval, silo.store.max_state_bytes) == (None, None)
    early = Silo()
    early.register("cart", Cart)
    app = Flask(__name__)
    app.config.update(SILO_TOUCH_INTERVAL=1, SILO_MAX_STATE_BYTES=1000)
    early.init_app(app)
    assert (early.store.touch_interval, early.store.max_state_bytes) == (1, 1000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"touch_interval": -1},
        {"touch_interval": float("nan")},
        {"touch_interval": True},
        {"touch_interval": "1"},
        {"touch_interval": 60, "ttl": 60},
        {"max_state_bytes": 0},
        {"max_state_bytes": 1.5},
        {"max_state_bytes": True},
        {"max_state_bytes": "1000"},
    ],
)
def test_a_wrong_slack_or_size_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Silo(Flask(__name__), **wrong)
    app = Flask(__name__)
    app.config.update({f"SILO_{name.upper()}": value for name, value in wrong.items()})
    with pytest.raises(ValueError, match="must be"):
        Silo(app)
