"""The contracts that every ``FileBackend`` and every ``Ledger`` keep, as tests for pytest.

Subclass ``FileBackendContract`` in a test module and let ``make_backend()`` return a new, empty backend:

    class TestMyBackend(FileBackendContract):
        def make_backend(self) -> FileBackend:
            return MyBackend()

``LedgerContract`` is used in the same way.
"""

from .backend import FileBackendContract
from .files import content, put
from .ledger import LedgerContract

__all__ = ["FileBackendContract", "LedgerContract", "content", "put"]
