"""The counter and the demo, with good, bad and hostile input."""

from __future__ import annotations

import csv
import http.client
import io
import json
import os
import select
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import Silo, track
from silo_files import MAX_NAME_BYTES, check_name
from werkzeug.http import parse_options_header
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from examples import basic_app

DEMO = Path(__file__).parents[1] / "examples" / "data_processor"
sys.path.insert(0, str(DEMO))

import forms  # noqa: E402
import processing  # noqa: E402
import reading  # noqa: E402
from app import create_app as create_app  # noqa: E402
from app import private_folder  # noqa: E402

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

DEADLINE = 30.0
MB = 1024 * 1024
SMALL = b"city,size\nOslo,3\nRome,5\nOslo,4\n"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Flask]:
    app = create_app(DATA_DIR=str(tmp_path / "data"), MAX_UPLOAD_MB=0.25)
    yield app
    silo_of(app).stop()


@pytest.fixture
def client(demo: Flask) -> Client:
    return Client(demo)


@contextmanager
def served(app: WSGIApplication) -> Iterator[int]:
    """Serve the application on a free port. Yield the port."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def silo_of(app: Flask) -> Silo:
    silo = app.extensions["silo"]
    assert isinstance(silo, Silo)
    return silo


def expire_all(app: Flask) -> None:
    """Let every session expire now."""
    store = silo_of(app).store
    ttl, store.ttl = store.ttl, -1.0
    store.cleanup()
    store.ttl = ttl


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE
    while not (seen := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return seen


class Client:
    """A client that keeps its session id, as the page does."""

    def __init__(self, app: Flask) -> None:
        self._http: FlaskClient = app.test_client()
        self.sid: str | None = None

    def ask(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {"X-Session-ID": self.sid} if self.sid else {}
        answer = self._http.open(path, method=method, headers=headers, buffered=True, **options)
        self.sid = answer.headers.get("X-Session-ID", self.sid)
        return answer

    def upload(self, data: bytes, name: str = "data.csv") -> TestResponse:
        return self.ask("POST", "/api/upload", data=data, query_string={"name": name})

    def start(self, by: object, how: object = "count", value: object = None) -> TestResponse:
        return self.ask("POST", "/api/start", json={"by": by, "how": how, "value": value})

    def finish(self) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            task: dict[str, Any] = self.ask("GET", "/api/task").get_json()
            return None if task["running"] else task

        task: dict[str, Any] = until(look)
        return task

    def summary(self, data: bytes, by: str, how: str = "count", value: str | None = None) -> list[list[Any]]:
        assert self.upload(data).status_code == 200
        assert self.start(by, how, value).status_code == 202
        task = self.finish()
        assert task["complete"], task
        shown: list[list[Any]] = self.ask("GET", "/api/result").get_json()["shown"]
        return shown

    def failure(self, data: bytes, by: str, how: str = "count", value: str | None = None) -> str:
        assert self.upload(data).status_code == 200
        assert self.start(by, how, value).status_code == 202
        task = self.finish()
        assert task["status"] == "failed"
        # Nothing is lost and the server is fine: the same client goes on.
        assert self.ask("GET", "/api/status").get_json()["source"]["name"] == "data.csv"
        assert self.summary(SMALL, "city") == [["Oslo", 2, 2], ["Rome", 1, 1]]
        return str(task["error"])


class Gate:
    """Stops the work before one of its steps until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()
        real = getattr(processing, name)

        def gated(*args: Any) -> Any:
            self.reached.set()
            while not self._opened.wait(0.005):
                for _ in track(()):  # Looks whether the task was cancelled.
                    pass
            return real(*args)

        monkeypatch.setattr(processing, name, gated)

    def wait(self) -> None:
        assert self.reached.wait(DEADLINE)

    def open(self) -> None:
        self._opened.set()


def problem(answer: TestResponse, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.is_json
    message = answer.get_json()["message"]
    assert isinstance(message, str)
    assert message
    return message


# --- The counter ---


def test_counter_is_each_clients_own() -> None:
    one, two = Client(basic_app.app), Client(basic_app.app)
    assert [one.ask("POST", "/api/increment").get_json()["count"] for _ in range(3)] == [1, 2, 3]
    assert two.ask("POST", "/api/increment").get_json() == {"count": 1}
    assert one.ask("GET", "/api/count").get_json() == {"count": 3}
    assert one.ask("POST", "/api/reset").get_json() == {"count": 0}
    assert one.ask("GET", "/api/count").get_json() == {"count": 0}
    assert two.ask("GET", "/api/count").get_json() == {"count": 1}
    assert one.sid != two.sid


def test_counter_says_how_to_use_it() -> None:
    assert "curl -i -X POST http://127.0.0.1:5000/api/increment" in Client(basic_app.app).ask("GET", "/").text


# --- The main road ---


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


# --- While the work runs ---


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


# --- Files as people have them ---


def test_semicolons_cp1252_and_decimal_commas(client: Client) -> None:
    data = "Ort;Höhe\nKöln;1,5\nKöln;2\nAachen;0,25\n".encode("latin-1")
    rows = client.summary(data, "Ort", "sum", "Höhe")
    assert rows == [["Köln", 2, 3.5], ["Aachen", 1, 0.25]]
    assert client.ask("GET", "/api/status").get_json()["source"]["table"]["notes"] == [
        "The text is not UTF-8. It is read as cp1252."
    ]


def test_cp1252_far_into_the_file(client: Client) -> None:
    data = b"name,n\n" + b"abc,1\n" * 20_000 + "Zoë,1\n".encode("latin-1")
    assert client.summary(data, "name") == [["abc", 20_000, 20_000], ["Zoë", 1, 1]]


def test_a_character_cut_off_at_the_end(client: Client) -> None:
    assert client.summary(b"n,name\n1,x\n2,Zo\xc3", "name") == [["ZoÃ", 1, 1], ["x", 1, 1]]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_byte_order_mark_tabs_quotes_and_line_ends(client: Client, newline: bytes) -> None:
    data = newline.join([b"\xef\xbb\xbfname\tn", b'"a\tb"\t1', b'"say ""hi"""\t2', b"", b'"two\nlines"\t3', b""])
    assert client.summary(data, "name") == [["a\tb", 1, 1], ['say "hi"', 1, 1], ["two\nlines", 1, 1]]


def test_rows_of_another_length_are_left_out_and_counted(client: Client) -> None:
    assert client.summary(b"a,b\nx,1\nx\nx,1,2\nx,2\n", "a", "sum", "b") == [["x", 2, 3]]
    result = client.ask("GET", "/api/result").get_json()
    assert (result["rows"], result["skipped"]) == (2, 2)
    logs = client.ask("GET", "/api/task").get_json()["logs"]
    assert logs[1:3] == [f"Line {line} is left out, because it does not have 2 cells" for line in (3, 4)]


def test_columns_without_a_name_of_their_own_get_one(client: Client) -> None:
    source = client.upload(b"a,,a,a (2),\n1,2,3,4,5\n").get_json()["source"]
    assert source["table"]["columns"] == ["a", "Column 2", "a (3)", "a (2)", "Column 5"]
    assert len(source["table"]["notes"]) == 3
    many = client.upload(b",".join([b"same"] * 1000) + b"\n" + b",".join([b"1"] * 1000)).get_json()["source"]
    assert len(set(many["table"]["columns"])) == 1000
    assert many["table"]["notes"] == ["999 columns have no name of their own and were given one."]


def test_a_file_of_numbers_has_no_header(client: Client) -> None:
    assert client.summary(b"1,10\n2,20\n1,5\n", "Column 1", "sum", "Column 2") == [["2", 1, 20], ["1", 2, 15]]


def test_one_column_and_one_row(client: Client) -> None:
    assert client.summary(b"name\nAnn\n", "name") == [["Ann", 1, 1]]


def test_numbers_that_are_none(client: Client) -> None:
    data = b"a,b\nx,1_000\nx,inf\nx,nan\nx,1e999\nx,0x10\nx, 7 \ny,1e308\ny,1e308\n"
    assert client.summary(data, "a", "sum", "b") == [["x", 6, 7], ["y", 2, None]]


def download(client: Client) -> TestResponse:
    assert client.finish()["complete"]
    answer = client.ask("GET", "/api/download")
    assert answer.status_code == 200, answer.text
    return answer


def saved_as(answer: TestResponse) -> str:
    options = parse_options_header(answer.headers["Content-Disposition"])[1]
    return options["filename"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("x" * 251 + ".csv", id="255 bytes"),
        pytest.param("x" * 255, id="255 bytes, no extension"),
        pytest.param("ü" * 125 + ".csv", id="254 bytes"),
        pytest.param("🐧" * 62 + ".tsv", id="252 bytes"),
        pytest.param("x" * 247, id="247 bytes"),
        pytest.param("a b (1).csv", id="short"),
    ],
)
def test_a_name_may_be_as_long_as_the_store_takes(client: Client, name: str) -> None:
    assert client.upload(SMALL, name).get_json()["source"]["name"] == name
    assert client.ask("GET", "/api/status").get_json()["source"]["name"] == name
    assert client.start("city").status_code == 202
    saved = saved_as(download(client))
    assert saved == check_name(saved)
    assert saved.startswith(name[:50] if len(name) > 50 else "a b (1)-summary")
    assert saved.endswith(".csv")
    assert len(saved.encode()) <= MAX_NAME_BYTES


