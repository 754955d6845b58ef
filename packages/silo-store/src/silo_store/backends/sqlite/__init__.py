"""Sessions in an SQLite file, for the processes of one host.

========== ==========================================================================================
`backend`  `SQLiteBackend`: the seam's methods
`file`     the database file: made, opened, pooled, noticed when it is replaced, closed before a fork
`rows`     a session's row, and the record in it
`locks`    claims and signs of life: locks on single bytes of a file
`mounts`   what file system a file is on
`place`    where the file will be, checked before it is created
`health`   what an operator should know of the file
========== ==========================================================================================
"""

from .backend import SQLiteBackend

__all__ = ["SQLiteBackend"]
