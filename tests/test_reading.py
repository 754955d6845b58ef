"""How the demo reads CSV files: what it detects, what a user can choose, and that no row is lost."""

# ruff: noqa: RUF001  # The files are in other languages.

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from demo_client import Client, Gate, create_app, one_database, problem, silo_of
from flask import Flask
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import decoding  # isort: skip
import forms  # isort: skip
import reading  # isort: skip
from marks import Marks, understand  # isort: skip
from processing import as_json  # isort: skip

__all__ = ["one_database"]

pytestmark = pytest.mark.slow


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Flask]:
    app = create_app(DATA_DIR=str(tmp_path / "data"))
    yield app
    silo_of(app).stop()


@pytest.fixture
def client(demo: Flask) -> Client:
    return Client(demo)


def table(client: Client, data: bytes) -> dict[str, Any]:
    answer = client.upload(data)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()["source"]["table"]
    return found


def read(client: Client, **chosen: object) -> dict[str, Any]:
    answer = client.ask("POST", "/api/reading", json=chosen)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()["source"]["table"]
    return found


def measured(client: Client, by: str, how: str, value: str) -> list[list[Any]]:
    assert client.start(by, how, value).status_code == 202
    task = client.finish()
    assert task["complete"], task
    shown: list[list[Any]] = client.ask("GET", "/api/result").get_json()["shown"]
    return shown


