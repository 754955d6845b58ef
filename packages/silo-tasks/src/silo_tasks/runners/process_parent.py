"""The parent's side of a child process that executes runs."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from multiprocessing.spawn import get_command_line
from pathlib import Path
from typing import Any

from .process_child import BROKEN, GRACE

# The child gets sys.path first, because it needs that to import silo-tasks.
_CODE = """\
import os, pickle, socket, sys
connection = socket.socket(fileno=os.dup(0))
connection.setblocking(True)
stream = connection.makefile("rb")
sys.path, *rest = pickle.load(stream)
from silo_tasks.runners.process_child import serve
serve(connection, stream, *rest)
"""


def main_of() -> dict[str, str]:
    """Return the name or path of the script that was started, for ``multiprocessing.spawn.prepare()``.

    The dict is empty if there is no script, as in a console, and for the ``__main__.py`` of ``python -m package``,
    which is not imported. A call of ``multiprocessing`` would tell, but then its start method could no longer be set.
    """
    main = sys.modules["__main__"]
    spec, path = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return {} if spec.name.split(".")[-1] == "__main__" else {"init_main_from_name": spec.name}
    return {} if path is None or not Path(path).exists() else {"init_main_from_path": path}


class Process:
    """A fresh interpreter with the options and the ``sys.path`` of this one, which executes one run at a time.

    Raises:
        OSError: There are too many processes or open files.
    """

    def __init__(self) -> None:
        # The command by which multiprocessing starts an interpreter, with other code. Processes of multiprocessing
        # itself would be ended or waited for at exit before the runs are, and by forked children too.
        command = [*get_command_line()[:-3], "-c", _CODE]
        # Sockets and subprocess, because gevent makes these cooperative.
        mine, theirs = socket.socketpair()
        lifeline, held = os.pipe()
        # A file object, because it may be closed twice.
        self._lifeline = os.fdopen(held, "wb", 0)
        try:
            with theirs:
                self._process = subprocess.Popen(command, stdin=theirs.fileno(), pass_fds=(lifeline,))  # noqa: S603
        except BaseException:
            mine.close()
            self._lifeline.close()
            raise
        finally:
            os.close(lifeline)
        self._socket = mine
        self._stream = mine.makefile("rb")
        self._lock = threading.Lock()
        self._send((sys.path, sys.argv, main_of(), lifeline))

    def get_ready(self) -> bool:
        """Wait until the process can take a run. Return False if it has ended."""
        self._send(("ping",))
        return self.receive() is not None

    def run(self, head: Mapping[str, Any], payload: bytes) -> None:
        """Send the process a run to execute."""
        self._send(("run", head, payload))

    def stop(self, token: str) -> None:
        """Ask a run to stop, if the process still executes it."""
        self._send(("stop", token))

    def _send(self, message: tuple[Any, ...]) -> None:
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        # If the process has ended, receive() sees that.
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(data)

    def receive(self) -> tuple[str, Any, bytes | None] | None:
        """Return the next message of the process; None if it has ended."""
        try:
            message: tuple[str, Any, bytes | None] = pickle.load(self._stream)  # noqa: S301 - our own process
        except BROKEN:
            return None
        return message

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def close(self) -> None:
        """Close the connection, so that the process ends."""
        # Shut down first: another process may have been forked with the socket.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._stream.close()
        self._socket.close()

    def wait(self) -> str:
        """Wait until the process has ended, and return how. Call it after ``close()`` or when ``receive()`` gave None.

        A process that does not end in time is killed.
        """
        try:
            code = self._process.wait(2 * GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._lifeline.close()
        if code >= 0:
            return f"has ended with exit code {code}"
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"

    def forget(self) -> None:
        """Leave the process to the parent, in a forked child."""
        if self._socket.fileno() >= 0:
            os.close(self._socket.detach())
        self._lifeline.close()
        # A forked child cannot wait for the process.
        self._process.returncode = 0


def dismiss(processes: Iterable[Process]) -> None:
    """End processes that have no run. Return once they have ended."""
    processes = list(processes)
    for process in processes:
        process.close()
    for process in processes:
        process.wait()


def dismiss_later(processes: list[Process]) -> None:
    """End processes that have no run, without waiting."""
    gone, processes[:] = processes[:], []
    if gone:
        try:
            threading.Thread(target=dismiss, args=(gone,), daemon=True).start()
        except RuntimeError:
            dismiss(gone)
