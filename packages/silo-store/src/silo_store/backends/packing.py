"""The namespaces of a record as one run of bytes, for backends that keep them outside the process."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Protocol

from ..errors import RecordDamaged
from ..record import Blob, Record

_head = struct.Struct(">HII")  # bytes of the name, version, bytes of the data

LATEST = 2.0**32
"""A time that no record has, in the year 2106."""

_is_uid = re.compile("[!-~]+").fullmatch


def pack(blobs: Mapping[str, Blob]) -> bytes:
    """Make one run of bytes of all namespaces: for each a head, its name in UTF-8 and its data."""
    parts: list[bytes] = []
    for name, (version, data) in blobs.items():
        encoded = name.encode()
        parts += (_head.pack(len(encoded), version, len(data)), encoded, data)
    return b"".join(parts)


def unpack_into(record: Record, packed: bytes, start: int = 0) -> Record:
    """Put what `pack` gave, from byte ``start`` on, into a record, and return it.

    Raises:
        RecordDamaged: the bytes are not what `pack` gave.
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
    """Bytes that are read where they lie."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> bytes: ...


def unpack_part_into(record: Record, packed: Slices, beginning: str) -> Record:
    """Put the namespaces whose names begin so into a record, and return it. The data of others are not read.

    Raises:
        RecordDamaged: the bytes are not what `pack` gave.
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
    """Say whether a record can begin with these: text without spaces, and two times."""
    return (
        type(uid) is str
        and _is_uid(uid) is not None
        and type(created) is float
        and type(active) is float
        and abs(created) < LATEST
        and abs(active) < LATEST
    )
