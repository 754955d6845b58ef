"""The interface of release 0.1."""

from __future__ import annotations

import importlib
import inspect

import flask_silo
import pytest
from flask_silo import BackgroundTask, FileStore, SessionStore, Silo, SiloError, TaskState

NAMES = {
    "flask_silo": "Silo SessionStore CleanupDaemon BackgroundTask TaskState FileStore SiloStorage InMemoryStorage "
    "SiloError SessionExpired SessionBusy NamespaceError __version__",
    "flask_silo.ext": "Silo",
    "flask_silo.store": "SessionStore",
    "flask_silo.cleanup": "CleanupDaemon",
    "flask_silo.tasks": "BackgroundTask TaskState",
    "flask_silo.files": "FileStore",
    "flask_silo.storage": "SiloStorage InMemoryStorage",
    "flask_silo.errors": "SiloError SessionExpired SessionBusy NamespaceError",
}

MEMBERS = {
    Silo: "init_app register add_file_store file_store add_data_endpoints state sid reset_current stop",
    SessionStore: "register_namespace get get_namespace touch exists is_expired cleanup reset destroy set_busy_check "
    "on_expire on_create generate_sid active_count expired_count all_sids save",
    BackgroundTask: "start reset update log complete fail state is_running is_complete is_failed name",
    TaskState: "to_dict",
    FileStore: "session_dir save get_path list_files cleanup cleanup_all total_size_bytes",
}

ARGUMENTS = {
    Silo: "app ttl cleanup_interval expired_retain header query_param min_sid_length data_endpoints auto_cleanup "
    "api_prefix storage",
    SessionStore: "ttl cleanup_interval expired_retain sid_generator storage",
    BackgroundTask: "name",
    FileStore: "base_dir auto_create",
    flask_silo.CleanupDaemon: "store interval",
    TaskState: "running progress message logs complete error started_at finished_at",
}


@pytest.mark.parametrize(("module", "names"), NAMES.items())
def test_every_name_is_where_it_was(module: str, names: str) -> None:
    found = importlib.import_module(module)
    for name in names.split():
        assert getattr(found, name) is getattr(flask_silo, name)


@pytest.mark.parametrize(("kind", "names"), MEMBERS.items())
def test_every_member_is_there(kind: type, names: str) -> None:
    assert [name for name in names.split() if not hasattr(kind, name)] == []


@pytest.mark.parametrize(("kind", "names"), ARGUMENTS.items())
def test_every_argument_is_taken_under_its_name_and_in_its_place(kind: type, names: str) -> None:
    taken = list(inspect.signature(kind).parameters)
    old = names.split()
    assert [name for name in old if name not in taken] == []
    positional = [name for name, p in inspect.signature(kind).parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional[: len(old)] == old[: len(positional)]


def test_errors_carry_what_they_carried() -> None:
    assert flask_silo.SessionExpired("some-session-id").sid == "some-session-id"
    assert str(flask_silo.SessionBusy("some-session-id", "words of mine")) == "words of mine"
    assert flask_silo.NamespaceError("cart").namespace == "cart"
    for kind in (flask_silo.SessionExpired, flask_silo.SessionBusy, flask_silo.NamespaceError):
        assert issubclass(kind, SiloError)
