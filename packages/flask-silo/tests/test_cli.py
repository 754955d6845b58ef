"""``flask silo``: sessions at the command line."""

from __future__ import annotations

import inspect
import io
import json
import subprocess
import sys
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo.tasks.records import TaskRecords
from flask_silo.text import duration, printable
from flask_silo_helpers import as_, counter_app
from server_fixtures import redis_server, redis_url
from silo_store import Life
from silo_store.testing import SID, TTL, Clock
from store_urls import urls

__all__ = ["redis_server", "redis_url"]

OTHER = "b" * 32
SEPARATE = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


url = urls("memory://", "memory://?copy=1", "sqlite", "redis")


def run(app: Flask, *words: str) -> Result:
    return app.test_cli_runner(**SEPARATE).invoke(args=["silo", *words])


def ask(app: Flask, *words: str, status: int = 0) -> Any:
    """Return the document of a command."""
    result = run(app, *words, "--json")
    assert result.exit_code == status, result.stderr
    return json.loads(result.stdout)


def begin(client: FlaskClient, *sids: str) -> None:
    for sid in sids:
        client.post("/api/increment", headers=as_(sid))


def test_stats_counts_sessions(app: Flask, client: FlaskClient, silo: Silo, clock: Clock, url: str) -> None:
    begin(client, SID, OTHER)
    clock.advance(TTL + 1)
    silo.store.cleanup()
    begin(client, SID)
    found = ask(app, "stats", "--sizes")
    live = url == "memory://"
    assert found == {
        "backend": type(silo.store.backend).__name__,
        "url": url.removesuffix("?copy=1"),
        "shared": not url.startswith("memory"),
        "live": live,
        "sessions": 1,
        "expired_ids": 1,
        "ttl": TTL,
        "touch_interval": 0 if live else TTL / 100,
        "cleanup_interval": 60,
        "expired_retain": 100,
        "namespaces": ["counter"],
        "bytes": None if live else {"counter": 8},
    }
    assert "bytes" not in ask(app, "stats")
    text = run(app, "stats", "--sizes").stdout
    assert "sessions" in text
    assert ("unknown for live objects" in text) is live


def test_sessions_lists_those_used_last_first(app: Flask, client: FlaskClient, clock: Clock, url: str) -> None:
    begin(client, OTHER)
    clock.advance(20)
    begin(client, SID)
    clock.advance(10)
    found = ask(app, "sessions")
    assert (found["total"], found["more"]) == (2, 0)
    first, second = found["sessions"]
    size = None if url == "memory://" else 8
    assert {name: first[name] for name in ("sid", "age", "idle", "time_left", "bytes", "held", "due")} == {
        "sid": "aaaaaa…",
        "age": 10,
        "idle": 10,
        "time_left": TTL - 10,
        "bytes": size,
        "held": False,
        "due": False,
    }
    assert (second["sid"], second["idle"], second["age"]) == ("bbbbbb…", 30, 30)
    assert ask(app, "sessions", "--limit", "1")["more"] == 1
    assert [each["sid"] for each in ask(app, "sessions", "--full-ids")["sessions"]] == [SID, OTHER]
    lines = run(app, "sessions", "--limit", "1").stdout.splitlines()
    assert lines[0].split() == ["session", "age", "idle", "time", "left", "bytes"]
    assert lines[1].split()[:5] == ["aaaaaa…", "10", "s", "10", "s"]
    assert lines[2] == "and 1 more (--limit)"
    assert SID in run(app, "sessions", "--full-ids").stdout


def test_no_sessions_are_no_error(app: Flask) -> None:
    assert run(app, "sessions").stdout == "no sessions\n"
    assert ask(app, "sessions") == {"sessions": [], "total": 0, "more": 0}
    assert ask(app, "sweep") == {"expired": 0, "sessions": 0}


