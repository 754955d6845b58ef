"""``ProcessRunner``: runs in other processes, which can be killed."""

from __future__ import annotations

import atexit
import logging
import os
import pickle
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..checks import check_number
from ..errors import TaskError
from ..fork import reset_after_fork
from ..loss import short
from ..run.failure import FAILED, with_type
from ..run.job import Job
from ..run.reported import ReportedRun
from ..timer import Alarm, deadlines
from . import process_child
from .base import Runner
from .message import Message, check, named
from .process_child import GRACE
from .process_parent import Process, dismiss, dismiss_later, main_of
from .thread import DEFAULT_QUEUE_SIZE, ThreadRunner, _drain_all

logger = logging.getLogger("silo_tasks")


class ProcessRunner(Runner):
    """Runs jobs in at most ``workers`` processes; up to ``queue_size`` more jobs wait.

    A process starts when a job needs one. It is a fresh interpreter that shares nothing with this one, and executes one
    job after the other. The function of a job, its arguments and its value go through pickle, so the process must be
    able to import the function. A function of the script that was started, as ``python script.py``, works too: the
    process imports the script, so put the script's own statements under ``if __name__ == "__main__":``. The arguments
    are pickled when the task is started.

    A job whose process ends for any reason fails with ``TaskLost``; other jobs go on. A job that does not stop keeps
    its process until it does, or is killed: by ``task.cancel(kill_after=...)``, or by ``kill_after`` here. Processes
    that a job has started itself are not killed with it.

    At interpreter exit, jobs have ``drain_timeout`` seconds, as those of a ``ThreadRunner``; then the rest are killed.
    If this process is killed, its processes end too: on Linux at once; on other systems they cancel their jobs and end
    within a second. After ``os.fork()``, the child starts processes of its own. A runner that is garbage collected ends
    its processes. POSIX only.

    Args:
        workers: Largest number of processes, 1 or more; None is one for each processor that this process may use.
        queue_size: Jobs that may wait for a process, 0 or more.
        kill_after: Seconds after a cancel or a deadline for which a job may go on before its process is killed; None
            for no limit.
        drain_timeout: Seconds to wait at interpreter exit.
        name: Prefix of the names of the threads that listen to the processes.

    Raises:
        ValueError: ``workers`` is below 1, or ``queue_size``, ``kill_after`` or ``drain_timeout`` is below 0.
        TypeError: One of these arguments is not a number.
    """

    waiting = "Waiting for a process"
    remote = True
    can_kill = True

    def __init__(
        self,
        workers: int | None = None,
        queue_size: int = DEFAULT_QUEUE_SIZE,
        *,
        kill_after: float | None = None,
        drain_timeout: float = 5.0,
        name: str = "silo-process",
    ) -> None:
        if kill_after is not None:
            check_number("kill_after", kill_after, " of seconds")
            if not kill_after >= 0:
                raise ValueError("kill_after must be 0 or more")
        self.kill_after = kill_after
        workers = _processors() if workers is None else workers
        self._pool = ThreadRunner(workers, queue_size, drain_timeout=drain_timeout, name=name)
        self._closed = False
        self._lock = threading.RLock()
        self._errands: dict[str, _Errand] = {}
        self._all: set[Process] = set()
        self._idle: list[Process] = []
        # Only the idle processes: a running job keeps its runner alive.
        weakref.finalize(self, dismiss_later, self._idle).atexit = False
        reset_after_fork(self)
        _runners.add(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        for process in self._all:
            process.forget()
        self._errands.clear()
        self._all.clear()
        self._idle.clear()

    @property
    def workers(self) -> int:
        """Largest number of processes."""
        return self._pool.workers

    def submit(self, job: Job) -> None:
        """Have a process execute the job, or queue it.

        Raises:
            QueueFull: ``queue_size`` jobs are waiting already.
            TaskError: The runner has been shut down, or another process cannot import the function.
            TypeError: An argument does not fit the function or cannot be sent; the message names it.
        """
        if process_child.script:
            raise TaskError(
                f"{process_child.script[0]} starts a task while a process imports it for one of its functions. Put the "
                'statements of the script under: if __name__ == "__main__":'
            )
        if not isinstance(job.run, ReportedRun):
            raise TaskError("a runner that passes its jobs on to a ProcessRunner must say so: set remote = True")
        payload = self._pack(job)
        numbers = job.number, None, job.max_logs, job.last_seq, False, sorted(job.public_errors)
        message = Message("", job.name, job.owner, job.token, *numbers)
        self._pool.accept(_Errand(self, job.run, message, payload))

    def _pack(self, job: Job) -> bytes:
        function, args, kwargs = job.function, job.args, job.kwargs
        for _ in named(function, args, kwargs):
            pass  # raises if an argument does not fit
        if getattr(function, "__module__", None) == "__main__" and not main_of():
            raise TaskError(
                f"{function!r} was not defined in a file that another process can import: put it into a module"
            )
        try:
            return _dumps((function, tuple(args), dict(kwargs)))
        except Exception as error:
            self.check(function, args, kwargs)
            raise TaskError(
                f"{function!r} cannot be sent to another process, which needs a function of a module's top level: "
                f"{error}"
            ) from error

    def check(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, given: int = 1
    ) -> None:
        """Check that a call can be sent; see ``Runner.check``."""
        check(function, args, kwargs, _dumps, given)

    def kill(self, token: str, after: float) -> bool:
        """Kill the process of a run if the run has not stopped in ``after`` seconds.

        A run that is killed is cancelled. This does not ask it to stop: ``task.cancel(kill_after=...)`` does both.

        Returns:
            Whether a process executes the run.
        """
        with self._lock:
            errand = self._errands.get(token)
        if errand is not None:
            errand.kill_later(after)
        return errand is not None

    def shutdown(self, timeout: float | None = None) -> bool:
        """Accept no more jobs and wait for the accepted ones; see ``Runner.shutdown``. Idle processes end."""
        over = self._pool.shutdown(timeout)
        self._dismiss()
        return over

    def _dismiss(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle[:] = self._idle[:], []
            self._all.difference_update(idle)
        dismiss(idle)

    def take(self) -> Process:
        """Take an idle process, or start one, and wait until it is ready.

        Raises:
            OSError: No process can be started, or a new one ended at once.
        """
        while True:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            if process is None:
                break
            if process.get_ready():
                return process
            self.end(process)
        process = Process()
        with self._lock:
            self._all.add(process)
        if not process.get_ready():
            how = process.wait()
            self.end(process)
            raise OSError(f"it {how}")
        return process

    def give_back(self, process: Process) -> None:
        """Keep a process for the next job."""
        with self._lock:
            if not self._closed:
                self._idle.append(process)
                return
        self.end(process)

    def end(self, process: Process) -> None:
        """End a process."""
        with self._lock:
            self._all.discard(process)
        dismiss([process])

    def enlist(self, token: str, errand: _Errand) -> None:
        """Register the errand by which a run can be killed."""
        with self._lock:
            self._errands[token] = errand

    def delist(self, token: str) -> None:
        """Remove the errand of a run."""
        with self._lock:
            self._errands.pop(token, None)

    def end_all(self) -> None:
        """End every process, also those that execute a job."""
        with self._lock:
            errands, busy = list(self._errands.values()), self._all.difference(self._idle)
        for errand in errands:
            errand.kill(quiet=True)
        for process in busy:
            process.kill()
        self._pool.join(GRACE)
        for process in busy:
            process.wait()
        self._dismiss()


class _Errand:
    """Sends a job to a process and waits for its end, in a thread of the pool."""

    def __init__(self, runner: ProcessRunner, run: ReportedRun, message: Message, payload: bytes) -> None:
        self._runner = runner
        self.token: str = message.token
        self._run = run
        self._message = message
        self._payload = payload
        self._process: Process | None = None
        self._lock = threading.Lock()
        self._alarms: list[Alarm] = []
        self._sent = self._stopping = self._killed = False

    def cancel(self) -> bool:
        """Ask the job to stop."""
        return self._run.cancel()

    def will_stop(self, reason: str) -> None:
        """Note why the job is about to be stopped."""
        self._run.will_stop(reason)

    def left_behind(self) -> None:
        """Log that the job is lost, if it is still active."""
        self._run.left_behind()

    def execute(self) -> None:
        """Have the job executed."""
        runner, run = self._runner, self._run
        try:
            process = runner.take()
        except Exception as error:  # noqa: BLE001 - the job must end
            # The error may name paths of the server.
            run.lose(f"lost: no process could be started: {error}", public=False)
            return
        try:
            tell = self._use(process)
        except BaseException:
            self._process = None
            process.kill()
            run.lose("lost: its process sent something unreadable")
            raise
        finally:
            run.on_stop = None
            runner.delist(self.token)
            if self._leave():
                runner.give_back(process)
            else:
                runner.end(process)
        # Last, because a caller that waits for the end may have the next job for the process.
        tell()

    def _use(self, process: Process) -> Callable[[], object]:
        """Wait for the end of the job, and return a function that reports it."""
        run = self._run
        self._process = process
        self._runner.enlist(self.token, self)
        run.on_stop = self._stop
        if not run.begin():
            return lambda: None
        # The log may have got new lines while the run waited.
        process.run(self._message._replace(last_seq=run.log.last_seq).head(), self._payload)
        self._payload = b""
        self._sent = True
        if self._stopping:
            process.stop(self.token)
        while (said := process.receive()) is not None:
            kind, record, payload = said
            if kind == "end":
                return partial(_report_end, run, record, payload)
            run.report(record)
        self._process = None
        how = process.wait()
        return run.killed if self._killed else partial(run.lose, f"lost: its process {how}")

    def _leave(self) -> bool:
        """Leave the process. Return whether the process can take another job."""
        with self._lock:
            process, self._process = self._process, None
            alarms, self._alarms = self._alarms, []
        for alarm in alarms:
            alarm.cancel()
        return process is not None and not self._killed

    def _stop(self) -> None:
        """Tell the process that the job must stop."""
        first, self._stopping = not self._stopping, True
        process = self._process
        if first and self._sent and process is not None:
            process.stop(self.token)
        if first and self._runner.kill_after is not None:
            self.kill_later(self._runner.kill_after)

    def kill_later(self, after: float) -> None:
        """Kill the process if it still has the job by then."""
        alarm = deadlines.call_later(after, self.kill)
        with self._lock:
            if self._process is not None:
                self._alarms.append(alarm)
                return
        alarm.cancel()

    def kill(self, *, quiet: bool = False) -> None:
        """Kill the process if it still has the job.

        Args:
            quiet: Whether to log nothing, because the log already says that the job is lost.
        """
        with self._lock:
            process = self._process
            if process is not None:
                self._killed = True
                process.kill()
        if process is not None and not quiet:
            args = self._run.label, short(self.token)
            logger.warning("The process of task %s (run %s) was killed, as it did not stop", *args)


def _report_end(run: ReportedRun, record: dict[str, Any], payload: bytes | None) -> None:
    value = None
    if payload is not None:
        try:
            value = pickle.loads(payload)  # noqa: S301 - from a process of ours
        except Exception as error:  # noqa: BLE001 - whatever the class of the value does
            text = f"the value of the function cannot be loaded here: {error!r}"
            failed = {"status": "failed", "complete": False, "message": f"Failed: {text}", "error": text}
            record = {**record, **failed, "error_type": type(error).__name__, "error_public": False}
    if record["status"] == "failed":
        # A text that clients may read stays as it was written.
        told = with_type(record["error"], None if record["error_public"] else record["error_type"])
        logger.error(FAILED + "\n%s", run.label, short(run.token), told, record["traceback"])
    run.report(record, value)


def _dumps(value: Any) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_runners: weakref.WeakSet[ProcessRunner] = weakref.WeakSet()


# Replaces the exit handler for threads: processes may end only once all runs have been waited for.
@atexit.register
def _end_all() -> None:
    _drain_all()
    for runner in list(_runners):
        runner.end_all()


atexit.unregister(_drain_all)