MUNICH = "Stadt,Wert\n" + "".join(f"München,{n}\n" for n in range(40))
UNDERSTOOD: dict[str, tuple[bytes, dict[str, Any]]] = {
    "units in the header": (
        "Größe, cm;Gewicht, kg;Alter, Jahre\n180,5;70,2;33,1\n170,5;60,2;23,1\n".encode(),
        {"columns": ["Größe, cm", "Gewicht, kg", "Alter, Jahre"], "delimiter": ";", "decimal": ",", "header": 1},
    ),
    "decimal commas in every cell": (
        b"1,5;2,5\n3,5;4,5\n5,5;6,5\n",
        {"columns": ["Column 1", "Column 2"], "delimiter": ";", "decimal": ",", "header": 0},
    ),
    "decimal commas beside tabs": (
        b"x, y\tz, w\n1,5\t2,5\n3,5\t4,5\n",
        {"columns": ["x, y", "z, w"], "delimiter": "\t", "decimal": ",", "header": 1},
    ),
    "numbers in the first row": (b"1;2,5;3\n2;3,5;4\n3;4,5;6\n", {"delimiter": ";", "decimal": ",", "header": 0}),
    "a gap in the first row": (b"1,,3\n2,5,6\n2,5,6\n", {"delimiter": ",", "header": 0}),
    "grouped numbers in the first row": (b"1.084.831;5\n331.885;6\n", {"header": 0, "thousands": "."}),
    "Excel's separator": (
        b"sep=,\r\ncity,value\r\nb,1\r\nb,2\r\n",
        {"columns": ["city", "value"], "delimiter": ",", "header": 2, "notes": []},
    ),
    "Excel's separator without a header": (b"sep=;\n1;2\n3;4\n", {"delimiter": ";", "header": 0, "rows": [["1", "2"]]}),
    "grouped whole numbers": (
        "Stadt;Einwohner\nKöln;1.084.831\nBonn;331.885\nUlm;128.928\n".encode(),
        {"numeric": ["Einwohner"], "decimal": ",", "thousands": ".", "header": 1, "notes": []},
    ),
    "decimal commas in a file of tabs": (
        "Stadt\tUmsatz\nKöln\t1,50\nBonn\t2,25\nKöln\t3,00\n".encode(),
        {"numeric": ["Umsatz"], "delimiter": "\t", "decimal": ",", "notes": []},
    ),
    "decimal commas in quotation marks": (
        b'city,value\n"Bonn","1,50"\n"Ulm","2,25"\n',
        {"numeric": ["value"], "delimiter": ",", "decimal": ","},
    ),
    "one byte that is not UTF-8": (
        MUNICH.encode() + b"M\xfc,1\n",
        {"encoding": "utf-8", "notes": ["One character, in line 42, is not UTF-8. It is replaced by “\ufffd”."]},
    ),
    "a byte order mark and one such byte": (
        b"\xef\xbb\xbf" + MUNICH.encode() + b"K\xf6ln,1\n",
        {"encoding": "utf-8", "columns": ["Stadt", "Wert"], "rows": [["München", "0"]]},
    ),
    "Windows with the euro sign": (
        "Artikel;Preis €\nBlau;1,50\nRot;2,50\n".encode("cp1252"),
        {"encoding": "cp1252", "columns": ["Artikel", "Preis €"], "decimal": ","},
    ),
    "Windows with typographic quotation marks": (
        "name,note\n1,“gut” – das „Ding“\n2,it’s\n".encode("cp1252"),
        {"encoding": "cp1252", "rows": [["1", "“gut” – das „Ding“"]]},
    ),
    "Cyrillic": ("город,число\nМосква,1\nКазань,2\n".encode("cp1251"), {"encoding": "cp1251"}),
    "UTF-16 without a byte order mark": (
        "Stadt;Wert\nKöln;1\n".encode("utf-16-le"),
        {
            "encoding": "utf-16-le",
            "columns": ["Stadt", "Wert"],
            "notes": ["The text is not UTF-8. It is read as utf-16-le."],
        },
    ),
    "UTF-16 in the other order": ("a,b\nü,1\n".encode("utf-16-be"), {"encoding": "utf-16-be", "rows": [["ü", "1"]]}),
    "UTF-16": ("Stadt\tWert\nKöln\t1\n".encode("utf-16"), {"encoding": "utf-16", "columns": ["Stadt", "Wert"]}),
    "one cell": (b"5", {"header": 0, "notes": ["The file has no header, so the columns are numbered."]}),
    "rows of separators": (b"city,value\na,1\nb,2\n,\n,\n,\n,\n", {"numeric": ["value"], "notes": []}),
    "R's row names": (
        b'"x","y"\n"1",5,6\n"2",7,8\n',
        {"columns": ["Column 1", "x", "y"], "header": 1, "rows": [["1", "5", "6"], ["2", "7", "8"]]},
    ),
    "R's row names in text": (
        b'"x","y"\n"Mazda RX4","a","b"\n"Fiat 128","c","d"\n',
        {"columns": ["Column 1", "x", "y"], "header": 1, "rows": [["Mazda RX4", "a", "b"], ["Fiat 128", "c", "d"]]},
    ),
    "lines above the header": (
        b"Konto:;DE00 0000;\n\nStand:;01.01.2024;\n\nDatum;Name;Betrag;Waehrung\n"
        b"01.01.2024;A;-5,00;EUR\n02.01.2024;B;-6,00;EUR\n",
        {"columns": ["Datum", "Name", "Betrag", "Waehrung"], "numeric": ["Betrag"], "decimal": ",", "header": 5},
    ),
    "an end mark": (b"item,n\r\na,1\r\nb,2\r\n\x1a", {"columns": ["item", "n"], "numeric": ["n"], "notes": []}),
    "line ends of two kinds": (b"a,b\n1,2\r\n3,4\r5,6\n", {"rows": [["1", "2"], ["3", "4"], ["5", "6"]]}),
    "commas at the ends of lines": (b"a,b,\n1,2,\n3,4,\n", {"columns": ["a", "b", "Column 3"], "numeric": ["a", "b"]}),
    "a few rows of another length": (
        b"city,size\nOslo,3\nRome\nOslo,1,2\nRome,5\n",
        {"notes": ["2 rows do not have 2 cells, see line 3. Such rows are left out and counted."]},
    ),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_file_is_understood_at_once(client: Client, name: str) -> None:
    data, right = UNDERSTOOD[name]

    found = table(client, data)

    flat = found | found["form"] | found["marks"] | {"rows": found["preview"][: len(right.get("rows", []))]}
    assert {key: flat[key] for key in right} == right
    assert set(found["chosen"].values()) == {None}


def test_lines_above_the_header_are_noted(client: Client) -> None:
    assert table(client, b"Report 2024\n\nx,y,z\n1,2,3\n4,5,6\n")["notes"] == ["2 lines above the header are left out."]
    assert table(client, b"a,b\n1,2\n")["notes"] == []


SHORT = (
    "Line 1 has one name fewer than the rows have cells. The first column is taken to have no name. "
    "Choose another separator if the comma is a decimal mark."
)


@pytest.mark.parametrize(
    ("data", "chosen", "columns", "notes"),
    [
        (b'"x","y"\n"1",5,6\n"2",7,8\n', {"header": 1}, ["Column 1", "x", "y"], [SHORT]),
        (
            b"wert\n1,5\n2,5\n3,5\n",
            {},
            ["Column 1", "wert"],
            [SHORT],
        ),
        (b"wert\n1,5\n2,5\n3,5\n", {"delimiter": ";"}, ["wert"], []),
        (b"a,b,\n1,2\n3,4\n5,6\n", {"header": 1}, ["a", "b"], []),
        (
            b"a,b,c\n1,2\n3,4\n5,6\n",
            {},
            ["a", "b"],
            ["Line 1 has more names than the rows have cells. The last ones are ignored."],
        ),
    ],
)
def test_a_header_of_another_length_is_noted(
    client: Client, data: bytes, chosen: dict[str, object], columns: list[str], notes: list[str]
) -> None:
    table(client, data)
    found = read(client, **chosen)
    assert (found["columns"], len(found["preview"])) == (columns, len(data.splitlines()) - 1)
    assert [note for note in found["notes"] if note.startswith("Line")] == notes


def test_a_stray_quotation_mark_does_not_end_the_first_part(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "BLOCK", 1000)
    data = b'item,size,n\n1,5" pipe,1\n' + b"2,plain,2\n" * 200
    assert len(table(client, data)["preview"]) == reading.PREVIEW
    assert measured(client, "item", "sum", "n") == [["2", 200, 400], ["1", 1, 1]]


def test_names_of_folders_do_not_become_cells(tmp_path: Path) -> None:
    path = tmp_path / "c0=2024" / "k=v" / "text.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a,b\n1,2\n")
    form = forms.sniff(path).form
    assert forms.first_row(path, form, 1) == ["a", "b"]
    assert list(forms.rows(path, form)) == [("a", "b"), ("1", "2")]


