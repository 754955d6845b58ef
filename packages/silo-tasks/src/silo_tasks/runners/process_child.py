"""The child's side of a process: it executes one run after the other for its parent."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import CoroutineType
from typing import IO, Any, NoReturn

from ..errors import TaskError
from ..run.failure import FAILED
from ..run.local import LocalRun
from ..run.record import news_of
from ..task import BackgroundTask
from ..timer import publisher
from .inline import InlineRunner
from .message import Message

INTERVAL = 0.1
"""Seconds between two records of a run."""

GRACE = 1.0
"""Seconds that a run gets to stop once the parent has ended."""

BROKEN = (EOFError, OSError, pickle.UnpicklingError)
"""Errors of reading from a process that has ended."""

script: list[str] = []
"""The name or path that is being imported as the parent's ``__main__`` module; empty otherwise."""


def serve(
    connection: socket.socket, stream: IO[bytes], argv: list[str], main: Mapping[str, str], lifeline: int
) -> None:
    """Execute the runs that the parent sends, until the parent has ended.

    Args:
        connection: The connection to the parent.
        stream: The connection as a file to read from.
        argv: The parent's ``sys.argv``.
        main: The name or path of the parent's ``__main__`` module, as ``multiprocessing.spawn`` describes it.
        lifeline: A file that is closed when the parent ends.
    """
    _die_with(lifeline)
    # Ctrl-C in a terminal reaches all its processes, and the parent decides what to do. A handler, because programs
    # that the run starts would inherit an ignored signal.
    signal.signal(signal.SIGINT, lambda *_: None)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    logging.getLogger("silo_tasks").addFilter(_is_for_here)
    if hasattr(os, "register_at_fork"):
        # Otherwise the parent could not see the end of this process as long as a forked child has the connection.
        os.register_at_fork(after_in_child=partial(_drop, connection))
    sys.argv = argv
    if main:
        vars(sys.modules["__main__"])["__getattr__"] = partial(_from_main, main)
    _Server(connection, stream).serve()


def _die_with(lifeline: int) -> None:
    """Let the system kill this process when the parent ends, if it can.

    Code that holds the interpreter lock, as a regular expression may for years, keeps the listening thread from seeing
    that the parent has ended.
    """
    import fcntl

    os.set_inheritable(lifeline, False)
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC)


def _is_for_here(record: logging.LogRecord) -> bool:
    # The parent logs how a run has failed.
    return record.msg != FAILED


def _drop(connection: socket.socket) -> None:
    if connection.fileno() >= 0:
        os.close(connection.detach())


def _from_main(main: Mapping[str, str], name: str) -> Any:
    """Import the parent's script at the first access to a name in it: most runs do not need the script."""
    if name.startswith("__") or script:
        raise AttributeError(f"module '__main__' has no attribute {name!r}")
    from multiprocessing.spawn import prepare

    script[:] = main.values()
    try:
        prepare(dict(main))
        return getattr(sys.modules["__main__"], name)
    finally:
        script.clear()


class _Server:
    def __init__(self, connection: socket.socket, stream: IO[bytes]) -> None:
        self._connection = connection
        self._stream = stream
        self._lock = threading.Lock()
        self._runs: queue.SimpleQueue[tuple[LocalRun, _Target] | None] = queue.SimpleQueue()

    def serve(self) -> None:
        threading.Thread(target=self._listen, name="silo-tasks-parent", daemon=True).start()
        while (given := self._runs.get()) is not None:
            run, target = given
            reporter = _Reporter(run, self._send)
            target.load()
            with contextlib.suppress(KeyboardInterrupt):
                run.execute()
            if not reporter.end():
                # The parent has ended, or the run has closed the connection, or has forked and this is the child. If
                # the parent lives, it sees the end of this process instead.
                return
            del given, run, target, reporter

    def _send(self, message: tuple[str, Any, bytes | None]) -> bool:
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(data)
            return True
        return False

    def _listen(self) -> None:
        run = None
        with contextlib.suppress(*BROKEN):
            while True:
                kind, *what = pickle.load(self._stream)  # noqa: S301 - it is our own parent
                if kind == "ping":
                    self._send(("ready", None, None))
                elif kind == "run":
                    head, payload = what
                    target = _Target(payload)
                    run = _prepare(head, target)
                    self._runs.put((run, target))
                    del what, payload, target
                elif run is not None and [run.token] == what:
                    run.cancel()
        self._runs.put(None)
        if run is not None:
            run.cancel()
        # The main thread may be in code that does not stop, or wait for other threads: end the process from here.
        time.sleep(GRACE)
        os._exit(1)


def _prepare(head: Mapping[str, Any], target: _Target) -> LocalRun:
    message = Message.of(head, (), {})
    task = BackgroundTask(message.name, max_logs=message.max_logs, runner=InlineRunner(), owner=message.owner)
    return task._adopt(message, target)


class _Target:
    """The function of a run with its arguments. A call returns the pickled value."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] = _nothing, (), {}

    def load(self) -> None:
        """Import the function and the classes of its arguments.

        Not within the run: context variables that a module sets, as ``decimal`` does, would end with the run.
        """
        payload, self._payload = self._payload, b""
        try:
            self._call = pickle.loads(payload)  # noqa: S301 - it is our own parent
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a module does when it is imported
            failed = TaskError(f"the process cannot load the function or its arguments: {error!r}")
            failed.__cause__ = error
            self._call = _raise, (failed,), {}

    def __call__(self, task: BackgroundTask) -> Any:
        (function, args, kwargs), self._call = self._call, (_nothing, (), {})
        value = function(task, *args, **kwargs)
        if isinstance(value, CoroutineType):
            return value
        try:
            return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            kind = type(value).__qualname__
            raise TypeError(f"the function returned a {kind}, which cannot be sent back: {error}") from error


def _nothing(_task: BackgroundTask) -> None:
    """Stand in for the function before it is loaded and after it was called."""


def _raise(_task: BackgroundTask, error: Exception) -> NoReturn:
    raise error


class _Reporter:
    """Reports a run to the parent."""

    def __init__(self, run: LocalRun, send: Callable[[tuple[str, Any, bytes | None]], bool]) -> None:
        self._run = run
        self._send = send
        self._last_seq = run.log.last_seq
        self._lock = threading.Lock()
        self._over = False
        publisher.call_later(INTERVAL, self._look)

    def _look(self) -> None:
        with self._lock:
            if self._over:
                return
            record = news_of(self._run, self._last_seq)
            self._last_seq = record["last_seq"]
            if record["complete"]:
                record["returning"] = True
            self._send(("news", record, None))
        publisher.call_later(INTERVAL, self._look)

    def end(self) -> bool:
        with self._lock:
            self._over = True
            return self._send(("end", news_of(self._run, self._last_seq), self._run.value))
