"""Counts the instructions of what a store does, beside the bare operation that it needs.

Run with ``uv run python tests/benchmarks/count_store.py [memory] [sqlite]``; needs ``valgrind``. The figures do not
depend on how busy the machine is, but on the releases of Python and SQLite.
"""

from __future__ import annotations

import itertools
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from counting import count, counted
from pairs import row
from silo_store import SessionStore

SID = "0123456789abcdef" * 2
STATE = {"value": 0, "items": ["book", "pen"], "name": "somebody"}
BACKENDS = ["memory", "sqlite"]
NAMES = ("look-up", "change", "get", "get_namespace", "update")
ROWS = (
    ("get", "look-up", {"memory": "5x", "sqlite": "-"}),
    ("get_namespace", "look-up", {"memory": "-", "sqlite": "2.5x"}),
    ("update", "change", {"memory": "-", "sqlite": "3x"}),
)


def add(cart: dict[str, Any]) -> None:
    """Change a namespace."""
    cart["value"] += 1


def of_store(url: str) -> dict[str, Callable[[], object]]:
    """Return the operations of a store with one session."""
    store = SessionStore(backend=url)
    store.register_namespace("cart", lambda: dict(STATE))
    store.get(SID)
    return {
        "get": lambda: store.get(SID),
        "get_namespace": lambda: store.get_namespace(SID, "cart"),
        "update": lambda: store.update(SID, "cart", add),
    }


def of_dict() -> dict[str, Callable[[], object]]:
    """Return the same of a dict, whose writers take a lock."""
    sessions = {SID: {"cart": dict(STATE)}}
    lock = threading.Lock()

    def change() -> None:
        with lock:
            add(sessions[SID]["cart"])

    return {"look-up": lambda: sessions[SID], "change": change}


def of_sqlite(folder: str) -> dict[str, Callable[[], object]]:
    """Return the same of a table, without encoding."""
    database = sqlite3.connect(f"{folder}/bare.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("CREATE TABLE t (sid TEXT PRIMARY KEY, state BLOB)")
    database.execute("INSERT INTO t VALUES (?, ?)", (SID, b"x" * 60))
    number = itertools.count()

    def change() -> None:  # a new value each time, because SQLite does not write an unchanged page
        database.execute("BEGIN IMMEDIATE")
        database.execute("UPDATE t SET state = ? WHERE sid = ?", (b"%060d" % next(number), SID))
        database.execute("COMMIT")

    return {
        "look-up": lambda: database.execute("SELECT state FROM t WHERE sid = ?", (SID,)).fetchone(),
        "change": change,
    }


def works(backends: list[str]) -> Iterator[tuple[str, Callable[[int], None]]]:
    """Yield a function for each operation, which does it a number of times in the process that calls it."""
    for backend in backends:
        for name in NAMES:
            yield f"{backend}-{name}", partial(work, backend, name)


def work(backend: str, name: str, number: int) -> None:
    """Open a store and do one operation a number of times."""
    with tempfile.TemporaryDirectory() as folder:
        if name in ("look-up", "change"):
            made = of_dict() if backend == "memory" else of_sqlite(folder)
        else:
            made = of_store("memory://" if backend == "memory" else f"sqlite:///{folder}/silo.db")
        action = made[name]
        for _ in range(number):
            action()


def main(backends: list[str]) -> None:
    """Print the table."""
    found = counted(__file__, backends)
    for backend in backends:
        for name, floor, goal in ROWS:
            ours, least = found[f"{backend}-{name}"], found[f"{backend}-{floor}"]
            text = f"{ours / least:.2f}x ({ours:,.0f} / {least:,.0f})"
            row(f"instructions of store.{name} / bare {floor}, {backend}", text, goal[backend])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--count"]:
        count(works(sys.argv[2:]))
    else:
        main(sys.argv[1:] or BACKENDS)
