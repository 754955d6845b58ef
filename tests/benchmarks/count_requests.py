"""Counts the instructions of a Flask request with Silo and without.

Run with ``uv run python tests/benchmarks/count_requests.py``, perhaps with the names of some cases; needs ``valgrind``.
The figures do not depend on how busy the machine is. Each is the difference between the totals of many and of few
requests, divided by their number, so that what happens once does not count.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench_requests import bare_app, caller, silo_app

FEW, MANY = 100, 400


class Case(NamedTuple):
    """A kind of request, to a bare application or to one with Silo."""

    title: str
    method: str
    path: str
    reach: str


CASES = {
    "idle": Case("GET that uses no state", "GET", "/api/idle", "1.12x"),
    "read": Case("GET that reads a counter", "GET", "/api/read", "-"),
    "increment": Case("POST that increments a counter", "POST", "/api/increment", "1.20x"),
    "page": Case("GET outside the prefix", "GET", "/page", "1.05x"),
}
KINDS = ("bare", "silo", "task")
"""Without Silo, with Silo, and with a task declared."""


def actions(case: Case) -> dict[str, Callable[[int], None]]:
    """Return a function for each kind of application, which makes a number of requests."""
    apps = {"bare": bare_app(), "silo": silo_app()[0], "task": silo_app(task=True)[0]}
    return {kind: caller(apps[kind], case.path, case.method) for kind in KINDS}


def count(names: list[str]) -> None:
    """Under Valgrind: make the requests of each figure in a forked child, and print the child's process id."""
    gc.disable()
    for name in names:
        for kind, call in actions(CASES[name]).items():
            call(FEW)
            for number in (FEW, MANY):
                pid = os.fork()
                if not pid:
                    call(number)
                    os._exit(0)
                os.waitpid(pid, 0)
                print(name, kind, number, pid, flush=True)


def counted(names: list[str]) -> dict[tuple[str, str], float]:
    """Return the instructions of one request of each case and kind."""
    totals: dict[tuple[str, str, int], int] = {}
    with tempfile.TemporaryDirectory() as folder:
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/%p"]
        command = [*valgrind, sys.executable, __file__, "--count", *names]
        environ = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for line in done.stdout.decode().splitlines():
            name, kind, number, pid = line.split()
            found = re.search(r"^totals: (\d+)", (Path(folder) / pid).read_text(), re.MULTILINE)
            assert found is not None, line
            totals[name, kind, int(number)] = int(found[1])
    return {
        (name, kind): (totals[name, kind, MANY] - totals[name, kind, FEW]) / (MANY - FEW)
        for name in names
        for kind in KINDS
    }


def main(names: list[str]) -> None:
    """Print the table."""
    found = counted(names)
    print(f"{'instructions of one request':<34} {'bare':>9} {'with Silo':>18} {'with a task declared':>22}   reach")
    for name in names:
        title, _, _, reach = CASES[name]
        bare = found[name, "bare"]
        silo, task = (f"{found[name, kind]:,.0f} {found[name, kind] / bare:.3f}x" for kind in KINDS[1:])
        print(f"{title:<34} {bare:>9,.0f} {silo:>18} {task:>22}   {reach}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--count"]:
        count(sys.argv[2:])
    elif shutil.which("valgrind") is None:
        sys.exit("valgrind is missing: install it, for example with apt-get install valgrind")
    else:
        main(sys.argv[1:] or list(CASES))
