"""Measures whether a request costs what it touches of its session, not what the session holds.

Run with ``uv run python tests/benchmarks/bench_touched.py [case ...]``. It starts its own Redis. The same request
alternates between a session that holds much and one that holds little. Figures are the medians of the ratios of all
rounds, with the middle half of them, in CPU time: on Redis that of this process and of the server together.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pairs import ratio, rounds, row, warm
from silo_store import Change, Life, SessionStore
from webapps import caller, cpu_clock, laden_app, new_client

sys.path.insert(0, str(Path(__file__).parents[2] / "packages/silo-store/tests/support"))

from servers import RedisServer

ROUND = 10
CALL = ROUND * 1e-6
"""Makes the seconds of a round microseconds of a call."""

MUCH, LITTLE = 5_000_000, 1000
"""Bytes of the other namespace of a session."""

Urls = Callable[[str], dict[str, str]]
"""Returns the URL of a new store on each backend that processes share."""

Clocks = dict[str, Callable[[], float]]
"""The clock for each backend."""


def beside(urls: Urls, clocks: Clocks) -> None:
    """Time requests of a session with 5 MB of other state and of one with 1 KB."""
    for case, method, path, settings, goal in (
        ("GET that uses no state", "GET", "/api/idle", {}, "1.1x"),
        ("  the same with its use recorded,", "GET", "/api/idle", {"touch_interval": 0}, "-"),
        ("GET counter", "GET", "/api/counter", {}, "-"),
        ("POST counter", "POST", "/api/counter", {}, "1.2x"),
    ):
        for backend, url in urls("beside" + "".join(settings)).items():
            app = laden_app(url, **settings)
            clients = [new_client(app, f"/api/others/{size}") for size in (MUCH, LITTLE)]
            actions = [rounds(caller(app, method, path, client), ROUND) for client in clients]
            much, little = warm(*actions, repeats=21, clock=clocks[backend])
            row(f"{case} beside 5 MB / beside 1 KB, {backend}", ratio(much, little, CALL), goal)


def store_beside(urls: Urls, clocks: Clocks) -> None:
    """Time what a store does with a session of 5 MB and with one of 1 KB."""
    for backend, url in urls("store").items():
        store = SessionStore(backend=url)
        store.register_namespace("other", lambda: {"text": ""})
        sids = [f"{size:032x}" for size in (MUCH, LITTLE)]
        for sid, size in zip(sids, (MUCH, LITTLE), strict=True):
            store.save(sid, {"other": {"text": "x" * size}})

        def touch(sid: str, store: SessionStore = store) -> None:
            store.touch(sid)

        def is_expired(sid: str, store: SessionStore = store) -> None:
            store.is_expired(sid)

        def attach(sid: str, store: SessionStore = store) -> None:
            record = store.attached(sid)
            assert record is not None
            old = record.get("task")
            store.attach(Life(sid, record.uid), "task", Change(old.version if old else 0, b"progress"))

        for case, action in (("touch", touch), ("is_expired", is_expired), ("attached + attach", attach)):
            actions = [rounds(lambda action=action, sid=sid: action(sid), ROUND) for sid in sids]  # type: ignore[misc]
            much, little = warm(*actions, repeats=21, clock=clocks[backend])
            row(f"{case} beside 5 MB / beside 1 KB, {backend}", ratio(much, little, CALL), "1.1x")
        store.close()


def namespaces(urls: Urls, clocks: Clocks) -> None:
    """Time requests of a session with 100 namespaces and of one with a single one."""
    for (backend, many), one in zip(urls("many").items(), urls("one").values(), strict=True):
        apps = laden_app(many, 99), laden_app(one, 0)
        clients = [new_client(app, "/api/counter") for app in apps]
        for app, client in zip(apps, clients, strict=True):
            caller(app, "POST", "/api/others/0", client)()  # stores the others too
        for method, path, goal in (
            ("GET", "/api/idle", "-"),
            ("GET", "/api/counter", "1.15x"),
            ("POST", "/api/counter", "-"),
        ):
            actions = [
                rounds(caller(app, method, path, client), 10 * ROUND) for app, client in zip(apps, clients, strict=True)
            ]
            many_times, one_times = warm(*actions, repeats=21, clock=clocks[backend])
            row(f"{method} {path[5:]}, 100 namespaces / 1, {backend}", ratio(many_times, one_times, 10 * CALL), goal)


def main() -> None:
    """Measure the named cases, or all, and print the table."""
    cases = {"beside": beside, "store": store_beside, "namespaces": namespaces}
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder) / "redis") as server:
        clocks = {"Redis": cpu_clock(server.url), "SQLite": time.process_time}

        def urls(name: str) -> dict[str, str]:
            return {"Redis": f"{server.url}?prefix={name}", "SQLite": f"sqlite:///{folder}/{name}.db"}

        for name in sys.argv[1:] or cases:
            cases[name](urls, clocks)


if __name__ == "__main__":
    main()
