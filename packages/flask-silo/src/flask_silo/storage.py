"""The storage interface of release 0.1, under the name that it had for its module."""

from silo_store import InMemoryStorage, SiloStorage

__all__ = ["InMemoryStorage", "SiloStorage"]
