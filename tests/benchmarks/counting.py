"""Counts instructions with Valgrind, which do not depend on how busy the machine is.

A script calls ``counted``, which starts it again under Valgrind with ``--count``; there it calls ``count``.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

FEW, MANY = 100, 400


def count(works: Iterable[tuple[str, Callable[[int], None]]]) -> None:
    """Under Valgrind: do few and many rounds of each work in a forked child, and print the child's process id.

    Args:
        works: The name of each work, and a function that does a number of rounds of it.
    """
    gc.disable()
    for name, work in works:
        for number in (FEW, MANY):
            pid = os.fork()
            if not pid:
                work(number)
                os._exit(0)
            _, status = os.waitpid(pid, 0)
            assert status == 0, name
            print(name, number, pid, flush=True)


def counted(script: str, arguments: Sequence[str]) -> dict[str, float]:
    """Return the instructions of one round of each work, by its name.

    Each is the difference between many and few rounds, divided by their number, so that what happens once does not
    count.

    Args:
        script: The script to start under Valgrind.
        arguments: Its arguments after ``--count``.
    """
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is missing: install it, for example with apt-get install valgrind")
    totals: dict[str, dict[int, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/%p"]
        command = [*valgrind, sys.executable, script, "--count", *arguments]
        environ = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for line in done.stdout.decode().splitlines():
            name, number, pid = line.split()
            found = re.search(r"^totals: (\d+)", (Path(folder) / pid).read_text(), re.MULTILINE)
            assert found is not None, line
            totals.setdefault(name, {})[int(number)] = int(found[1])
    return {name: (total[MANY] - total[FEW]) / (MANY - FEW) for name, total in totals.items()}
