"""The seam between state and bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import msgspec


class Codec(Protocol):
    """Turns one namespace's state into bytes and back. What was decoded must encode to the same bytes again."""

    def encode(self, value: Any) -> bytes:
        """Encode a namespace's state.

        Raises:
            Unencodable: a value in it cannot be encoded.
        """

    def decode(self, data: bytes) -> Any:
        """Decode what `encode` gave."""


class Unencodable(TypeError):
    """A value that the codec cannot encode.

    Attributes:
        path: where it lies in the state, such as ``['rows'][3]``.
        type_name: its type.
        advice: what to store instead.
    """

    def __init__(self, path: str, type_name: str, advice: str) -> None:
        self.path = path
        self.type_name = type_name
        self.advice = advice
        super().__init__(f"{path or 'the state'} is a {type_name}: {advice}")


class MsgpackCodec:
    """MessagePack, by msgspec.

    Comes back as it was: dict, list, str, bytes, int of 64 bits, float, bool, None, datetime with a time zone (as
    UTC). Comes back changed: tuple, set and frozenset as list; date, time, naive datetime, Decimal and UUID as str;
    an Enum as its value; a dataclass or msgspec.Struct as dict.
    """

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_refuse)
        self._decoder = msgspec.msgpack.Decoder()

    def encode(self, value: Any) -> bytes:
        try:
            return self._encoder.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            path, culprit = _find(value, self._encoder)
            raise Unencodable(path, type(culprit).__name__, _advice(culprit)) from error

    def decode(self, data: bytes) -> Any:
        return self._decoder.decode(data)


def _refuse(value: Any) -> Any:
    raise TypeError(f"a {type(value).__name__} cannot be encoded")


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield f"[{str(key)[:40]!r}]", item
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield f"[{number}]", item
    elif isinstance(value, (set, frozenset)):
        for item in value:
            yield "{…}", item


def _find(value: Any, encoder: msgspec.msgpack.Encoder) -> tuple[str, Any]:
    """Walk down to the innermost value that does not encode on its own."""
    path, seen = "", {id(value)}
    while True:
        for step, item in _children(value):
            try:
                encoder.encode(item)
            except (TypeError, ValueError, OverflowError, RecursionError):
                if id(item) in seen:  # it contains itself
                    return path + step, item
                seen.add(id(item))
                path, value = path + step, item
                break
        else:
            return path, value


def _advice(culprit: Any) -> str:
    if isinstance(culprit, int):
        return "integers go up to 64 bits; keep larger ones as text"
    if isinstance(culprit, str):
        return "the text holds half of a surrogate pair"
    if hasattr(culprit, "to_parquet"):
        return "save a table as a file of the session and keep the file's name"
    if hasattr(culprit, "is_running"):
        return "a running task is a live object; keep its name, or use the memory:// backend"
    return "keep plain data (dict, list, str, numbers, bytes, datetime), or use the memory:// backend"
