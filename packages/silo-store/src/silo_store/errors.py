"""What can go wrong with a session, one class for each answer that a caller may want to give.

No message ever shows a whole session id. The ``sid`` attribute holds it for the caller's own use.
"""

from __future__ import annotations

from typing import Any

from .redact import short


class SiloError(Exception):
    """Base class of every error of this package and of ``flask-silo``."""


class InvalidSessionId(SiloError, ValueError):
    """The text is no session id: 1 to 128 characters of ``A-Z a-z 0-9 _ -``."""

    def __init__(self) -> None:
        super().__init__("not a session id: 1 to 128 characters of A-Z a-z 0-9 _ - are needed")


class NamespaceError(SiloError, KeyError):
    """The namespace was never registered.

    Attributes:
        namespace: the name that was asked for.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        super().__init__(namespace)

    def __str__(self) -> str:
        return f"namespace {self.namespace!r} is not registered: call register() before the first request"


class _SessionError(SiloError):
    """An error about one session. ``sid`` is its whole id; the message shows the start of it."""

    _text = "session {}"

    def __init__(self, sid: str, message: str | None = None) -> None:
        self.sid = sid
        super().__init__(message or self._text.format(short(sid)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.sid, self.args[0])


class SessionExpired(_SessionError):
    """This life of the session is over: its time ran out, or it was reset or destroyed meanwhile."""

    _text = "session {} has ended"


class SessionRotated(_SessionError):
    """The session was given another id. What the caller does with this old id is not saved."""

    _text = "session {} has another id now: repeat the request with that one"


class SessionBusy(_SessionError):
    """The session's work is still running, so it cannot be reset."""

    _text = "session {} is busy and cannot be changed now"


class SessionConflict(_SessionError):
    """Somebody else wrote the same namespace between this caller's read and its write. Nothing was saved."""

    _text = "session {} was changed by somebody else meanwhile"


class LockLost(SessionConflict):
    """This writer was not heard of for so long that its turn was given to another. Nothing was saved."""

    _text = "the turn on session {} was lost"


class LockTimeout(_SessionError, TimeoutError):
    """Another writer kept its turn on this session for longer than ``lock_timeout`` seconds."""

    _text = "session {} is being written by somebody else for too long"


class TooManyWaiters(LockTimeout):
    """Another writer has the turn on this session, and as many threads wait as may. This thread did not wait."""

    _text = "session {} is being written by another writer, and too many threads wait already"


class StateEncodeError(SiloError, TypeError):
    """A value of the session's state cannot be stored outside this process. Nothing was saved.

    Attributes:
        namespace: the namespace that holds the value.
        path: where in it the value lies, such as ``['rows'][3]``.
        type_name: the value's type.
        advice: what to store instead.
    """

    def __init__(self, sid: str, namespace: str, path: str, type_name: str, advice: str) -> None:
        self.sid = sid
        self.namespace = namespace
        self.path = path
        self.type_name = type_name
        self.advice = advice
        super().__init__(f"session {short(sid)}: {namespace}{path} ({type_name}) cannot be stored: {advice}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.sid, self.namespace, self.path, self.type_name, self.advice)


class StateValueError(StateEncodeError, ValueError):
    """A plain value of the session's state, such as a client may have sent, cannot be stored. Nothing was saved.

    Such values are an integer beyond 64 bits, text with half of a surrogate pair, or a value that the namespace's type
    does not take. An object of a type that has no encoding raises `StateEncodeError`, and not `StateValueError`.
    """


class StateDecodeError(SiloError, ValueError):
    """What is stored does not fit the namespace's type any more, as after a deployment that changed it.

    The message shows nothing of what is stored.

    Attributes:
        namespace: the namespace.
        path: where in it the first misfit is, such as ``.rows[3]``; a dict's key is shown as ``[...]``.
        reason: what is wrong there.
    """

    def __init__(self, sid: str, namespace: str, path: str, reason: str) -> None:
        self.sid = sid
        self.namespace = namespace
        self.path = path
        self.reason = reason
        super().__init__(f"session {short(sid)}: what is stored of {namespace}{path} does not fit its type: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.sid, self.namespace, self.path, self.reason)


class RecordDamaged(StateDecodeError):
    """The whole record of a session is damaged, as by a faulty disk or another program. ``namespace`` is empty.

    `SessionStore.reset` and `SessionStore.destroy` end the session.

    Attributes:
        uid: the life that the record belongs to; empty where that cannot be read either.
    """

    def __init__(self, sid: str, uid: str = "") -> None:
        super().__init__(sid, "", "", "the record is damaged")
        self.uid = uid
        self.args = (f"the record of session {short(sid)} is damaged: reset or destroy the session",)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.sid, self.uid)


class StateTooLarge(SiloError, ValueError):
    """The session's state takes more bytes than ``max_state_bytes``. Nothing was saved.

    Attributes:
        size: what it would have taken, in bytes.
        limit: what it may take.
        namespace: the largest one.
    """

    def __init__(self, sid: str, size: int, limit: int, namespace: str) -> None:
        self.sid = sid
        self.size = size
        self.limit = limit
        self.namespace = namespace
        super().__init__(
            f"the state of session {short(sid)} takes {size:,} bytes and may take {limit:,}; "
            f"the largest namespace is {namespace!r}: keep what is large in files of the session"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.sid, self.size, self.limit, self.namespace)


class TooManySessions(SiloError):
    """There are as many sessions as ``max_sessions`` allows, so no new one begins. Living sessions go on.

    Attributes:
        limit: how many sessions there may be.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"no session can begin: there are {limit:,} already, as many as max_sessions allows; try again once "
            "another session has ended"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.limit,)


class StoreUnavailable(SiloError):
    """The backend cannot be reached or cannot store now.

    Attributes:
        retry_after: seconds after which a new try makes sense.
    """

    def __init__(self, message: str, retry_after: int = 1) -> None:
        self.retry_after = retry_after
        super().__init__(message)