def test_inspecting_renews_nothing_and_begins_nothing(
    app: Flask, client: FlaskClient, silo: Silo, clock: Clock
) -> None:
    begin(client, SID)
    silo.register("late", lambda: pytest.fail("a factory ran"))
    before = silo.store.backend.peek(SID)
    assert before is not None
    seen = before.active, before.uid, sorted(before)
    for advanced in (TTL / 2, TTL):
        clock.advance(advanced)  # in the second round its time is over
        for words in (
            ["stats", "--sizes"],
            ["sessions"],
            ["show", SID],
            ["show", SID[:6]],
            ["show", OTHER],
            ["doctor"],
        ):
            run(app, *words)
            record = silo.store.backend.peek(SID)
            assert record is not None
            assert (record.active, record.uid, sorted(record)) == seen, words
    assert silo.store.active_count == 1
    assert silo.store.expired_count == 0
    assert silo.store.is_expired(SID)


def test_show_shows_the_state(app: Flask, client: FlaskClient, silo: Silo, clock: Clock, url: str) -> None:
    began = clock.now
    begin(client, SID)
    clock.advance(2)
    found = ask(app, "show", SID)
    assert found == {
        "sid": "aaaaaa…",
        "uid": silo.store.uid(SID),
        "created": began,
        "last_active": began,
        "age": 2,
        "idle": 2,
        "time_left": TTL - 2,
        "due": False,
        "bytes": None if url == "memory://" else 8,
        "held": False,
        "tasks": {},
        "files": {},
        "namespaces": {"counter": {"bytes": None if url == "memory://" else 8, "state": {"value": 1}}},
    }
    text = run(app, "show", SID).stdout
    assert '{"value": 1}' in text
    assert "UTC (2 s ago)" in text
    assert "in 58 s, unless it is used" in text
    with silo.store.hold(SID):
        assert ask(app, "show", SID)["held"] is True
        assert "yes: a task" in run(app, "show", SID).stdout


def test_a_held_session_whose_time_is_over_is_shown(app: Flask, client: FlaskClient, silo: Silo, clock: Clock) -> None:
    begin(client, SID)
    with silo.store.hold(SID):
        clock.advance(TTL + 1)
        found = ask(app, "show", SID)
        assert (found["held"], found["due"], found["time_left"]) == (True, True, 0)
        assert "its time is over" in run(app, "show", SID).stdout
        assert run(app, "sessions").stdout.splitlines()[1].split()[-2:] == ["-", "held"] or not silo.store.backend.live


@pytest.mark.parametrize("command", ["show", "expire"])
def test_a_session_that_does_not_exist(app: Flask, client: FlaskClient, silo: Silo, clock: Clock, command: str) -> None:
    assert ask(app, command, SID, status=1) == {"error": "session_not_found", "message": "there is no session aaaaaa…"}
    assert "what flask silo sessions shows" in ask(app, command, "-abc", status=1)["message"]
    for wrong in ("", "../../etc/passwd", "a b", "\x1b[31m"):
        found = ask(app, command, wrong, status=1)
        assert found["error"] == "invalid_session_id"
        assert "not a session id" in found["message"]
    begin(client, SID)
    clock.advance(TTL + 1)
    for _ in range(2):  # before and after a sweep
        result = run(app, command, SID)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: session aaaaaa… has expired")
        assert ask(app, command, SID, status=1)["error"] == "session_expired"
        silo.store.cleanup()
    clock.advance(101)
    assert ask(app, command, SID, status=1)["error"] == "session_not_found"


def test_the_beginning_of_an_id_will_do(app: Flask, client: FlaskClient) -> None:
    one, two, dashed = "abcdef" + "1" * 26, "abcdef" + "2" * 26, "--json" + "3" * 26
    short_one = "klmnopqrstuvwxyz"  # ``sessions`` shows five characters of it
    begin(client, one, two, dashed, short_one)
    for given in ("abcdef1", "abcdef1…", "abcdef1...", one):
        assert ask(app, "show", given)["sid"] == "abcdef…"
    assert ask(app, "show", dashed)["sid"] == "--json…"
    assert ask(app, "show", "klmno…")["sid"] == "klmno…"
    assert ask(app, "show", "klmn", status=1)["error"] == "session_not_found"
    assert ask(app, "show", "abcde", status=1)["error"] == "session_not_found"
    found = ask(app, "expire", "abcdef", status=1)
    assert found["error"] == "ambiguous_session_id"
    assert found["message"].startswith("2 sessions have an id that begins with abcdef")


