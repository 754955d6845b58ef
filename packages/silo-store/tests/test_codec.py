"""MessagePack keeps the contract, and changes exactly what it says."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from silo_store import Codec, MsgpackCodec, Unencodable
from silo_store.testing import CodecContract


class Colour(enum.Enum):
    RED = "red"


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


class Task:
    is_running = True


@pytest.mark.parametrize(
    ("value", "advice"),
    [(Frame(), "file"), (Task(), "live object"), (2**70, "64 bits"), ("\ud800", "surrogate"), (object(), "plain data")],
)
def test_the_advice_fits_the_value(value: Any, advice: str) -> None:
    with pytest.raises(Unencodable) as caught:
        MsgpackCodec().encode({"x": value})
    assert advice in caught.value.advice
