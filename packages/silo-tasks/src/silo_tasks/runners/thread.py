"""``ThreadRunner``: a bounded pool of daemon threads."""

from __future__ import annotations

import atexit
import contextlib
import logging  # before the registration of ``_drain_all()``: handlers are closed after that
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING

from ..checks import check_number
from ..errors import QueueFull, TaskError
from ..fork import reset_after_fork
from .base import Runner

if TYPE_CHECKING:
    from ..run.job import Job, LiveRun
    from ..run.run import Run

DEFAULT_WORKERS = 32
"""Largest number of threads of the shared runner. Tasks mostly wait for a disk, a database or another server."""

DEFAULT_QUEUE_SIZE = 10_000
"""Jobs that may wait in the shared runner."""

GRACE = 1.0
"""Seconds that cancelled jobs get at interpreter exit to reach their next item."""

LOOK = 1.0
"""Seconds of one wait for jobs. Short, because a signal just before a wait does not interrupt it."""


class _Worker:
    """A thread's run, and the lock on which the thread waits for the next run."""

    __slots__ = ("gate", "run", "runner", "thread")

    def __init__(self, run: LiveRun, runner: ThreadRunner) -> None:
        self.thread: int | None = None
        self.run: LiveRun | None = run
        self.runner: ThreadRunner | None = runner
        self.gate: threading.Lock = threading.Lock()
        self.gate.acquire()


def _work(worker: _Worker) -> None:
    worker.thread = threading.get_ident()
    # A waiting thread does not keep its runner alive: a runner that is garbage collected ends its threads.
    while worker.runner is not None and worker.runner.serve(worker):
        worker.gate.acquire()


def _dismiss(idle: list[_Worker]) -> None:
    while idle:
        idle.pop().gate.release()