@pytest.mark.parametrize("end", [b"", b"\n3,4\n"])
def test_a_line_that_is_longer_than_the_buffer_is_refused(client: Client, end: bytes) -> None:
    """DuckDB silently skips such a line."""
    said = client.failure(b"a,b\n1,2\n" + b"x" * (33 << 20) + end, "a")
    assert said == "Line 3 has more than 1048576 bytes. Perhaps a quotation mark is not closed."


def test_rows_of_separators_are_blank(client: Client) -> None:
    assert client.summary(b"city,value\na,1\nb,2\n,\n,\n", "city", "sum", "value") == [["b", 1, 2], ["a", 1, 1]]
    result = client.ask("GET", "/api/result").get_json()
    assert (result["rows"], result["skipped"], result["missing"]) == (2, 0, 0)


def test_the_character_that_was_replaced_is_the_only_one(client: Client) -> None:
    groups = {label: count for label, count, _ in client.summary(MUNICH.encode() + b"M\xfc,1\n", "Stadt")}
    assert groups == {"München": 40, "M\ufffd": 1}


def test_numbers_keep_their_digits(client: Client) -> None:
    data = b"k,ts\na,1700000000123\na,1700000000456\n"
    assert client.summary(data, "k", "max", "ts") == [["a", 2, 1700000000456]]
    assert measured(client, "k", "min", "ts") == [["a", 2, 1700000000123]]
    assert measured(client, "k", "sum", "ts") == [["a", 2, 3400000000579]]
    assert measured(client, "k", "mean", "ts") == [["a", 2, 1700000000289.5]]


