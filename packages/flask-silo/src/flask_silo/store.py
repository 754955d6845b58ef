"""``SessionStore``, under the name that release 0.1 had for its module."""

from silo_store import SessionStore

__all__ = ["SessionStore"]
