"""``MsgpackCodec``, which encodes state as MessagePack."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from .codec import UNHASHABLE
from .errors import Undecodable
from .unencodable import REFUSALS, Search, advice_by_class


class MsgpackCodec:
    """MessagePack, by msgspec. TYPES.md says what comes back as what."""

    def __init__(self, kind: Any = Any) -> None:
        self.exact: bool = kind in (Any, dict, list, str, int, bool)
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
        self._decoder = msgspec.msgpack.Decoder(kind)

    def typed(self, kind: Any) -> MsgpackCodec:
        codec = MsgpackCodec(kind)
        unsupported = _unsupported(kind)
        if unsupported is not None:
            advice = advice_by_class(unsupported) or "use a dataclass or a msgspec.Struct"
            raise TypeError(f"msgspec does not support {unsupported.__qualname__}: {advice}")
        return codec

    def encode(self, value: Any) -> bytes:
        try:
            return self._encoder.encode(value)
        except REFUSALS as error:
            raise Search(self._encoder).find(value, error) from error

    def decode(self, data: bytes) -> Any:
        try:
            return self._decoder.decode(data)
        except RecursionError:
            raise Undecodable("", "it is nested too deeply") from None
        # msgspec 0.20 does not derive its errors from ValueError. A dict in place of a hashable value is a TypeError.
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            raise _undecodable(str(error)) from None  # the text of the error may hold stored values


_EXACTLY: dict[type, Callable[[Any], Any]] = {str: str.__str__, int: int.__int__, float: float.__float__}


def _plain(value: Any) -> Any:
    """Return the plain value of a subclass of str, int or float. msgspec calls this for each value it cannot encode."""
    for kind, exactly in _EXACTLY.items():
        if isinstance(value, kind):
            return exactly(value)
    raise TypeError(f"a {type(value).__name__} cannot be encoded")


def _unsupported(kind: Any) -> type | None:
    """Return a class within a type that msgspec accepts but cannot encode; None if there is no such class."""
    from msgspec.inspect import CustomType, Field, Type, type_info

    todo: list[Any] = [type_info(kind)]
    seen: set[int] = set()
    while todo:
        info = todo.pop()
        if id(info) in seen:
            continue
        seen.add(id(info))
        if isinstance(info, CustomType):
            if info.cls is not object:
                return info.cls
        elif isinstance(info, (Type, Field)):
            todo.extend(getattr(info, name) for name in info.__struct_fields__)
        elif isinstance(info, tuple):
            todo.extend(info)
    return None


# Messages of msgspec that name only types. The others may hold stored values.
_SAFE = re.compile(r"Expected `|Object missing required field `|MessagePack data is malformed|Input data was truncated")
_AT = re.compile(r" - at (`key` in )?`\$(.*?)`$", re.S)


def _undecodable(text: str) -> Undecodable:
    at = _AT.search(text)
    path = at[2] + (".keys()" if at[1] else "") if at else ""
    if "hashable" in text:
        return Undecodable(path, UNHASHABLE)
    reason = text[: at.start()] if at else text
    return Undecodable(path, reason if _SAFE.match(reason) else "a value that its type does not take")
