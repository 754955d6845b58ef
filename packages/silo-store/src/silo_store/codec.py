"""The seam between state and bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Protocol

import msgspec


class Codec(Protocol):
    """Turns the state of namespaces of one type into bytes and back."""

    exact: bool
    """Whether what was decoded encodes to the very same bytes again. Where not, they are compared anew."""

    def typed(self, kind: Any) -> Codec:
        """Return a codec for namespaces whose state is a ``kind``: a class, or a type such as ``dict[str, Decimal]``.

        Raises:
            TypeError: there can be no codec for that type.
        """

    def encode(self, value: Any) -> bytes:
        """Encode a namespace's state.

        Raises:
            Unencodable: a value in it cannot be encoded.
        """

    def decode(self, data: bytes) -> Any:
        """Decode what `encode` gave, maybe in another release of the application.

        Raises:
            ValueError: the bytes do not fit the type.
        """


class Codecs:
    """The codec of each namespace.

    Args:
        codec: for namespaces without a type.
        kinds: the types of those that have one, by name. May grow later.
    """

    def __init__(self, codec: Codec, kinds: Mapping[str, Any]) -> None:
        self._codec = codec
        self._kinds = kinds
        self._made: dict[str, Codec] = {}

    def of(self, name: str) -> Codec:
        """Return the codec of a namespace.

        Raises:
            TypeError: its type cannot be encoded.
        """
        codec = self._made.get(name)
        if codec is None:
            codec = self._codec.typed(self._kinds[name]) if name in self._kinds else self._codec
            self._made[name] = codec
        return codec

    def forget(self, name: str) -> None:
        """Make a namespace's codec anew: its type has changed."""
        self._made.pop(name, None)


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

    Without a type these come back as they were: dict, list, str, bytes, int of 64 bits, float, bool, None, datetime
    with a time zone (as UTC). These come back changed: tuple, set and frozenset as list; date, time, naive datetime,
    Decimal and UUID as str; an Enum as its value; a dataclass or msgspec.Struct as dict.

    With a type, what it names comes back as what it names. A field with a default may be missing in what is decoded,
    and one that the type does not know is passed over.
    """

    def __init__(self, kind: Any = Any) -> None:
        self.exact = kind in (Any, dict, list, str, int, float, bool, bytes)
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_refuse)
        self._decoder = msgspec.msgpack.Decoder(kind)

    def typed(self, kind: Any) -> MsgpackCodec:
        return MsgpackCodec(kind)

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
    elif isinstance(value, msgspec.Struct) or (is_dataclass(value) and not isinstance(value, type)):
        for field in value.__struct_fields__ if isinstance(value, msgspec.Struct) else [f.name for f in fields(value)]:
            yield f".{field}", getattr(value, field, None)


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
