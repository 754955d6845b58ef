"""The errors of release 0.1, under the name that release 0.1 had for their module."""

from silo_store import NamespaceError, SessionBusy, SessionExpired, SiloError

__all__ = ["NamespaceError", "SessionBusy", "SessionExpired", "SiloError"]
