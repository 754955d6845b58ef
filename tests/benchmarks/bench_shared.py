"""Measures sessions that processes share, in SQLite and in Redis, against Flask-Session and the bare libraries.

Run with ``uv run python tests/benchmarks/bench_shared.py [case ...]``. It starts its own Redis. Figures are the
medians of the ratios of alternating rounds, ours over the peer's, with the middle half of them. Times are wall time,
and CPU time for SQLite.
"""

from __future__ import annotations

import itertools
import multiprocessing
import secrets
import sqlite3
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import redis
from cachelib import FileSystemCache
from pairs import interleaved, ratio, rounds, row, warm
from silo_store import SessionStore, new_sid
from silo_store.backends.redis import RedisBackend
from silo_store.backends.redis.connections import Connections
from silo_store.backends.sqlite import SQLiteBackend
from webapps import STATE, bare_app, caller, cpu_clock, peer_app, redis_peer, silo_app

sys.path.insert(0, str(Path(__file__).parents[2] / "packages/silo-store/tests/support"))

from links import RoundTrips, SlowLink
from servers import RedisServer

ROUND = 200
CALL = ROUND * 1e-6
"""Makes the seconds of a round microseconds of a call."""

SID = "0123456789abcdef" * 2


def round_trips(server: RedisServer) -> None:
    """Count the round trips of a request to the server."""
    with RoundTrips(server.port) as link:
        for name, app in (("Silo", silo_app(_url(link.port))), ("Flask-Session", redis_peer(_url(link.port)))):
            counts = []
            for method, new in (("GET", False), ("POST", False), ("POST", True)):
                call = caller(app, method, client=[] if new else None)
                call()
                link.reset()
                rounds(call, 50)()
                counts.append(f"{link.count / 50:g}")
            row(f"Redis round trips, {name}: reading, writing, new", ", ".join(counts), "1, 2, 2")


def redis_requests(server: RedisServer) -> None:
    """Time requests on Redis."""
    apps = silo_app(server.url), redis_peer(server.url), bare_app()
    clocks = {"wall": time.perf_counter, "CPU with the server": cpu_clock(server.url)}
    for method, goal, over_bare in (("GET", "0.8x", "-"), ("POST", "0.8x", "4.5x")):
        for name, clock in clocks.items():
            ours, peer, bare = warm(*(rounds(caller(app, method), ROUND) for app in apps), clock=clock)
            row(f"Flask {method} on Redis / Flask-Session, {name}", ratio(ours, peer, CALL), goal)
            row(f"Flask {method} on Redis / bare view, {name}", ratio(ours, bare, CALL), over_bare)


class PackedByRedisPy(Connections):
    """A client with our connection pool, whose commands redis-py packs."""

    def _exchange(self, connection: Any, commands: Collection[tuple[Any, ...]]) -> list[Any]:
        connection.send_packed_command(connection.pack_commands(commands))
        return [connection.read_response() for _ in commands]


class PlainClient(Connections):
    """A client with the connection pool of redis-py."""

    def __init__(self, url: str, timeout: float) -> None:
        super().__init__(url, timeout)
        self._client: Any = redis.Redis(connection_pool=redis.ConnectionPool(self._make, **self._settings))

    def _ask(self, commands: Collection[tuple[Any, ...]]) -> list[Any]:
        if len(commands) == 1:
            return [self._client.execute_command(*words) for words in commands]
        with self._client.pipeline(transaction=False) as pipe:
            for words in commands:
                pipe.execute_command(*words)
            answers: list[Any] = pipe.execute()
            return answers


