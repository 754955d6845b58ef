"""Drives a headless Chromium over the DevTools protocol, through a pair of pipes, without a port or other packages."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.guard import unguarded_child

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
DEADLINE = 30.0


def find() -> str | None:
    """Return the path of Chromium; None if it is not installed, or on Windows, where the pipes do not work."""
    return next(filter(None, map(shutil.which, NAMES)), None) if hasattr(os, "posix_spawn") else None


class Browser:
    """One browser with one page."""

    def __init__(self, program: str, profile: Path) -> None:
        import fcntl  # which Windows does not have

        self._number = 0
        self._session = ""
        self._buffer = b""
        self.console: list[str] = []
        read_end, self._write = os.pipe()
        self._read, write_end = os.pipe()
        # Free numbers other than 3 and 4, see below.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in (read_end, write_end)]
        arguments = [program, *FLAGS, f"--user-data-dir={profile / 'profile'}", "about:blank"]
        moves = [(os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4)]
        quiet = os.open(os.devnull, os.O_WRONLY)
        moves += [(os.POSIX_SPAWN_DUP2, quiet, 1), (os.POSIX_SPAWN_DUP2, quiet, 2)]
        try:
            with unguarded_child() as env:
                home = env | {"HOME": str(profile)}  # TMPDIR must be short, because it is part of the paths of sockets
                self._pid = os.posix_spawn(program, arguments, home, file_actions=moves)
        finally:
            for fd in (read_end, write_end, *high, quiet):
                os.close(fd)
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + DEADLINE
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._read, 1 << 16)
            assert data, "the browser has ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Runtime.exceptionThrown":
            self.console.append(
                event["params"]["exceptionDetails"].get("exception", {}).get("description", "exception")
            )
        if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.console.append(event["params"]["entry"]["text"])

    def run(self, script: str) -> Any:
        """Run JavaScript in the page, wait for a promise, and return the value."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{script}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait(self, condition: str) -> Any:
        """Wait until a JavaScript condition holds, and return its value."""
        deadline = time.monotonic() + DEADLINE
        while not (value := self.run(condition)):
            assert time.monotonic() < deadline, f"{condition} did not come true; the page says: {self.text()}"
            time.sleep(0.02)
        return value

    def text(self) -> str:
        """Return the visible text of the page."""
        return str(self.run("document.body.innerText"))

    def choose_file(self, selector: str, path: Path) -> None:
        """Put a file into a file input."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def press(self, key: str, code: int) -> None:
        """Press a key."""
        text = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path) -> None:
        """Save the whole page as a picture."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """End the browser by its pid, if it does not end by itself."""
        self._session = ""
        with suppress(AssertionError, OSError):
            self.send("Browser.close")
        os.close(self._write)
        os.close(self._read)
        deadline = time.monotonic() + 10
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                return
            time.sleep(0.02)


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """Start a browser and end it after the block."""
    opened = Browser(program, profile)
    try:
        yield opened
    finally:
        opened.close()