@pytest.mark.parametrize(
    ("cells", "how", "right"),
    [
        (["0.1"] * 10, "sum", 1),
        (["1e100", "1", "-1e100"], "sum", 1),
        (["9007199254740993", "0"], "sum", "9007199254740993"),
        (["12345678901234567890.12", "0"], "max", "12345678901234567890.12"),
        (["0.30000000000000004", "0.3"], "max", 0.30000000000000004),
        (["1e300", "1e300"], "sum", 2e300),
        (["-0.5", "-0.25"], "min", -0.5),
    ],
)
def test_sums_are_exact(client: Client, cells: list[str], how: str, right: object) -> None:
    data = "a,b\n" + "".join(f"x,{cell}\n" for cell in cells)
    ((_, _, measure),) = client.summary(data.encode(), "a", how, "b")
    assert measure == right
    assert type(measure) is type(right)


def test_a_grouped_number_is_what_it_says(client: Client) -> None:
    data = "Stadt;Einwohner\nKöln;1.084.831\nBonn;331.885\n".encode()
    assert client.summary(data, "Stadt", "sum", "Einwohner") == [["Köln", 1, 1084831], ["Bonn", 1, 331885]]


def test_an_ambiguous_mark_is_noted_and_can_be_chosen(client: Client) -> None:
    data = b"a;b\nx;331.885\nx;128.928\n"
    found = table(client, data)
    assert found["notes"] == [
        "Numbers like 331.885 in “b” are ambiguous: the mark can be a decimal mark or a thousands mark. "
        "331.885 is read as 331.885. If that is wrong, choose the marks."
    ]
    assert measured(client, "a", "sum", "b") == [["x", 2, 460.813]]
    assert client.ask("GET", "/api/result").get_json()["ambiguous"] == 2

    assert read(client, thousands=".")["notes"] == []
    assert measured(client, "a", "sum", "b") == [["x", 2, 460813]]
    assert client.ask("GET", "/api/result").get_json()["ambiguous"] == 0


def test_an_ambiguous_mark_below_the_sample_is_counted(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SAMPLE", 1)
    data = b"a;b\n" + b"x;1\n" * 60 + b"x;1.234\nx;1.084.831\n"
    assert table(client, data)["notes"] == []
    assert measured(client, "a", "count", "b") == [["x", 62, 62]]
    client.start("a", "sum", "b")
    client.finish()
    result = client.ask("GET", "/api/result").get_json()
    assert (result["ambiguous"], result["odd"]) == (0, 2)


@pytest.mark.parametrize(
    ("columns", "delimiter", "right", "ambiguous"),
    [
        ([["1.084.831", "331.885"]], ";", [(",", ".")], []),
        ([["331.885"]], ";", [(".", "")], [0]),
        ([["1,234"]], ",", [(".", ",")], [0]),
        ([["1,234"]], "\t", [(",", "")], [0]),
        ([["1,50"]], "\t", [(",", "")], []),
        ([["0.123", "1.234"]], ";", [(".", "")], []),
        ([["12,50"], ["1.084.831"], ["331.885"]], ";", [(",", "."), (",", "."), (",", ".")], [2]),
        ([["1.084.831"], ["3.5"]], ";", [(",", "."), (".", "")], []),
        ([["1\u202f234,5"]], ";", [(",", " ")], []),
        ([["1'234.50", "1’234"]], ";", [(".", "'")], []),
        ([["01.01.2024"], ["-5,00"]], ";", [(",", ""), (",", "")], []),
        ([["5", "6"], ["x", ""]], ",", [(".", ""), (".", "")], []),
    ],
)
def test_the_marks_of_columns(
    columns: list[list[str]], delimiter: str, right: list[tuple[str, str]], ambiguous: list[int]
) -> None:
    found = understand(columns, delimiter)
    assert [(marks.decimal, marks.thousands) for marks in found.columns] == right
    assert found.ambiguous == ambiguous


def test_columns_with_other_marks_are_noted(client: Client) -> None:
    found = table(client, b"a;b;c\n1.084.831;3.5;1.5\n331.885;4.5;2.5\n")
    assert found["notes"] == ["In “a”, the decimal mark is a comma, and the thousands mark is a point."]


@pytest.mark.parametrize("cell", ["1_000", "inf", "nan", "0x10", "١٢", "1,08", "1.084.83", "9" * 101, "1e301", "", "-"])
def test_cells_that_are_not_numbers(cell: str) -> None:
    assert Marks(",", ".").number(cell) is None or "." not in cell
    assert Marks(".", ",").number(cell) is None


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**12), max_value=10**12))
def test_a_number_is_read_as_it_was_written(number: Any) -> None:
    written = f"{number:,.3f}"
    swapped = written.translate(str.maketrans(",.", ".,"))
    assert Marks(".", ",").number(written) == number
    assert Marks(",", ".").number(swapped) == number


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20))
def test_json_holds_the_number_that_was_meant(number: Any) -> None:
    said = as_json(number)
    assert said is not None
    assert Fraction(str(said) if not isinstance(said, float) else repr(said)) == Fraction(number)
    assert isinstance(said, str) or (isinstance(said, float) and math.isfinite(said)) or abs(said) < 2**53


