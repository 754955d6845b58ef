"""Files that belong to a session. ``FileStore`` is a name of release 0.1."""

from silo_files import FileStore

__all__ = ["FileStore"]
