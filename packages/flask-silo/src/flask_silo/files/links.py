"""Links to files: a signed token names the file and the life of its session, without the session's id."""

from __future__ import annotations

import math
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote

from flask import Flask, has_request_context, request
from itsdangerous import BadData, URLSafeSerializer


class Linked(NamedTuple):
    """What a token names."""

    uid: str
    """The life of the session that the file belongs to."""
    name: str
    """The name of the file."""
    until: float
    """The time at which the link ends, in seconds since the epoch."""


def sign(app: Flask, store: str, linked: Linked) -> str:
    """Return the token of a file. It can be read, and not changed.

    Args:
        app: The application, whose ``SECRET_KEY`` signs.
        store: The name of the file store. A token of one store is not valid for another.
        linked: What the token names.

    Raises:
        RuntimeError: The application has no ``SECRET_KEY``.
    """
    token: str | bytes = _serializer(app, store).dumps([linked.uid, linked.name, math.ceil(linked.until)])
    return token if isinstance(token, str) else token.decode()


def read(app: Flask, store: str, token: str) -> Linked | None:
    """Return what a token names, also if its time is over; None if it was not signed here.

    Raises:
        RuntimeError: The application has no ``SECRET_KEY``.
    """
    try:
        return Linked(*_serializer(app, store).loads(token))
    except BadData:
        return None


def path_of(app: Flask, prefixes: tuple[str, ...], store: str, token: str) -> str:
    """Return the path at which a link is served, from the root of the host.

    In a request it begins as the request's own path does (``SCRIPT_NAME``, and the prefix of ``prefixes``). A task has
    no request: there it begins with ``APPLICATION_ROOT`` and the first prefix.
    """
    root, prefix = app.config["APPLICATION_ROOT"], prefixes[0]
    if has_request_context():
        root = request.root_path
        prefix = next((each for each in prefixes if request.path.startswith(each)), prefix)
    return f"{quote(root.rstrip('/'))}{prefix.rstrip('/')}/files/{store}/link/{token}"


def _serializer(app: Flask, store: str) -> URLSafeSerializer:
    if not app.secret_key:
        raise RuntimeError(
            "links to files are signed with SECRET_KEY, which the application does not have: set it to a long random "
            "text, the same in all processes (python -c 'import secrets; print(secrets.token_hex())')"
        )
    keys = [*(app.config.get("SECRET_KEY_FALLBACKS") or ()), app.secret_key]  # the last one signs
    options = {"key_derivation": "hmac", "digest_method": sha256}
    return URLSafeSerializer(keys, salt=f"flask_silo.link.{store}", signer_kwargs=options)
