"""The errors of silo-store, one class for each case that a caller may handle differently.

SiloError
 ├── InvalidSessionId      the text is not a session id (also a ValueError)
 ├── NamespaceError        the namespace is not registered (also a KeyError)
 ├── SessionExpired        this life of the session has ended
 ├── SessionRotated        the session has another id
 ├── SessionBusy           the work of the session is still running
 ├── SessionConflict       another writer was quicker
 │    └── LockLost         the write lock went to another process
 ├── LockTimeout           the write lock was not free in time (also a TimeoutError)
 │    └── TooManyWaiters   too many threads wait already
 ├── StateEncodeError      a value cannot be stored as bytes (also a TypeError)
 │    └── StateValueError  it is plain data, such as a client may have sent (also a ValueError)
 ├── StateDecodeError      stored state does not fit the type of its namespace (also a ValueError)
 │    └── RecordDamaged    the whole record is damaged
 ├── Unencodable           a codec cannot encode a value (also a TypeError)
 ├── Undecodable           bytes do not fit the type that a codec decodes (also a ValueError)
 ├── StateTooLarge         the state exceeds ``max_state_bytes`` (also a ValueError)
 ├── TooManySessions       there are ``max_sessions`` sessions
 └── StoreUnavailable      the backend cannot be reached or cannot store

No message contains a whole session id. The ``sid`` attribute holds it for the caller's own use.
"""

from __future__ import annotations

from typing import Any, ClassVar

from .redact import short


class SiloError(Exception):
    """Base class of every error of this package and of flask-silo."""

    _fields: ClassVar[tuple[str, ...] | None] = None
    """The parameters of ``__init__``, also attributes, by which an error is pickled; None to pickle its message."""

    def __reduce__(self) -> Any:
        if self._fields is None:
            return super().__reduce__()
        return type(self), tuple(getattr(self, name) for name in self._fields), self.__dict__


class InvalidSessionId(SiloError, ValueError):
    """The text is not a session id: 1 to 128 characters of ``A-Z a-z 0-9 _ -``."""

    _fields = ()

    def __init__(self) -> None:
        super().__init__("not a session id: 1 to 128 characters of A-Z a-z 0-9 _ - are needed")


class NamespaceError(SiloError, KeyError):
    """The namespace is not registered.

    Attributes:
        namespace: The name that the caller asked for.
    """

    _fields = ("namespace",)

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        super().__init__(namespace)

    def __str__(self) -> str:
        how = "call register(), or register_namespace() of a store, before the first session begins"
        return f"namespace {self.namespace!r} is not registered: {how}"


class _SessionError(SiloError):
    _text: ClassVar[str]

    def __init__(self, sid: str, message: str | None = None) -> None:
        self.sid = sid
        super().__init__(message or self._text.format(short(sid)))

    def __reduce__(self) -> Any:
        return type(self), (self.sid, self.args[0]), self.__dict__


class SessionExpired(_SessionError):
    """This life of the session has ended: it expired, or was reset or destroyed.

    Attributes:
        sid: The session's id.
    """

    _text = "session {} has ended: begin a new one"


class SessionRotated(_SessionError):
    """The session was given another id. Nothing is saved under the old one.

    Attributes:
        sid: The old id.
    """

    _text = "session {} has another id now: repeat the request with that one"


class SessionBusy(_SessionError):
    """The session's work is still running, so the session cannot be reset.

    Attributes:
        sid: The session's id.
    """

    _text = "session {} is busy and was not reset: try again once its work is done"


class SessionConflict(_SessionError):
    """Another writer changed a namespace that this caller read before and changed too. Nothing was saved.

    Attributes:
        sid: The session's id.
    """

    _text = "session {} was changed by another writer, and nothing was saved: read it again and repeat the change"


class LockLost(SessionConflict):
    """The write lock went to another process, because this one did not renew it in time. Nothing was saved.

    Attributes:
        sid: The session's id.
    """

    _text = "the write lock of session {} went to another process, and nothing was saved: repeat the change"


class LockTimeout(_SessionError, TimeoutError):
    """Another writer kept the session's write lock for longer than ``lock_timeout`` seconds.

    Attributes:
        sid: The session's id.
    """

    _text = "session {} is being written by another writer, whose write lock was not free in time: try again"


class TooManyWaiters(LockTimeout):
    """Another writer has the session's write lock, and too many threads wait already. This thread did not wait.

    Attributes:
        sid: The session's id.
    """

    _text = "session {} is being written by another writer, and too many threads wait already: try again"


