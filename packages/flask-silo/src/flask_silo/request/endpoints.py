"""Endpoints that need no view of the application, and take no route from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, NamedTuple

from flask import Flask, Request, Response, request
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Rule

EVENTS = "flask_silo:events"
"""The endpoint of streams of tasks, which checks itself whether the session lives."""

CATCH_ALL = re.compile(r"/(<(\w+:)?\w+>/)*<path:\w+>")
"""Matches the rule of a route that takes every path, such as ``/<path:file>``."""


class Target(NamedTuple):
    """The endpoint that a path leads to.

    Attributes:
        rule: Its URL rule.
        values: The arguments of its view.
        known: Whether the path names something that exists, such as a declared task. If so, the endpoint is preferred
            to a route that takes every path.
    """

    rule: Rule
    values: dict[str, Any]
    known: bool = True


class Endpoints:
    """Endpoints of an application that it has no view for.

    A path and method that the application has a route for stay the application's, whenever the route is registered. The
    exception is a route that takes every path (``/<path:file>``), as for the files of a page. ``before_request``
    functions run before these endpoints, as before any view, and see them in ``request.endpoint``.

    Attributes:
        bases: The beginnings of the endpoints' paths, such as ``/api/tasks/``.
    """

    def __init__(self, app: Flask) -> None:
        self.bases: tuple[str, ...] = ()
        self._app = app
        self._finders: dict[str, Callable[[str, str], Target | None]] = {}

    def add(
        self,
        base: str,
        find: Callable[[str, str], Target | None],
        rules: Iterable[Rule],
        views: Mapping[str, Callable[..., Response]],
    ) -> None:
        """Serve endpoints from now on.

        Args:
            base: The beginning of their paths.
            find: Called with the method of a request and the rest of its path. Returns the endpoint that the path leads
                to; None if there is none.
            rules: Their URL rules, which must be ``build_only``: the URL map would prefer these rules to
                ``/api/<path:rest>`` of the application.
            views: The function of each endpoint. It is not called for OPTIONS, which is answered here.
        """
        # ``add_url_rule()`` fails after the first request, but a module that declares a task may be imported later.
        self._app.view_functions.update({endpoint: _with_options(view) for endpoint, view in views.items()})
        for rule in rules:
            self._app.url_map.add(rule)
        self._finders[base] = find
        self.bases = tuple(self._finders)

    def route(self, request: Request) -> None:
        """Direct a request below one of the ``bases`` to its endpoint. Called before the hooks of the application."""
        for base, find in self._finders.items():
            if request.path.startswith(base):
                target = find(request.method, request.path[len(base) :])
                if target is not None and _is_free(request, target.known):
                    _direct(request, target)
                    return


def _is_free(request: Request, known: bool) -> bool:
    """Return whether the application has no route of its own for the request's path and method."""
    error, rule = request.routing_exception, request.url_rule
    if isinstance(error, NotFound):
        return True
    if not known:
        return False
    return isinstance(error, MethodNotAllowed) or (rule is not None and CATCH_ALL.fullmatch(rule.rule) is not None)


def _direct(request: Request, target: Target) -> None:
    methods = target.rule.methods or ()
    if request.method in methods:
        request.routing_exception = None
        request.url_rule = target.rule
        request.view_args = target.values
    elif isinstance(request.routing_exception, NotFound):
        request.routing_exception = MethodNotAllowed(valid_methods=sorted(methods))


def _with_options(view: Callable[..., Response]) -> Callable[..., Response]:
    """Return a view that answers OPTIONS requests itself, with the methods of its endpoint."""

    @wraps(view)
    def answer(**values: Any) -> Response:
        if request.method != "OPTIONS":
            return view(**values)
        methods = request.url_rule.methods if request.url_rule is not None else None
        return Response(headers={"Allow": ", ".join(sorted(methods or ()))})

    return answer
