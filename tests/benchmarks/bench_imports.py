"""Measures what the import of each package adds to that of Flask, or to the start of Python.

Run with ``uv run python tests/benchmarks/bench_imports.py``. Each import is in a new process, with compiled bytecode.
Figures are CPU time and, if ``valgrind`` is installed, instructions, which do not depend on how busy the machine is.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable

from pairs import row, turns

ENVIRON = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
ENVIRON["PYTHONHASHSEED"] = "0"

CASES = {
    "import flask, flask_silo": ("import flask", "40 ms"),
    "import silo_tasks": ("pass", "25 ms"),
    "import silo_store": ("pass", "-"),
    "import silo_files": ("pass", "-"),
    "import contextlib, logging, threading, typing": ("pass", "-"),
    "import flask": ("pass", "-"),
}
"""The code, what it is compared with, and the goal. The packages need the modules of the last but one."""

PROGRAMS = ["pass", *CASES]


def starter(code: str) -> Callable[[], None]:
    """Return a function that runs code in a new interpreter."""

    def start() -> None:
        subprocess.run([sys.executable, "-c", code], env=ENVIRON, check=True)

    return start


def cpu_of_children() -> float:
    """Return the CPU time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def instructions(code: str) -> int:
    """Return the instructions of an interpreter that runs code."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-c", code]
    done = subprocess.run(command, env=ENVIRON, check=True, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1])


def main() -> None:
    """Print the table."""
    starts = [starter(code) for code in PROGRAMS]
    for start in starts:
        start()  # compiles the bytecode
    times = dict(zip(PROGRAMS, turns(*starts, repeats=25, clock=cpu_of_children), strict=True))
    counts = {code: instructions(code) for code in PROGRAMS} if shutil.which("valgrind") else {}
    print(f"one bare start: {1e3 * statistics.median(times['pass']):.0f} ms of CPU time")
    for code, (floor, goal) in CASES.items():
        added = [1e3 * (mine - theirs) for mine, theirs in zip(times[code], times[floor], strict=True)]
        low, median, high = statistics.quantiles(added, n=4, method="inclusive")
        measured = f"{median:.0f} ms ({low:.0f} to {high:.0f})"
        if counts:
            measured += f" {(counts[code] - counts[floor]) / 1e6:.0f}M instructions"
        row(f"{code} / {'a bare start' if floor == 'pass' else floor}", measured, goal)


if __name__ == "__main__":
    main()
