"""``CleanupDaemon``, under the name that release 0.1 had for its module."""

from silo_store import CleanupDaemon

__all__ = ["CleanupDaemon"]
