"""Errors say what happened, to what and what to do, show no whole id, and survive pickle."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from silo_store import SiloError, Undecodable, Unencodable, errors, short
from silo_store.errors import (
    InvalidSessionId,
    LockLost,
    LockTimeout,
    NamespaceError,
    RecordDamaged,
    SessionBusy,
    SessionConflict,
    SessionExpired,
    SessionRotated,
    StateDecodeError,
    StateEncodeError,
    StateTooLarge,
    StateValueError,
    StoreUnavailable,
    TooManySessions,
    TooManyWaiters,
)

SID = "0123456789abcdef" * 2
SHORT = short(SID)

ERRORS: list[tuple[Exception, str]] = [
    (SiloError("anything"), "anything"),
    (InvalidSessionId(), "not a session id: 1 to 128 characters of A-Z a-z 0-9 _ - are needed"),
    (
        NamespaceError("cart"),
        "namespace 'cart' is not registered: call register(), or register_namespace() of a store, before the first "
        "session begins",
    ),
    (SessionExpired(SID), f"session {SHORT} has ended: begin a new one"),
    (SessionRotated(SID), f"session {SHORT} has another id now: repeat the request with that one"),
    (SessionBusy(SID), f"session {SHORT} is busy and was not reset: try again once its work is done"),
    (
        SessionConflict(SID),
        f"session {SHORT} was changed by another writer, and nothing was saved: read it again and repeat the change",
    ),
    (
        LockLost(SID),
        f"the write lock of session {SHORT} went to another process, and nothing was saved: repeat the change",
    ),
    (
        LockTimeout(SID),
        f"session {SHORT} is being written by another writer, whose write lock was not free in time: try again",
    ),
    (
        TooManyWaiters(SID),
        f"session {SHORT} is being written by another writer, and too many threads wait already: try again",
    ),
    (
        StateEncodeError(SID, "cart", "['x']", "object", "keep plain data"),
        f"session {SHORT}: cart['x'] (object) cannot be stored: keep plain data",
    ),
    (
        StateValueError(SID, "cart", "['x']", "int", "keep it as text"),
        f"session {SHORT}: cart['x'] (int) cannot be stored: keep it as text",
    ),
    (
        StateDecodeError(SID, "cart", ".x", "Expected `int`, got `str`"),
        f"session {SHORT}: what is stored of cart.x does not fit its type: Expected `int`, got `str`; "
        "change the type, or reset the session",
    ),
    (RecordDamaged(SID, "uid"), f"the record of session {SHORT} is damaged: reset or destroy the session"),
    (
        StateTooLarge(SID, 2000, 1000, "cart"),
        f"the state of session {SHORT} takes 2,000 bytes and may take 1,000; the largest namespace is 'cart': "
        "keep what is large in files of the session",
    ),
    (
        TooManySessions(1000),
        "no session can begin: there are 1,000 already, as many as max_sessions allows; try again once another "
        "session has ended",
    ),
    (StoreUnavailable("the disk is full", retry_after=9), "the disk is full"),
    (Unencodable("['x']", "object", "keep plain data", is_plain=True), "['x'] is a object: keep plain data"),
    (Undecodable(".x", "Expected `int`"), ".x: Expected `int`"),
]


def pickled(error: Exception) -> Any:
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize(("error", "text"), ERRORS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("copied", [copy.copy, pickled], ids=["copy", "pickle"])
def test_errors_survive_pickle(error: Exception, text: str, copied: Callable[[Exception], Exception]) -> None:
    error.__dict__["noted"] = "later"

    again = copied(error)

    assert type(again) is type(error)
    assert str(again) == str(error) == text
    assert vars(again) == vars(error)
    assert SID not in f"{again} {again!r} {again.args!r}"


def test_every_error_has_a_message_of_its_own() -> None:
    members = inspect.getmembers(errors, inspect.isclass)
    classes = {each for name, each in members if issubclass(each, Exception) and not name.startswith("_")}

    assert classes <= {type(error) for error, _ in ERRORS}
    assert all(issubclass(each, SiloError) for each in classes)
    assert len({text for _, text in ERRORS}) == len(ERRORS)