def test_a_name_that_the_store_refuses_is_refused(client: Client) -> None:
    for name in ("x" * 256, "ü" * 128, "NUL.csv"):
        problem(client.upload(SMALL, name), 400)
    assert client.upload(SMALL, "u\u0308.csv").get_json()["source"]["name"] == "\u00fc.csv"


@pytest.mark.parametrize(
    ("name", "saved"), [("a:b?.csv", "a_b_-summary.csv"), ("<x>|*.csv", "_x___-summary.csv"), ("c", "c-summary.csv")]
)
def test_a_download_has_a_name_that_windows_takes(client: Client, name: str, saved: str) -> None:
    assert client.upload(SMALL, name).get_json()["source"]["name"] == name
    client.start("city")
    assert saved_as(download(client)) == saved


def test_a_result_holds_no_formula(client: Client) -> None:
    numbers = ["-1.5", "+3", "-2,5", "1e5"]
    labels = ["=1+1", "+1+1", "-1+1", "@sum(a1)", "\uff1d1+1", "a;=1+1", "b\t-1+x", "plain", "-", *numbers]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["=cmd|' /C calc'!A0", "@n"], *([label, "-1.5"] for label in labels)])
    assert client.upload(text.getvalue().encode()).status_code == 200
    assert client.start("=cmd|' /C calc'!A0", "sum", "@n").status_code == 202
    content = download(client).text
    header, *rows = csv.reader(io.StringIO(content, newline=""))
    assert header == ["'=cmd|' /C calc'!A0", "rows", "sum of @n"]
    quoted = ["'=1+1", "'+1+1", "'-1+1", "'@sum(a1)", "'\uff1d1+1", "a;'=1+1", "b\t'-1+x", "plain", "'-", *numbers]
    assert sorted(row[0] for row in rows) == sorted(quoted)
    assert {row[2] for row in rows} == {"-1.5"}, "a number stays one"
    shown = client.ask("GET", "/api/result").get_json()["shown"]
    assert {row[0] for row in shown} == set(labels), "the page shows what is in the file"


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff0b"])
def test_text_that_a_spreadsheet_would_execute_is_quoted(begin: str) -> None:
    assert processing.harmless(f"{begin}x").startswith(f"'{begin}")
    assert processing.harmless(f"x{begin}x") == ("x\tx" if begin == "\t" else f"x{begin}x")


@pytest.mark.parametrize("number", [-1.5, 0, None, "-1.5", "+2", "-1e-5", "-1,5"])
def test_numbers_are_not_quoted(number: Any) -> None:
    assert processing.harmless(number) == number


# --- Files that cannot be processed ---