def connections(server: RedisServer) -> None:
    """Time our connections against those of redis-py, in CPU time."""
    app = silo_app(server.url)
    store: SessionStore = app.extensions["silo"].store
    backend: Any = store.backend
    ways = [way(server.url, 2.0) for way in (Connections, PackedByRedisPy, PlainClient)]

    def edit() -> None:
        with store.edit(SID, "cart") as cart:
            cart["value"] += 1

    for case, action in (
        ("read of a namespace", lambda: store.get_namespace(SID, "cart")),
        ("edit", edit),
        ("Flask GET", caller(app, "GET")),
        ("Flask POST", caller(app, "POST")),
    ):

        def over(way: Connections, action: Callable[[], object] = action) -> Callable[[], None]:
            def measured() -> None:
                backend._prefix.server = way
                rounds(action, ROUND)()

            return measured

        actions = [over(way) for way in ways]
        for each in actions:
            each()
        own, packed, plain = interleaved(*actions, repeats=31)
        row(f"{case} on Redis, commands packed by redis-py / own", f"{packed / own:.2f}x", "-")
        row(f"  a client of redis-py / own ({own / ROUND * 1e6:.0f} us of CPU time)", f"{plain / own:.2f}x", "-")


def threads_far_away(server: RedisServer) -> None:
    """Let 8 threads work with 8 sessions on a server that is 1 ms away."""
    with SlowLink(server.port, 0.0005) as link:
        client = redis.Redis.from_url(_url(link.port))
        store = SessionStore(backend=_url(link.port))
        store.register_namespace("cart", lambda: dict(STATE))

        def bare(number: int) -> None:
            value = int(client.get(f"bare:{number}") or 0)
            client.set(f"bare:{number}", value + 1)

        def silo(number: int) -> None:
            with store.edit(f"{number:032x}", "cart") as cart:
                cart["value"] += 1

        ours, peer = warm(lambda: _in_threads(silo), lambda: _in_threads(bare), repeats=7)
        row("8 threads, 1 ms away: edits / bare GET+SET, by rate", ratio(peer, ours), "0.9x")
        store.close()


def _in_threads(work: Callable[[int], None]) -> None:
    def run(number: int) -> None:
        for _ in range(100):
            work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def sqlite_requests(folder: Path) -> None:
    """Time requests on SQLite."""
    ours = silo_app(f"sqlite:///{folder}/requests.db")
    peer = peer_app(SESSION_TYPE="cachelib", SESSION_CACHELIB=FileSystemCache(str(folder / "cache")))
    for method in ("GET", "POST"):
        mine, theirs = warm(*(rounds(caller(app, method), ROUND) for app in (ours, peer)), clock=time.process_time)
        row(f"Flask {method} on SQLite / Flask-Session on files", ratio(mine, theirs, CALL), "0.25x")


def sqlite_operations(folder: Path) -> None:
    """Time the store's operations against the SQL statements that they need."""
    store = SessionStore(backend=SQLiteBackend(str(folder / "operations.db")))
    store.register_namespace("cart", lambda: dict(STATE))
    store.get(SID)
    bare = sqlite3.connect(folder / "bare.db", isolation_level=None)
    bare.execute("PRAGMA journal_mode=WAL")
    bare.execute("PRAGMA synchronous=NORMAL")
    bare.execute("CREATE TABLE t (sid TEXT PRIMARY KEY, state BLOB)")
    bare.execute("INSERT INTO t VALUES (?, ?)", (SID, b"x" * 60))

    def select() -> None:
        bare.execute("SELECT state FROM t WHERE sid = ?", (SID,)).fetchone()

    number = itertools.count()

    def update() -> None:  # a new value each time, because SQLite does not write an unchanged page
        bare.execute("BEGIN IMMEDIATE")
        bare.execute("UPDATE t SET state = ? WHERE sid = ?", (b"%060d" % next(number), SID))
        bare.execute("COMMIT")

    def add(cart: dict[str, Any]) -> None:
        cart["value"] += 1

    def read() -> None:
        store.get_namespace(SID, "cart")

    def atomic() -> None:
        store.update(SID, "cart", add)

    for case, ours, floor, goal in (
        ("read of a namespace on SQLite / bare SELECT", read, select, "2.5x"),
        ("update on SQLite / bare BEGIN IMMEDIATE + UPDATE", atomic, update, "3x"),
    ):
        mine, theirs = warm(rounds(ours, ROUND), rounds(floor, ROUND), repeats=31, clock=time.process_time)
        row(case, ratio(mine, theirs, CALL), goal)
    store.close()
    bare.close()


SWAP = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) return 1 end return 0"
HOT = 1000
SESSIONS = 100_000