def test_whole_ids_are_secrets(app: Flask, client: FlaskClient, silo: Silo, clock: Clock) -> None:
    sids = [f"{number:016x}" * 2 for number in range(0xABCDEF0123456789, 0xABCDEF0123456789 + 3)]
    begin(client, *sids)
    for words in (
        ["stats", "--sizes"],
        ["sessions"],
        *[["show", sid] for sid in sids],
        ["show", "abcdef"],
        ["show", sids[0] + "0"],
        ["doctor"],
        ["expire", sids[0]],
        ["expire", sids[0]],
        ["sweep"],
    ):
        for more in ([], ["--json"]):
            result = run(app, *words, *more)
            assert not any(sid in result.stdout + result.stderr for sid in sids), words


def test_expire_ends_a_session_as_time_does(app: Flask, client: FlaskClient, silo: Silo, tmp_path: Path) -> None:
    silo.add_file_store("uploads", tmp_path / "uploads")
    silo.add_data_endpoints("/api/count")
    ended: list[str] = []
    silo.store.on_expire(ended.append)
    client.post("/api/upload", headers=as_(SID), data={"file": (io.BytesIO(b"x"), "x.txt")})
    begin(client, SID, OTHER)
    assert silo.file_store("uploads").total_size_bytes == 1
    assert run(app, "expire", SID).stdout == "session aaaaaa… has ended\n"
    assert ended == [SID]
    assert silo.file_store("uploads").total_size_bytes == 0
    assert client.get("/api/count", headers=as_(SID)).status_code == 410
    assert client.get("/api/count", headers=as_(OTHER)).json == {"value": 1}
    assert ask(app, "expire", OTHER[:6]) == {"sid": "bbbbbb…", "expired": True}


def test_what_is_in_use_is_not_expired(app: Flask, client: FlaskClient, silo: Silo) -> None:
    begin(client, SID)
    with silo.store.hold(SID):
        assert ask(app, "expire", SID, status=1)["error"] == "session_busy"
        assert "in use" in run(app, "expire", SID).stderr
    assert silo.store.exists(SID)


def test_sweep_ends_what_is_due(app: Flask, client: FlaskClient, clock: Clock) -> None:
    begin(client, SID)
    clock.advance(TTL)
    begin(client, OTHER)
    assert ask(app, "sweep") == {"expired": 0, "sessions": 2}
    clock.advance(1)
    assert run(app, "sweep").stdout == "1 session expired, 1 left\n"


def test_only_memory_needs_a_word_about_other_processes(app: Flask, url: str) -> None:
    for command in ("stats", "sessions", "sweep"):
        assert ("a process of its own" in run(app, command).stderr) is url.startswith("memory")
    assert run(app, "doctor").stderr == ""


@pytest.mark.parametrize("gone", ["sqlite", "redis"])
def test_a_store_that_is_down_is_one_line(gone: str, tmp_path: Path) -> None:
    url = {"sqlite": f"sqlite:///{tmp_path}/gone/sessions.db", "redis": "redis://user:secret@127.0.0.1:1/0"}[gone]
    app = Flask("down")
    Silo(app, store_url=url, auto_cleanup=False)
    if gone == "sqlite":
        (tmp_path / "gone").rmdir()  # the application made it
    for words in (["stats"], ["sessions"], ["show", SID], ["expire", SID], ["sweep"]):
        result = run(app, *words)
        assert (result.exit_code, result.stdout) == (2, ""), result.stdout
        assert result.stderr.startswith("Error: session store unavailable: ")
        assert result.stderr.count("\n") == 1
        assert "secret" not in result.stderr
        assert ask(app, *words, status=2)["error"] == "store_unavailable"
    found = ask(app, "doctor", status=1)
    assert found["errors"] >= 1
    assert "secret" not in json.dumps(found)


def test_state_that_json_cannot_hold_is_shown_as_its_repr() -> None:
    @dataclass
    class Point:
        x: int
        y: set[int]

    class Sulky:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    app = Flask("odd")
    silo = Silo(app, auto_cleanup=False)
    loop: list[Any] = []
    loop.append(loop)
    states = {"point": Point(1, {2}), "loop": loop, "nan": float("nan"), "odd": Sulky(), "raw": b"x"}
    for name, state in states.items():
        silo.register(name, partial(deepcopy, state))
    silo.register("long", lambda: "\x1b[31m" + "x" * 1000)
    silo.store.get(SID)
    found = ask(app, "show", SID)["namespaces"]
    assert found["point"]["state"] == {"x": 1, "y": [2]}
    assert [found[name]["repr"] for name in ("loop", "nan", "raw")] == ["[[...]]", "nan", "b'x'"]
    assert found["odd"]["repr"] == "<Sulky that cannot be shown>"
    assert len(found["long"]["state"]) == 1005
    text = run(app, "show", SID).stdout
    assert "x" * 150 in text
    assert "x" * 250 not in text
    assert "(1,012 characters, --json shows all)" in text
    assert "\x1b" not in text


