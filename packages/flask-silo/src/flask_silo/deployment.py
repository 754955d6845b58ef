"""Worker processes that do not share their sessions."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, NamedTuple

from silo_store import Backend

logger = logging.getLogger("flask_silo")

SHARE = "set SILO_STORE_URL to sqlite:////path/of/sessions.db, or to redis://host:6379/0 where there are several hosts"
ADVICE = (
    "run one worker with several threads (gunicorn --workers 1 --threads 8), or let the workers share sessions:"
    f" {SHARE}"
)

_warned_in = 0


def warn_if_apart(backend: Backend, environ: Mapping[str, Any]) -> None:
    """Warn once in each process if the server has several worker processes that do not share sessions."""
    global _warned_in
    if environ.get("wsgi.multiprocess") and not backend.shared and _warned_in != os.getpid():
        _warned_in = os.getpid()
        logger.warning(
            "this server runs several worker processes, and each of them keeps sessions of its own: a client whose "
            "next request reaches another worker loses its session. To fix it, %s",
            ADVICE,
        )


class Workers(NamedTuple):
    """The number of worker processes that a server starts."""

    number: int
    source: str
    """The environment variable that sets it."""


def expected_workers(environ: Mapping[str, str]) -> Workers | None:
    """Return the number of workers that the environment of Gunicorn and other servers sets; None if it sets none."""
    variable = "GUNICORN_CMD_ARGS"
    count = _from_arguments(environ.get(variable, ""))
    if count is None:
        variable = "WEB_CONCURRENCY"
        count = _number(environ.get(variable, ""))
    return Workers(count, variable) if count is not None else None


def _from_arguments(line: str) -> int | None:
    try:
        words = shlex.split(line)
    except ValueError:
        return None
    count = None
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        if word in ("-w", "--workers"):
            count = _number(following) or count
        elif word.startswith("--workers="):
            count = _number(word.partition("=")[2]) or count
        elif word.startswith("-w"):
            count = _number(word[2:].lstrip("=")) or count
    return count


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
