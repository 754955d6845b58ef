"""The demo: from an upload to a download, and requests while its task runs."""

from __future__ import annotations

import csv
import http.client
import io
import json
from urllib.parse import quote

import pytest
from demo_client import DEADLINE, DEMO, MB, SMALL, Client, Gate, client, demo, expire_all, problem, silo_of, until
from flask import Flask
from serving import served

__all__ = ["client", "demo"]

pytestmark = pytest.mark.slow


def test_a_file_from_upload_to_download_over_a_real_server(demo: Flask) -> None:
    with served(demo) as port:
        sid = ""

        def ask(method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
            nonlocal sid
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
            if sid:
                headers["X-Session-ID"] = sid
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            sid = answer.getheader("X-Session-ID") or sid
            return answer.status, dict(answer.headers), content

        status, headers, page = ask("GET", "/")
        assert status == 200
        assert b"<title>Summarise a CSV file</title>" in page
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        first = json.loads(ask("GET", "/api/status")[2])
        assert first["source"] is first["result"] is None
        assert first["limits"] == {"upload_bytes": MB // 4, "ttl": 3600}
        assert silo_of(demo).store.active_count == 0

        sample = (DEMO / "sample" / "penguins.csv").read_bytes()
        status, _, content = ask("POST", f"/api/upload?name={quote('Pinguine 🐧.csv')}", sample)
        assert status == 200
        source = json.loads(content)["source"]
        assert source["name"] == "Pinguine 🐧.csv"
        assert source["size"] == len(sample)
        assert source["table"]["columns"][:2] == ["species", "island"]
        assert source["table"]["numeric"][-2:] == ["body_mass_g", "year"]

        question = json.dumps({"by": "species", "how": "mean", "value": "body_mass_g"}).encode()
        assert ask("POST", "/api/start", question, **{"Content-Type": "application/json"})[0] == 202
        states = []

        def done() -> bool:
            states.append(json.loads(ask("GET", "/api/task")[2]))
            return not states[-1]["running"]

        until(done)
        assert states[-1]["complete"]
        assert states[-1]["progress"] == 100
        assert [s["name"] for s in states[-1]["steps"]] == ["Read", "Validate", "Aggregate", "Write"]
        assert "344 rows are in 3 groups" in states[-1]["logs"]
        assert [s["progress"] for s in states] == sorted(s["progress"] for s in states)

        result = json.loads(ask("GET", "/api/result")[2])
        assert result["shown"] == [
            ["Gentoo", 124, 5076.0162601626],
            ["Chinstrap", 68, 3733.08823529412],
            ["Adelie", 152, 3700.66225165563],
        ]
        assert (result["rows"], result["missing"], result["skipped"]) == (344, 2, 0)

        mine, sid = sid, ""
        assert ask("GET", f"/api/download?_sid={'x' * 24}")[0] == 410
        sid = ""
        status, headers, content = ask("GET", f"/api/download?_sid={mine}")
        assert status == 200
        assert quote("Pinguine 🐧-summary.csv") in headers["Content-Disposition"]
        rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
        assert rows[:2] == [["species", "rows", "mean of body_mass_g"], ["Gentoo", "124", "5076.0162601626"]]

        sid = mine
        again = json.loads(ask("GET", "/api/status")[2])
        assert (again["source"], again["result"]) == (source, result)
        expire_all(demo)
        for method, path in (
            ("GET", "/api/status"),
            ("GET", "/api/task"),
            ("GET", "/api/result"),
            ("POST", "/api/cancel"),
            ("POST", "/api/start"),
            ("GET", f"/api/download?_sid={mine}"),
        ):
            status, _, content = ask(method, path)
            assert (status, json.loads(content)["error"]) == (410, "session_expired"), path
            sid = mine
        sid = ""
        assert json.loads(ask("GET", "/api/status")[2])["source"] is None
        assert sid != mine


def test_sample_counts_and_aggregates(client: Client) -> None:
    source = client.ask("POST", "/api/sample").get_json()["source"]
    assert source["name"] == "penguins.csv"
    assert len(source["table"]["preview"]) == 5
    assert client.start("island").status_code == 202
    assert client.finish()["complete"]
    assert client.ask("GET", "/api/result").get_json()["shown"] == [
        ["Biscoe", 168, 168],
        ["Dream", 124, 124],
        ["Torgersen", 52, 52],
    ]
    assert client.ask("GET", "/api/download").text.splitlines()[:2] == ["island,rows", "Biscoe,168"]


@pytest.mark.parametrize(("how", "oslo"), [("sum", 7.5), ("mean", 2.5), ("min", -1), ("max", 4.5)])
def test_measures(client: Client, how: str, oslo: float) -> None:
    rows = client.summary(b"city,size\nOslo,4\nRome,n/a\nOslo,4.5\nOslo,-1\nOslo,tall\n", "city", how, "size")
    assert rows == [["Oslo", 4, oslo], ["Rome", 1, None]]


def test_two_clients_are_apart(demo: Flask) -> None:
    one, two = Client(demo), Client(demo)
    assert one.summary(SMALL, "city") == [["Oslo", 2, 2], ["Rome", 1, 1]]
    problem(two.ask("GET", "/api/result"), 404)
    problem(two.ask("GET", "/api/download"), 404)
    assert two.summary(b"a,b\n1,x\n", "b") == [["x", 1, 1]]
    assert one.ask("GET", "/api/result").get_json()["groups"] == 2


def test_reset_removes_everything(demo: Flask, client: Client) -> None:
    client.summary(SMALL, "city")
    assert client.ask("POST", "/api/reset").status_code == 200
    problem(client.ask("GET", "/api/status"), 410)
    assert silo_of(demo).store.active_count == 0
    assert silo_of(demo).file_store("uploads").total_size_bytes == 0
    assert silo_of(demo).file_store("results").total_size_bytes == 0


def test_a_new_file_takes_the_place_of_the_old_one(demo: Flask, client: Client) -> None:
    client.summary(SMALL, "city")
    assert client.upload(b"a,b\n1,2\n", "other.csv").status_code == 200
    state = client.ask("GET", "/api/status").get_json()
    assert (state["source"]["name"], state["result"]) == ("other.csv", None)
    assert silo_of(demo).file_store("uploads").total_size_bytes == 8


def test_one_run_at_a_time_cancel_and_go_on(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, "aggregate")
    client.upload(SMALL)
    assert client.start("city").status_code == 202
    gate.wait()
    state = client.ask("GET", "/api/status").get_json()["task"]
    assert state["running"]
    assert 0 < state["progress"] < 100
    assert problem(client.start("city"), 409) == "This task is still running."
    assert problem(client.upload(b"a,b\n1,2\n"), 409)
    assert problem(client.ask("POST", "/api/sample"), 409)
    assert client.ask("POST", "/api/cancel").get_json() == {"cancelled": True}
    assert client.finish()["status"] == "cancelled"
    problem(client.ask("GET", "/api/result"), 404)
    assert client.ask("POST", "/api/cancel").get_json() == {"cancelled": False}
    gate.open()
    assert client.start("city").status_code == 202
    assert client.finish()["complete"]


def test_a_session_does_not_expire_while_it_works(demo: Flask, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, "validate")
    client.upload(SMALL)
    client.start("city")
    gate.wait()
    expire_all(demo)
    assert client.ask("GET", "/api/task").get_json()["running"]
    gate.open()
    assert client.finish()["complete"]


def test_reset_ends_the_work(demo: Flask, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, "aggregate")
    client.upload(SMALL)
    client.start("city")
    gate.wait()
    (session,) = silo_of(demo).store.all_sids
    task = silo_of(demo).binding.runs.find(silo_of(demo).store.uid(session), "summary")
    assert task is not None
    assert client.ask("POST", "/api/reset").status_code == 200
    gate.open()
    assert task.wait(DEADLINE)
    assert task.state.status == "cancelled"
