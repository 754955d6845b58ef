"""How the memory backend finds a life by its uid."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest
from silo_store.backend import Life, Moment
from silo_store.backends.memory import MemoryBackend
from silo_store.record import Record
from silo_store.session import Session

AT = Moment(1000.0, 60.0)


@pytest.fixture(params=[False, True], ids=["objects", "copies"])
def backend(request: pytest.FixtureRequest) -> MemoryBackend:
    return MemoryBackend(copy=request.param)


def begin(backend: MemoryBackend, number: int) -> Life:
    life = Life(f"sid-{number}", f"uid-{number}")
    backend.create(Session(*life, AT.now, AT.now), AT)
    return life


class Unscanned(dict[str, Record]):
    """Records that a search by uid must not go through."""

    def values(self) -> NoReturn:
        raise AssertionError("it scans")


def test_a_life_is_found_by_its_uid_without_a_scan(backend: MemoryBackend) -> None:
    lives = [begin(backend, number) for number in range(3)]
    assert backend.find("uid-0") == "sid-0", "the first call looks at all records"
    backend.records = Unscanned(backend.records)

    lives.append(begin(backend, 3))
    assert backend.rename(lives[1], "other", AT)
    assert [backend.find(uid) for _, uid in lives] == ["sid-0", "other", "sid-2", "sid-3"]
    assert backend.find("uid-4") is None


END: dict[str, Callable[[MemoryBackend, Life], object]] = {
    "removed": lambda backend, life: backend.remove(life),
    "expired": lambda backend, life: backend.expire([life], Moment(AT.now + 61, AT.ttl)),
}


@pytest.mark.parametrize("end", END.values(), ids=END)
@pytest.mark.parametrize("asked_before", [False, True])
def test_a_life_that_has_ended_is_not_found(
    backend: MemoryBackend, end: Callable[[MemoryBackend, Life], object], asked_before: bool
) -> None:
    life, other = begin(backend, 0), begin(backend, 1)
    if asked_before:
        assert backend.find(life.uid) == life.sid
    assert backend.rename(life, "renamed", AT)
    assert backend.rename(Life("renamed", life.uid), "renamed again", AT)
    if asked_before:
        assert backend.find(life.uid) == "renamed again"

    end(backend, Life("renamed again", life.uid))

    assert backend.find(life.uid) is None
    assert backend.find(other.uid) == other.sid


def test_the_next_life_of_an_id_is_found_by_its_own_uid(backend: MemoryBackend) -> None:
    first = begin(backend, 0)
    assert backend.find(first.uid) == first.sid
    backend.remove(first)
    backend.create(Session(first.sid, "uid-new", AT.now, AT.now), AT)
    assert backend.find("uid-new") == first.sid
    assert backend.find(first.uid) is None
