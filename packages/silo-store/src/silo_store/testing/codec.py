"""The contract suite for codecs."""

from __future__ import annotations

import threading
from typing import Any

from ..codec import Codec
from ..errors import Unencodable
from ..seam import check_seam


class CodecContract:
    """The suite for a ``Codec``."""

    def make_codec(self) -> Codec:
        """Return the codec. Each test calls it once."""
        raise NotImplementedError

    def test_it_has_what_a_store_calls(self) -> None:
        codec = self.make_codec()
        check_seam("make_codec()", codec, Codec, "silo_store.Codec")
        assert codec.decode(codec.encode({"value": 1})) == {"value": 1}

    def test_plain_data_comes_back_as_it_was(self) -> None:
        codec = self.make_codec()
        for value in (
            None,
            True,
            -(2**63),
            2**64 - 1,
            1.5,
            float("inf"),
            "",
            "naïve ✓ \x00",
            b"\x00\xff",
            [],
            [1, [2, {"three": None}]],
            {"z": 1, "a": {"nested": [True, False]}},
        ):
            back = codec.decode(codec.encode(value))
            assert back == value
            assert type(back) is type(value)

    def test_a_dict_keeps_its_order(self) -> None:
        codec = self.make_codec()
        assert list(codec.decode(codec.encode({"z": 1, "a": 2, "m": 3}))) == ["z", "a", "m"]

    def test_what_was_decoded_encodes_to_the_same_bytes(self) -> None:
        codec = self.make_codec()
        for value in ({"b": (1, 2), "a": {3, 1, 2}}, [1.0, "x", {"k": b"v"}]):
            once = codec.encode(value)
            assert isinstance(once, bytes)
            back = codec.decode(once)
            assert codec.encode(back) == once if codec.exact else codec.decode(codec.encode(back)) == back
        assert back == value, "plain data must come back as it was"

    def test_a_typed_codec_gives_the_type_back(self) -> None:
        codec = self.make_codec().typed(set[int])
        assert codec.decode(codec.encode({3, 1, 2})) == {1, 2, 3}
        try:
            codec.decode(codec.encode(["no number"]))
        except ValueError:
            pass
        else:
            raise AssertionError("a value that does not fit the type must be refused")

    def test_what_cannot_be_encoded_is_named_with_its_place(self) -> None:
        codec = self.make_codec()
        loop: list[Any] = []
        loop.append(loop)
        for value, place, kind in (
            ({"rows": [1, object()]}, "['rows'][1]", "object"),
            ({"big": 2**64}, "['big']", "int"),
            ([threading.Lock()], "[0]", type(threading.Lock()).__name__),
            (loop, "[0]", "list"),
            ({"a": {object(): 1}}, "['a'].keys()", "object"),
        ):
            refusal = None
            try:
                codec.encode(value)
            except Unencodable as error:
                refusal = error
            assert refusal is not None, f"{kind} must be refused"
            assert (refusal.path, refusal.type_name) == (place, kind)
            assert refusal.is_plain == (kind == "int"), "only the large number is plain data, which a client can send"
            assert refusal.advice
