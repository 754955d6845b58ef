"""The final screen of a terminal on which a program runs: other output beside the bar, and Ctrl-C."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("needs a pty", allow_module_level=True)

import fcntl
import pty
import signal
import struct
import termios

import pyte

pytestmark = pytest.mark.slow

HEAD = """
import io, logging, os, sys, threading, time, warnings
from silo_tasks import BackgroundTask, ThreadRunner
from silo_tasks.console import follow

class Paced(BackgroundTask):
    "Goes on by one stage whenever its follower has looked."
    looked = threading.Semaphore(0)
    @property
    def state(self):
        state = super().state
        self.looked.release()
        return state
    def pause(self):
        while self.looked.acquire(blocking=False):
            pass
        # A look may have begun before this. The next one has been drawn when a third begins.
        for _ in range(3):
            assert self.looked.acquire(timeout=30)
"""


class Program:
    """A program on a terminal of its own, and the screen that its user sees."""

    def __init__(self, code: str, folder: Path, columns: int, rows: int = 40) -> None:
        script = folder / "script.py"
        script.write_text(HEAD + textwrap.dedent(code), "utf-8")
        self.screen = pyte.HistoryScreen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.written = ""
        environment = {**os.environ, "TERM": "xterm-256color", "PYTHONWARNINGS": "default"}
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            # Its size before anything is drawn.
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            # The tests may run in the background of a script, where Ctrl-C is ignored.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execve(sys.executable, [sys.executable, str(script)], environment)

    def read_until(self, text: str) -> None:
        while text not in self.written:
            self._read()

    def _read(self) -> None:
        data = os.read(self.terminal, 65536)
        self.written += data.decode("utf-8", "replace")
        self.stream.feed(data)

    def interrupt(self) -> None:
        os.write(self.terminal, b"\x03")

    def end(self) -> tuple[int, list[str]]:
        """Read to the end, and return the exit code and the lines on the screen."""
        try:
            while True:
                self._read()
        except OSError:
            # The system says so that the other side is gone.
            pass
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.terminal)
        lines = [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return code, lines


def without_numbers(lines: list[str]) -> list[str]:
    return [re.sub(r"\d+\.\d/s", "R", re.sub(r"\b\d+:\d\d", "T", line)) for line in lines]


@pytest.mark.parametrize("columns", [40, 120])
def test_other_output_stands_above_the_bar(columns: int, tmp_path: Path) -> None:
    program = Program(
        """
        logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
        wrapped = io.TextIOWrapper(os.fdopen(os.dup(2), "wb", 0), write_through=True)
        quiet = logging.getLogger("quiet")
        quiet.addHandler(logging.StreamHandler(wrapped))
        quiet.propagate = False
        early = sys.stderr
        warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\\n"
        def others():
            print("a thread prints")
        def work(task):
            task.plan(("Parse", 1), ("Aggregate", 1))
            for name in ("Parse", "Aggregate"):
                with task.step(name):
                    for i in task.track(range(3)):
                        logging.info("%s %d", name, i)
                        task.pause()
            print("stdout", 1)
            print("stderr", 2, file=early)
            sys.__stderr__.writelines(["several\\n", "lines\\n"])
            task.pause()
            quiet.warning("another stream")
            thread = threading.Thread(target=others)
            thread.start()
            thread.join()
            warnings.warn("take care")
            task.log("the run's own line")
            task.pause()
            print("\\r10 %", end="")
            print("\\r20 %", end="")
            task.pause()
            print("\\r30 %", end="")
            logging.info("x" * 45)
            print("no end", end="", file=sys.stderr)
            task.pause()
        task = Paced("program")
        task.start(work)
        follow(task, interval=0.001)
        assert task.state.complete, task.state.error
        print("after")
        """,
        tmp_path,
        columns,
    )
    code, lines = program.end()
    assert code == 0, lines
    long = ["INFO " + "x" * 35, "x" * 10] if columns == 40 else ["INFO " + "x" * 45]
    assert without_numbers(lines) == [
        *(f"INFO {name} {i}" for name in ("Parse", "Aggregate") for i in range(3)),
        "stdout 1",
        "stderr 2",
        "several",
        "lines",
        "another stream",
        "a thread prints",
        "warning: take care",
        "the run's own line",
        *long,
        "no end",
        "30 %",
        f"[{'#' * (15 if columns == 40 else 30)}] 100% T Aggregate",
        "  + Parse T",
        "  + Aggregate T",
        "after",
    ]


def test_the_traceback_of_a_failed_task_is_whole(tmp_path: Path) -> None:
    program = Program(
        """
        logging.basicConfig()
        def work(task):
            for i in task.track(range(10)):
                task.pause()
                if i == 5:
                    {}["a"]
        task = Paced("program")
        task.start(work)
        follow(task, interval=0.001)
        task._runner, task = None, None
        """,
        tmp_path,
        120,
    )
    code, lines = program.end()
    assert code == 0
    # The bar is drawn for the last time before or after it.
    assert [line for line in lines if line == "KeyError: 'a'"]
    assert [line for line in lines if line.startswith("ERROR:silo_tasks:Task 'program' (run ")]
    bars = [line for line in lines if line.startswith("[")]
    assert [re.sub(r"\b\d+:\d\d", "T", line) for line in bars] == [
        "[" + "!" * 15 + "-" * 15 + "]  50% 5/10 T Failed: KeyError: 'a'"
    ]


@pytest.mark.parametrize("how", ["return", "raise", "interrupt"])
def test_streams_are_restored(how: str, tmp_path: Path) -> None:
    program = Program(
        f"""
        how = {how!r}
        logging.basicConfig()
        handler = logging.root.handlers[0]
        before = sys.stdout, sys.stderr, handler.stream
        class Watched(Paced):
            def wait(self, timeout=None):
                if seen.is_set():
                    raise {{"raise": RuntimeError, "interrupt": KeyboardInterrupt}}[how]
                return super().wait(timeout)
        def work(task):
            task.pause()
            assert "write" in vars(sys.stdout) and "write" in vars(sys.stderr)
            print("no end", end="")
            for _ in task.track("abc"):
                task.pause()
            if how != "return":
                seen.set()
                assert go_on.wait(30)
        seen, go_on = threading.Event(), threading.Event()
        task = Watched("program")
        task.start(work)
        try:
            follow(task, interval=0.001)
        except (KeyboardInterrupt, RuntimeError):
            pass
        assert (sys.stdout, sys.stderr, handler.stream) == before
        assert "write" not in vars(sys.stdout) and "write" not in vars(sys.stderr)
        print("after")
        go_on.set()
        assert BackgroundTask.wait(task, 30)
        task.result()
        """,
        tmp_path,
        80,
    )
    code, lines = program.end()
    assert code == 0, lines
    assert lines[0] == "no end"
    assert lines[1].startswith("[")
    assert lines[2:] == ["after"]


CTRL_C = """
task = BackgroundTask("crunch", runner=ThreadRunner(drain_timeout={drain}))
def crunch(task, rows):
    task.plan(("Parse", 1), ("Sum", 1))
    with task.step("Parse"):
        pass
    with task.step("Sum"):
        for row in task.track(rows):
            if row == 53:
                task.update(message="Here")
                while True:
                    task.checkpoint()
                    time.sleep(0.001)
task.start(crunch, range(100))
"""


@pytest.mark.parametrize("columns", [40, 120])
@pytest.mark.parametrize(
    "more",
    ["", "    follow(task)\n", "    follow(task)\ntask.result()\n", "print(task.result())\n", "assert task.wait(30)\n"],
    ids=["end", "follow", "follow and result", "result", "wait"],
)
def test_ctrl_c_and_cancel(more: str, columns: int, tmp_path: Path) -> None:
    code = CTRL_C.format(drain=30) + f"try:\n    follow(task)\nexcept KeyboardInterrupt:\n    task.cancel()\n{more}"
    program = Program(code, tmp_path, columns)
    program.read_until("53/100")
    program.read_until("Here")
    program.interrupt()
    code_at_exit, lines = program.end()
    assert "Traceback" not in program.written
    assert code_at_exit == (1 if "result" in more else 0)
    told = [line for line in lines if "Cancelled" in line]
    if "follow" in more:
        # It may have ended before it was followed again.
        assert re.fullmatch(r"\[x+-+\]  76% \d:\d\d Cancelled", told[-1])
    else:
        assert "".join(lines[lines.index(told[0]) :]) == "Cancelled at 76% 53/100 in Sum: Here"


def test_ctrl_c_without_except(tmp_path: Path) -> None:
    program = Program(CTRL_C.format(drain=0.5) + "follow(task)\n", tmp_path, 120)
    program.read_until("Here")
    program.interrupt()
    code, lines = program.end()
    assert code != 0
    assert lines.count("KeyboardInterrupt") == 1
    # No more of it than the two lines of the program's and ours.
    assert len([line for line in lines if line.startswith("  File ")]) == 2
    waiting, lost, cancelled = lines[lines.index("KeyboardInterrupt") + 1 :]
    assert waiting == "Waiting for 'crunch' at 76% 53/100 in Sum: Here (Ctrl-C again: end at once)"
    assert re.fullmatch(r"Task 'crunch' \(run \w{8}\) is lost: its process was stopped", lost), "the log's line"
    assert cancelled == "Cancelled at 76% 53/100 in Sum: Here"


def test_ctrl_c_twice_ends_the_process(tmp_path: Path) -> None:
    program = Program(CTRL_C.format(drain=3600) + "follow(task)\n", tmp_path, 120)
    program.read_until("Here")
    program.interrupt()
    program.read_until("end at once)")
    program.interrupt()
    _, lines = program.end()
    assert len([line for line in lines if "Traceback" in line]) == 1
    assert lines[-1] == "^C"


def test_a_second_follower_writes_lines_above_the_first(tmp_path: Path) -> None:
    program = Program(
        """
        go_on, drawn = threading.Event(), threading.Event()
        class First(Paced):
            def pause(self):
                super().pause()
                drawn.set()
                assert go_on.wait(30)
        first, second = First("first"), BackgroundTask("second")
        def work(task):
            for _ in task.track("abcd"):
                task.pause()
        first.start(work)
        def follow_second():
            assert drawn.wait(30)
            second.start(lambda task: sum(task.track(range(10))))
            follow(second)
            go_on.set()
        thread = threading.Thread(target=follow_second)
        thread.start()
        follow(first, interval=0.001)
        thread.join()
        """,
        tmp_path,
        80,
    )
    code, lines = program.end()
    assert code == 0, lines
    assert without_numbers(lines) == [f"[{'#' * 30}] 100% 10/10 T Done", f"[{'#' * 30}] 100% 4/4 T Done"]


def test_a_forked_child_writes_as_it_likes(tmp_path: Path) -> None:
    program = Program(
        """
        warnings.simplefilter("ignore")
        def work(task):
            task.pause()
            child = os.fork()
            if not child:
                print("from the child", flush=True)
                os._exit("write" in vars(sys.stdout))
            assert os.waitpid(child, 0)[1] == 0
        task = Paced("program")
        task.start(work)
        follow(task, interval=0.001)
        task.result()
        """,
        tmp_path,
        80,
    )
    code, lines = program.end()
    assert code == 0, lines
    assert "from the child" in program.written