BAD_AT_ONCE = {
    "nothing": (b"", "empty"),
    "blanks": (b" \r\n\n\t ", "empty"),
    "only a mark": (b"\xef\xbb\xbf", "empty"),
    "header only": (b"a,b,c\n", "no rows"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not a text"),
    "random bytes": (bytes(range(1, 256)) * 20, "not a text"),
    "a NUL": (b"a,b\n1,\x002\n", "not a text"),
    "open quote": (b'a,b\n1,2\n"3,4\n5,6\n', "Line 3 has a quotation mark that is never closed"),
    "text after a quote": (b'a,b\n"1"2,3\n', "Line 2 has a quotation mark that is never closed, or text after"),
    "long line": (b"a,b\n" + b"x" * 140_000 + b",1\n", "Line 2 has more than 100000 bytes"),
    "one line": (b"x" * 140_000 + b",1\n", "Line 1 has more than 100000 bytes"),
    "many columns": (b",".join(b"c%d" % i for i in range(2000)) + b"\n" + b"1," * 1999 + b"1\n", "2000 columns"),
    "far too many": (b",".join(b"c%d" % i for i in range(20_000)) + b"\n1\n", "too many columns"),
}


@pytest.mark.parametrize("name", BAD_AT_ONCE)
def test_bad_files_are_refused_at_once(demo: Flask, client: Client, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "MAX_LINE", 100_000)
    data, said = BAD_AT_ONCE[name]
    client.summary(SMALL, "city")
    assert said in problem(client.upload(data), 422)
    state = client.ask("GET", "/api/status").get_json()
    assert state["source"]["size"] == len(SMALL)
    assert state["result"]["groups"] == 2
    assert silo_of(demo).file_store("uploads").total_size_bytes == len(SMALL)
    assert client.start("city").status_code == 202
    assert client.finish()["complete"]


LONG = b"a,b\n" + b"x,1\n" * 30_000
BAD_LATER = {
    "a NUL": (LONG + b"x,\0\n", "count", "NUL byte in line 30002"),
    "open quote": (LONG + b'"x,1\n', "count", "Line 30002 has a quotation mark that is never closed"),
    "long line": (LONG[:80_000] + b"x," + b"1" * 140_000, "count", "has more than 100000 bytes"),
    "many misfits": (
        LONG[:80_000] + b"x\n" * 20_000,
        "count",
        "Too many rows do not have 2 cells, the first in line 20001",
    ),
    "no numbers": (b"a,b\nx,y\n", "sum", "has no numbers"),
    "long value": (b"a,b\nx,1\n" + b"x" * 600 + b",1\n", "count", "Row 2 of the data: the value"),
    "many groups": (b"a,b\n" + b"".join(b"%d,1\n" % i for i in range(10_001)), "count", "more than 10000 different"),
}


@pytest.mark.parametrize("name", BAD_LATER)
def test_bad_files_fail_with_a_reason(client: Client, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "HEAD", 10_000)
    monkeypatch.setattr(forms, "MAX_LINE", 100_000)
    data, how, said = BAD_LATER[name]
    assert said in client.failure(data, "a", how, "b")


# --- Too large ---


def test_too_large_is_refused_before_it_is_sent(demo: Flask) -> None:
    with served(demo) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        connection.putrequest("POST", "/api/upload?name=huge.csv")
        connection.putheader("Content-Length", str(500 * MB))
        connection.endheaders(b"a,b\n")
        answer = connection.getresponse()
        said = json.loads(answer.read())
        connection.close()
    assert answer.status == 413
    assert said["message"] == "The file is too large. Up to 0.25 MB can be uploaded."
    assert silo_of(demo).file_store("uploads").total_size_bytes == 0


def test_too_large_without_a_length_is_refused_on_the_way(demo: Flask) -> None:
    block = b"10000\r\n" + b"x,1\n" * 0x4000 + b"\r\n"
    sent = 0
    with served(demo) as port, socket.create_connection(("127.0.0.1", port), DEADLINE) as connection:
        head = b"POST /api/upload?name=huge.csv HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head)
        while not select.select([connection], [], [], 0)[0]:
            sent += len(block)
            assert sent < 500 * MB, "the server takes whatever comes"
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    assert silo_of(demo).file_store("uploads").total_size_bytes == 0
    assert Client(demo).summary(SMALL, "city")


def raw_upload(client: Client, body: Any, **environ: Any) -> TestResponse:
    overrides = {"wsgi.input": body, "CONTENT_LENGTH": "", **environ}
    return client.ask("POST", "/api/upload", query_string={"name": "a.csv"}, environ_overrides=overrides)


def test_an_upload_without_end_is_refused(demo: Flask, client: Client) -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            self.taken += len(buffer)
            return len(buffer)

    body = Endless()
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    problem(raw_upload(client, body, **chunked), 413)
    assert body.taken < MB
    assert silo_of(demo).file_store("uploads").total_size_bytes == 0


def test_a_broken_off_upload_leaves_nothing(demo: Flask, client: Client) -> None:
    problem(raw_upload(client, io.BytesIO(SMALL), CONTENT_LENGTH=str(len(SMALL) + 100)), 400)
    assert silo_of(demo).file_store("uploads").total_size_bytes == 0
    assert client.summary(SMALL, "city")


def test_a_session_holds_one_file(demo: Flask, client: Client) -> None:
    for number in range(5):
        assert client.upload(b"a,b\n" + b"x,1\n" * 60_000, f"{number}.csv").status_code == 200
    assert silo_of(demo).file_store("uploads").total_size_bytes == 240_004


def test_a_large_question_is_refused(client: Client) -> None:
    client.upload(SMALL)
    problem(client.ask("POST", "/api/start", data=b" " * 100_000, content_type="application/json"), 413)


# --- Wrong requests ---


@pytest.mark.hostile
@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "a\\b.csv",
        "a\0b.csv",
        "a\nb.csv",
        "a\u202evsc.csv",
        "x" * 300,
        "a. ",
    ],
)
def test_hostile_names_are_refused(tmp_path: Path, name: str) -> None:
    app = create_app(DATA_DIR=str(tmp_path / "data"))
    try:
        problem(Client(app).upload(SMALL, name), 400)
        assert silo_of(app).file_store("uploads").total_size_bytes == 0
    finally:
        silo_of(app).stop()


