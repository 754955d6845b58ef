"""Checks how an application is set up, and reports what may be wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask
from silo_files import BaseMissing, FolderUnusable, LocalFileBackend
from silo_store import Finding, StoreUnavailable, redact
from silo_tasks import RunnerUnavailable
from silo_tasks.runners.queue import QueueRunner
from werkzeug.exceptions import HTTPException

from ..deployment import ADVICE, SHARE, expected_workers
from ..files.routes import ALL_ROUTES
from ..request.endpoints import CATCH_ALL
from ..text import duration, plural, printable
from ..unused import may_begin, unused_environment

if TYPE_CHECKING:
    from ..binding import Binding
    from ..files.store import SessionFileStore

SHORT_RETAIN = 3600.0
"""Seconds. A client that comes back within an hour should get a 410, not an empty session."""
GUESSABLE = 16
"""Characters. Shorter ids can be guessed."""
NEARLY_FULL = 0.9
"""The share of ``max_sessions`` from which an operator should be warned."""
LITTLE_SPACE = 100_000_000
"""Bytes."""


def examine(
    app: Flask, binding: Binding, stores: Mapping[str, SessionFileStore], environ: Mapping[str, str]
) -> list[Finding]:
    """Check settings, sessions, workers and files. A failing backend becomes a finding, never an exception."""
    return [
        *_unused_names(binding, environ),
        *_times(binding),
        *_requests(app, binding),
        *_ids(binding),
        *_state(binding),
        *_backend(binding),
        *_capacity(binding),
        *_workers(binding, environ),
        *_tasks(binding),
        *_files(binding, stores),
        *(finding for store in stores.values() for finding in _routes(app, store)),
    ]


def _unused_names(binding: Binding, environ: Mapping[str, str]) -> Iterator[Finding]:
    for message in binding.unused_names():
        yield Finding("warning", "names", message)
    for name, unused in unused_environment(binding.settings, environ):
        yield Finding("warning", "store_url" if name == "store_url" else "settings", unused)


def _times(binding: Binding) -> Iterator[Finding]:
    store, found = binding.store, False
    if store.cleanup_interval > store.ttl:
        found = True
        yield Finding(
            "warning",
            "settings",
            f"sessions live {duration(store.ttl)} (SILO_TTL) but are swept every {duration(store.cleanup_interval)} "
            "(SILO_CLEANUP_INTERVAL): until they are swept, expired sessions keep their memory, files and tasks",
        )
    if store.expired_retain < min(store.ttl, SHORT_RETAIN):
        found = True
        yield Finding(
            "warning",
            "settings",
            f"an expired id is remembered for {duration(store.expired_retain)} (SILO_EXPIRED_RETAIN): a client that "
            "comes back later gets an empty session instead of a 410",
        )
    if not binding.settings.auto_cleanup:
        found = True
        way = "run flask silo sweep regularly" if store.backend.shared else "call silo.store.cleanup() regularly"
        yield Finding("warning", "settings", f"no thread sweeps expired sessions (SILO_AUTO_CLEANUP is False): {way}")
    if binding.settings.min_sid_length < GUESSABLE:
        found = True
        yield Finding(
            "warning",
            "settings",
            f"clients may use ids of {plural(binding.settings.min_sid_length, 'character')} (SILO_MIN_SID_LENGTH): ids "
            f"shorter than {GUESSABLE} can be guessed, and a client that knows an id has the session",
        )
    if not found:
        yield Finding(
            "ok",
            "settings",
            f"a session ends {duration(store.ttl)} after its last request, is swept within "
            f"{duration(store.cleanup_interval)} and remembered as expired for {duration(store.expired_retain)}",
        )


def _requests(app: Flask, binding: Binding) -> Iterator[Finding]:
    rules = [rule.rule for rule in app.url_map.iter_rules()]
    for each in binding.settings.prefixes:
        count = sum(may_begin(rule, each) for rule in rules)
        if count:
            yield Finding("ok", "requests", f"{plural(count, 'URL rule')} below {each}: requests there have a session")
        else:
            yield Finding(
                "warning",
                "requests",
                f"no URL rule of the application is below {each} (SILO_API_PREFIX): no request there has a session",
            )


def _ids(binding: Binding) -> Iterator[Finding]:
    if binding.settings.accept_client_ids:
        yield Finding(
            "warning",
            "ids",
            "clients may choose their ids (SILO_ACCEPT_CLIENT_IDS is set): a client that makes another client use an "
            "id shares its session",
        )
    else:
        message = "the server issues ids and accepts none that a client made up (SILO_ACCEPT_CLIENT_IDS is not set)"
        yield Finding("ok", "ids", message)


def _state(binding: Binding) -> Iterator[Finding]:
    limit, live = binding.settings.max_state_bytes, binding.store.backend.live
    if limit is not None and live:
        yield Finding("warning", "state", "SILO_MAX_STATE_BYTES has no effect: live objects in memory are not measured")
    elif limit is not None:
        yield Finding("ok", "state", f"the state of one session may take {limit:,} bytes")
    elif not live:
        yield Finding("ok", "state", "the state of one session may take any size (SILO_MAX_STATE_BYTES is not set)")


def _backend(binding: Binding) -> Iterator[Finding]:
    store, url = binding.store, binding.settings.store_url
    if _scheme(url) == "sqlite" and not url.strip().partition("://")[2].startswith("//"):
        yield Finding(
            "warning",
            "store_url",
            f"{redact(url)} is relative to the folder in which a process starts, here {Path.cwd()}: a process that "
            "starts in another folder has other sessions. Give an absolute path, with four slashes",
        )
    findings = store.backend.check(store.moment().now)
    yield from findings
    if store.backend.shared and not any(finding.level == "error" for finding in findings):
        try:
            count = store.active_count
        except StoreUnavailable as error:
            yield Finding("error", "sessions", f"cannot be reached: {error}")
        else:
            yield _counted(count, store.max_sessions)


def _scheme(url: str) -> str:
    return url.strip().partition(":")[0].lower()


def _counted(count: int, limit: int | None) -> Finding:
    said = f"can be reached: {plural(count, 'session')}"
    if limit is None:
        return Finding("ok", "sessions", said)
    said += f" of at most {limit:,} (SILO_MAX_SESSIONS), counting those that are due"
    if count < NEARLY_FULL * limit:
        return Finding("ok", "sessions", said)
    return Finding("warning", "sessions", f"{said}: once the limit is reached, new clients get 503")


def _capacity(binding: Binding) -> Iterator[Finding]:
    store, limit = binding.store, binding.store.max_sessions
    if limit is None:
        said = "any number of sessions may begin (SILO_MAX_SESSIONS is not set)"
    else:
        where = "" if store.backend.shared else " in each process"
        said = f"at most {plural(limit, 'session')} may live{where} (SILO_MAX_SESSIONS)"
    yield Finding("ok", "capacity", f"{said}; limit the requests of one address in a proxy in front of the server")


def _workers(binding: Binding, environ: Mapping[str, str]) -> Iterator[Finding]:
    workers = expected_workers(environ)
    said = f"{plural(workers.number, 'worker process', 'worker processes')} ({workers.source})" if workers else ""
    if binding.store.backend.shared:
        yield Finding("ok", "workers", f"{said or 'any number of worker processes'}: they share the sessions")
    elif workers is not None and workers.number > 1:
        yield Finding("error", "workers", f"{said}, and each of them keeps sessions of its own: {ADVICE}")
    else:
        message = (
            said or "their number is not in the environment: start only one, because each keeps sessions of its own"
        )
        yield Finding("ok", "workers", message)


def _tasks(binding: Binding) -> Iterator[Finding]:
    queued: dict[QueueRunner, list[str]] = {}
    for name, task in sorted(binding.declared.items()):
        if isinstance(task.runner, QueueRunner):
            queued.setdefault(task.runner, []).append(name)
    for runner, names in queued.items():
        yield from _queue(runner, names)
    sent = ", ".join(sorted(name for names in queued.values() for name in names))
    if sent and not binding.store.backend.shared:
        message = f"workers of a task queue cannot reach the sessions, and cannot run {sent}: {SHARE}"
        yield Finding("error", "tasks", message)
    elif sent:
        message = f"workers of a task queue run {sent}: they need the same SILO_STORE_URL and file folders"
        yield Finding("ok", "tasks", message)


def _queue(runner: QueueRunner, names: Sequence[str]) -> Iterator[Finding]:
    tasks = ", ".join(names)
    try:
        runner.store.read("", names[0])
        listeners = runner.listeners()
    except RunnerUnavailable as error:
        yield Finding("error", "tasks", f"the queue of {tasks}: {error}")
        return
    if listeners is None:
        return
    if listeners.number:
        number = plural(listeners.number, "worker")
        yield Finding("ok", "tasks", f"the queue {listeners.queue!r} of {tasks} has {number}")
    else:
        yield Finding(
            "warning",
            "tasks",
            f"the queue {listeners.queue!r} has no live worker, so runs of {tasks} wait: start one beside the server "
            f"({listeners.command})",
        )


def _files(binding: Binding, stores: Mapping[str, SessionFileStore]) -> Iterator[Finding]:
    several_hosts = _scheme(binding.settings.store_url) in ("redis", "rediss")
    for name, store in stores.items():
        topic, folder = f"files: {name}", Path(store.base_dir)
        if not isinstance(store.backend, LocalFileBackend):
            yield Finding("ok", topic, f"kept by {type(store.backend).__name__}, which the doctor cannot check")
            continue
        try:
            store.backend.check()
        except (BaseMissing, FolderUnusable) as error:
            yield Finding("error", topic, str(error.strerror))
            continue
        if store.is_relative:
            yield Finding(
                "warning",
                topic,
                f"{folder} was given as a relative path: a process that starts in another folder uses other files. "
                "Give an absolute path, such as Path(app.instance_path, ...)",
            )
        elif (free := shutil.disk_usage(folder).free) < LITTLE_SPACE:
            yield Finding("warning", topic, f"{folder} has only {free // 1_000_000} MB left")
        else:
            more = "; servers that share the sessions must share this folder too" if several_hosts else ""
            yield Finding("ok", topic, f"{folder} can be written{more}")
        for origin, count in store.backend.foreign_areas().items():
            sessions = plural(count, "session that is", "sessions that are")
            yield Finding(
                "warning",
                topic,
                f"{folder} has files of {sessions} kept in {printable(origin)}: no sweep of this application removes "
                "them. Give each application a folder of its own. If the sessions have moved, the files go when they "
                "end",
            )


def _routes(app: Flask, store: SessionFileStore) -> Iterator[Finding]:
    """Check the routes of a file store."""
    topic = f"routes: {store.name}"
    if not store.routes:
        return
    names = ", ".join(route for route in ALL_ROUTES if route in store.routes)
    yield Finding("ok", topic, f"clients may {names} without a view of the application")
    if "link" in store.routes and not app.secret_key:
        message = "links cannot be made or followed without a SECRET_KEY: set it, the same in all processes"
        yield Finding("warning", topic, message)
    for path, method, endpoint in _hidden(app, store.name):
        message = f"{method} {path} goes to the endpoint {endpoint} of the application: give one of them another path"
        yield Finding("warning", topic, message)


def _hidden(app: Flask, store: str) -> Iterator[tuple[str, str, str]]:
    """Yield the path and method of each route of a store for which the application has a route, and its endpoint."""
    urls = app.url_map.bind("")
    for rule in app.url_map.iter_rules():
        if rule.build_only and (rule.defaults or {}).get("store") == store:
            path = re.sub(r"<\w+>", "example.txt", rule.rule)
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                with suppress(HTTPException):
                    taken, _ = urls.match(path, method, return_rule=True)
                    if not CATCH_ALL.fullmatch(taken.rule):
                        yield rule.rule, method, taken.endpoint