class StateEncodeError(SiloError, TypeError):
    """A value of the session's state cannot be stored outside this process. Nothing was saved.

    Attributes:
        sid: The session's id.
        namespace: The namespace that holds the value.
        path: Place of the value in the namespace, such as ``['rows'][3]``.
        type_name: The value's type.
        advice: What to store instead.
    """

    _fields = ("sid", "namespace", "path", "type_name", "advice")

    def __init__(self, sid: str, namespace: str, path: str, type_name: str, advice: str) -> None:
        self.sid = sid
        self.namespace = namespace
        self.path = path
        self.type_name = type_name
        self.advice = advice
        super().__init__(f"session {short(sid)}: {namespace}{path} ({type_name}) cannot be stored: {advice}")


class StateValueError(StateEncodeError, ValueError):
    """A plain value of the session's state, such as a client may have sent, cannot be stored. Nothing was saved.

    Such values are an integer beyond 64 bits, text with half of a surrogate pair, or a value that the namespace's type
    does not take. An object of a type that has no encoding raises ``StateEncodeError``, and not ``StateValueError``.
    """


class StateDecodeError(SiloError, ValueError):
    """Stored state does not fit the namespace's type, for example after a release that changed the type.

    The message shows no stored value.

    Attributes:
        sid: The session's id.
        namespace: The namespace.
        path: Place of the first misfit in the namespace, such as ``.rows[3]``; a dict's key is shown as ``[...]``.
        reason: What is wrong there.
    """

    _fields: ClassVar[tuple[str, ...] | None] = ("sid", "namespace", "path", "reason")

    def __init__(self, sid: str, namespace: str, path: str, reason: str) -> None:
        self.sid = sid
        self.namespace = namespace
        self.path = path
        self.reason = reason
        super().__init__(self._message())

    def _message(self) -> str:
        where = f"session {short(self.sid)}: what is stored of {self.namespace}{self.path}"
        return f"{where} does not fit its type: {self.reason}; change the type, or reset the session"


class RecordDamaged(StateDecodeError):
    """The whole record of a session is damaged, as by a faulty disk or another program. ``namespace`` is empty.

    Attributes:
        uid: The life that the record belongs to; empty if it cannot be read.
    """

    _fields = ("sid", "uid")

    def __init__(self, sid: str, uid: str = "") -> None:
        super().__init__(sid, "", "", "the record is damaged")
        self.uid = uid

    def _message(self) -> str:
        return f"the record of session {short(self.sid)} is damaged: reset or destroy the session"


class Unencodable(SiloError, TypeError):
    """The codec cannot encode a value. Raised by codecs; a store raises ``StateEncodeError`` for it.

    Attributes:
        path: Place of the value in the state, such as ``['rows'][3]``. A dict's keys are at ``.keys()``.
        type_name: The value's type.
        advice: What to store instead.
        is_plain: True for plain data, such as a client may have sent, of a type that can be encoded; False for an
            object of a type that cannot.
    """

    _fields = ("path", "type_name", "advice")

    def __init__(self, path: str, type_name: str, advice: str, *, is_plain: bool = False) -> None:
        self.path = path
        self.type_name = type_name
        self.advice = advice
        self.is_plain = is_plain
        super().__init__(f"{path or 'the state'} is a {type_name}: {advice}")


class Undecodable(SiloError, ValueError):
    """The bytes do not fit the type. The message shows no stored value. A store raises ``StateDecodeError`` for it.

    Attributes:
        path: Place of the first misfit, such as ``.rows[3]``; a dict's key is shown as ``[...]``.
        reason: What is wrong there.
    """

    _fields = ("path", "reason")

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path or 'the state'}: {reason}")


class StateTooLarge(SiloError, ValueError):
    """The session's state takes more bytes than ``max_state_bytes``. Nothing was saved.

    Attributes:
        sid: The session's id.
        size: Bytes that the state takes.
        limit: Bytes that the state may take.
        namespace: The largest namespace.
    """

    _fields = ("sid", "size", "limit", "namespace")

    def __init__(self, sid: str, size: int, limit: int, namespace: str) -> None:
        self.sid = sid
        self.size = size
        self.limit = limit
        self.namespace = namespace
        super().__init__(
            f"the state of session {short(sid)} takes {size:,} bytes and may take {limit:,}; "
            f"the largest namespace is {namespace!r}: keep what is large in files of the session"
        )


class TooManySessions(SiloError):
    """There are as many sessions as ``max_sessions`` allows, so no new one begins. Living sessions go on.

    Attributes:
        limit: Number of sessions that may exist.
    """

    _fields = ("limit",)

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"no session can begin: there are {limit:,} already, as many as max_sessions allows; try again once "
            "another session has ended"
        )


class StoreUnavailable(SiloError):
    """The backend cannot be reached, or cannot store now. No change was made in part.

    Attributes:
        reason: What cannot be reached or used, and why.
        retry_after: Seconds to wait before trying again.
    """

    _fields = ("reason", "retry_after")

    def __init__(self, reason: str, retry_after: int = 1) -> None:
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(reason)