def test_state_that_fits_its_type_no_more_is_an_error_of_its_own() -> None:
    app = Flask("typed")
    silo = Silo(app, store_url="memory://?copy=1", auto_cleanup=False)
    silo.register("numbers", lambda: ["one"])
    silo.register("other", lambda: 1)
    silo.store.ensure(silo.store.open(SID))
    silo.store.register_namespace("numbers", lambda: [1], list[int])
    assert "does not fit" in ask(app, "show", SID)["namespaces"]["numbers"]["error"]
    text = run(app, "show", SID).stdout
    assert "! what is stored does not fit" in text
    assert ask(app, "expire", SID)["expired"] is True


@pytest.mark.parametrize("url", ["memory://?copy=1", "sqlite", "redis"], indirect=True)
def test_records_of_tasks_are_not_namespaces(app: Flask, client: FlaskClient, silo: Silo, clock: Clock) -> None:
    begin(client, SID)
    life = Life(SID, silo.store.uid(SID) or "")
    records = TaskRecords(silo.store, SID)
    assert records.begin(life.uid, "count", "1", {"status": "running", "running": True}, expect=None)
    assert records.begin(life.uid, "sent", "2", {"status": "queued", "running": True}, expect=None, wait=3600)
    assert records.begin(life.uid, "withdrawn", "3", {"status": "queued", "running": True}, expect=None)
    assert records.forget(life.uid, "withdrawn", "3")
    found = ask(app, "show", SID)
    assert (found["tasks"], list(found["namespaces"])) == ({"count": "running", "sent": "queued"}, ["counter"])
    assert "count (running), sent (queued)" in run(app, "show", SID).stdout
    clock.now += TaskRecords.lease + 1
    assert ask(app, "show", SID)["tasks"] == {"count": "failed", "sent": "queued"}


def test_each_application_has_its_own_sessions(clock: Clock) -> None:
    silo = Silo(auto_cleanup=False, clock=clock, accept_client_ids=True)
    silo.register("counter", lambda: {"value": 0})
    one, two = counter_app(silo), counter_app(silo)
    begin(one.test_client(), SID)
    begin(two.test_client(), OTHER, "c" * 32)
    assert [ask(app, "stats")["sessions"] for app in (one, two)] == [1, 2]
    assert [each["sid"] for each in ask(one, "sessions")["sessions"]] == ["aaaaaa…"]
    assert ask(one, "show", OTHER, status=1)["error"] == "session_not_found"


def test_an_applications_own_command_wins() -> None:
    app = Flask("own")

    @app.cli.command("silo")
    def silo() -> None:
        print("mine")

    Silo(app)
    assert run(app).stdout == "mine\n"


def test_words_for_times() -> None:
    assert [duration(each) for each in (0, 0.5, 59, 60, 90, 3600, 5400, 7200, 86_400, 200_000)] == [
        "0 s",
        "0.5 s",
        "59 s",
        "1 min",
        "90 s",
        "1 h",
        "90 min",
        "2 h",
        "1 d",
        "2.3 d",
    ]
    assert printable("é\x1b\udc80…", "ascii") == "\\xe9\\x1b\\udc80\\u2026"


@pytest.mark.slow
def test_it_runs_as_a_command(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(
        "from flask import Flask\n"
        "from flask_silo import Silo\n"
        "app = Flask(__name__)\n"
        "Silo(app, api_prefix='/').register('counter', dict)\n"
    )
    command = [sys.executable, "-m", "flask", "--app", "hello", "silo"]

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert json.loads(call("stats", "--json").stdout)["namespaces"] == ["counter"]
    assert call("doctor").returncode == 0
    missing = call("show", SID)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.splitlines()[0] == "Error: there is no session aaaaaa…"
