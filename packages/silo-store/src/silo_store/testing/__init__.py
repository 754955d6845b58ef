"""Contract suites for backends and codecs, to subclass, and helpers for tests of sessions.

Use a suite in a test module of yours::

    from silo_store.testing import BackendContract

    class TestMyBackend(BackendContract):
        def make_backend(self):
            return MyBackend(...)

The suites use plain asserts and need no test framework.
"""

from .claims import ClaimSuite
from .clock import SID, TTL, Clock, at
from .codec import CodecContract
from .expiry import ExpirySuite
from .lives import LifeSuite
from .records import RecordSuite
from .suite import all_due
from .threads import in_threads

__all__ = ["SID", "TTL", "BackendContract", "Clock", "CodecContract", "all_due", "at", "in_threads"]


class BackendContract(RecordSuite, LifeSuite, ExpirySuite, ClaimSuite):
    """The suite for a ``Backend``. Each test asks for a fresh, empty one."""
