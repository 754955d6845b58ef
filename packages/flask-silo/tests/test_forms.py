"""The parts of a form are found as Werkzeug finds them, however the blocks of the body fall."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import pytest
from flask import Request
from flask_silo import MalformedUpload
from flask_silo.files.body import Body
from flask_silo.files.form import MAX_HEAD_LINE, Head, read_form
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser
from werkzeug.test import EnvironBuilder

BOUNDARY = "-ab"


class Blocks:
    """The input of a request that comes in blocks of these sizes, over and over."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self.data = data
        self.sizes = sizes
        self.reads = 0

    def read(self, size: int) -> bytes:
        size = min(size, self.sizes[self.reads % len(self.sizes)])
        self.reads += 1
        block, self.data = self.data[:size], self.data[size:]
        return block


class FileOf:
    """Collects the bytes of a file."""

    def __init__(self) -> None:
        self.content = b""
        self.ended = False

    def write(self, data: bytes) -> None:
        assert not self.ended
        assert len(data)
        self.content += data

    def end(self) -> None:
        self.ended = True


class LimitedRequest(Request):
    max_form_memory_size = 1000
    max_form_parts = 50


def request_with(data: bytes, sizes: list[int], boundary: str = BOUNDARY) -> Request:
    environ = EnvironBuilder(method="POST").get_environ()
    environ["CONTENT_TYPE"] = f'multipart/form-data; boundary="{boundary}"'
    environ.update({"wsgi.input": Blocks(data, sizes), "CONTENT_LENGTH": str(len(data))})
    return LimitedRequest(environ)


def read(data: bytes, sizes: list[int] | None = None, boundary: str = BOUNDARY) -> tuple[Any, Any]:
    """Return the fields of a form, and its files: the name of the field, that of the file, and the content."""
    request = request_with(data, sizes or [len(data) + 1], boundary)
    files: list[tuple[Head, FileOf]] = []

    def begin(head: Head) -> FileOf:
        file = FileOf()
        files.append((head, file))
        return file

    fields = read_form(Body(request), request, begin)
    assert all(file.ended for _, file in files)
    return sorted(fields), sorted((head.name, head.filename or "", file.content) for head, file in files)


def by_werkzeug(data: bytes) -> tuple[Any, Any]:
    parser = FormDataParser(lambda *args, **more: io.BytesIO(), silent=False, cls=MultiDict)
    options = {"boundary": BOUNDARY}
    _, form, files = parser.parse(io.BytesIO(data), "multipart/form-data", len(data), options)
    found = [(name, file.filename, file.stream.read()) for name, file in files.items(multi=True)]
    return sorted(form.items(multi=True)), sorted(found)


def part(content: bytes, name: str = "a", filename: str | None = None, more: str = "") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'
    head += f'; filename="{filename}"' if filename is not None else ""
    return head.encode() + more.encode() + b"\r\n\r\n" + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


PIECES = [b"\r", b"\n", b"\r\n", b"-", b"--", b"\r\n--", b"\r\n---a", b"x", b"\r\n\r\n", b"\0\xff", b"bc"]
"""What a content is made of: much that begins like a boundary."""


@pytest.mark.parametrize("seed", range(60))
def test_any_form_is_read_as_it_was_written(seed: int) -> None:
    dice = random.Random(seed)
    fields, files, data = [], [], dice.choice([b"", b"words\r\n", b"\r\n"])
    for number in range(dice.randrange(6)):
        name, filename = f"n{number % 3}", dice.choice([None, "", "f.txt", "ü 'x'.bin"])
        content = b"".join(dice.choices(PIECES, k=dice.randrange(12))).replace(b"---ab", b"---aB")
        data += part(content, name, filename)
        if filename is None:
            fields.append((name, content.decode("utf-8", "replace")))
        else:
            files.append((name, filename, content))
    data += END + dice.choice([b"", b"\r\nmore", b"--"])

    assert by_werkzeug(data) == (sorted(fields), sorted(files))
    for sizes in ([len(data)], [1], [2], [3, 5], [dice.randrange(1, 40) for _ in range(7)]):
        assert read(data, sizes) == (sorted(fields), sorted(files))


