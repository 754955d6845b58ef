"""The sources of settings, and one ``Silo`` on several applications."""

from __future__ import annotations

import traceback
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_silo import SessionStore, Silo, StoreUnavailable
from flask_silo.settings import NAMES, STORE_OPTIONS, Settings
from flask_silo_helpers import as_, counter_app
from silo_files import FolderUnusable
from silo_store.testing import SID, Clock


def test_the_defaults_are_those_of_release_0_1() -> None:
    silo = Silo(Flask(__name__))
    store, settings = silo.store, silo.binding.settings
    assert (store.ttl, store.cleanup_interval, store.expired_retain) == (3600, 60, 7200)
    assert (settings.header, settings.query_param, settings.min_sid_length) == ("X-Session-ID", "_sid", 16)
    assert (settings.api_prefix, settings.auto_cleanup) == ("/api/", True)


def test_config_is_read_and_arguments_win() -> None:
    app = Flask(__name__)
    app.config.update(
        SILO_TTL=5,
        SILO_HEADER="X-Mine",
        SILO_QUERY_PARAM="me",
        SILO_API_PREFIX=("/a/", "/b/"),
        SILO_STORE_URL="memory://?copy=1",
        SILO_MIN_SID_LENGTH=3,
        SILO_LOCK_TIMEOUT=9,
        SILO_DATA_ENDPOINTS=["/a/data"],
        SILO_AUTO_CLEANUP=False,
        SILO_ACCEPT_CLIENT_IDS=True,
    )
    silo = Silo(app, ttl=7)
    assert (silo.store.ttl, silo.store.lock_timeout, silo.store.backend.live) == (7, 9, False)

    @app.get("/b/sid")
    def sid() -> Any:
        return silo.sid

    client = app.test_client()
    assert client.get("/b/sid", headers={"X-Mine": "abc"}).text == "abc"
    answer = client.get("/b/sid?me=abc")
    assert (answer.text, answer.headers["X-Mine"]) == ("abc", "abc")


@pytest.mark.parametrize(
    "wrong",
    [
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": float("nan")},
        {"ttl": "3600"},
        {"ttl": True},
        {"cleanup_interval": 0},
        {"cleanup_interval": float("inf")},
        {"lock_timeout": float("inf")},
        {"lock_timeout": 1e12},
        {"min_sid_length": 33},
        {"min_sid_length": 2.5},
        {"api_prefix": "api/"},
        {"api_prefix": ["/api/", "x"]},
        {"header": ""},
        {"store_url": "nosuch://"},
        {"max_streams": -1},
        {"max_streams": 1.5},
        {"max_streams": True},
    ],
)
def test_a_wrong_setting_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|no session backend"):
        Silo(Flask(__name__), **wrong)


def test_one_silo_keeps_two_applications_apart() -> None:
    silo = Silo(auto_cleanup=False, accept_client_ids=True)
    silo.register("counter", lambda: {"value": 0})
    first, second = counter_app(silo), counter_app(silo)
    silo.register("later", list)
    for _ in range(2):
        first.test_client().post("/api/increment", headers=as_(SID))
    assert second.test_client().get("/api/count", headers=as_(SID)).json == {"value": 0}
    assert first.test_client().get("/api/count", headers=as_(SID)).json == {"value": 2}
    with pytest.raises(RuntimeError, match="unclear which application"):
        silo.store  # noqa: B018 - the access raises
    with first.app_context():
        assert silo.store.get(SID) == {"counter": {"value": 2}, "later": []}
        mine = silo.store
    with second.app_context():
        assert silo.store is not mine
    with pytest.raises(RuntimeError, match="already"):
        silo.init_app(first)


def test_data_endpoints_of_a_config_are_the_applications_own() -> None:
    clock = Clock()
    silo = Silo(auto_cleanup=False, ttl=60, clock=clock, data_endpoints="/api/nowhere")
    silo.register("counter", lambda: {"value": 0})
    strict = Flask(__name__)
    strict.config["SILO_DATA_ENDPOINTS"] = "/api/idle"
    silo.init_app(strict)
    strict.add_url_rule("/api/idle", view_func=dict)
    strict.add_url_rule("/api/count", view_func=lambda: silo.state("counter"))
    easy = counter_app(silo)
    for app, status in ((strict, 410), (easy, 200)):
        app.test_client().get("/api/count", headers=as_(SID))
        clock.advance(61)
        assert app.test_client().get("/api/idle", headers=as_(SID)).status_code == status


def test_callbacks_survive_a_store_that_the_config_chooses() -> None:
    silo = Silo(auto_cleanup=False)
    ends: list[str] = []
    silo.store.on_end(lambda sid, uid, reason: ends.append(reason))
    app = Flask(__name__)
    app.config["SILO_STORE_URL"] = "memory://?copy=1"
    silo.init_app(app)
    silo.store.get(SID)
    silo.store.destroy(SID)
    assert ends == ["destroyed"]


def test_what_was_said_to_the_store_before_the_application_counts() -> None:
    silo = Silo(ttl=5, accept_client_ids=True)
    created: list[str] = []
    silo.store.on_create(created.append)
    silo.register("counter", lambda: {"value": 0})
    early = silo.store
    app = counter_app(silo)
    assert silo.store is early
    app.config["TESTING"] = True
    app.test_client().post("/api/increment", headers=as_(SID))
    assert created == [SID]
    silo.stop()


