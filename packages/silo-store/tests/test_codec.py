"""MessagePack keeps the contract, and changes exactly what it says."""

from __future__ import annotations

import datetime as dt
import enum
import io
import queue
import re
import socket
import sqlite3
import tempfile
import threading
import uuid
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from silo_store import Codec, MsgpackCodec, Unencodable
from silo_store.testing import CodecContract


class Colour(enum.Enum):
    RED = "red"


class Thing:
    pass


@dataclass
class Point:
    x: int


class TestMsgpack(CodecContract):
    def make_codec(self) -> Codec:
        return MsgpackCodec()


@pytest.mark.parametrize(
    ("value", "back"),
    [
        ((1, 2), [1, 2]),
        ({7}, [7]),
        (frozenset({7}), [7]),
        (Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04:00"),  # noqa: DTZ001 - naive on purpose
        (dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc), dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc)),
        (Colour.RED, "red"),
        (Point(3), {"x": 3}),
    ],
)
def test_what_comes_back_changed_comes_back_as_documented(value: Any, back: Any) -> None:
    codec = MsgpackCodec()
    assert codec.decode(codec.encode(value)) == back


class Frame:
    def to_parquet(self) -> None: ...


class Exchanged:
    def __dataframe__(self) -> None: ...


class Column:
    def __arrow_c_stream__(self) -> None: ...


class Batch:
    def __arrow_c_array__(self) -> None: ...


class Lazy:
    def sink_parquet(self) -> None: ...


class Image:
    def save(self) -> None: ...
    def thumbnail(self) -> None: ...
    def close(self) -> None: ...
    def __arrow_c_array__(self) -> None: ...


class Matrix:
    def toarray(self) -> None: ...


class Number:
    def tolist(self) -> None: ...


class Upload:
    mimetype = "text/csv"

    def save(self) -> None: ...


class Cursor:
    def execute(self) -> None: ...
    def __next__(self) -> None: ...


class Work:
    is_running = True


class Moment(dt.datetime):
    pass


def lines() -> Iterator[str]:
    yield "a"


FILE = "as a file of the session (flask-silo: add_file_store(); otherwise silo-files)"
LIVE = "belongs to one process"


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (Frame, f"save a table {FILE}"),
        (Exchanged, f"save a table {FILE}"),
        (Column, f"save a table {FILE}"),
        (Batch, f"save a table {FILE}"),
        (Lazy, f"save the table that it makes {FILE}"),
        (Image, f"save an image {FILE}"),
        (Matrix, f"save a matrix {FILE}"),
        (lambda: array("d", [1.5]), f"save an array {FILE}"),
        (Number, "keep its tolist()"),
        (Upload, f"save an upload {FILE}"),
        (io.BytesIO, f"an open file is a live object; save it {FILE}"),
        (tempfile.NamedTemporaryFile, f"an open file is a live object; save it {FILE}"),
        (lambda: deque([1]), f"keep a list or a dict of it, or save what is large {FILE}"),
        (lines, "can be read only once"),
        (Work, "a running task is a live object; keep its name"),
        (threading.Lock, "a lock works within one process"),
        (lambda: sqlite3.connect(":memory:"), LIVE),
        (Cursor, LIVE),
        (socket.socket, LIVE),
        (threading.Event, LIVE),
        (threading.Thread, LIVE),
        (lambda: ThreadPoolExecutor(1), LIVE),
        (Future, LIVE),
        (queue.Queue, LIVE),
        (lambda: Path("a"), "keep it as text"),
        (lambda: Moment(2026, 1, 2), "keep a plain datetime.datetime of it"),
        (lambda: 2**70, "64 bits"),
        (lambda: "\ud800", "surrogate"),
        (object, f"keep plain data (dict, list, str, numbers, bytes, datetime); save what is large {FILE}"),
    ],
)
def test_the_advice_fits_the_value(make: Callable[[], Any], advice: str) -> None:
    value = make()
    with pytest.raises(Unencodable) as caught:
        MsgpackCodec().encode({"x": value})
    assert advice in caught.value.advice
    assert caught.value.is_plain == isinstance(value, (int, str))
    if hasattr(value, "close"):
        value.close()


@pytest.mark.parametrize(("kind", "advice"), [(Frame, f"save a table {FILE}"), (Thing, "use a dataclass")])
def test_a_type_that_cannot_be_kept_is_refused_with_the_same_advice(kind: type, advice: str) -> None:
    for each in (kind, dict[str, kind]):  # type: ignore[valid-type]
        with pytest.raises(TypeError, match=re.escape(f"msgspec does not support {kind.__name__}: {advice}")):
            MsgpackCodec().typed(each)
