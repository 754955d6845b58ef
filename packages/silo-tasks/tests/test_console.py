from __future__ import annotations

import io
import os
import re
import sys
import textwrap
import threading
import unicodedata
from dataclasses import replace
from typing import Any

import pytest
from silo_tasks import BackgroundTask, InlineRunner, Status, StepState, TaskState, ThreadRunner
from silo_tasks.console import bar, follow, line
from silo_tasks.terminal.drawing import drawing, reached

WAIT = 30


def test_plain_lines_without_a_terminal(runner: ThreadRunner) -> None:
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
    assert line(TaskState(running=True, n=7)).endswith("-] 7")
    assert line(TaskState(running=True, progress=99.97, eta=float("inf"))).endswith("]  99% ? left")
    assert line(TaskState(running=True, rate=0.0)).endswith("-] 0.0/s")
    assert line(TaskState(running=True, rate=1 / 60)).endswith("-] 1.0/min")
    assert line(TaskState(running=True, rate=1 / 3600)).endswith("-] 1.0/h")


def test_work_without_a_message_is_running_until_it_has_done_an_item() -> None:
    task, lines = BackgroundTask(runner=InlineRunner()), list[str]()

    def work(task: BackgroundTask) -> None:
        lines.extend(line(task.state) for _ in task.track("ab"))

    task.start(work)
    assert lines[0].endswith(" Running")
    assert re.fullmatch(r"\[#{15}-{15}\]  50% 1/2 [\d.]+/s 0:00 left", lines[1])


def test_a_waiting_run_shows_what_it_waits_for() -> None:
    queued = TaskState(running=True, status=Status.QUEUED, message="Waiting for a worker")
    assert line(queued).endswith("0% Waiting for a worker")
    assert line(replace(queued, status=Status.RUNNING, message="Running")).endswith("-] Running")


def test_a_failed_bar_looks_different() -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        task.update(progress=50)
        raise ValueError("bad")

    task.start(work)
    assert bar(task.state) == "[" + "!" * 15 + "-" * 15 + "]"
    out = io.StringIO()
    follow(task, out)
    assert "Failed: ValueError: bad" in out.getvalue()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("a"), "Failed: KeyError: 'a'"),
        (ValueError("bad"), "Failed: ValueError: bad"),
        (ValueError(), "Failed: ValueError"),
        ("no rows\n", "Failed: no rows"),
        (PermissionError("for people"), "Failed: for people"),
    ],
    ids=["KeyError", "ValueError", "no text", "fail()", "public"],
)
def test_how_a_failed_task_reads(error: Exception | str, said: str) -> None:
    task, out = BackgroundTask(runner=InlineRunner(), public_errors=PermissionError), io.StringIO()

    def work(task: BackgroundTask) -> None:
        if isinstance(error, Exception):
            raise error
        task.fail(error)

    task.start(work)
    follow(task, out)
    assert out.getvalue() == "[" + "-" * 30 + f"]   0% 0:00 {said}\n"
    narrow = [text for text, _ in drawing(task.state, 30, 5)]
    assert narrow == ["[-----------]   0% 0:00", f"  {said}"[:29]]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ([BackgroundTask("a")], "not a list: follow them one after the other: for task in tasks: follow(task)"),
        ((), "not a tuple: follow them one after the other"),
        (None, "not None: BackgroundTask.attach() returns None if"),
        (BackgroundTask, "not the class BackgroundTask: start it first: task.start(function, ...), then follow(task)"),
        (print, "not a builtin_function_or_method: start it first"),
    ],
    ids=["list", "tuple", "None", "class", "function"],
)
def test_anything_but_a_task_is_refused_at_once(given: object, hint: str) -> None:
    out = io.StringIO()
    with pytest.raises(TypeError, match=re.escape(f"follow() takes one BackgroundTask, {hint}")):
        follow(given, out)  # type: ignore[arg-type]
    assert out.getvalue() == ""


@pytest.mark.parametrize("file", [BackgroundTask("b"), "out.txt"], ids=["task", "path"])
def test_anything_but_an_open_file_is_refused_at_once(file: Any) -> None:
    message = f"file must be open for text, as sys.stderr, not a {type(file).__name__}: follow(task, file)"
    with pytest.raises(TypeError, match=re.escape(message)):
        follow(BackgroundTask("a"), file)


def test_an_output_that_can_only_write_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """print() and logging need no more than that of an object in place of sys.stderr."""
    written: list[str] = []

    class Copy:
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stderr", Copy())
    task = BackgroundTask("a", runner=InlineRunner())
    task.start(lambda task: None)
    assert follow(task).complete
    assert "".join(written) == "[" + "#" * 30 + "] 100% 0:00 Done\n"


def test_a_terminal_that_can_only_write_has_prints_above_the_bar(
    monkeypatch: pytest.MonkeyPatch, runner: ThreadRunner
) -> None:
    written: list[str] = []
    drawn = threading.Event()

    class Copy:
        def write(self, text: str) -> int:
            written.append(text)
            drawn.set()
            return len(text)

        def isatty(self) -> bool:
            return True

    def work(task: BackgroundTask) -> None:
        assert drawn.wait(WAIT)
        print("read", file=sys.stderr)

    monkeypatch.setattr(sys, "stderr", Copy())
    monkeypatch.setenv("TERM", "xterm")
    task = BackgroundTask("a", runner=runner)
    task.start(work)
    assert follow(task, interval=0.001).error is None
    assert "read\n" in written


def test_an_unknown_length_moves_a_bar_without_a_percentage() -> None:
    state = TaskState(running=True, status=Status.RUNNING, n=7, rate=2.0)
    bars = [bar(replace(state, elapsed=i / 10)) for i in range(49)]
    assert bars[0] == bars[48] == "[" + "=" * 6 + "-" * 24 + "]"
    assert bars[12] == bars[36] == "[" + "-" * 12 + "=" * 6 + "-" * 12 + "]"
    assert bars[24] == "[" + "-" * 24 + "=" * 6 + "]"
    assert len(set(bars)) == 25
    assert line(state) == bars[0] + " 7 2.0/s"
    assert [text for text, _ in drawing(state, 80, 5)] == [bars[0] + " 7 2.0/s 0:00"]
    assert line(replace(state, elapsed=61.0)).endswith("] 7 2.0/s after 1:01")
    for size in (0, 1, 2, 5):
        assert all(set(bar(replace(state, elapsed=i / 10), size)) <= set("[=-]") for i in range(20))


@pytest.mark.parametrize(
    "known",
    [
        {"total": 10},
        {"progress": 0.5},
        {"status": Status.QUEUED},
        {"running": False, "status": Status.CANCELLED},
        {"steps": [StepState("a", "running", 0, 1, 1.0, None), StepState("b", "pending", 0, 1, None, None)]},
    ],
    ids=["total", "percent", "queued", "over", "plan"],
)
def test_a_known_length_has_a_percentage(known: dict[str, Any]) -> None:
    state = replace(TaskState(running=True, status=Status.RUNNING), **known)
    assert line(state).startswith("[" + "-" * 30 + "]   0%")


def test_a_loop_of_unknown_length_is_drawn_so() -> None:
    task, lines = BackgroundTask(runner=InlineRunner()), list[str]()

    def work(task: BackgroundTask) -> None:
        lines.extend(line(task.state) for _ in task.track(x for x in range(3)))

    task.start(work)
    assert re.fullmatch(r"\[-*=+-*\] 2 [\d.]+/s", lines[2])
    assert re.fullmatch(r"\[#+\] 100% 3 0:00 Done", line(task.state))


@pytest.mark.parametrize("columns", range(30, 130))
def test_numbers_are_whole_on_a_narrow_terminal(columns: int) -> None:
    state = TaskState(running=True, progress=59.0, n=59, total=100, rate=48.8, eta=1.0, message="Row 59")
    text = drawing(state, columns, 5)[0][0]
    numbers = "] " + " 59% 59/100 48.8/s 0:01 left"
    assert columns < 38 or numbers in text
    assert columns < 100 or text == "[" + "#" * 17 + "-" * 13 + numbers + " Row 59"


def test_a_long_name_of_a_step_leaves_room_for_the_numbers() -> None:
    steps = [StepState("Read a long name of a step", "running", 0, 1, 5.0, None)]
    state = TaskState(running=True, progress=23.0, n=14, total=60, rate=48.8, eta=1.0, steps=steps, started_at=1.0)
    assert drawing(state, 40, 5)[1] == ("  > Read a long name 0:00 14/60 48.8/s", "running")
    assert drawing(state, 80, 5)[1] == ("  > Read a long name of a step 0:00 14/60 48.8/s", "running")


def test_how_far_a_run_has_come_in_words() -> None:
    running = TaskState(running=True, status=Status.RUNNING, progress=41, n=1200, total=5500, message="Row 1200")
    step = StepState("Aggregate", "running", 0, 1, 5.0, None)
    inside = replace(running, steps=[StepState("Parse", "failed", 0, 1, 1.0, 2.0), step])
    assert reached(running, running) == " at 41% 1200/5500: Row 1200"
    assert reached(inside, inside) == " at 41% 1200/5500 in Aggregate: Row 1200"
    over = replace(
        inside,
        running=False,
        status=Status.CANCELLED,
        message="Cancelled",
        steps=[inside.steps[0], step._replace(status="failed", finished_at=6.0)],
    )
    assert reached(over, inside) == " at 41% 1200/5500 in Aggregate: Row 1200"
    assert reached(replace(over, n=1201), inside) == " at 41% 1201/5500 in Aggregate"
    assert reached(over, running) == " at 41% 1200/5500 in Aggregate"
    unknown = TaskState(running=True, n=7, message="Running")
    assert reached(unknown, unknown) == " at 7 items"
    assert reached(replace(unknown, n=0, elapsed=65.0), unknown) == " after 1:05"


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
