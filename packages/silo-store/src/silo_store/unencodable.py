"""Finds the value that cannot be encoded, and says what to store instead."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from .errors import Unencodable

REFUSALS = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)


class Search:
    """Finds the innermost value that does not encode by itself."""

    def __init__(self, encoder: msgspec.msgpack.Encoder) -> None:
        self._encoder = encoder

    def find(self, value: Any, error: Exception) -> Unencodable:
        steps: list[str] = []
        seen: set[int] = set()
        while len(steps) < _DEEPEST:
            seen.add(id(value))
            for step, item in _children(value):
                refusal = self._refusal(item)
                if refusal is not None:
                    steps.append(step)
                    value, error = item, refusal
                    break
            else:
                break
            if id(value) in seen:
                return Unencodable(_join(steps), type(value).__name__, "it contains itself")
        too_deep = isinstance(error, RecursionError) or len(steps) == _DEEPEST
        advice = "it is nested too deeply" if too_deep else _advice(value)
        return Unencodable(_join(steps), type(value).__name__, advice, is_plain=too_deep or _is_plain(value))

    def _refusal(self, value: Any) -> Exception | None:
        try:
            self._encoder.encode(value)
        except REFUSALS as error:
            return error
        return None


_DEEPEST = 100
"""Steps after which the search gives up: the state contains itself or is nested too deeply."""


def _join(steps: list[str]) -> str:
    return "".join(steps if len(steps) <= 20 else [*steps[:10], "…", *steps[-10:]])


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield ".keys()", key
            yield f"[{_shown(key)}]", item
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield f"[{number}]", item
    elif isinstance(value, (set, frozenset)):
        for item in value:
            yield "{…}", item
    elif not isinstance(value, type):
        for name in _fields(type(value)):
            yield f".{name}", getattr(value, name, None)


def _shown(key: Any) -> str:
    if isinstance(key, str):
        return repr(str.__str__(key)[:40])
    return repr(key) if type(key) in (int, float, bool, type(None)) else f"<{type(key).__name__}>"


def _fields(kind: type) -> Iterable[str]:
    """Return the names of the fields of a Struct, a dataclass or an attrs class; none for any other class."""
    attrs = getattr(kind, "__attrs_attrs__", None)
    if attrs is not None:
        return [attribute.name for attribute in attrs]
    return [*getattr(kind, "__struct_fields__", ()), *getattr(kind, "__dataclass_fields__", ())]


_AS_A_FILE = (
    "as a file of the session (flask-silo: add_file_store(); otherwise silo-files) "
    "and keep the file's name in the state"
)
_LIVE = (
    "a live object belongs to one process: make it where it is used, or use the memory:// backend, which can keep it"
)

# Attributes by which a class is recognised, and the advice. The first match counts.
_ADVICE: tuple[tuple[tuple[str, ...], str], ...] = (
    (("_get_current_object",), "a proxy of Flask is a live object; keep what you need of it"),
    (("get_json",), "a request is a live object; keep what you need of it"),
    (("is_running",), "a running task is a live object; keep its name"),
    (("acquire", "release"), "a lock works within one process; sessions have a write lock instead, see edit()"),
    (("thumbnail", "save"), f"save an image {_AS_A_FILE}"),
    # Tables: by the protocols of data frames and of Arrow, or by how they are written.
    (("__dataframe__",), f"save a table {_AS_A_FILE}"),
    (("__arrow_c_stream__",), f"save a table {_AS_A_FILE}"),
    (("__arrow_c_array__",), f"save a table {_AS_A_FILE}"),
    (("to_parquet",), f"save a table {_AS_A_FILE}"),
    (("sink_parquet",), f"save the table that it makes {_AS_A_FILE}"),
    (("toarray",), f"save a matrix {_AS_A_FILE}"),
    (("tolist", "__len__"), f"save an array {_AS_A_FILE}, or keep its tolist() if it is small"),
    (("tolist",), "keep its tolist()"),
    (("save", "mimetype"), f"save an upload {_AS_A_FILE}"),
    (("execute",), _LIVE),
    (("read", "close"), f"an open file is a live object; save it {_AS_A_FILE}"),
    (("__enter__", "__iter__", "close"), f"an open file is a live object; save it {_AS_A_FILE}"),
    (("__fspath__",), "keep it as text"),
    (("model_dump",), "keep its model_dump()"),
    (("__next__",), "an iterator can be read only once; keep a list of it"),
    (("__iter__", "__len__"), f"keep a list or a dict of it, or save what is large {_AS_A_FILE}"),
    *(((name,), _LIVE) for name in ("close", "__exit__", "is_alive", "wait", "add_done_callback", "put_nowait")),
)

_MOMENTS = (dt.datetime, dt.date, dt.time, dt.timedelta)


def _is_plain(culprit: Any) -> bool:
    return type(culprit) is dt.datetime or (isinstance(culprit, (int, str)) and not isinstance(culprit, enum.Enum))


def advice_by_class(kind: type) -> str | None:
    """Return what to keep in place of an instance of a class; None if the class gives no hint.

    The class is checked instead of the instance: a proxy, for example, may raise at any access.
    """
    for moment in _MOMENTS:
        if issubclass(kind, moment) and kind is not moment:
            return f"keep a plain {moment.__module__}.{moment.__name__} of it"
    return next((advice for names, advice in _ADVICE if all(hasattr(kind, name) for name in names)), None)


def _advice(culprit: Any) -> str:
    if isinstance(culprit, enum.Enum):
        return "an Enum is kept by its value, which has to be plain data"
    if type(culprit) is dt.datetime:
        return "in UTC it lies outside the years 1 to 9999"
    if isinstance(culprit, int):
        return "integers go up to 64 bits; keep larger ones as text"
    if isinstance(culprit, str):
        return "the text holds half of a surrogate pair"
    advice = advice_by_class(type(culprit))
    if advice is not None:
        return advice
    if callable(culprit):
        return "functions and classes are not data; keep a name, and look up by it what to call"
    return f"keep plain data (dict, list, str, numbers, bytes, datetime); save what is large {_AS_A_FILE}"