def _hot_silo(url: str, gate: Any, results: Any) -> None:
    store = SessionStore(backend=RedisBackend(url))
    store.register_namespace("cart", lambda: {"value": 0})
    store.get(SID)

    def add(cart: dict[str, Any]) -> None:
        cart["value"] += 1

    results.put(_timed(lambda: store.update(SID, "cart", add), gate))


def _hot_bare(url: str, gate: Any, results: Any) -> None:
    client = redis.Redis.from_url(url)
    swap = client.register_script(SWAP)
    client.get("hot")

    def add() -> None:
        while True:
            old: Any = client.get("hot") or b"0"
            if swap(keys=["hot"], args=[old, int(old) + 1]):
                return

    results.put(_timed(add, gate))


def _timed(action: Callable[[], object], gate: Any) -> tuple[float, float, list[float]]:
    gate.wait()
    times = []
    began = time.monotonic()
    for _ in range(HOT):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return began, time.monotonic(), times


def hot_session(server: RedisServer) -> None:
    """Let 4 processes increment one counter."""
    client = redis.Redis.from_url(server.url)
    ours, peer, spreads, peers = [], [], [], []
    for _ in range(7):
        client.flushall()
        client.set("hot", 0)
        mine, all_mine = _in_processes(_hot_silo, server.url)
        theirs, all_theirs = _in_processes(_hot_bare, server.url)
        assert int(client.get("hot")) == 4 * HOT  # type: ignore[arg-type]
        ours.append(mine)
        peer.append(theirs)
        spreads.append(max(all_mine) / statistics.median(all_mine))
        peers.append(max(all_theirs) / statistics.median(all_theirs))
    row("increments of one hot session, 4 processes / Lua CAS loop, by rate", ratio(peer, ours), "1x")
    slowest = f"{statistics.median(spreads):.0f}x (CAS loop {statistics.median(peers):.0f}x)"
    row("  slowest call / median call", slowest, "20x")


def _in_processes(work: Callable[[str, Any, Any], None], url: str) -> tuple[float, list[float]]:
    context = multiprocessing.get_context("fork")
    gate, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=work, args=(url, gate, results)) for _ in range(4)]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    seconds = max(end for _, end, _ in found) - min(begin for begin, _, _ in found)
    return seconds, [each for _, _, times in found for each in times]


def sweeps(server: RedisServer, folder: Path) -> None:
    """Sweep 100,000 sessions of which none is due."""
    redis.Redis.from_url(server.url).flushall()
    for name, url in (
        ("memory", "memory://"),
        ("SQLite", f"sqlite:///{folder}/sweep.db"),
        ("Redis", server.url),
    ):
        store = _filled(url, 100_000)
        times = []
        for _ in range(20):
            start = time.perf_counter()
            store.cleanup()
            times.append(time.perf_counter() - start)
        row(f"sweep, 100,000 live and none due, {name}", f"{statistics.median(times) * 1000:.3f} ms", "1 ms")
        store.close()