def test_a_user_chooses_another_separator(client: Client) -> None:
    table(client, b"a;b,c\n1;2,3\n4;5,6\n")
    found = read(client, delimiter=",")
    assert (found["columns"], found["preview"][0]) == (["a;b", "c"], ["1;2", "3"])
    assert found["chosen"]["delimiter"] == ","
    assert client.ask("GET", "/api/status").get_json()["source"]["table"] == found
    assert measured(client, "a;b", "sum", "c") == [["4;5", 1, 6], ["1;2", 1, 3]]


def test_a_user_chooses_the_header(client: Client) -> None:
    table(client, b"name,city\nAnna,Bonn\nBert,Ulm\n")
    found = read(client, header=0)
    assert (found["columns"], found["preview"][0]) == (["Column 1", "Column 2"], ["name", "city"])
    found = read(client, header=2)
    assert (found["columns"], found["preview"]) == (["Anna", "Bonn"], [["Bert", "Ulm"]])
    assert found["notes"] == ["One line above the header is left out."]
    assert read(client, header=None)["columns"] == ["name", "city"]


def test_the_line_of_the_separator_is_neither_row_nor_header(client: Client) -> None:
    table(client, b"sep=;\na;b\n1;2\n")
    problem(client.ask("POST", "/api/reading", json={"header": 1}), 422)
    assert read(client, header=0)["preview"] == [["a", "b"], ["1", "2"]]
    assert measured(client, "Column 1", "count", "Column 2") == [["1", 1, 1], ["a", 1, 1]]


def test_a_blank_line_cannot_be_the_header(client: Client) -> None:
    table(client, b"a,b\n\n1,2\n3,4\n")
    answer = client.ask("POST", "/api/reading", json={"header": 2})
    assert problem(answer, 422) == "Line 2 has no names."


@pytest.mark.parametrize(
    ("encoding", "text"), [("euc_jp", "東京"), ("mac_roman", "Köln"), ("cp852", "Łódź"), ("iso8859_2", "Łódź")]
)
def test_encodings_that_are_not_guessed_can_be_chosen(client: Client, encoding: str, text: str) -> None:
    table(client, f"a,b\n{text},1\n".encode(encoding))
    assert read(client, encoding=encoding)["preview"] == [[text, "1"]]


def test_a_user_chooses_the_encoding(client: Client) -> None:
    assert table(client, "miasto,n\nŁódź,1\n".encode("cp1250"))["encoding"] == "cp1252"
    found = read(client, encoding="cp1250")
    assert found["preview"] == [["Łódź", "1"]]
    assert measured(client, "miasto", "sum", "n") == [["Łódź", 1, 1]]


