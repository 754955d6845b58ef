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
        self._patterns: list[re.Pattern[str]] = []

    def add(self, *names: str) -> None:
        """Add each name; ``*`` and ``?`` make it a pattern."""
        for name in names:
            self.names[name] = None
            if is_pattern(name):
                self._patterns.append(re.compile(translate(name)))
            else:
                self._exact.add(name)

    def match(self, request: Request) -> bool:
        """Return whether the request goes to one of them."""
        if not self._exact and not self._patterns:
            return False
        names = [request.path]
        if request.url_rule is not None:
            names += [request.url_rule.rule, request.url_rule.endpoint]
        return any(name in self._exact or any(p.match(name) for p in self._patterns) for name in names)


def is_pattern(name: str) -> bool:
    """Return whether a name is a pattern, which can match several names."""
    return "*" in name or "?" in name