def _fill(store: SessionStore, count: int) -> None:
    def some(first: int) -> None:
        for number in range(first, count, 4):
            store.get(f"{number:032x}")

    threads = [threading.Thread(target=some, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def lives(server: RedisServer, folder: Path) -> None:
    """Ask whether a life exists, with few and with many sessions."""
    redis.Redis.from_url(server.url).flushall()
    for name, few_url, many_url in (
        ("memory", "memory://", "memory://"),
        ("SQLite", f"sqlite:///{folder}/few.db", f"sqlite:///{folder}/many.db"),
        ("Redis", f"{server.url}?prefix=few", f"{server.url}?prefix=many"),
    ):
        few, many = _filled(few_url, 10), _filled(many_url, 100_000)
        clock = cpu_clock(server.url) if name == "Redis" else time.process_time
        for case, uid_few, uid_many in (
            ("has_life of a living uid", few.uid(f"{7:032x}"), many.uid(f"{50_007:032x}")),
            ("has_life of an unknown uid", "unknown", "unknown"),
        ):
            ours, least = warm(_asks(many, uid_many), _asks(few, uid_few), repeats=9, clock=clock)
            row(f"{case}, 100,000 sessions / 10, {name}", ratio(ours, least, 20e-6), "1.1x")
        few.close()
        many.close()


def _filled(url: str, count: int) -> SessionStore:
    store = SessionStore(backend=url)
    store.register_namespace("cart", lambda: dict(STATE))
    _fill(store, count)
    return store


def _asks(store: SessionStore, uid: str | None) -> Callable[[], None]:
    assert uid is not None
    return rounds(lambda: store.has_life(uid), 20)


def memory(server: RedisServer) -> None:
    """Compare the memory of many sessions."""
    client = redis.Redis.from_url(server.url)

    def taken(fill: Callable[[], None]) -> float:
        client.flushall()
        before = int(client.info("memory")["used_memory"])
        fill()
        return (int(client.info("memory")["used_memory"]) - before) / SESSIONS

    def ours(state: dict[str, Any], names: list[str]) -> None:
        store = SessionStore(backend=server.url)
        for name in names:
            store.register_namespace(name, state.copy)
        _fill(store, SESSIONS)
        store.close()

    def flask_session(state: dict[str, Any]) -> None:
        app = peer_app(SESSION_TYPE="redis", SESSION_REDIS=client)
        interface: Any = app.session_interface
        for _ in range(SESSIONS):
            sid = interface._generate_sid(interface.sid_length)
            data = interface.session_class({"cart": state, "_permanent": True}, sid=sid)
            interface._upsert_session(app.permanent_session_lifetime, data, interface._get_store_id(sid))

    def compare(case: str, mine: float, peer: float) -> None:
        row(f"memory of a session on Redis, {case}", f"{mine / peer:.2f}x ({mine:.0f} / {peer:.0f} bytes)", "1.3x")

    long = {"value": 0, "text": "x" * 180}
    for case, state in (("one counter", {"value": 0}), ("200 bytes", long)):
        mine, peer = taken(lambda state=state: ours(state, ["cart"])), taken(lambda state=state: flask_session(state))  # type: ignore[misc]
        compare(f"{case} / Flask-Session", mine, peer)
    ten = [f"cart-{number}" for number in range(10)]
    mine, peer = taken(lambda: ours(long, ten)), taken(lambda: _packed(client, long, ten))
    compare("10 namespaces of 200 bytes / packed", mine, peer)


def _packed(client: redis.Redis, state: dict[str, Any], names: list[str]) -> None:
    """Store sessions each as one string with all namespaces, and the entries of the indexes that each needs."""
    now = time.time()
    data, bucket = msgspec.msgpack.encode(state), int(now // 8)
    namespaces = b"".join(struct.pack(">HII", len(name), 1, len(data)) + name.encode() + data for name in names)
    for first in range(0, SESSIONS, 1000):
        with client.pipeline(transaction=False) as pipe:
            for _ in range(first, first + 1000):
                sid, uid = new_sid(), secrets.token_urlsafe(9)
                record = struct.pack(">ddIB", now, now, bucket, len(uid)) + uid.encode() + namespaces
                pipe.set(f"{{silo}}:s:{sid}", record, ex=90_000)
                pipe.rpush(f"{{silo}}:due:{bucket}", sid)
                pipe.sadd("{silo}:living", sid)
            pipe.zadd("{silo}:due", {str(bucket): bucket})
            pipe.execute()


def _url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def main() -> None:
    """Measure the named cases, or all, and print the table."""
    with _folder() as folder, RedisServer(folder / "redis") as server:
        cases: dict[str, Callable[[], None]] = {
            "trips": lambda: round_trips(server),
            "redis": lambda: redis_requests(server),
            "connections": lambda: connections(server),
            "threads": lambda: threads_far_away(server),
            "sqlite": lambda: sqlite_requests(folder),
            "operations": lambda: sqlite_operations(folder),
            "hot": lambda: hot_session(server),
            "sweep": lambda: sweeps(server, folder),
            "lives": lambda: lives(server, folder),
            "memory": lambda: memory(server),
        }
        for name in sys.argv[1:] or cases:
            cases[name]()


if __name__ == "__main__":
    main()
