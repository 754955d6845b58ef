from __future__ import annotations

import io
import os
import re
import sys
import textwrap
import unicodedata
from dataclasses import replace

import pytest
from silo_tasks import BackgroundTask, InlineRunner, Status, TaskState, ThreadRunner
from silo_tasks.console import bar, follow, line

WAIT = 30


def test_plain_lines_where_there_is_no_terminal(runner: ThreadRunner) -> None:
    task, out = BackgroundTask(runner=runner), io.StringIO()

    def work(task: BackgroundTask) -> None:
        for _ in task.track(range(1000)):
            task.update(message="Row {n} of {total}")

    task.start(work)
    state = follow(task, out, interval=0.001)
    assert state.complete
    lines = out.getvalue().splitlines()
    assert "\r" not in out.getvalue()
    assert len(lines) <= 13
    assert re.fullmatch(r"\[#{30}\] 100% 1000/1000 0:00 Row \d+ of 1000", lines[-1])


def test_what_a_line_shows() -> None:
    state = TaskState(running=True, progress=50, message="Row\x1b[2J\n5", n=5, total=10, rate=2.5, eta=65)
    assert line(state) == "[" + "#" * 15 + "-" * 15 + "]  50% 5/10 2.5/s 1:05 left Row [2J 5"
    assert line(TaskState(running=True, n=7)).endswith("0% 7")
    assert line(TaskState(running=True, progress=99.97, eta=float("inf"))).endswith("]  99% ? left")
    assert line(TaskState(running=True, rate=0.0)).endswith("0% 0.0/s")
    assert line(TaskState(running=True, rate=1 / 60)).endswith("0% 1.0/min")
    assert line(TaskState(running=True, rate=1 / 3600)).endswith("0% 1.0/h")


def test_work_that_says_nothing_is_running_until_it_has_done_something() -> None:
    task, lines = BackgroundTask(runner=InlineRunner()), list[str]()

    def work(task: BackgroundTask) -> None:
        lines.extend(line(task.state) for _ in task.track("ab"))

    task.start(work)
    assert lines[0].endswith(" Running")
    assert re.fullmatch(r"\[#{15}-{15}\]  50% 1/2 [\d.]+/s 0:00 left", lines[1])


def test_a_run_that_waits_says_for_what() -> None:
    queued = TaskState(running=True, status=Status.QUEUED, message="Waiting for a worker")
    assert line(queued).endswith("0% Waiting for a worker")
    assert line(replace(queued, status=Status.RUNNING, message="Running")).endswith("0% Running")


def test_a_failed_bar_looks_different() -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        task.update(progress=50)
        raise ValueError("bad")

    task.start(work)
    assert bar(task.state) == "[" + "!" * 15 + "-" * 15 + "]"
    out = io.StringIO()
    follow(task, out)
    assert "Failed: bad" in out.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")
def test_the_bar_moves_on_a_terminal() -> None:
    import pty

    program = """
        import sys, threading
        from silo_tasks import BackgroundTask
        from silo_tasks.console import follow
        looked, pause = threading.Semaphore(0), threading.Event()
        class Watched:
            wait = property(lambda self: task.wait)
            @property
            def state(self):
                looked.release()
                return task.state
        def work(task):
            for row in task.track(range(40)):
                pause.wait(0.01)
                assert looked.acquire(timeout=30)
                task.update(message="Row {n} of {total}")
        task = BackgroundTask("demo")
        task.start(work)
        follow(Watched(), interval=0.01)
        print("That was all", flush=True)
        sys.stdin.readline()
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", textwrap.dedent(program)])
    written = b""
    while b"That was all" not in written:
        written += os.read(terminal, 4096)
    os.write(terminal, b"\n")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(terminal)
    text = written.decode().partition("That was all")[0]
    widths = [frame.count("#") for frame in re.findall(r"\[[#-]{30}\]", text)]
    assert widths == sorted(widths)
    assert len(set(widths)) > 3, text
    assert widths[-1] == 30
    assert "Row" in text
    assert "/s" in text
    assert "left" in text
    assert text.count("\n") == len(widths)


def test_follow_ends_when_the_task_was_never_started() -> None:
    out = io.StringIO()
    assert follow(BackgroundTask(), out).status.value == "idle"
    assert out.getvalue().count("\n") == 1


def test_a_process_without_standard_error_only_waits(monkeypatch: pytest.MonkeyPatch, runner: ThreadRunner) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    task = BackgroundTask(runner=runner)
    task.start(lambda task: sum(task.track(range(1000))))
    assert follow(task).complete


class Terminal(io.StringIO):
    """A terminal of its own size."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor = descriptor

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return True


def width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "FW" else 1 for char in text)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")
@pytest.mark.parametrize(("columns", "drawn"), [(50, 49), (20, 19), (0, 79)])
@pytest.mark.parametrize("char", ["m", "漢"])
def test_a_line_fits_the_terminal_it_is_drawn_on(
    columns: int, drawn: int, char: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl
    import pty
    import struct
    import termios

    monkeypatch.setenv("COLUMNS", "80")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    out = Terminal(slave)
    task = BackgroundTask(runner=InlineRunner())
    task.start(lambda task: task.update(message=char * 100))
    follow(task, out)
    os.close(master)
    os.close(slave)
    frame = out.getvalue().split("\x1b[?7l")[1].split("\x1b")[0]
    assert drawn - 1 <= width(frame) <= drawn
