"""Expiring state for each session id: exact expiry, writers that take turns, pluggable backends."""

from .backend import Backend, Life
from .cleanup import CleanupDaemon
from .codec import Codec, MsgpackCodec, Unencodable
from .errors import (
    InvalidSessionId,
    NamespaceError,
    SessionBusy,
    SessionConflict,
    SessionExpired,
    SiloError,
    StateEncodeError,
    StoreUnavailable,
    TurnTimeout,
)
from .hold import Hold
from .ids import check_sid, is_sid, new_sid
from .memory import MemoryBackend
from .record import Blob, Change, Record, Session
from .redact import short
from .registry import EndReason, Registry
from .storage import InMemoryStorage, SiloStorage, StorageBackend
from .store import SessionStore
from .turns import Turn
from .urls import open_backend

__version__ = "0.2.0"

__all__ = [
    "Backend",
    "Blob",
    "Change",
    "CleanupDaemon",
    "Codec",
    "EndReason",
    "Hold",
    "InMemoryStorage",
    "InvalidSessionId",
    "Life",
    "MemoryBackend",
    "MsgpackCodec",
    "NamespaceError",
    "Record",
    "Registry",
    "Session",
    "SessionBusy",
    "SessionConflict",
    "SessionExpired",
    "SessionStore",
    "SiloError",
    "SiloStorage",
    "StateEncodeError",
    "StorageBackend",
    "StoreUnavailable",
    "Turn",
    "TurnTimeout",
    "Unencodable",
    "__version__",
    "check_sid",
    "is_sid",
    "new_sid",
    "open_backend",
    "short",
]
