"""The worker's side of a task that another process has sent: find or load its application, and run it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypedDict

from flask import Flask
from flask.cli import ScriptInfo
from silo_store import Life, RecordDamaged, StoreUnavailable, check_sid
from silo_tasks import BackgroundTask, TaskError
from silo_tasks.runners.queue import Message

from ..served import BINDING, served
from .records import TaskRecords, label_of

if TYPE_CHECKING:
    from ..binding import Binding
    from .task import SessionTask

_loaded: dict[str, Flask] = {}
"""The applications that were loaded for a task, by the import path that they were loaded from."""

_loading = threading.Lock()


class TaskAddress(TypedDict):
    """Names the task that runs, its application and its session."""

    app: str
    """The import name of the application."""
    task: str
    """The name of the task."""
    sid: str | None
    """The id of the session; None if sessions are in the memory of another process."""
    uid: str | None
    """The uid of the session; None if sessions are in the memory of another process."""


def find(address: TaskAddress) -> tuple[Binding, SessionTask[..., Any] | None]:
    """Return the binding of a task's application in this process, and the task.

    If no application of this process has the task, one is loaded in the way of ``flask run``: the application that
    ``FLASK_APP`` names, or else the application, or the factory ``create_app``, of the module in the address.

    Returns:
        The binding, and the task; None instead of the task if the application does not have it.

    Raises:
        TaskError: The application cannot be loaded, or has no ``Silo``.
        InvalidSessionId: The address names an invalid session id.
    """
    if address["sid"] is not None:
        check_sid(address["sid"])
    found = None
    for app in _candidates(address):
        binding: Binding | None = app.extensions.get(BINDING)
        if binding is not None:
            declared = binding.declared.get(address["task"])
            if declared is not None:
                return binding, declared
            found = found or binding
    if found is None:
        raise TaskError(
            f"the application of this worker, {_import_path(address['app'])!r}, has no Silo: let FLASK_APP name the "
            "application that declares the task"
        )
    return found, None


def _candidates(address: TaskAddress) -> Iterator[Flask]:
    """Yield the applications that may have the task, the likeliest first."""
    known, name = _named(address), address["app"]
    yield from known
    path = _import_path(name)
    try:
        with _loading:
            if path not in _loaded:
                _loaded[path] = ScriptInfo(app_import_path=path).load_app()
    except Exception as error:
        if known:
            return
        raise TaskError(
            f"this worker has no application {name!r} and cannot load {path!r}: {str(error).rstrip('.')}. Let "
            "FLASK_APP name it, as in FLASK_APP=package.module:create_app, or import the module that makes it"
        ) from error
    yield from _named(address)  # loading the path may have made the named application too
    yield _loaded[path]


def _named(address: TaskAddress) -> list[Flask]:
    """Return the applications of that name; if a module has made several, the one that has the session comes first."""
    found = [app for app in list(served) if app.import_name == address["app"]]
    return sorted(found, key=lambda app: not _has_session(app, address)) if len(found) > 1 else found


def _has_session(app: Flask, address: TaskAddress) -> bool:
    binding: Binding | None = app.extensions.get(BINDING)
    if binding is None or address["sid"] is None or address["uid"] is None:
        return False
    try:
        return binding.store.attached(address["sid"], address["uid"]) is not None
    except (StoreUnavailable, RecordDamaged):  # another application may have it
        return False


def _import_path(name: str) -> str:
    return os.environ.get("FLASK_APP") or name


def serve(task: BackgroundTask, address: TaskAddress, *args: Any, **kwargs: Any) -> Any:
    """Run a session's task. The process that starts it sends this function, and silo-tasks calls it in the worker.

    Raises:
        TaskError: The application cannot be loaded, has no ``Silo``, or does not have the task.
    """
    sid, uid = address["sid"], address["uid"]
    if sid is not None:
        task.label = label_of(address["task"], sid)
    binding, declared = find(address)
    if declared is None:
        raise TaskError(
            f"the application of this worker, {_import_path(address['app'])!r}, has no task {address['task']!r}: let "
            "FLASK_APP name the one that has it, unless this worker is of another release than the server"
        )
    life = Life(sid, uid) if sid is not None and uid is not None else None
    return binding.runs.executor.execute_sent(task, life, declared.call(args, kwargs))


def _open_store(message: Message) -> TaskRecords:
    address: TaskAddress = message.args[0]
    binding, _ = find(address)
    return TaskRecords(binding.store, address["sid"] or "")


serve.open_store = _open_store  # type: ignore[attr-defined]
