"""Files that belong to a session. ``FileStore`` is a name of 0.1."""

from silo_files import FileStore

from .errors import MalformedUpload
from .routes import ALL_ROUTES
from .store import SessionFileStore

__all__ = ["ALL_ROUTES", "FileStore", "MalformedUpload", "SessionFileStore"]
