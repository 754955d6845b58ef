"""The counts of an area or of the store as bytes: the record in a file of counts."""

from __future__ import annotations

import struct
from binascii import crc32

from ..backend import Usage
from .disk import read_at_start, write_at

# Magic and version, whether the record is certain, number of reservations, CRC-32 of what follows, bytes, files.
_HEADER = struct.Struct("<4s?xHIqq")
_HEAD = struct.Struct("<4s?xHI")
_USAGE = struct.Struct("<qq")
# Owner id, bytes, files.
_SLOT = struct.Struct("<8sqq")
_MAGIC = b"\xffsc1"
_CERTAIN_AT = 4
_CHECKED_FROM = 12
_USUAL_SIZE = 4096
_LARGEST_SIZE = _HEADER.size + 0xFFFF * _SLOT.size


class Record:
    """The counts of an area or of the store.

    Attributes:
        bytes: Bytes of the finished files.
        files: Number of the finished files.
        reserved: What each process has reserved, as bytes and files, by owner id.
    """

    __slots__ = ("bytes", "files", "reserved")

    def __init__(self, bytes: int, files: int, reserved: dict[str, tuple[int, int]] | None = None) -> None:
        self.bytes: int = bytes
        self.files: int = files
        self.reserved: dict[str, tuple[int, int]] = reserved or {}

    @property
    def usage(self) -> Usage:
        """The finished files."""
        return Usage(self.bytes, self.files)

    def bytes_to_be(self) -> int:
        """Return the bytes if each running save uses all that it has reserved."""
        return self.bytes + sum([size for size, _ in self.reserved.values()])

    def files_to_be(self) -> int:
        """Return the number of files if all running saves succeed."""
        return self.files + sum([files for _, files in self.reserved.values()])

    def encode(self) -> bytes:
        """Return the record as bytes that are certain."""
        body = _USAGE.pack(self.bytes, self.files)
        if self.reserved:
            body += b"".join([_SLOT.pack(bytes.fromhex(owner), *room) for owner, room in self.reserved.items()])
        return _HEAD.pack(_MAGIC, True, len(self.reserved), crc32(body)) + body


def read_record(fd: int) -> tuple[Record | None, bool]:
    """Read a record from an open file. Return it, and whether it is certain; None if it is torn or not a record."""
    data = read_at_start(fd, _USUAL_SIZE)
    if len(data) == _USUAL_SIZE:
        data = read_at_start(fd, _LARGEST_SIZE)
    try:
        magic, certain, count, crc, size, files = _HEADER.unpack_from(data)
        end = _HEADER.size + count * _SLOT.size
        if magic != _MAGIC or len(data) < end or crc != crc32(data[_CHECKED_FROM:end]) or size < 0 or files < 0:
            return None, False
        if not count:
            return Record(size, files), certain
        slots = _SLOT.iter_unpack(data[_HEADER.size : end])
        return Record(size, files, {owner.hex(): (room, more) for owner, room, more in slots}), certain
    except (struct.error, ValueError):
        return None, False


def is_certain(fd: int) -> bool:
    """Return whether the record in an open file is certain, or torn. Cheaper than to read it."""
    return read_at_start(fd, _CERTAIN_AT + 1) == _MAGIC + b"\1"


def write_record(fd: int, record: Record) -> None:
    """Write a record, which is certain then, to an open file."""
    write_at(fd, record.encode(), 0)


def mark_uncertain(fd: int) -> None:
    """Mark the record in an open file as uncertain."""
    write_at(fd, b"\0", _CERTAIN_AT)
