"""The namespaces of a record packed into one bytes object, for backends that keep them outside the process.

The packed form begins with the names of all namespaces, then has two numbers for each (its version, and the bytes of
its data), then the data. The data of a large namespace is kept apart: none of it follows, and its bytes are negative.
Reading or writing one namespace takes the same time whatever the number of namespaces, but for a copy of the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import Any, NamedTuple

from ..errors import RecordDamaged
from ..record import Apart, Blob, Change, Record

LARGE = 8192
"""Bytes of data above which a namespace is kept apart."""
FULL = 65536
"""Bytes of data that a record holds at most. What does not fit is kept apart too, however small."""
LATEST = 2.0**32
"""Seconds since 1970: later than the time of any record, in the year 2106."""

_head = struct.Struct(">I")  # bytes of the names
_length = struct.Struct(">H")  # bytes of a name
_MOST_LAYOUTS = 1000


class Packed(NamedTuple):
    """The namespaces of a new record, as they are to be stored."""

    data: bytes
    """The packed form."""
    apart: Mapping[str, bytes]
    """The data that is to be stored apart, by namespace."""


class Layout:
    """The names of a record's namespaces, in their order. The sessions of an application share one, or a few.

    Attributes:
        head: What a packed form with these names begins with: their length in bytes, and the names.
        places: Where the numbers of each name begin.
        numbers: Packs the numbers of all names.
    """

    __slots__ = ("head", "numbers", "places")

    def __init__(self, text: bytes, names: Collection[str]) -> None:
        self.head: bytes = _head.pack(len(text)) + text
        self.places: dict[str, int] = {name: 2 * number for number, name in enumerate(names)}
        self.numbers: struct.Struct = struct.Struct(">" + len(names) * "Ii")

    @classmethod
    def of(cls, names: Collection[str]) -> Layout:
        """Return the layout of these names."""
        encoded = [name.encode() for name in names]
        return cls(b"".join(_length.pack(len(name)) + name for name in encoded), names)


_layouts: dict[bytes, Layout] = {}


def _read_layout(text: bytes) -> Layout:
    """Return the layout of packed names.

    Raises:
        ValueError: The names are damaged.
        struct.error: They are damaged.
    """
    names, place = [], 0
    while place < len(text):
        (length,) = _length.unpack_from(text, place)
        place += _length.size + length
        names.append(text[place - length : place].decode())
    if place != len(text) or len(set(names)) != len(names):
        raise ValueError("the packed names are damaged")
    if len(_layouts) >= _MOST_LAYOUTS:
        _layouts.clear()
    layout = _layouts[text] = Layout(text, names)
    return layout


def pack(blobs: Mapping[str, Blob]) -> Packed:
    """Pack the namespaces of a new record."""
    numbers: list[int] = []
    data = b""
    apart: dict[str, bytes] = {}
    for name, (version, bytes_) in blobs.items():
        size = len(bytes_)
        if size <= LARGE and len(data) + size <= FULL:
            data += bytes_
        else:
            apart[name] = bytes_
            size = -size
        numbers += (version, size)
    layout = Layout.of(blobs)
    return Packed(layout.head + layout.numbers.pack(*numbers) + data, apart)


class PackedRecord(Record):
    """A record that unpacks a namespace when a caller asks for it.

    Attributes:
        revision: Grows with each write of the record.
    """

    __slots__ = ("_attached", "_has_apart", "_layout", "_numbers", "_packed", "_start", "revision")

    revision: int
    _attached: bool
    _has_apart: bool  # False: no number is negative
    _layout: Layout
    _numbers: Sequence[int]
    _packed: bytes
    _start: int

    def __init__(
        self,
        sid: str,
        uid: str,
        created: float,
        active: float,
        revision: int,
        packed: bytes,
        start: int = 0,
        may_have_attached: bool = True,
    ) -> None:
        """Make a record whose namespaces are packed in ``packed``, from byte ``start`` on.

        Args:
            sid: The session's id.
            uid: The name of this life.
            created: When the life began, in seconds since the epoch.
            active: When the session was last used, in seconds since the epoch.
            revision: See the attribute.
            packed: The packed form, after ``start`` other bytes.
            start: Number of the other bytes.
            may_have_attached: Whether anything may be attached to the session.

        Raises:
            RecordDamaged: The bytes do not have the form that ``pack`` returns.
        """
        self.sid = sid
        self.uid = uid
        self.created = created
        self.active = active
        self.bucket = 0
        self.revision = revision
        self._attached = may_have_attached
        self._packed = packed
        try:
            (length,) = _head.unpack_from(packed, start)
            start += _head.size
            text = packed[start : start + length]
            start += length
            self._layout = layout = _layouts.get(text) or _read_layout(text)
            self._numbers = numbers = layout.numbers.unpack_from(packed, start)
        except (struct.error, ValueError):
            raise RecordDamaged(sid, uid) from None
        self._start = start = start + layout.numbers.size
        sizes, here = numbers[1::2], len(packed) - start
        self._has_apart = sum(sizes) != here
        if self._has_apart and _here(sizes) != here:
            raise RecordDamaged(sid, uid)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a namespace, or the default."""
        place = self._layout.places.get(name)
        if place is None:
            return default
        numbers = self._numbers
        version, size = numbers[place], numbers[place + 1]
        if size < 0:
            return Apart(version, -size)
        start = self._start + (_here(numbers[1:place:2]) if self._has_apart else sum(numbers[1:place:2]))
        return Blob(version, self._packed[start : start + size])

    def __missing__(self, name: str) -> Blob | Apart:
        value: Blob | Apart | None = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._layout.places

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout.places)

    def __len__(self) -> int:
        return len(self._layout.places)

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        """Return the names of the namespaces."""
        return KeysView(self)

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """Return the values of the namespaces."""
        return ValuesView(self)

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Return the names and values of the namespaces."""
        return ItemsView(self)

    @property
    def packed(self) -> bytes:
        """The namespaces, packed; with the bytes that preceded them if the record was read from such bytes."""
        return self._packed

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each namespace's data."""
        return dict(zip(self._layout.places, map(abs, self._numbers[1::2]), strict=True))

    @property
    def may_have_attached(self) -> bool:
        """Whether anything may be attached to the session. False only if certainly nothing is."""
        return self._attached

    @may_have_attached.setter
    def may_have_attached(self, may_have: bool) -> None:
        self._attached = may_have

    @property
    def is_whole(self) -> bool:
        """Whether no data is kept apart."""
        return min(self._numbers[1::2], default=0) >= 0

    def fits(self, changes: Mapping[str, Change]) -> bool:
        """Return whether all changes name the versions that this record has."""
        places, numbers = self._layout.places, self._numbers
        for name, (version, _) in changes.items():
            if version != (numbers[places[name]] if name in places else 0):
                return False
        return True

    def with_changes(self, changes: Mapping[str, Change]) -> tuple[PackedRecord, Mapping[str, bytes], Collection[str]]:
        """Return this record with changes, as it is to be stored. The changes fit it.

        Returns:
            The record, of the next revision; the changed data that is to be stored apart, by namespace; the namespaces
            that were stored apart and no longer are.
        """
        layout, numbers, data = self._layout, list(self._numbers), self._packed[self._start :]
        apart: dict[str, bytes] = {}
        no_longer_apart: list[str] = []
        for name, (version, bytes_) in changes.items():
            if name not in layout.places:
                layout = Layout.of([*layout.places, name])
                numbers += (0, 0)
            place = layout.places[name]
            size, old = len(bytes_), numbers[place + 1]
            start = _here(numbers[1:place:2]) if self._has_apart or apart else sum(numbers[1:place:2])
            end = start + old if old > 0 else start
            if size <= LARGE and len(data) - end + start + size <= FULL:
                data = data[:start] + bytes_ + data[end:]
                if old < 0:
                    no_longer_apart.append(name)
            else:
                data = data[:start] + data[end:]
                apart[name] = bytes_
                size = -size
            numbers[place] = version + 1
            numbers[place + 1] = size
        record = PackedRecord.__new__(PackedRecord)  # __init__() would unpack what is packed here
        record.sid, record.uid, record.created, record.active = self.sid, self.uid, self.created, self.active
        record.bucket, record.revision, record._attached = self.bucket, self.revision + 1, self._attached
        record._layout, record._numbers = layout, numbers
        record._has_apart = self._has_apart or bool(apart)
        head = layout.head + layout.numbers.pack(*numbers)
        record._packed, record._start = head + data, len(head)
        return record, apart, no_longer_apart


def whole_of(record: Record, blobs: Mapping[str, Blob]) -> Record:
    """Return a record with the data of all namespaces, given those that are kept apart.

    Raises:
        RecordDamaged: One of them is missing, or is not the one that the record names.
    """
    whole = Record(record.sid, record.uid, record.created, record.active)
    for name, value in record.items():
        blob = blobs.get(name) if isinstance(value, Apart) else value
        if blob is None or (blob.version, blob.size) != (value.version, value.size):
            raise RecordDamaged(record.sid, record.uid)
        whole[name] = blob
    return whole


def _here(sizes: Sequence[int]) -> int:
    """Return the bytes of the namespaces that are not kept apart."""
    return sum(size for size in sizes if size > 0)


def is_head(uid: object, created: object, active: object) -> bool:
    """Return whether these can be the head of a record: a text without spaces and two times."""
    return (
        type(uid) is str
        and uid.isascii()
        and uid.isprintable()  # these methods take fewer instructions than a regular expression
        and " " not in uid
        and uid != ""
        and type(created) is float
        and type(active) is float
        and -LATEST < created < LATEST
        and -LATEST < active < LATEST
    )
