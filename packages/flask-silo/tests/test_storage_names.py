"""Names of the old storage interface, which release 0.1.0 did not have. They are not part of its contract."""

from __future__ import annotations

import inspect

import flask_silo
import flask_silo.storage
import pytest
from flask_silo import InMemoryStorage, SessionStore, Silo, SiloStorage


@pytest.mark.parametrize("name", ["SiloStorage", "InMemoryStorage"])
def test_the_names_of_the_storage_interface_are_there(name: str) -> None:
    assert getattr(flask_silo.storage, name) is getattr(flask_silo, name)
    assert issubclass(InMemoryStorage, SiloStorage)


@pytest.mark.parametrize("kind", [Silo, SessionStore])
def test_a_storage_may_be_given(kind: type) -> None:
    assert inspect.signature(kind).parameters["storage"].default is None
