"""Measures uploads through Gunicorn: the time beside a bare view, the bytes that are written, and the memory.

Run with ``uv run python tests/benchmarks/bench_uploads.py [folder]``. One worker with threads serves all views. The two
of a pair alternate, in the same process and on the same disk. The client sends the same bytes each time over loopback.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask, request
from flask_silo import Silo

sys.path.insert(0, str(Path(__file__).parents[2] / "packages/silo-store/tests/support"))

from pairs import ratio, row
from servers import Gunicorn

SIZE = 256 * 1024 * 1024
BLOCK = 1024 * 1024
BOUNDARY = "------------------------d74496d66958873e"  # as long as that of curl
TURNS = 8
MIB = 1024 * 1024


def application() -> Flask:
    """The application that Gunicorn serves: two uploads, a bare view, and what the process knows of itself."""
    folder = Path(os.environ["UPLOADS"])
    app = Flask("uploads")
    silo = Silo(app, auto_cleanup=False, accept_client_ids=True)
    uploads = silo.add_file_store("uploads", folder / "files", max_session_bytes=4 * SIZE)
    bare = folder / "bare"

    @app.put("/api/files/<name>")
    def put(name: str) -> Any:
        uploads.receive(name)
        return {}

    @app.post("/api/files")
    def post() -> Any:
        uploads.receive()
        return {}

    @app.put("/bare")
    def read_and_write() -> Any:
        with bare.open("wb", buffering=0) as file:
            while block := request.stream.read(BLOCK):
                file.write(block)
        return {}

    @app.post("/flask")
    def save() -> Any:
        request.files["file"].save(bare)
        return {}

    @app.delete("/all")
    def delete() -> Any:
        uploads.cleanup_all()
        uploads.purge()
        bare.unlink(missing_ok=True)
        return {}

    @app.get("/process")
    def process() -> Any:
        """Bytes written to files and CPU seconds of this process so far, and its most memory since the last look."""
        io = Path("/proc/self/io").read_text()
        status = Path("/proc/self/status").read_text()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        return {"wchar": number("wchar", io), "peak": 1024 * number("VmHWM", status), "cpu": time.process_time()}

    return app


def number(name: str, text: str) -> int:
    """Return the number after a name in a file of /proc."""
    found = re.search(rf"{name}:\s+(\d+)", text)
    assert found is not None
    return int(found[1])


class Cost(NamedTuple):
    """What a request costs.

    Attributes:
        seconds: Until the client has the answer.
        cpu: CPU seconds of the server.
        written: Bytes that the server writes to files.
        peak: Bytes of memory that the server has at most.
    """

    seconds: float
    cpu: float
    written: int
    peak: int


class Client:
    """Sends requests to the server, with the bytes of a file that are made once."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.block = os.urandom(BLOCK)

    def ask(self, method: str, path: str, length: int = 0, start: bytes = b"", end: bytes = b"") -> bytes:
        """Send a request with ``length`` bytes between ``start`` and ``end``. Return the body of the answer."""
        kind = f"multipart/form-data; boundary={BOUNDARY}" if start else "application/octet-stream"
        total = len(start) + length + len(end)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Session-ID: {'a' * 32}\r\nConnection: close\r\n"
        head += f"Content-Type: {kind}\r\nContent-Length: {total}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(head.encode() + start)
            for _ in range(length // BLOCK):
                connection.sendall(self.block)
            connection.sendall(end)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert b" 200 OK" in answer.partition(b"\r\n")[0], answer
        return answer.partition(b"\r\n\r\n")[2]

    def put(self, path: str) -> None:
        self.ask("PUT", path, SIZE)

    def post(self, path: str) -> None:
        start = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="b.bin"\r\n\r\n'
        self.ask("POST", path, SIZE, start.encode(), f"\r\n--{BOUNDARY}--\r\n".encode())

    def process(self) -> dict[str, Any]:
        """Return what the process knows of itself."""
        found: dict[str, Any] = json.loads(self.ask("GET", "/process"))
        return found

    def measured(self, action: Callable[[], None]) -> Cost:
        """Return what a request costs the process. What earlier requests have saved is deleted before."""
        self.ask("DELETE", "/all")  # so that no request pays for freeing an old file
        before = self.process()
        start = time.perf_counter()
        action()
        seconds = time.perf_counter() - start
        after = self.process()
        return Cost(seconds, after["cpu"] - before["cpu"], after["wchar"] - before["wchar"], after["peak"])


def main() -> None:
    """Measure on a folder, by default a temporary one, and print the table."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        folder = Path(name)
        args = ["--worker-class=gthread", "--threads=4"]
        env = {"UPLOADS": name}
        app = "bench_uploads:application()"
        with Gunicorn(app, *args, folder=folder / "log", cwd=Path(__file__).parent, env=env) as server:
            measure(Client(server.port))


def measure(client: Client) -> None:
    """Print the table."""
    actions: dict[str, Callable[[], None]] = {
        "bare": lambda: client.put("/bare"),
        "raw": lambda: client.put("/api/files/a.bin"),
        "form": lambda: client.post("/api/files"),
        "flask": lambda: client.post("/flask"),
    }
    # First while the process is small; the bare view comes before the others.
    first = {name: client.measured(action) for name, action in actions.items()}
    costs: dict[str, list[Cost]] = {name: [] for name in actions}
    for turn in range(TURNS):
        for name, action in list(actions.items())[:: 1 if turn % 2 else -1]:
            costs[name].append(client.measured(action))

    def compare(case: str, ours: str, floor: str, goal: str) -> None:
        seconds, cpu = zip(*((cost.seconds, cost.cpu) for cost in costs[ours]), strict=True)
        floor_seconds, floor_cpu = zip(*((cost.seconds, cost.cpu) for cost in costs[floor]), strict=True)
        row(case, ratio(seconds, floor_seconds, 1, "s"), goal)
        row("  in CPU time of the server", ratio(cpu, floor_cpu, 1, "s"), "-")
        row("  bytes written / the file", f"{first[ours].written / SIZE:.4f}x", "1.0x")
        row(
            "  the most memory beside the bare view", f"{(first[ours].peak - first['bare'].peak) / MIB:+.1f} MiB", "+16"
        )

    compare("PUT of 256 MiB / a bare view that writes read(1 MiB)", "raw", "bare", "1.1x")
    compare("a form with 256 MiB / the PUT", "form", "raw", "1.3x")
    compare("request.files[...].save() of Flask / the PUT", "flask", "raw", "-")


if __name__ == "__main__":
    main()
