"""What ``pytest.raises`` does, without pytest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def raises(expected: type[Exception]) -> Iterator[None]:
    """Fail unless the block raises the error."""
    try:
        yield
    except expected:
        return
    raise AssertionError(f"{expected.__name__} was not raised")
