"""A session's row, and the record in it. Other programs may have written a row."""

from __future__ import annotations

from ...errors import RecordDamaged
from ...record import Record
from ..packing import is_head, unpack_into

Row = tuple[str, float, float, int, bytes]
"""The uid, the times of creation and last use, the revision, the packed namespaces."""


def record_of(sid: str, row: Row) -> Record:
    """Return the record in a row.

    Raises:
        RecordDamaged: The row is not a valid record.
    """
    uid, created, active, number, state = row
    if not is_head(uid, created, active):
        raise RecordDamaged(sid)
    if type(number) is not int or type(state) is not bytes:
        raise RecordDamaged(sid, uid)
    return unpack_into(Record(sid, uid, created, active), state)


def uid_of(sid: str, row: Row) -> str:
    """Return the uid of a row; empty if the row is damaged and its uid cannot be read."""
    try:
        return record_of(sid, row).uid
    except RecordDamaged as error:
        return error.uid


def is_damaged(sid: str, row: Row) -> bool:
    """Return whether a row is not a valid record."""
    try:
        record_of(sid, row)
    except RecordDamaged:
        return True
    return False
