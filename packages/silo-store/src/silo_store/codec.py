"""``Codec``, the interface that turns state into bytes and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, get_origin

UNHASHABLE = "a dict's key or a set's member comes back as a dict or list, which is not hashable"
"""The reason of an ``Undecodable`` that is caused by the type of the state, not by a value."""


class Codec(Protocol):
    """Turns the state of namespaces of one type into bytes and back."""

    exact: bool
    """Whether decoded state encodes to the same bytes again. If not, it is encoded once more when it is read."""

    def typed(self, kind: Any) -> Codec:
        """Return a codec for namespaces whose state is a ``kind``: a class, or a type such as ``dict[str, Decimal]``.

        Raises:
            TypeError: The codec does not support that type; the message says why.
        """

    def encode(self, value: Any) -> bytes:
        """Encode a namespace's state.

        Raises:
            Unencodable: A value in the state cannot be encoded. ``is_plain`` says whether a client may have sent it.
        """

    def decode(self, data: bytes) -> Any:
        """Return the state that ``encode`` encoded, perhaps in another release of the application.

        Raises:
            ValueError: The bytes do not fit the type. Preferably an ``Undecodable``, which carries the place.
        """


class Codecs(dict[str, Codec]):
    """The codec of each namespace, by name, made when it is first needed.

    Args:
        codec: The codec of namespaces without a type.
        kinds: The types of namespaces that have one, by name. May grow later.
    """

    def __init__(self, codec: Codec, kinds: Mapping[str, Any]) -> None:
        super().__init__()
        self.untyped = codec
        self._kinds = kinds

    def __missing__(self, name: str) -> Codec:
        codec = self[name] = self.make(name, self._kinds[name]) if name in self._kinds else self.untyped
        return codec

    def make(self, name: str, kind: Any) -> Codec:
        """Return a new codec for a namespace of that type.

        Raises:
            TypeError: The codec does not support that type.
        """
        try:
            return self.untyped.typed(kind)
        except (TypeError, ValueError, NameError, RecursionError) as error:
            label = kind.__qualname__ if isinstance(kind, type) and get_origin(kind) is None else kind
            raise TypeError(f"namespace {name!r} cannot be kept as bytes with the type {label}: {error}") from error

    def forget(self, name: str) -> None:
        """Drop the codec of a namespace whose type has changed."""
        self.pop(name, None)
