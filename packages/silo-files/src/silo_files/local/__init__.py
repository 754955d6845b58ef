"""Files on a local disk, which several processes may share.

=============== ============================================================================
``backend``     ``LocalFileBackend``, the methods of the interface
``staged``      a file that is being written
``journal``     the names of an area's files
``owners``      which processes that wrote to the folder are alive
``walk``        what is in the folders of areas
``sweeping``    removes what ended processes and sessions left
``trash``       removes an area by one rename and deletes its files later
``counts``      the bytes and files of each area and of the store, in locked files
``locked``      the counts of one area and of the store, locked together
``record``      what such a file holds
``record_file`` such a file, opened and locked
``reserved``    what this process has reserved
``ledger``      keeps these counts within the limits
``file_lock``   a lock on an open file
``disk``        file system operations with our modes and errors, which follow no links
=============== ============================================================================
"""

from .backend import LocalFileBackend
from .ledger import LocalLedger

__all__ = ["LocalFileBackend", "LocalLedger"]
