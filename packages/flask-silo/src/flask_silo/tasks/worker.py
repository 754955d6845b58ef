"""The side of a worker: a process that is sent a session's task, and has or loads the application."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypedDict

from flask import Flask
from flask.cli import ScriptInfo
from silo_store import StoreUnavailable, check_sid
from silo_tasks import BackgroundTask, TaskError
from silo_tasks.runners.message import Message

from .records import TaskRecords, label_of

if TYPE_CHECKING:
    from ..binding import Binding
    from .task import SessionTask

_known: weakref.WeakSet[Flask] = weakref.WeakSet()
"""The applications of this process that a `Silo` serves."""

_loaded: dict[str, Flask] = {}
"""Those that were loaded for a task, by what they were imported by."""

_loading = threading.Lock()


class TaskAddress(TypedDict):
    """Where a task belongs."""

    app: str
    """The import name of the application."""
    task: str
    """The name of the task."""
    sid: str | None
    """The session that it works for; None where its sessions are in the memory of another process."""
    uid: str | None
    """The life of that session."""


def register_application(app: Flask) -> None:
    """Let tasks that are sent to this process find the application."""
    _known.add(app)


def find(address: TaskAddress) -> tuple[Binding, SessionTask[..., Any] | None]:
    """Find what serves the application here, and the task, if that application has it.

    An application is loaded if this process has none that has the task. As ``flask run`` would, that takes the one
    named by ``FLASK_APP``, or else looks for one, or for a factory ``create_app``, in the module that the task's
    application was made in.

    Raises:
        TaskError: there is no such application.
        InvalidSessionId: what the message names as a session's id is none.
    """
    if address["sid"] is not None:
        check_sid(address["sid"])
    served = None
    for app in _candidates(address):
        binding: Binding | None = app.extensions.get("flask_silo.binding")
        if binding is not None:
            declared = binding.declared.get(address["task"])
            if declared is not None:
                return binding, declared
            served = served or binding
    if served is None:
        raise TaskError(f"no Silo serves the application of this worker, {_where(address['app'])!r}")
    return served, None


def _candidates(address: TaskAddress) -> Iterator[Flask]:
    """Give the applications that may be meant, the likeliest first."""
    known, name = _named(address), address["app"]
    yield from known
    where = _where(name)
    try:
        with _loading:
            if where not in _loaded:
                _loaded[where] = ScriptInfo(app_import_path=where).load_app()
    except Exception as error:
        if known:
            return
        raise TaskError(
            f"this worker has no application {name!r} and cannot load {where!r}: {str(error).rstrip('.')}. Let "
            "FLASK_APP name it, as in FLASK_APP=package.module:create_app, or import the module that makes it"
        ) from error
    yield from _named(address)  # it may have come with the one that was loaded
    yield _loaded[where]


def _named(address: TaskAddress) -> list[Flask]:
    """Return the applications of that name. If a module has made several, the one first that has the session."""
    found = [app for app in list(_known) if app.import_name == address["app"]]
    return sorted(found, key=lambda app: not _has(app, address)) if len(found) > 1 else found


def _has(app: Flask, address: TaskAddress) -> bool:
    binding: Binding | None = app.extensions.get("flask_silo.binding")
    if binding is None or address["sid"] is None or address["uid"] is None:
        return False
    try:
        return binding.store.attached(address["sid"], address["uid"]) is not None
    except StoreUnavailable:
        return False


def _where(name: str) -> str:
    return os.environ.get("FLASK_APP") or name


def serve(task: BackgroundTask, address: TaskAddress, *args: Any, **kwargs: Any) -> Any:
    """Run a session's task: what silo-tasks calls in the worker.

    Raises:
        TaskError: there is no such application, or it has no such task.
    """
    if address["sid"] is not None:
        task.label = label_of(address["task"], address["sid"])
    binding, declared = find(address)
    if declared is None:
        raise TaskError(
            f"the application of this worker, {_where(address['app'])!r}, has no task {address['task']!r}: let "
            "FLASK_APP name the one that has it, unless this worker is of another release than the server"
        )
    return binding.runs.serve(task, address, declared, args, kwargs)


def _open_store(message: Message) -> TaskRecords:
    address: TaskAddress = message.args[0]
    binding, _ = find(address)
    return TaskRecords(binding.store, address["sid"] or "")


serve.open_store = _open_store  # type: ignore[attr-defined]