@pytest.mark.parametrize(
    "like", [b"\r\n---a", b"\r\n---aB\r\n", b"\n---ab\n", b"\r---ab\r\n", b"x---ab\r\n", b"---ab--"]
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_what_only_looks_like_a_boundary_is_data(like: bytes, size: int) -> None:
    """Werkzeug ends the file at some of these."""
    contents = [b"1" + like + b"2"]
    if like.startswith(b"\r\n"):  # those of the head
        contents.append(like[2:] + b"2")
    for content in contents:
        assert read(part(content, filename="f") + END, [size]) == ([], [("a", "f", content)])


@pytest.mark.parametrize("like", [b"\r\n---abc", b"\r\n---ab-", b"\r\n---ab \r\n", b"\r\n---ab\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_line_that_only_begins_with_a_boundary_is_refused(like: bytes, size: int) -> None:
    """A client chooses a boundary with which no line of its parts begins (RFC 2046, section 5.1.1), and pads none."""
    with pytest.raises(MalformedUpload, match="Unexpected bytes after boundary"):
        read(part(b"1" + like + b"2", filename="f") + END, [size])


@pytest.mark.parametrize(
    "data",
    [
        END,
        END[:-2],
        part(b"") + END,
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--{BOUNDARY}--".encode(),
        part(b"1", more="\r\nContent-Type: text/plain;\r\n charset=iso-8859-1") + END,
        part("ü".encode("latin-1"), more="\r\nContent-Type: text/plain; charset=iso-8859-1") + END,
        part(b"\xff") + END,
        part(b"1", filename="a%22b.csv") + END,
        part(b"1").replace(b"name=", b"filename*=UTF-8''%e2%82%ac.txt; name=") + END,
        part(b"1", filename="=?utf-8?B?4oKsLnR4dA==?=", more="; filename*=utf-8''%e2%82%ac.txt") + END,
    ],
    ids=range(10),
)
def test_unusual_forms_are_read_as_by_werkzeug(data: bytes) -> None:
    assert read(data) == read(data, [1]) == by_werkzeug(data)


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("data\\a.csv", "data\\a.csv"),
        ("a\\\\b.csv", "a\\\\b.csv"),
        ('a\\"b\\c.csv', 'a"b\\c.csv'),
        ("a%22b\\c.csv", 'a"b\\c.csv'),
        ('a\\".csv', 'a".csv'),
    ],
)
def test_backslashes_in_the_name_of_a_file_are_kept(sent: str, name: str) -> None:
    assert read(part(b"1", filename=sent) + END) == ([], [("a", name, b"1")])
    assert read(part(b"1", filename="C:\\data\\a.csv") + END) == ([], [("a", "a.csv", b"1")])
    assert read(part(b"1", 'x; filename=\\"y\\z\\"', filename="f") + END)[1][0][1] == "f"


WHOLE = part(b"12345") + part(b"\r\n\r\n", "b", "b.bin") + END


@pytest.mark.parametrize("size", range(len(WHOLE) - 2))
def test_a_form_without_its_end_is_refused(size: int) -> None:
    with pytest.raises(MalformedUpload):
        read(WHOLE[:size], [10])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "Unexpected end"),
        (b'{"a": 1}', "Unexpected end"),
        (WHOLE.replace(BOUNDARY.encode(), b"other"), "Unexpected end"),
        (part(b"").replace(b"\r\n\r\n\r\n", b"\r\n\r\n") + END, "Unexpected end"),
        (part(b"").replace(b"name=", b"nome=") + END, "has no name"),
        (part(b"", "") + END, "has no name"),
        (part(b"").replace(b"Content-D", b"D") + END, "Missing Content-Disposition"),
        (f"--{BOUNDARY}\r\n\r\nx\r\n".encode() + END, "Missing Content-Disposition"),
        (part(b"").replace(b'"a"', b'"\xff"') + END, "header failed to decode"),
        (part(b"").replace(b'"a"', b'"\n"') + END, "the head of a part cannot be read|Invalid line break"),
        (part(b"", "x" * MAX_HEAD_LINE) + END, "header length exceeded"),
        (part(b"", "x" * 10 * MAX_HEAD_LINE), "header length exceeded"),
        (part(b"", more="\r\nX: 1" * 8) + END, "header count exceeded"),
        (part(b"12", more="\r\nContent-Length: 1") + END, "Content-Length exceeded"),
    ],
)
@pytest.mark.parametrize("size", [1, 100_000])
def test_what_is_no_form_is_refused(data: bytes, reason: str, size: int) -> None:
    with pytest.raises(MalformedUpload, match=reason) as caught:
        read(data, [size])
    assert "xff" not in str(caught.value)


@pytest.mark.parametrize("boundary", ["", "ü"])
def test_a_form_needs_a_boundary(boundary: str) -> None:
    with pytest.raises(MalformedUpload, match="names no boundary"):
        read(END, boundary=boundary)


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        (part(b"x" * 1001) + END, {"max_bytes": 1000}),
        (part(b"x" * 1000) * 51 + END, {"max_parts": 50}),
        (part(b"", filename="") * 51 + END, {"max_parts": 50}),
    ],
)
def test_limits_of_flask_hold(data: bytes, limits: dict[str, int]) -> None:
    with pytest.raises(RequestEntityTooLarge) as caught:
        read(data, [10])
    assert caught.value.limits == limits  # type: ignore[attr-defined]


def test_a_form_within_the_limits_is_read() -> None:
    fields, files = read(part(b"x" * 1000) * 49 + part(b"x" * 100_000, filename="f") + END)
    assert (len(fields), len(files)) == (49, 1)


@pytest.mark.parametrize("content", [b"x" * 30_000, b"\r\n---aBx" * 3000], ids=["data", "almost boundaries"])
def test_data_is_passed_on_in_the_blocks_that_come_in(content: bytes) -> None:
    """Also if it is all but boundaries: a client must not make the server write each by itself."""
    sizes = []

    class Counted(FileOf):
        def write(self, data: bytes) -> None:
            sizes.append(len(data))

    head = part(b"", filename="f")[:-2]
    data = head + content + b"\r\n" + END
    request = request_with(data, [len(head), 10_000])
    begin: Callable[[Head], Counted] = lambda head: Counted()  # noqa: E731
    read_form(Body(request), request, begin)
    assert sum(sizes) == len(content)
    assert max(sizes) >= 9900
    assert len(sizes) <= 5