class ThreadRunner(Runner):
    """Runs jobs in at most ``workers`` threads; up to ``queue_size`` more jobs wait.

    Threads start when jobs need them, never at import or construction. They are daemons, so a job that never ends
    cannot keep the process alive: at interpreter exit, the runner waits ``drain_timeout`` seconds for its jobs, cancels
    the remaining ones, waits ``GRACE`` seconds more, and lets the process end, even if callbacks still run. After
    ``os.fork()``, the child starts with an empty queue and threads of its own. A runner that is garbage collected ends
    its threads.

    A job that waits for another job of the same runner occupies a thread meanwhile. Give such jobs a runner of their
    own.

    Args:
        workers: Largest number of threads, 1 or more.
        queue_size: Jobs that may wait for a thread, 0 or more.
        drain_timeout: Seconds to wait at interpreter exit.
        name: Prefix of the threads' names.

    Raises:
        ValueError: ``workers`` is below 1, or ``queue_size`` or ``drain_timeout`` is below 0.
        TypeError: One of these arguments is not a number.
    """

    waiting = "Waiting for a thread"

    def __init__(
        self,
        workers: int = DEFAULT_WORKERS,
        queue_size: int = DEFAULT_QUEUE_SIZE,
        *,
        drain_timeout: float = 5.0,
        name: str = "silo-task",
    ) -> None:
        check_number("workers", workers)
        check_number("queue_size", queue_size)
        check_number("drain_timeout", drain_timeout, " of seconds")
        if not workers >= 1:
            raise ValueError("workers must be 1 or more")
        if not queue_size >= 0:
            raise ValueError("queue_size must be 0 or more")
        if not drain_timeout >= 0:
            raise ValueError("drain_timeout must be 0 or more")
        self.workers = workers
        self.queue_size = queue_size
        self.drain_timeout = drain_timeout
        self._name = name
        self._closed, self._giving_up = False, ""
        self._after_fork()
        reset_after_fork(self)
        _runners.add(self)

    def _after_fork(self) -> None:
        # Reentrant: a garbage collection inside the lock may run code that starts a task.
        self._lock = threading.RLock()
        self._job_ended = threading.Condition(self._lock)
        self._queue: deque[LiveRun] = deque()
        self._busy: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._threads = 0
        weakref.finalize(self, _dismiss, self._idle).atexit = False

    def submit(self, job: Job) -> None:
        """Give the job to an idle thread, or to a new one if fewer than ``workers`` run, or queue it.

        Raises:
            QueueFull: ``queue_size`` jobs are waiting already.
            TaskError: The runner has been shut down.
        """
        self.accept(job.run)

    def _submit_run(self, run: Run) -> None:
        # Making a job takes a tenth of the time of a run with nothing to do. A subclass may have a submit() of its own.
        if type(self) is ThreadRunner:
            self.accept(run)
        else:
            super()._submit_run(run)

    def accept(self, run: LiveRun) -> None:
        """Accept a run, or another object with the methods of ``LiveRun``; see ``submit()``.

        Raises:
            QueueFull: ``queue_size`` jobs are waiting already.
            TaskError: The runner has been shut down.
        """
        with self._lock:
            if self._closed:
                raise TaskError("the runner has been shut down")
            if self._idle:
                worker = self._idle.pop()
                worker.run, worker.runner = run, self
                self._busy.add(worker)
                worker.gate.release()
            elif self._threads >= self.workers or not self._start_thread(run):
                if len(self._queue) >= self.queue_size:
                    raise QueueFull(len(self._queue))
                self._queue.append(run)

    def _start_thread(self, run: LiveRun) -> bool:
        worker = _Worker(run, self)
        # An empty context: Python may pass the starter's context to its threads, and with it the starter's task.
        name = f"{self._name}-{self._threads + 1}"
        thread = threading.Thread(target=Context().run, args=(_work, worker), name=name, daemon=True)
        self._threads += 1
        self._busy.add(worker)
        try:
            thread.start()
        except RuntimeError:
            # No more threads can be started. The job can wait for a thread of this pool, if there is one.
            self._threads -= 1
            self._busy.discard(worker)
            if not self._threads:
                raise
            return False
        return True

    def serve(self, worker: _Worker) -> bool:
        """Execute jobs until none is left. Return whether the thread should wait for the next one."""
        worker.runner = None
        while worker.run is not None:
            try:
                if self._giving_up:
                    worker.run.will_stop(self._giving_up)
                    worker.run.cancel()
                else:
                    worker.run.execute()
            except KeyboardInterrupt:
                # Raised in the code of the run, which has failed and has logged the error.
                pass
            except BaseException:
                # A thread of the pool outlives any job.
                logging.getLogger("silo_tasks").exception("A job raised out of its runner")
            # A waiting thread must not keep the objects of its last job alive.
            worker.run = None
            if not self._take(worker) and self._rest(worker):
                return True
        return False

    def _take(self, worker: _Worker) -> bool:
        # Without the lock: if threads took it for each job, as callers of submit() do, most of the time would go into
        # passing it around.
        while self._queue:
            try:
                worker.run = self._queue.popleft()
            except IndexError:
                # Another thread was faster.
                continue
            return True
        return False

    def _rest(self, worker: _Worker) -> bool:
        with self._lock:
            if self._take(worker):
                # The job was added just now.
                return False
            self._busy.discard(worker)
            if self._closed:
                self._threads -= 1
                self._job_ended.notify_all()
            else:
                self._idle.append(worker)
            return not self._closed

    def shutdown(self, timeout: float | None = None) -> bool:
        """Accept no more jobs and wait for the accepted ones; see ``Runner.shutdown``."""
        self.close()
        if self.join(timeout):
            return True
        self.cancel_all()
        return False

    def close(self) -> None:
        """Accept no more jobs. Threads end once the accepted jobs are done."""
        with self._lock:
            self._closed = True
            self._threads -= len(self._idle)
            _dismiss(self._idle)

    def join(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds (None: no limit) until no job is left. Call ``close()`` first.

        A job or a callback that calls this does not wait for itself.

        Returns:
            Whether no job is left.
        """
        end, here = None if timeout is None else time.monotonic() + timeout, threading.get_ident()
        with self._lock:
            while self._queue or any(worker.thread != here for worker in self._busy):
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._job_ended.wait(LOOK if left is None else min(left, LOOK))
        return True

    def cancel_all(self) -> None:
        """Cancel every queued and running job. Call ``close()`` first."""
        self.give_up("its runner was shut down")
        while True:
            try:
                run = self._queue.popleft()
            except IndexError:
                return
            run.cancel()

    def give_up(self, reason: str) -> list[LiveRun]:
        """Cancel every running job, and let the threads cancel the queued ones.

        The caller does not cancel queued jobs itself: that calls their callbacks, for which the interpreter must not
        wait at exit.

        Args:
            reason: The reason that is logged for the jobs that end by this.

        Returns:
            The jobs that were running or queued.
        """
        with self._lock:
            # A thread that takes a job from now on cancels it. A job that was taken before is in ``_busy``.
            self._giving_up = reason
            running = [run for worker in self._busy if (run := worker.run) is not None]
            runs = [*running, *self._queue.copy()]
        for run in runs:
            run.will_stop(reason)
        for run in running:
            run.cancel()
        return runs


AT_ONCE = 0.2
"""Seconds that jobs may take at interpreter exit before the functions in ``before_waiting`` are called."""

before_waiting: list[Callable[[], object]] = []
"""Functions that are called at interpreter exit before the process waits for jobs."""

_runners: weakref.WeakSet[ThreadRunner] = weakref.WeakSet()
_default = ThreadRunner()


def default_runner() -> ThreadRunner:
    """Return the shared runner, which tasks without a runner use. It has up to ``DEFAULT_WORKERS`` threads."""
    return _default


@atexit.register
def _drain_all() -> None:
    # A user who presses Ctrl-C does not want to wait any longer.
    with contextlib.suppress(KeyboardInterrupt):
        _drain()


def _drain() -> None:
    # In this thread: since Python 3.12, no new thread can start at this point.
    runners = list(_runners)
    for runner in runners:
        runner.close()
    begin = time.monotonic()
    if not all(runner.join(begin + min(AT_ONCE, runner.drain_timeout) - time.monotonic()) for runner in runners):
        for call in before_waiting:
            call()
    left = [runner for runner in runners if not runner.join(begin + runner.drain_timeout - time.monotonic())]
    runs = [run for runner in left for run in runner.give_up("its process was stopped")]
    begin = time.monotonic()
    for runner in left:
        runner.join(begin + GRACE - time.monotonic())
    for run in runs:
        run.left_behind()
