"""Processes of Python that a test talks to, a line at a time."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading

DEADLINE = 60.0

PRELUDE = """
import os, sys, time
from silo_store import *

def say(*words):
    print(*words, flush=True)

def hear():
    line = sys.stdin.readline()
    if not line:
        sys.exit()  # the process that started this is gone
    return line.strip()

def open_store(url, **options):
    store = SessionStore(backend=url, **options)
    store.register_namespace("counter", lambda: {"value": 0})
    return store
"""


class Child:
    """A process that runs a program, which finds `PRELUDE` done; killed when its block is left.

    Args:
        program: says what it has done with `say`, and waits for `tell` with `hear`.
        args: its ``sys.argv[1:]``.
    """

    def __init__(self, program: str, *args: object) -> None:
        command = [sys.executable, "-c", PRELUDE + program, *map(str, args)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line.strip())
        self._said.put("(it has ended)")

    @property
    def pid(self) -> int:
        return self._process.pid

    def hear(self) -> str:
        """The next line that it says."""
        return self._said.get(timeout=DEADLINE)

    def tell(self, line: str = "go") -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def pause(self) -> None:
        """Let it stand still, as under a debugger or on a machine that swaps."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, with nothing tidied up."""
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        """Wait until it has ended by itself, and return its exit status."""
        return self._process.wait(DEADLINE)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
