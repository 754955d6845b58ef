"""Records and namespaces as the server keeps them: from bytes, and to bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from ...backend import Moment
from ...errors import RecordDamaged
from ...record import Blob, Record
from ..packing import Packed, PackedRecord, is_head

HEAD = struct.Struct(">ddIBB")
"""Last use, beginning, revision, flags, length of the uid. The uid follows, then the packed namespaces."""
HEAD_BYTES = HEAD.size + 255
"""Most bytes of ``HEAD`` and uid."""
LARGE = 1
"""Flag: a hash of large namespaces may exist."""
ATTACHED = 2
"""Flag: a hash of what is attached may exist."""
READ = struct.Struct(">dI")
"""Packs the beginning and the revision of a record that was read, which a write must find unchanged."""
REVISIONS = 2**32
TIME = struct.Struct(">d")
VERSION = struct.Struct(">I")
"""Stands before the data of a namespace in a hash."""


def head_of(sid: str, data: bytes, at: Moment | None = None) -> Record:
    """Return a record without its namespaces. With a time, as the script has renewed it.

    Raises:
        RecordDamaged: The head cannot be read.
    """
    uid, created, active, *_ = _read_head(sid, data)
    return Record(sid, uid, created, _noted(active, at))


def record_of(sid: str, data: bytes, at: Moment | None = None) -> PackedRecord:
    """Return a record. With a time, as the script has renewed it.

    Raises:
        RecordDamaged: The record cannot be read.
    """
    uid, created, active, revision, flags, start = _read_head(sid, data)
    return PackedRecord(sid, uid, created, _noted(active, at), revision, data, start, bool(flags & ATTACHED))


def _read_head(sid: str, data: bytes) -> tuple[str, float, float, int, int, int]:
    try:
        active, created, revision, flags, length = HEAD.unpack_from(data)
        start = HEAD.size + length
        uid = data[HEAD.size : start].decode()
    except (struct.error, UnicodeDecodeError):
        raise RecordDamaged(sid) from None
    if len(data) < start or not is_head(uid, created, active):
        raise RecordDamaged(sid)
    return uid, created, active, revision, flags, start


def _noted(active: float, at: Moment | None) -> float:
    return at.now if at is not None and at.touch_interval < at.now - active <= at.ttl else active


def data_of(record: Record, packed: Packed) -> bytes:
    """Return the bytes of a new record."""
    return _bytes(record, 1, LARGE if packed.apart else 0, packed.data)


def rewritten(record: PackedRecord) -> bytes:
    """Return the bytes of a record that was changed, without flags: the server knows them."""
    return _bytes(record, record.revision, 0, record.packed)


def nothing_of(uid: str) -> bytes:
    """Return the bytes of a record of which only the uid is known."""
    return HEAD.pack(0.0, 0.0, 0, 0, len(uid)) + uid.encode()


def _bytes(record: Record, revision: int, flags: int, packed: bytes) -> bytes:
    uid = record.uid.encode()
    return HEAD.pack(record.active, record.created, revision, flags, len(uid)) + uid + packed


def fields_of(apart: Mapping[str, bytes], versions: Mapping[str, int]) -> list[Any]:
    """Return the names and values with which namespaces are put into a hash."""
    return [word for name, data in apart.items() for word in (name, VERSION.pack(versions[name]) + data)]


def blobs_of(sid: str, fields: list[bytes]) -> dict[str, Blob]:
    """Return the namespaces in a hash, given its names and values.

    Raises:
        RecordDamaged: A name or a value cannot be read.
    """
    try:
        return {name.decode(): blob_of(sid, data) for name, data in zip(fields[::2], fields[1::2], strict=True)}
    except UnicodeDecodeError:
        raise RecordDamaged(sid) from None


def blob_of(sid: str, data: bytes) -> Blob:
    """Return a namespace, given its value in a hash.

    Raises:
        RecordDamaged: The value cannot be read.
    """
    if len(data) < VERSION.size:
        raise RecordDamaged(sid)
    return Blob(VERSION.unpack_from(data)[0], data[VERSION.size :])
