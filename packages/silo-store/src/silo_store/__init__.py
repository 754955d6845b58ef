"""Expiring state for each session id: exact expiry, one writer at a time, pluggable backends."""

from typing import TYPE_CHECKING, Any

from .backend import Backend, Claim, Finding, Life, Look, Moment
from .backends.memory import MemoryBackend
from .backends.urls import open_backend
from .callables import check_callback
from .cleanup import CleanupDaemon
from .codec import Codec
from .errors import (
    InvalidSessionId,
    LockLost,
    LockTimeout,
    NamespaceError,
    RecordDamaged,
    SessionBusy,
    SessionConflict,
    SessionExpired,
    SessionRotated,
    SiloError,
    StateDecodeError,
    StateEncodeError,
    StateTooLarge,
    StateValueError,
    StoreUnavailable,
    TooManySessions,
    TooManyWaiters,
    Undecodable,
    Unencodable,
)
from .hold import Hold, HoldCounts
from .ids import check_sid, is_sid, new_sid
from .locks import WriteLock
from .record import Apart, Blob, Change, Record
from .redact import redact, short
from .registry import EndReason, Registry
from .session import Session
from .store import Lookup, SessionStore
from .whole import WholeRecords

if TYPE_CHECKING:
    from .msgpack import MsgpackCodec

__version__: str

__all__ = [
    "Apart",
    "Backend",
    "Blob",
    "Change",
    "Claim",
    "CleanupDaemon",
    "Codec",
    "EndReason",
    "Finding",
    "Hold",
    "HoldCounts",
    "InvalidSessionId",
    "Life",
    "LockLost",
    "LockTimeout",
    "Look",
    "Lookup",
    "MemoryBackend",
    "Moment",
    "MsgpackCodec",
    "NamespaceError",
    "Record",
    "RecordDamaged",
    "Registry",
    "Session",
    "SessionBusy",
    "SessionConflict",
    "SessionExpired",
    "SessionRotated",
    "SessionStore",
    "SiloError",
    "StateDecodeError",
    "StateEncodeError",
    "StateTooLarge",
    "StateValueError",
    "StoreUnavailable",
    "TooManySessions",
    "TooManyWaiters",
    "Undecodable",
    "Unencodable",
    "WholeRecords",
    "WriteLock",
    "__version__",
    "check_callback",
    "check_sid",
    "is_sid",
    "new_sid",
    "open_backend",
    "redact",
    "short",
]


if not TYPE_CHECKING:  # otherwise no checker would report a name that does not exist

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version  # takes longer to import than this package

            globals()[name] = found = version("silo-store")
            return found
        if name == "MsgpackCodec":
            from .msgpack import MsgpackCodec  # needs msgspec, which takes as long to import as this package

            globals()[name] = MsgpackCodec
            return MsgpackCodec
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