def test_a_silo_without_application_says_so() -> None:
    silo = Silo()
    with pytest.raises(RuntimeError, match="unclear which application"):
        silo.binding  # noqa: B018 - the access raises


def test_storage_is_refused_with_what_to_give() -> None:
    with pytest.raises(TypeError, match="give store_url="):
        Silo(storage=object())  # type: ignore[arg-type]


def test_the_extension_is_found_on_the_application() -> None:
    app = Flask(__name__)
    silo = Silo(app)
    assert app.extensions["silo"] is silo


def test_where_sessions_are_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILO_STORE_URL", "memory://?copy=1")
    assert not Silo(Flask("one")).store.backend.live
    assert Silo(Flask("two"), store_url="memory://").store.backend.live
    app = Flask("three")
    app.config["SILO_STORE_URL"] = "memory://"
    assert Silo(app).store.backend.live


def test_every_setting_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, tuple[str, Any]] = {
        "ttl": ("600", 600),
        "cleanup_interval": ("7.5", 7.5),
        "expired_retain": ("100", 100),
        "header": ("X-Mine", "X-Mine"),
        "query_param": ("1", "1"),
        "min_sid_length": ("20", 20),
        "accept_client_ids": ("true", True),
        "data_endpoints": ("/api/data", ("/api/data",)),
        "auto_cleanup": ("False", False),
        "api_prefix": ('["/a/", "/b/"]', ("/a/", "/b/")),
        "store_url": ("memory://?copy=1", "memory://?copy=1"),
        "lock_timeout": ("9", 9),
        "max_waiters": ("3", 3),
        "touch_interval": ("0", 0),
        "max_state_bytes": ("5000", 5000),
        "max_sessions": ("20", 20),
        "task_endpoints": ("0", False),
        "max_streams": ("0", 0),
    }
    assert set(values) == {each.name for each in fields(Settings)}
    for name, (text, _) in values.items():
        monkeypatch.setenv(f"SILO_{name.upper()}", text)
    settings = Silo(Flask("one")).binding.settings
    assert {name: getattr(settings, name) for name in values} == {name: value for name, (_, value) in values.items()}


def test_every_setting_is_an_argument_of_silo_and_every_option_one_of_the_store() -> None:
    assert set(NAMES) <= set(signature(Silo).parameters)
    assert set(STORE_OPTIONS) <= set(signature(SessionStore).parameters) & set(NAMES)


def test_argument_config_and_environment_win_in_this_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILO_TTL", "600")
    monkeypatch.setenv("SILO_TOUCH_INTERVAL", "")
    app = Flask("config")
    app.config["SILO_TTL"] = 500
    assert Silo(Flask("environment")).store.ttl == 600
    assert Silo(app).store.ttl == 500
    assert Silo(Flask("argument"), ttl=400).store.ttl == 400
    assert Silo(Flask("empty")).store.touch_interval is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TTL", "an hour"),
        ("TTL", "true"),
        ("AUTO_CLEANUP", "off"),
        ("MAX_SESSIONS", "1.5"),
        ("API_PREFIX", "5"),
        ("API_PREFIX", "api"),
        ("DATA_ENDPOINTS", "5"),
        ("DATA_ENDPOINTS", "[5]"),
    ],
)
def test_a_wrong_setting_says_where_it_comes_from(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SILO_{name}", text)
    with pytest.raises(ValueError, match=f"^SILO_{name} in the environment must "):
        Silo(Flask(__name__))
    monkeypatch.delenv(f"SILO_{name}")
    app = Flask(__name__)
    app.config[f"SILO_{name}"] = [5]
    with pytest.raises(ValueError, match=f"^SILO_{name} in the application's config must "):
        Silo(app)


@pytest.mark.parametrize("name", ["accept_client_ids", "auto_cleanup", "task_endpoints"])
def test_text_is_refused_as_a_switch(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be True or False"):
        Silo(Flask(__name__), **{name: "False"})  # type: ignore[arg-type]


def test_no_setting_shows_the_password_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "redis://user:s3cret@127.0.0.1:1/0"
    silo = Silo(Flask(__name__), store_url=url)
    assert silo.binding.settings.store_url == url
    assert "s3cret" not in repr(silo.binding.settings)
    monkeypatch.setenv("SILO_STORE_URL", "redis://user:s3c/ret@127.0.0.1:1/0")
    with pytest.raises(ValueError, match="%2F") as caught:
        Silo(Flask(__name__))
    assert "s3c" not in "".join(traceback.format_exception(caught.value))


def test_a_place_where_nothing_can_be_kept_is_refused_when_the_application_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "none" / "deep" / "sessions.db", tmp_path / "file" / "sessions.db", tmp_path):
        with pytest.raises(StoreUnavailable, match=f"the session database {wrong} cannot be used: "):
            Silo(Flask(__name__), store_url=f"sqlite:///{wrong}")
    silo = Silo(Flask(__name__), store_url=f"sqlite:///{tmp_path}/made/sessions.db")
    assert (tmp_path / "made").is_dir()
    with pytest.raises(FolderUnusable, match=str(tmp_path / "file" / "uploads")):
        silo.add_file_store("uploads", tmp_path / "file" / "uploads")
    silo.add_file_store("uploads", tmp_path / "above" / "uploads")
    assert (tmp_path / "above" / "uploads").is_dir()
