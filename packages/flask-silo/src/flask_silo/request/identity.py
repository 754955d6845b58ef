"""The session id in the headers and URLs of requests, and in the headers of responses."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from operator import itemgetter
from typing import Any
from urllib.parse import parse_qs

from flask import Request, has_request_context, request
from silo_store import is_sid
from werkzeug.http import dump_header, parse_dict_header

from ..settings import Settings

logger = logging.getLogger("flask_silo")

NO_STORE = ("Cache-Control", "no-store")

_name_of = itemgetter(0)


class SessionHeader:
    """Reads the session id of a request, and puts the id into the headers of its response."""

    def __init__(self, settings: Settings) -> None:
        self._header = settings.header
        self._lower = settings.header.lower()
        self._environ_key = "HTTP_" + settings.header.upper().replace("-", "_")
        self._param = settings.query_param
        self._shortest = settings.min_sid_length
        self._asks = f"{settings.query_param}="
        self._warned: set[str | None] = set()  # None: a URL without a view

    def presented(self, request: Request) -> str | None:
        """Return the id that a request carries; None if it carries none, or an invalid one."""
        environ = request.environ
        text = environ.get(self._environ_key)
        if text is not None:
            sid = text.strip()
            if len(sid) >= self._shortest and is_sid(sid):
                return sid
        if environ.get("QUERY_STRING"):
            sid = request.args.get(self._param, "").strip()
            if len(sid) >= self._shortest and is_sid(sid):
                return sid
        return None

    def mark(self, environ: Mapping[str, Any], headers: list[tuple[str, str]], sid: str | None) -> None:
        """Put the id into a response's headers, and tell caches and browsers about the header.

        A response with an id, or to a request whose URL has one, is kept out of caches that several clients share: such
        a cache would give the id, or what belongs to it, to another client. A response that allows such caches carries
        no id.
        """
        names = list(map(str.lower, map(_name_of, headers)))
        query = environ.get("QUERY_STRING")
        in_url = query and (
            self._asks in query or ("%" in query and self._param in parse_qs(query, keep_blank_values=True))
        )
        if in_url or sid is not None:
            if "cache-control" not in names:
                headers.append(NO_STORE)
            elif _make_private(headers, names) and sid is not None:
                self._warn()
                sid = None
            if in_url and "referrer-policy" not in names:
                headers.append(("Referrer-Policy", "no-referrer"))
        if sid is not None:
            if self._lower in names:
                headers[names.index(self._lower)] = (self._header, sid)
            else:
                headers.append((self._header, sid))
        self._list_in(headers, names, "Vary")
        if "HTTP_ORIGIN" in environ:
            self._list_in(headers, names, "Access-Control-Expose-Headers")

    def _warn(self) -> None:
        """Log, once for each endpoint, that its response belongs to a session but allows shared caches."""
        endpoint = request.endpoint if has_request_context() else None
        if endpoint not in self._warned:
            self._warned.add(endpoint)
            logger.warning(
                "%s allows shared caches (Cache-Control: public or s-maxage) to keep a response of a session: "
                "it was made private and carries no session id. Move what is the same for all clients out of the "
                "api_prefix",
                f"endpoint {endpoint}" if endpoint else "a hook or an error handler",
            )

    def _list_in(self, headers: list[tuple[str, str]], names: list[str], name: str) -> None:
        """Add the name of the header to a list that a header of the response holds."""
        lower = name.lower()
        if lower not in names:
            headers.append((name, self._header))
            return
        number = len(names) - 1 - names[::-1].index(lower)
        present = headers[number][1]
        if self._lower not in {item.strip().lower() for item in present.split(",")}:
            headers[number] = (name, f"{present}, {self._header}")


def _make_private(headers: list[tuple[str, str]], names: list[str]) -> bool:
    """Keep a response out of shared caches (RFC 9111, section 3). Return whether it allowed them.

    Args:
        headers: The response's headers, to be changed. Afterwards one ``Cache-Control`` has the directives of all.
        names: Their names in lower case; those that are removed are removed here too.
    """
    first, *others = [number for number, name in enumerate(names) if name == "cache-control"]
    given = parse_dict_header(", ".join(headers[number][1] for number in (first, *others)))
    words = {name.lower(): value for name, value in given.items()}
    shared = words.keys() & {"public", "s-maxage"}
    rest = {name: value for name, value in words.items() if name not in shared}
    headers[first] = ("Cache-Control", dump_header(rest if "no-store" in rest else {**rest, "private": None}))
    for number in reversed(others):
        del headers[number], names[number]
    return bool(shared)
