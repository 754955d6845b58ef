"""The endpoints that need a session's data."""

from __future__ import annotations

import re
from fnmatch import translate

from flask import Request


class DataEndpoints:
    """A set of paths, path patterns, URL rules and endpoint names. See ``Silo.add_data_endpoints``."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        """What was added, in order."""
        self._exact: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, *names: str) -> None:
        """Add each name; ``*`` and ``?`` make it a pattern."""
        self.names.update(dict.fromkeys(names))
        self._exact = {name for name in self.names if not is_pattern(name)}
        patterns = [translate(name) for name in self.names if is_pattern(name)]
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def match(self, request: Request) -> bool:
        """Return whether the request goes to one of them."""
        if not self.names:
            return False
        rule = request.url_rule
        names = (request.path,) if rule is None else (request.path, rule.rule, rule.endpoint)
        if not self._exact.isdisjoint(names):
            return True
        return self._pattern is not None and any(map(self._pattern.match, names))


def is_pattern(name: str) -> bool:
    """Return whether a name is a pattern, which can match several names."""
    return "*" in name or "?" in name
