"""Sessions as ``flask silo`` shows them. Looking at a session does not renew it and runs no factory."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from silo_store import (
    InvalidSessionId,
    Moment,
    Record,
    RecordDamaged,
    SessionStore,
    StateDecodeError,
    is_sid,
    short,
)

from ..tasks.records import PREFIX, TaskRecords, stored_run

if TYPE_CHECKING:
    from ..files.store import SessionFileStore

SHORT_ID_LENGTH = 6
"""The number of characters of an id that ``short()`` shows at most."""


class CommandError(Exception):
    """Raised by a command that cannot do what it was asked for.

    Args:
        code: The reason as a word, for programs.
        message: The reason as a sentence.

    Attributes:
        code: As given.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True)
class SessionSummary:
    """A session without its state. Times are in seconds."""

    sid: str
    uid: str
    created: float
    last_active: float
    age: float
    idle: float
    time_left: float
    due: bool
    """Whether its time is over and it has not been swept yet."""
    bytes: int | None
    """Size of its encoded state; None if the backend keeps live objects."""

    @classmethod
    def of(cls, record: Record, at: Moment, *, live: bool) -> SessionSummary:
        """Return the summary of a record."""
        idle = at.now - record.active
        size = None if live else sum(record.sizes().values())
        return cls(
            sid=record.sid,
            uid=record.uid,
            created=record.created,
            last_active=record.active,
            age=max(0.0, at.now - record.created),
            idle=max(0.0, idle),
            time_left=max(0.0, at.ttl - max(0.0, idle)),
            due=idle > at.ttl,
            bytes=size,
        )

    def document(self, *, full: bool = False) -> dict[str, Any]:
        """Return the summary for JSON, with the whole id if ``full``."""
        document = {each.name: getattr(self, each.name) for each in fields(self)}
        return document if full else {**document, "sid": short(self.sid)}


def records(store: SessionStore) -> Iterator[Record]:
    """Yield all records, in no order. Damaged records are skipped: the doctor counts them."""
    for sid in store.backend.sids():
        with suppress(RecordDamaged):
            record = store.backend.peek(sid)
            if record is not None:
                yield record


def latest(store: SessionStore, limit: int) -> tuple[list[SessionSummary], int]:
    """Return the sessions that were used last, the latest first, and the number of all sessions."""
    at, live, total = store.moment(), store.backend.live, 0

    def summaries() -> Iterator[SessionSummary]:
        nonlocal total
        for record in records(store):
            total += 1
            yield SessionSummary.of(record, at, live=live)

    return heapq.nsmallest(limit, summaries(), key=lambda summary: -summary.last_active), total


def sizes(store: SessionStore) -> dict[str, int] | None:
    """Return the encoded size of each namespace in all sessions, in bytes; None if the backend keeps live objects."""
    if store.backend.live:
        return None
    total: Counter[str] = Counter(dict.fromkeys(store.registry.factories, 0))
    for record in records(store):
        total.update(record.sizes())
    return dict(total)


def find(store: SessionStore, given: str) -> Record:
    """Return the record of the session that has this id, or the only id with this beginning.

    Args:
        store: The store of the sessions.
        given: The id, or a beginning of it that is at least as long as that of ``short()``, with or without its dots.

    Raises:
        CommandError: The id is invalid, there is no such session, it has expired, or several ids have that beginning.
        RecordDamaged: The record cannot be read.
    """
    given = given.removesuffix("…").removesuffix("...")
    if not is_sid(given):
        raise CommandError("invalid_session_id", str(InvalidSessionId()))
    record = store.backend.peek(given)
    if record is None:
        found = [sid for sid in store.backend.sids() if sid.startswith(given) and len(given) >= len(short(sid)) - 1]
        if len(found) > 1:
            message = f"{len(found):,} sessions have an id that begins with {_start(given)}: give more of it"
            raise CommandError("ambiguous_session_id", f"{message} (flask silo sessions --full-ids)")
        record = store.backend.peek(found[0]) if found else None
    if record is None:
        raise _missing(store, given)
    if _is_over(store, record):
        raise CommandError("session_expired", f"session {short(record.sid)} has expired; the next sweep removes it")
    return record


def _missing(store: SessionStore, given: str) -> CommandError:
    expired = store.backend.expired_at(given)
    now = store.moment().now
    if expired is None or now - expired > store.expired_retain:
        hint = ": give at least what flask silo sessions shows of its id" if len(given) < SHORT_ID_LENGTH else ""
        return CommandError("session_not_found", f"there is no session {_start(given)}{hint}")
    return CommandError("session_expired", f"session {_start(given)} has expired")


def _start(given: str) -> str:
    """Shorten the argument of a command as ids are shortened, because it may be a whole id."""
    return given if len(given) <= SHORT_ID_LENGTH else given[:SHORT_ID_LENGTH] + "…"


def _is_over(store: SessionStore, record: Record) -> bool:
    """Return whether its time is over and it is neither held nor busy. Neither ends nor renews it."""
    at = store.moment()
    if at.now - record.active <= at.ttl or store.backend.held(record.uid):
        return False
    if store.registry.busy_check is None:
        return True
    try:
        session = store.peek(record.sid)
    except StateDecodeError:
        return True
    return session is None or not store.registry.is_busy(record.sid, session)


def namespaces(store: SessionStore, record: Record) -> dict[str, dict[str, Any]]:
    """Return the ``bytes`` of each namespace, and its ``state``, its ``repr`` if it is not JSON, or an ``error``."""
    found: dict[str, dict[str, Any]] = {
        name: {"bytes": None if store.backend.live else value.size} for name, value in record.items()
    }
    try:
        session = store.peek(record.sid)
    except RecordDamaged:  # damaged since the caller read it
        raise
    except StateDecodeError as error:
        found[error.namespace]["error"] = f"what is stored does not fit the namespace's type: {error.reason}"
        return found
    for name, state in (session or {}).items():
        found.setdefault(name, {"bytes": None}).update(_shown(state))
    return found


def tasks(store: SessionStore, record: Record) -> dict[str, str]:
    """Return the status of each task of the session, by name; empty if the backend keeps live objects."""
    attached = store.attached(record.sid, record.uid)
    if store.backend.live or attached is None:
        return {}
    now = store.moment().now
    names = sorted(name.removeprefix(PREFIX) for name in attached if name.startswith(PREFIX))
    found: dict[str, str] = {}
    for name in names:
        try:
            stored = stored_run(attached, name)
        except StateDecodeError:
            found[name] = "damaged"
        else:
            if stored is not None:
                found[name] = stored.at(now, TaskRecords.lease).record["status"]
    return found


def files(stores: Mapping[str, SessionFileStore], record: Record) -> dict[str, dict[str, int]]:
    """Return the number of ``files`` that the session has in each file store, and their ``bytes``, by store."""
    usages = {name: store.usage(record.sid) for name, store in stores.items()}
    return {name: {"files": usage.files, "bytes": usage.bytes} for name, usage in usages.items() if usage.files}


def _shown(state: Any) -> dict[str, Any]:
    try:
        return {"state": json.loads(json.dumps(state, default=_plain, allow_nan=False))}
    except Exception:  # noqa: BLE001 - the application may change its objects meanwhile
        try:
            return {"repr": repr(state)}
        except Exception:  # noqa: BLE001
            return {"repr": f"<{type(state).__name__} that cannot be shown>"}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    if hasattr(value, "__struct_fields__"):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError
