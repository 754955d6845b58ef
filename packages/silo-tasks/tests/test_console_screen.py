"""What is visible on a terminal: a real one of the system, whose output an emulator draws."""

from __future__ import annotations

import io
import os
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from silo_tasks import BackgroundTask, InlineRunner, MemoryTaskStore, StepState, TaskState, ThreadRunner
from silo_tasks.console import follow
from silo_tasks.runners.thread import before_waiting
from silo_tasks.terminal.drawing import drawing

if sys.platform == "win32":
    pytest.skip("needs a pty", allow_module_level=True)

import fcntl
import pty
import struct
import termios
import tty

import pyte

WAIT = 30


class Terminal(io.TextIOWrapper):
    """A terminal that is written to, and the screen that its user sees."""

    def __init__(self, columns: int, rows: int, encoding: str = "utf-8") -> None:
        self.master, slave = pty.openpty()
        # What is written comes out as it is, so that its bytes can be counted.
        tty.setraw(slave)
        super().__init__(os.fdopen(slave, "wb", buffering=0), encoding=encoding, newline="", write_through=True)
        self.screen = pyte.HistoryScreen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.resize(columns, rows)
        self.text = ""
        self.unread = 0

    def write(self, text: str) -> int:
        self.text += text
        self.unread += len(text.encode(self.encoding))
        return super().write(text)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size, as a user who drags the window."""
        fcntl.ioctl(self.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        x, y = self.screen.cursor.x, self.screen.cursor.y
        if rows < self.screen.lines:
            # The emulator drops lines at the top; a terminal does so only when the cursor would be below its end.
            dropped = max(0, y + 1 - rows)
            self.screen.cursor_position()
            self.screen.insert_lines(self.screen.lines - rows - dropped)
            y -= dropped
        self.screen.resize(rows, columns)
        self.screen.cursor_position(y + 1, x + 1)

    def look(self) -> list[str]:
        """Return the visible lines, without blanks at their ends."""
        while self.unread:
            data = os.read(self.master, 65536)
            self.unread -= len(data)
            self.stream.feed(data)
        lines = [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def gone(self) -> list[str]:
        """Return the lines that have scrolled off the screen."""
        self.look()
        return ["".join(line[x].data for x in range(self.screen.columns)).rstrip() for line in self.screen.history.top]


@pytest.fixture(autouse=True)
def excepthook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo after each test what Ctrl-C installs."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Terminal]]:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    made: list[Terminal] = []

    def make(columns: int = 60, rows: int = 10, **kwargs: Any) -> Terminal:
        made.append(Terminal(columns, rows, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.close()
        os.close(each.master)


class Staged(BackgroundTask):
    """A task that advances by one stage whenever `follow()` begins to wait."""

    def __init__(self, runner: ThreadRunner, stages: Callable[[BackgroundTask], Iterator[object]]) -> None:
        super().__init__("staged", runner=runner)
        self.turn, self.seen, self.begun = threading.Semaphore(0), threading.Semaphore(0), False

        def work(task: BackgroundTask) -> None:
            for _ in stages(task):
                self.seen.release()
                assert self.turn.acquire(timeout=WAIT)

        self.on_done(lambda task: self.seen.release())
        self.start(work)

    def wait(self, timeout: float | None = None) -> bool:
        if self.begun:
            self.turn.release()
        self.begun = True
        assert self.seen.acquire(timeout=WAIT)
        return super().wait(0)


def followed(task: Staged, out: TextIO, **kwargs: Any) -> TaskState:
    """Follow a task to its end, and raise what has failed in a stage."""
    state = follow(task, out, **kwargs)
    if state.error_type == "AssertionError":
        task.result(WAIT)
    return state


def test_the_drawing_is_renewed_in_its_place(terminal: Callable[..., Terminal], runner: ThreadRunner) -> None:
    out = terminal()
    out.write("$ program\r\n")
    seen: list[list[str]] = []

    def stages(task: BackgroundTask) -> Iterator[None]:
        task.plan(("Parse", 1), ("Aggregate", 2), ("Write", 1))
        yield
        seen.append(out.look())
        with task.step("Parse"):
            for _ in task.track("ab"):
                task.update(message="Row {n}")
                yield
                seen.append(out.look())
        with task.step("Aggregate"):
            task.plan(("sum", 1), ("mean", 1))
            with task.step("sum"):
                yield
                seen.append(out.look())

    assert followed(Staged(runner, stages), out).complete
    seen.append(out.look())
    texts = [[mask(line) for line in lines] for lines in seen]
    assert texts == [
        ["$ program", "[----------------------]   0% T Running", "  - Parse", "  - Aggregate", "  - Write"],
        ["$ program", "[----------------------]   0% T", "  > Parse T 0/2 R Row 0", "  - Aggregate", "  - Write"],
        ["$ program", "[##--------------------]  12% T left", "  > Parse T 1/2 R Row 1", "  - Aggregate", "  - Write"],
        [
            "$ program",
            "[#####-----------------]  25% T",
            "  + Parse T",
            "  > Aggregate T",
            "    > sum T",
            "    - mean",
            "  - Write",
        ],
        [
            "$ program",
            "[######################] 100% T sum",
            "  + Parse T",
            "  + Aggregate T",
            "    + sum T",
            "    - mean",
            "  - Write",
        ],
    ]
    assert (out.screen.cursor.y, out.screen.cursor.x) == (7, 0)
    assert out.gone() == []


def test_what_a_shorter_drawing_leaves_is_erased(terminal: Callable[..., Terminal], runner: ThreadRunner) -> None:
    out = terminal(60, 10)

    def stages(task: BackgroundTask) -> Iterator[None]:
        task.update(message="a long message")
        yield
        assert [mask(line) for line in out.look()] == ["[==] T a long message"]
        task.update(message="short")
        yield
        assert [mask(line) for line in out.look()] == ["[==] T short"]
        task.plan(("a", 1), ("b", 1))
        yield
        assert len(out.look()) == 3
        task.plan(("a", 1))
        yield
        assert len(out.look()) == 2

    followed(Staged(runner, stages), out)


def test_a_traceback_is_not_drawn_over(terminal: Callable[..., Terminal], runner: ThreadRunner) -> None:
    out = terminal(60, 20)

    def stages(task: BackgroundTask) -> Iterator[None]:
        with task.step("a"), task.step("b"):
            yield
            out.write("Task failed\r\nTraceback\r\nValueError\r\n")
            raise ValueError("bad")

    assert followed(Staged(runner, stages), out).error == "bad"
    assert [mask(line) for line in out.look()] == [
        "Task failed",
        "Traceback",
        "ValueError",
        "[----------------------]   0% T Failed: ValueError: bad",
        "  ! a T",
        "    ! b T",
    ]


def test_a_run_that_ends_between_two_looks_is_over() -> None:
    class Late(BackgroundTask):
        def wait(self, timeout: float | None = None) -> bool:
            return False

    task, out = Late(runner=InlineRunner()), io.StringIO()
    task.start(lambda task: None)
    assert follow(task, out).complete
    assert out.getvalue() == "[" + "#" * 30 + "] 100% 0:00 Done\n"


def mask(line: str) -> str:
    """A line without what depends on time: its numbers, and where the mark of a bar without a percentage is."""
    import re

    line = re.sub(r"\[-*=+-*\]", "[==]", line)
    return re.sub(r"\d+\.\d/(s|min|h)", "R", re.sub(r"\b\d+:\d\d", "T", line))


def test_no_more_lines_than_the_terminal_has(terminal: Callable[..., Terminal], runner: ThreadRunner) -> None:
    out = terminal(40, 6)
    out.write("".join(f"before {i}\r\n" for i in range(8)))

    def stages(task: BackgroundTask) -> Iterator[None]:
        task.plan(*((f"step {i}", 1) for i in range(20)))
        for i in range(20):
            with task.step(f"step {i}"), task.step("inner"):
                yield
                lines = out.look()
                assert lines[0].startswith("[")
                assert len([line for line in lines if line.startswith("[")]) == 1
                assert [line for line in lines if f"> step {i} " in line]
                assert [line for line in lines if "> inner" in line]
                assert lines[-1].endswith(" more steps")
                assert out.gone() == [f"before {i}" for i in range(8)]

    followed(Staged(runner, stages), out)
    assert [line for line in out.look() if "+ step 19" in line]
    assert out.screen.cursor.y == 5


@pytest.mark.parametrize("rows", [2, 3, 4])
def test_on_a_terminal_of_few_rows(rows: int, terminal: Callable[..., Terminal], runner: ThreadRunner) -> None:
    out = terminal(40, rows)

    def stages(task: BackgroundTask) -> Iterator[None]:
        task.plan(("a", 1), ("b", 1), ("c", 1))
        with task.step("b"):
            for _ in range(3):
                yield
                assert out.look()[0].startswith("[")
                assert rows == 2 or [line for line in out.look() if "> b" in line]
                assert out.gone() == []

    assert followed(Staged(runner, stages), out).complete


def test_a_resized_terminal(terminal: Callable[..., Terminal], runner: ThreadRunner) -> None:
    out = terminal(60, 10)
    out.write("before\r\n")

    def stages(task: BackgroundTask) -> Iterator[None]:
        for i in range(6):
            with task.step(f"{i} " + "漢" * 50):
                for columns, rows in ((30, 10), (80, 12), (21, 4), (7, 3), (60, 10)):
                    yield
                    out.look()
                    out.resize(columns, rows)
                    yield
                    lines = out.look()
                    assert len([line for line in lines if line.startswith("[")]) == 1, lines
                    assert len([line for line in lines if ">" in line]) == 1

    assert followed(Staged(runner, stages), out).complete
    assert len([line for line in out.look() if line.startswith("[")]) == 1


HOSTILE = "a\x1b[2J\x9b2J\x1b]0;title\x07\r\n\x00\x08\x7f\u2028\u202e\ud800b"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_control_characters_do_not_reach_the_terminal(
    encoding: str, terminal: Callable[..., Terminal], runner: ThreadRunner
) -> None:
    out = terminal(encoding=encoding)

    def stages(task: BackgroundTask) -> Iterator[None]:
        task.log("log " + HOSTILE + " ü漢")
        with task.step(HOSTILE):
            task.update(message=HOSTILE + "ü漢")
            yield
        task.fail(HOSTILE)

    followed(Staged(runner, stages), out)
    for gone in ("\x1b[2J", "\x1b]", *"\x9b\x07\x00\x08\x7f\u2028\u202e\ud800"):
        assert gone not in out.text
    assert out.look()[0].startswith("log a [2J")


def test_ctrl_c_leaves_the_cursor_below_the_drawing(terminal: Callable[..., Terminal], runner: ThreadRunner) -> None:
    class Interrupted(Staged):
        def wait(self, timeout: float | None = None) -> bool:
            if self.begun:
                raise KeyboardInterrupt
            return super().wait(timeout)

    out = terminal()

    def stages(task: BackgroundTask) -> Iterator[None]:
        with task.step("a"), task.step("b"):
            yield

    task = Interrupted(runner, stages)
    with pytest.raises(KeyboardInterrupt):
        follow(task, out)
    out.write("$ ")
    assert [mask(line) for line in out.look()] == ["[==] T", "  > a T", "    > b T", "$"]
    assert out.screen.cursor.x == 2
    task.turn.release()
    assert BackgroundTask.wait(task, WAIT)


def test_log_lines_stand_above_the_drawing(terminal: Callable[..., Terminal], runner: ThreadRunner) -> None:
    out = terminal(40, 12)

    def stages(task: BackgroundTask) -> Iterator[None]:
        with task.step("a"):
            task.log("first")
            yield
            assert out.look()[0] == "first"
            task.log("second\n\tof two lines")
            task.log("long " + "x" * 50)
            yield
            assert out.look()[:5] == ["first", "second", "        of two lines", "long " + "x" * 35, "x" * 15]
        yield

    followed(Staged(runner, stages), out)
    lines = out.look()
    assert lines[:5] == ["first", "second", "        of two lines", "long " + "x" * 35, "x" * 15]
    assert [line[:5] for line in lines[5:]] == ["[####", "  + a"]
    quiet = terminal()
    followed(Staged(runner, stages_of_log), quiet, logs=False)
    assert "line" not in "".join(quiet.look())


def stages_of_log(task: BackgroundTask) -> Iterator[None]:
    task.log("line")
    yield


def test_dropped_log_lines_are_counted_on_the_screen(terminal: Callable[..., Terminal], runner: ThreadRunner) -> None:
    out = io.StringIO()

    def stages(task: BackgroundTask) -> Iterator[None]:
        task.log("begin")
        yield
        for i in range(1500):
            task.log(f"line {i}")
        yield

    followed(Staged(runner, stages), out)
    lines = [line for line in out.getvalue().splitlines() if not line.startswith("[")]
    assert lines == ["begin", "(500 lines left out)", *(f"line {i}" for i in range(500, 1500))]


def test_colors(terminal: Callable[..., Terminal], runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def stages(task: BackgroundTask) -> Iterator[None]:
        task.plan(("a", 1), ("b", 1))
        with task.step("a"):
            yield
        raise ValueError

    out = terminal()
    followed(Staged(runner, stages), out)
    out.look()
    assert out.screen.buffer[1][2].fg == "green"
    assert out.screen.buffer[0][0].fg == "default"
    monkeypatch.setenv("NO_COLOR", "1")
    out = terminal()
    followed(Staged(runner, stages), out)
    assert "\x1b[" in out.text
    assert not [part for part in out.text.split("\x1b[")[1:] if part.lstrip("0123456789;").startswith("m")]


def test_a_dumb_terminal_gets_plain_lines(
    terminal: Callable[..., Terminal], runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = terminal()

    def stages(task: BackgroundTask) -> Iterator[None]:
        for _ in task.track(range(50)):
            yield

    followed(Staged(runner, stages), out)
    assert "\x1b" not in out.text
    assert "\r" not in out.text
    assert 10 <= out.text.count("\n") <= 13


def test_a_step_is_worth_a_plain_line(runner: ThreadRunner) -> None:
    out = io.StringIO()

    def stages(task: BackgroundTask) -> Iterator[None]:
        task.plan(("Read", 1), ("Write", 1), ("Rest", 1000))
        for name in ("Read", "Write"):
            with task.step(name):
                for i in range(3):
                    task.update(message=f"busy with {i}")
                    yield

    followed(Staged(runner, stages), out)
    assert [mask(line).split("] ")[1] for line in out.getvalue().splitlines()] == [
        "  0% Read busy with 0",
        "  0% Write busy with 0",
        "100% T busy with 2",
    ]


def test_a_line_after_each_minute_without_one(runner: ThreadRunner) -> None:
    out, now = io.StringIO(), [0.0]

    def stages(task: BackgroundTask) -> Iterator[None]:
        # A hundred minutes, and less than ten percent; a look each half minute.
        task.update(message="Rows")
        for i in task.track(range(2010)):
            now[0] += 30
            if i == 100:
                task.log("a sign of life")
            yield
            if i == 200:
                break

    followed(Staged(runner, stages), out, clock=lambda: now[0])
    lines = out.getvalue().splitlines()
    counts = [int(text.split("% ")[1].split("/")[0]) for text in lines[:-1] if text.startswith("[")]
    assert counts == [*range(0, 100, 2), *range(102, 201, 2)]
    assert lines[50] == "a sign of life"


def test_a_stored_state_is_drawn_too(terminal: Callable[..., Terminal], runner: ThreadRunner) -> None:
    class Remote(Staged):
        @property
        def state(self) -> TaskState:
            return TaskState.from_dict(super().state.to_dict(max_logs=1))

    def stages(task: BackgroundTask) -> Iterator[None]:
        with task.step("a"):
            for i in range(3):
                task.log(f"one {i}")
                task.log(f"two {i}")
                yield

    out = terminal(rows=20)
    assert followed(Remote(runner, stages), out).complete
    assert [line for line in out.look() if "[" not in line] == [
        "two 0",
        "(1 lines left out)",
        "two 1",
        "(1 lines left out)",
        "two 2",
        "  + a 0:00",
    ]


def width(text: str) -> int:
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "FW") for char in text)


STEPS = st.builds(
    StepState,
    st.text(max_size=30),
    st.sampled_from(["pending", "running", "done", "failed"]),
    st.integers(0, 5),
    st.just(1.0),
    st.none() | st.floats(0, 100),
    st.none() | st.floats(0, 100),
)


@given(
    st.lists(STEPS, max_size=30),
    st.text(),
    st.integers(1, 200),
    st.integers(1, 40),
    st.floats(0, 100),
    st.booleans(),
    st.integers(0, 2**63 - 1),
    st.none() | st.floats(0),
)
def test_any_state_fits(
    steps: list[StepState],
    message: str,
    columns: int,
    rows: int,
    progress: float,
    running: bool,
    n: int,
    number: float | None,
) -> None:
    state = TaskState(
        running=running, progress=progress, message=message, steps=steps, n=n, rate=number, eta=number, started_at=50.0
    )
    lines = drawing(state, columns, rows)
    assert 1 <= len(lines) <= max(rows, 1)
    assert all(width(text) < columns and (text.isprintable() or not text) for text, _ in lines)
    open_steps = [step for step in steps if step.status == "running"]
    if open_steps and rows > 1:
        assert "running" in [status for _, status in lines]


def test_what_is_written_with_an_error_leaves_the_drawing(
    terminal: Callable[..., Terminal], runner: ThreadRunner
) -> None:
    out = terminal(encoding="ascii")

    def stages(task: BackgroundTask) -> Iterator[None]:
        task.update(total=2, message="Work")
        yield
        with pytest.raises(UnicodeEncodeError):
            out.write("größe\n")
        with pytest.raises(TypeError):
            out.write(b"bytes\n")  # type: ignore[arg-type]
        out.write("fine\r\n")
        assert [mask(line) for line in out.look()] == ["fine", "[----------------------]   0% 0/2 R T Work"]
        yield

    followed(Staged(runner, stages), out)


def test_what_is_written_before_the_first_drawing_is_kept(
    terminal: Callable[..., Terminal], runner: ThreadRunner
) -> None:
    class Early(Staged):
        def wait(self, timeout: float | None = None) -> bool:
            if not self.begun:
                out.write("a line\r\nno end")
            return super().wait(timeout)

    out = terminal()

    def stages(task: BackgroundTask) -> Iterator[None]:
        task.update(total=2, message="Work")
        yield
        assert [mask(line) for line in out.look()] == ["a line", "[----------------------]   0% 0/2 R T Work"]
        out.write("of it\r\n")
        yield

    followed(Early(runner, stages), out)
    lines = [mask(line) for line in out.look()]
    assert lines == ["a line", "of it", "no end", "[######################] 100% 0/2 T Work"]


def test_a_very_long_unfinished_line_is_written(terminal: Callable[..., Terminal], runner: ThreadRunner) -> None:
    out = terminal(60, 80)

    def stages(task: BackgroundTask) -> Iterator[None]:
        task.update(total=2)
        yield
        for _ in range(5000):
            out.write(".")
        # As a program that draws a bar of its own.
        for i in range(5000):
            out.write(f"\r{i:4}" + " " * 10)
        out.write("\r done\r\n")
        assert out.look()[-2].startswith(" done")
        yield

    followed(Staged(runner, stages), out)
    lines = out.look()
    assert sum(line.count(".") for line in lines) == 4097
    assert [line.split()[0] for line in lines if not line.startswith((".", "["))] == ["done"]


@pytest.mark.parametrize("here", [True, False], ids=["here", "other process"])
def test_only_a_run_of_this_process_is_waited_for(here: bool, runner: ThreadRunner) -> None:
    class Interrupted(BackgroundTask):
        def wait(self, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

    out, leave, store = io.StringIO(), threading.Event(), MemoryTaskStore()
    task = Interrupted("a", runner=runner, store=store)
    task.start(lambda task: leave.wait(WAIT))
    followed = task if here else Interrupted.attach("a", store)
    assert followed is not None
    with pytest.raises(KeyboardInterrupt):
        follow(followed, out)
    for call in before_waiting:
        call()
    assert out.getvalue().startswith("Waiting for 'a' after 0:0") == here
    leave.set()
    assert BackgroundTask.wait(task, WAIT)
