"""The demo with files from common programs, and with files that it cannot process."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from demo_client import SMALL, Client, client, demo, one_database, problem, silo_of
from flask import Flask
from silo_files import MAX_NAME_BYTES, check_name
from werkzeug.http import parse_options_header
from werkzeug.test import TestResponse

import forms  # isort: skip
import processing  # isort: skip
import reading  # isort: skip

__all__ = ["client", "demo", "one_database"]

pytestmark = pytest.mark.slow


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
