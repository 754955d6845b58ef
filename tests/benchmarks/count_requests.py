"""Counts the instructions of a Flask request with Silo and without.

Run with ``uv run python tests/benchmarks/count_requests.py``, perhaps with the names of some cases; needs ``valgrind``.
The figures do not depend on how busy the machine is. Each is the difference between the totals of many and of few
requests, divided by their number, so that what happens once does not count.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench_requests import bare_app, caller, silo_app
from counting import FEW, count, counted


class Case(NamedTuple):
    """A kind of request, to a bare application or to one with Silo."""

    title: str
    method: str
    path: str
    goal: str


CASES = {
    "idle": Case("GET that uses no state", "GET", "/api/idle", "1.12x"),
    "read": Case("GET that reads a counter", "GET", "/api/read", "-"),
    "increment": Case("POST that increments a counter", "POST", "/api/increment", "1.20x"),
    "page": Case("GET outside the prefix", "GET", "/page", "1.05x"),
}
KINDS = ("bare", "silo", "endpoints")
"""Without Silo, with Silo, and with a task and routes of files."""


def works(names: list[str]) -> Iterator[tuple[str, Callable[[int], None]]]:
    """Yield a function for each case and kind of application, which makes a number of requests."""
    for name in names:
        case = CASES[name]
        apps = {"bare": bare_app(), "silo": silo_app()[0], "endpoints": silo_app(endpoints=True)[0]}
        for kind in KINDS:
            call = caller(apps[kind], case.path, case.method)
            call(FEW)
            yield f"{name}-{kind}", call


def main(names: list[str]) -> None:
    """Print the table."""
    found = counted(__file__, names)
    print(f"{'instructions of one request':<34} {'bare':>9} {'with Silo':>18} {'with task and routes':>22}   goal")
    for name in names:
        title, _, _, goal = CASES[name]
        bare = found[f"{name}-bare"]
        silo, own = (f"{found[f'{name}-{kind}']:,.0f} {found[f'{name}-{kind}'] / bare:.3f}x" for kind in KINDS[1:])
        print(f"{title:<34} {bare:>9,.0f} {silo:>18} {own:>22}   {goal}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--count"]:
        count(works(sys.argv[2:]))
    else:
        main(sys.argv[1:] or list(CASES))
