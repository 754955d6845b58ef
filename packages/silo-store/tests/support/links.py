"""TCP links to a server on loopback, which count the flights of requests, and may be slow.

A flight begins when a client sends on its connection after it has received, or for the first time. Commands sent in one
pipeline are one flight. So a client that waits for each answer makes as many flights as it waits for round trips.
"""

from __future__ import annotations

import ctypes
import queue
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

HOST = "127.0.0.1"
DEADLINE = 30.0


class RoundTrips:
    """A link in this process: `count` flights have gone through `port` to the server since the last `reset()`.

    Args:
        server_port: Where the server listens.
        delay: Seconds that each byte takes, in either direction.
    """

    def __init__(self, server_port: int, *, delay: float = 0.0) -> None:
        self._server_port = server_port
        self._delay = delay
        self._lock = threading.Lock()
        self._count = 0
        self._closed = False
        self._sockets: list[socket.socket] = []
        self._connections: list[_Connection] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def count(self) -> int:
        with self._lock:
            return self._count

    def reset(self) -> None:
        with self._lock:
            self._count = 0

    def lead_to(self, server_port: int) -> None:
        """Let new connections go to another server, as a failover behind one address does; the others stay."""
        self._server_port = server_port

    def hang(self) -> None:
        """Let nothing through the connections there are any more, as where the machine behind them was replaced."""
        for connection in self._connections:
            connection.hangs = True

    def close(self) -> None:
        """Break all connections and take no more."""
        self._closed = True
        with suppress(OSError):
            socket.create_connection((HOST, self.port), timeout=DEADLINE).close()  # Wakes the acceptor.
        self._acceptor.join()
        self._listener.close()
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def __enter__(self) -> RoundTrips:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closed:
                client.close()
                return
            try:
                server = socket.create_connection((HOST, self._server_port), timeout=DEADLINE)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._sockets += [client, server]
            self._connections.append(_Connection(self, client, server, self._delay))
            self._connections[-1].start(self._threads)

    def _add(self) -> None:
        with self._lock:
            self._count += 1


class _Connection:
    """What goes through one connection: a thread that reads and one that writes, for each direction."""

    def __init__(self, link: RoundTrips, client: socket.socket, server: socket.socket, delay: float) -> None:
        self._link, self._client, self._server, self._delay = link, client, server, delay
        self._turn = server  # Whose bytes came last.
        self.hangs = False

    def start(self, threads: list[threading.Thread]) -> None:
        for end in (self._client, self._server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, target in ((self._client, self._server), (self._server, self._client)):
            way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            for work, end in ((self._read, source), (self._write, target)):
                thread = threading.Thread(target=work, args=(end, way), daemon=True)
                thread.start()
                threads.append(thread)

    def _read(self, source: socket.socket, way: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(1 << 16)
            except OSError:
                data = b""
            if data and self._turn is not source:
                self._turn = source
                if source is self._client:
                    self._link._add()
            way.put((time.monotonic() + self._delay, data))

    def _write(self, target: socket.socket, way: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        with suppress(OSError):
            while True:
                due, data = way.get()
                if (wait := due - time.monotonic()) > 0:
                    time.sleep(wait)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                if not self.hangs:
                    target.sendall(data)


class SlowLink:
    """A link in a process of its own, so that it takes no time from what is measured; see `RoundTrips`.

    Args:
        server_port: Where the server listens.
        delay: Seconds that each byte takes, in either direction; a round trip takes about 0.1 ms more.
    """

    def __init__(self, server_port: int, delay: float) -> None:
        command = [sys.executable, __file__, str(server_port), str(delay)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = self._ask("port")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def count(self) -> int:
        return self._ask("count")

    def reset(self) -> None:
        self._ask("reset")

    def close(self) -> None:
        """Break all connections and end the process."""
        self._process.communicate(timeout=DEADLINE)

    def __enter__(self) -> SlowLink:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, what: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def main() -> None:
    """Be the process of a `SlowLink`; it ends when its input does, so it never outlives its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(29, 1, 0, 0, 0)  # PR_SET_TIMERSLACK: a sleep ends when it is due.
    link = RoundTrips(int(sys.argv[1]), delay=float(sys.argv[2]))
    for line in sys.stdin:
        if line == "reset\n":
            link.reset()
        print(link.port if line == "port\n" else link.count, flush=True)
    link.close()


if __name__ == "__main__":
    main()
