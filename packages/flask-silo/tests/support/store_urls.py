"""The URLs of stores of several kinds, as a fixture."""

from __future__ import annotations

from typing import Any

import pytest


def urls(*kinds: Any) -> Any:
    """Make a fixture ``url``, parametrized over kinds of stores: ``sqlite``, ``redis``, and URLs of stores in memory.

    Each store is empty. A module with ``redis`` imports the fixture ``redis_url``.
    """

    @pytest.fixture(params=kinds)
    def url(request: pytest.FixtureRequest) -> str:
        kind: str = request.param
        if kind == "sqlite":
            return f"sqlite:///{request.getfixturevalue('tmp_path') / 'sessions.db'}"
        return str(request.getfixturevalue("redis_url")) if kind == "redis" else kind

    return url
