"""Sessions in an SQLite file, for the processes of one host.

=========== ===================================================================================
``backend`` ``SQLiteBackend``, the methods of the interface
``file``    creates, opens and pools the database file, notices a new one, closes it for a fork
``schema``  the tables, and the mark of their layout
``rows``    a session's row, and the record in it
``holds``   keeps lives from expiring
``locks``   claims and signs of life: locks on single bytes of a file
``mounts``  the kind of file system that a file is on
``place``   checks the place of the file before it is created
``health``  checks of the file for operators
=========== ===================================================================================
"""

from .backend import SQLiteBackend

__all__ = ["SQLiteBackend"]
