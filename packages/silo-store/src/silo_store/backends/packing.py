"""The namespaces of a record packed into one bytes object, for backends that keep them outside the process."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Protocol

from ..errors import RecordDamaged
from ..record import Blob, Record

_head = struct.Struct(">HII")  # bytes of the name, version, bytes of the data

LATEST = 2.0**32
"""Seconds since 1970: later than the time of any record, in the year 2106."""

_is_uid = re.compile("[!-~]+").fullmatch


def pack(blobs: Mapping[str, Blob]) -> bytes:
    """Return all namespaces in one bytes object: for each a head, its name in UTF-8 and its data."""
    parts: list[bytes] = []
    for name, (version, data) in blobs.items():
        encoded = name.encode()
        parts += (_head.pack(len(encoded), version, len(data)), encoded, data)
    return b"".join(parts)


def unpack_into(record: Record, packed: bytes, start: int = 0) -> Record:
    """Add packed namespaces, from byte ``start`` on, to a record, and return the record.

    Raises:
        RecordDamaged: The bytes do not have the layout of ``pack``.
    """
    end = len(packed)
    try:
        while start < end:
            name_length, version, length = _head.unpack_from(packed, start)
            name_end = start + _head.size + name_length
            start_of_data, start = name_end, name_end + length
            record[packed[name_end - name_length : name_end].decode()] = Blob(version, packed[start_of_data:start])
    except (struct.error, UnicodeDecodeError):
        start = -1
    if start != end:
        raise RecordDamaged(record.sid, record.uid)
    return record


class Slices(Protocol):
    """Bytes of which slices are read, such as an open blob of SQLite."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> bytes: ...


def unpack_part_into(record: Record, packed: Slices, beginning: str) -> Record:
    """Add the packed namespaces whose names start with ``beginning`` to a record, and return the record.

    The data of the other namespaces is not read.

    Raises:
        RecordDamaged: The bytes do not have the layout of ``pack``.
    """
    start, end = 0, len(packed)
    try:
        while start < end:
            name_start = start + _head.size
            name_length, version, length = _head.unpack(packed[start:name_start])
            name_end = name_start + name_length
            start = name_end + length
            name = packed[name_start:name_end].decode()
            if name.startswith(beginning):
                record[name] = Blob(version, packed[name_end:start])
    except (struct.error, UnicodeDecodeError):
        start = -1
    if start != end:
        raise RecordDamaged(record.sid, record.uid)
    return record


def is_head(uid: object, created: object, active: object) -> bool:
    """Return whether these can be the head of a record: a text without spaces and two times."""
    return (
        type(uid) is str
        and _is_uid(uid) is not None
        and type(created) is float
        and type(active) is float
        and abs(created) < LATEST
        and abs(active) < LATEST
    )