@pytest.mark.parametrize(
    "question",
    [
        {"by": "nowhere", "how": "count"},
        {"by": "city", "how": "sum", "value": "nowhere"},
        {"by": "city", "how": "sum"},
        {"by": "city", "how": "median", "value": "size"},
        {"by": ["city"], "how": {}},
        {"by": None, "how": "count"},
        {},
        [],
        "city",
        None,
    ],
)
def test_wrong_questions_are_refused(client: Client, question: Any) -> None:
    client.upload(SMALL)
    problem(client.ask("POST", "/api/start", data=json.dumps(question), content_type="application/json"), 400)
    assert client.ask("GET", "/api/status").get_json()["task"]["status"] == "idle"


def test_other_wrong_requests(client: Client) -> None:
    assert problem(client.start("city"), 409) == "Upload a file first."
    client.upload(SMALL)
    problem(client.ask("POST", "/api/start", data="{", content_type="application/json"), 400)
    problem(client.ask("POST", "/api/start", data="by=city"), 415)
    problem(client.ask("GET", "/api/nothing"), 404)
    problem(client.ask("GET", "/api/start"), 405)


def test_an_error_of_the_server_is_json(demo: Flask, client: Client) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("secret")

    demo.view_functions["upload"] = broken
    answer = client.upload(SMALL)
    assert "secret" not in problem(answer, 500)


# --- Set-up ---


def test_settings_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_MAX_UPLOAD_MB", "2")
    monkeypatch.setenv("DEMO_DATA_DIR", str(tmp_path / "there"))
    monkeypatch.setenv("SILO_TTL", "12.5")
    monkeypatch.setenv("SILO_HEADER", "X-Other")
    app = create_app()
    try:
        answer = app.test_client().get("/api/status")
        assert answer.get_json()["limits"] == {"upload_bytes": 2 * MB, "ttl": 12.5}
        assert app.test_client().post("/api/sample").headers["X-Other"]
        assert (tmp_path / "there").is_dir()
    finally:
        silo_of(app).stop()


@pytest.mark.skipif(os.name != "posix", reason="modes and owners of folders are POSIX")
def test_the_default_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = private_folder("")
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert private_folder("") == folder
    folder.chmod(0o755)
    with pytest.raises(PermissionError):
        private_folder("")
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(PermissionError):
        private_folder("")


@pytest.mark.parametrize("target", ["basic_app", "data_processor/app"])
def test_the_flask_command_finds_the_examples(target: str, tmp_path: Path) -> None:
    env = os.environ | {"DEMO_DATA_DIR": str(tmp_path)}
    path = DEMO.parent / target
    command = [sys.executable, "-m", "flask", "--app", str(path), "routes"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "/api/reset" in done.stdout