def test_a_user_chooses_the_decimal_mark(client: Client) -> None:
    table(client, b"a;b\nx;1.234\n")
    assert read(client, decimal=",")["marks"] == {"decimal": ",", "thousands": "."}
    assert measured(client, "a", "sum", "b") == [["x", 1, 1234]]


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"delimiter": "x"}, "cannot be chosen as delimiter"),
        ({"encoding": "utf-7"}, "cannot be chosen as encoding"),
        ({"header": -1}, "cannot be chosen as header"),
        ({"header": True}, "cannot be chosen as header"),
        ({"header": 1.0}, "cannot be chosen as header"),
        ({"header": [1]}, "cannot be chosen as header"),
        ({"quote": "'"}, "delimiter, decimal, thousands, header, encoding"),
        ({"decimal": ",", "thousands": ","}, "must differ"),
        ([], "Send a JSON object"),
    ],
)
def test_what_cannot_be_chosen_is_refused(client: Client, chosen: object, said: str) -> None:
    before = table(client, b"a,b\n1,2\n")
    assert said in problem(client.ask("POST", "/api/reading", json=chosen), 400)
    assert client.ask("GET", "/api/status").get_json()["source"]["table"] == before


def test_a_choice_that_does_not_fit_changes_nothing(client: Client) -> None:
    before = table(client, b"a,b\n1,2\n")
    for line in (2, 900):
        assert f"no rows below line {line}" in problem(client.ask("POST", "/api/reading", json={"header": line}), 422)
    assert client.ask("GET", "/api/status").get_json()["source"]["table"] == before


def test_nothing_is_chosen_without_a_file_or_while_a_task_reads_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.ask("POST", "/api/sample")
    client.ask("POST", "/api/reset")
    client.sid = None
    problem(client.ask("POST", "/api/reading", json={"header": 0}), 409)
    table(client, b"a,b\n1,2\n")
    gate = Gate(monkeypatch, "validate")
    client.start("a")
    gate.wait()
    problem(client.ask("POST", "/api/reading", json={"header": 0}), 409)
    gate.open()
    assert client.finish()["complete"]


CELLS = st.text(st.sampled_from("ab1, \";\n\tü€'#\\|"), max_size=8)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(CELLS, min_size=1, max_size=4), min_size=1, max_size=12), st.integers(1, 4))
@example([['"l\n1"', "a,b"], ["x"]], 2)
def test_every_row_is_read_or_reported(tmp_path: Path, given_rows: list[list[str]], width: int) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(given_rows)
    path = tmp_path / "rows.csv"
    path.write_bytes(text.getvalue().encode())

    reader = forms.rows(path, forms.Form(",", '"', '"', width, 0))
    found = [list(row) for row in reader]

    # An empty cell beyond the last column is no cell: files with a comma at the end of each line have one.
    fitting = [row[:width] if not any(row[width:]) else row for row in given_rows]
    assert found == [row for row in fitting if len(row) == width and any(row)]
    assert len(reader.misfits) == sum(len(row) != width for row in fitting)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16", "shift_jis", "gb18030"])
def test_a_text_is_the_same_wherever_its_blocks_end(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = {"cp1252": "Größe €", "shift_jis": "東京", "gb18030": "北京"}.get(encoding, "Größe € 東京 🐧")
    data = f"{text}\r\n{text}\r{text}\n\x1a".encode(encoding)
    for block in range(1, 9):
        monkeypatch.setattr(decoding, "BLOCK", block)
        assert "".join(decoding.texts(io.BytesIO(data), encoding)) == f"{text}\n{text}\n{text}\n"
        assert decoding.examine(io.BytesIO(data), encoding).replaced == 0


def test_the_first_part_ends_where_a_row_does(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "HEAD", 49)
    assert table(client, b"a,b\n" + b"x,1\n" * 40)["notes"] == []


def test_a_cell_of_several_lines_is_not_cut_where_the_first_part_ends(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "BLOCK", 64)
    data = b"a,b\n" + b'"two\nlines",1\n' * 20
    assert table(client, data)["preview"][0] == ["two\nlines", "1"]
    assert measured(client, "a", "sum", "b") == [["two\nlines", 20, 20]]
