"""The endpoints of tasks, which need no view of the application: read a state, cancel a task, stream events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, jsonify, request
from silo_store import Life, SessionStore, StoreUnavailable
from werkzeug.routing import Rule

from ..current import current_request
from ..request.endpoints import EVENTS, Endpoints, Target
from ..request.waiting import waiters
from ..server import Server
from .event_id import EventId
from .events import StreamTiming, stream
from .runs import SessionRuns
from .states import StateReader
from .task import SessionTask
from .watch import Watches

if TYPE_CHECKING:
    from ..request.session import RequestSession
    from ..settings import Settings

TASK = "flask_silo:task"
NO_STORE = {"Cache-Control": "no-store"}


class TaskViews:
    """Serves ``tasks/<name>`` and ``tasks/events`` below each prefix of an application.

    Args:
        app: The application.
        endpoints: The endpoints that the application has no view for.
        settings: Its settings.
        store: The store of its sessions.
        runs: The runs of its sessions' tasks.
        declared: Its tasks, by name.

    Attributes:
        timing: The times of streams.
    """

    def __init__(
        self,
        app: Flask,
        endpoints: Endpoints,
        settings: Settings,
        store: SessionStore,
        runs: SessionRuns,
        declared: Mapping[str, SessionTask[..., Any]],
    ) -> None:
        self.timing: StreamTiming = StreamTiming()
        self._app = app
        self._declared = declared
        self._watches = Watches(StateReader(app, store, runs, declared))
        runs.on_change = self._watches.wake
        self._max_streams = settings.max_streams
        self._endpoints = endpoints
        self._prefixes = settings.prefixes if settings.task_endpoints else ()

    def enable(self) -> None:
        """Serve the endpoints from now on. Called once the application has a task."""
        prefixes, self._prefixes = self._prefixes, ()
        for prefix in prefixes:
            base = f"{prefix.rstrip('/')}/tasks/"
            events = Rule(f"{base}events", endpoint=EVENTS, methods=["GET", "OPTIONS"], build_only=True)
            task = Rule(f"{base}<path:name>", endpoint=TASK, methods=["GET", "DELETE", "OPTIONS"], build_only=True)
            views: dict[str, Callable[..., Response]] = {EVENTS: self._events, TASK: self._task}
            self._endpoints.add(base, partial(self._find, events, task), (events, task), views)

    def _find(self, events: Rule, task: Rule, method: str, name: str) -> Target | None:
        """Return the endpoint of a path below ``tasks/``; None if there is none for the method."""
        rule = events if name == "events" and method != "DELETE" else task
        if not name or method not in (rule.methods or ()):
            return None
        return Target(rule, {"name": name} if rule is task else {}, name == "events" or name in self._declared)

    def _task(self, name: str) -> Response:
        task = self._declared.get(name)
        if task is None:
            answer = jsonify(error="unknown_task", message="There is no task of that name.")
            answer.status_code = 404
        else:
            self._living_session()
            if request.method == "DELETE":
                answer = jsonify(cancelled=task.cancel())
            else:
                answer = jsonify(task.state.to_dict(public=not self._app.debug))
        answer.headers.update(NO_STORE)
        return answer

    def _events(self) -> Response:
        sent = request.headers.get("Last-Event-ID")
        known = str(EventId(sent or "", self._declared))
        try:
            life = self._life()
            watch = self._watches.of(life)
            look, _ = watch.look(self.timing.look, fresh=True)
        except StoreUnavailable:
            # With any other status, the browser's EventSource would not reconnect.
            answer = Response(f"retry: {round(1000 * self.timing.poll)}\n\n")
        else:
            sid = life.sid if life is not None else None
            if sent and not look.runs and look.shows(sid) and look.id == known:
                return Response(status=204, headers=NO_STORE)
            server = Server.from_environ(request.environ)
            limit = server.max_streams(self._max_streams, waiters.taken)
            events = stream(watch, sid, known, server, limit, self.timing)
            # direct_passthrough: a hook that reads the whole response would wait for the end of the stream.
            answer = Response(events, direct_passthrough=True)
        answer.headers.update({**NO_STORE, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        return answer

    def _life(self) -> Life | None:
        """Return the life of the request's session; None if there is no session."""
        session = self._living_session()
        uid = session.uid
        return Life(session.sid, uid) if uid else None

    def _living_session(self) -> RequestSession:
        """Return the session of the request.

        Raises:
            SessionExpired: The presented id has no session; an idle state would mislead the client.
        """
        session = current_request()
        assert session is not None
        session.require()
        return session
