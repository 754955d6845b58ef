"""Measures downloads beside a view that sends the same bytes with as little as the server needs.

Run with ``uv run python tests/benchmarks/bench_downloads.py [server ...]``, such as ``waitress``. Each server is
a process of its own with one worker; the client reads what comes and drops it. A file of 256 MiB and a range of 64 MiB
in it come from the page cache. The floors are a view that returns a bare loop of ``pread`` over blocks of 1 MiB, and
the server's own file wrapper on the bare file where there is one (``os.sendfile`` on Gunicorn). Flask's ``send_file``
is a peer. Figures are medians of the ratios of alternating rounds in wall time, with their middle half, and MiB/s.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from flask import Flask, Response, request, send_file
from flask_silo import Silo
from pairs import ratio, row, warm

MIB = 1024 * 1024
WHOLE = 256 * MIB
START, PART = 77 * MIB + 12_345, 64 * MIB
SID = "a" * 32
ROUNDS = 21
SERVERS = ("gunicorn-sync", "gunicorn-gthread", "gunicorn-gevent", "waitress", "gevent", "werkzeug")
WRAPPED = {"gunicorn-sync", "gunicorn-gthread", "gunicorn-gevent", "waitress"}


def application() -> Flask:
    """Return the application. Its files are in the folder ``BENCH_FOLDER``."""
    app = Flask("downloads")
    silo = Silo(app, accept_client_ids=True, auto_cleanup=False)
    uploads = silo.add_file_store("uploads", Path(os.environ["BENCH_FOLDER"], "uploads"))

    @app.post("/api/save")
    def save() -> dict[str, str]:
        return {"path": uploads.save(silo.sid, "big.bin", request.stream)}

    @app.get("/api/ours")
    def ours() -> Response:
        return uploads.send(silo.sid, "big.bin")

    @app.get("/flask")
    def peer() -> Response:
        return send_file(request.args["path"], as_attachment=True, conditional=True)

    @app.get("/pread")
    def pread() -> Response:
        return _bare(_blocks(*_asked()))

    @app.get("/wrapped")
    def wrapped() -> Response:
        path, start, _ = _asked()
        file = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115 - the server closes it
        file.seek(start)
        return _bare(request.environ["wsgi.file_wrapper"](file, MIB))

    return app


def _asked() -> tuple[str, int, int]:
    part = "Range" in request.headers
    return request.args["path"], START if part else 0, PART if part else WHOLE


def _bare(body: Any) -> Response:
    length = PART if "Range" in request.headers else WHOLE
    headers = {"Content-Length": str(length), "Content-Type": "application/octet-stream"}
    return Response(body, headers=headers, direct_passthrough=True)


def _blocks(path: str, start: int, length: int) -> Iterator[bytes]:
    fd = os.open(path, os.O_RDONLY)
    try:
        while length:
            block = os.pread(fd, min(MIB, length), start)
            yield block
            start += len(block)
            length -= len(block)
    finally:
        os.close(fd)


def serve(server: str, fd: int) -> None:
    """Serve the application on a listening socket, until the process is ended."""
    if server.startswith("gunicorn"):
        kind = server.partition("-")[2]
        module = f"{Path(__file__).stem}:application()"
        command = [sys.executable, "-m", "gunicorn", f"-k={kind}", f"--bind=fd://{fd}", "--log-level=error", module]
        os.execv(sys.executable, command)
    listener = socket.socket(fileno=fd)
    if server == "waitress":
        import_module("waitress").serve(application(), sockets=[listener])
    elif server == "gevent":
        from gevent.pywsgi import WSGIServer

        WSGIServer(listener, application(), log=None).serve_forever()
    else:
        from werkzeug.serving import make_server

        make_server("127.0.0.1", 0, application(), threaded=True, fd=fd).serve_forever()


@contextmanager
def running(server: str, folder: Path) -> Iterator[int]:
    """Run a server in a process of its own and yield its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        port: int = listener.getsockname()[1]
        patch = "from gevent import monkey; monkey.patch_all(); " if server == "gevent" else ""
        process = subprocess.Popen(
            [sys.executable, "-c", f"{patch}import bench_downloads as b; b.serve({server!r}, {listener.fileno()})"],
            pass_fds=[listener.fileno()],
            cwd=Path(__file__).parent,
            env={**os.environ, "BENCH_FOLDER": str(folder)},
            stderr=subprocess.DEVNULL,
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def fetch(port: int, target: str, *, part: bool, body: bytes | None = None) -> bytes:
    """Send a request and read its whole response. Return the response without the bytes of a download."""
    method = "GET" if body is None else "POST"
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nX-Session-ID: {SID}\r\nConnection: close\r\n"
    if part:
        head += f"Range: bytes={START}-{START + PART - 1}\r\n"
    if body is not None:
        head += f"Content-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(f"{head}\r\n".encode())
        if body is not None:
            connection.sendall(body)
        buffer = bytearray(MIB)
        begun, count = b"", 0
        while got := connection.recv_into(buffer):
            count += got
            if len(begun) < 4096:
                begun += buffer[: min(got, 4096)]
    answer = begun.partition(b"\r\n\r\n")
    assert begun.startswith((b"HTTP/1.1 20", b"HTTP/1.0 20")), begun[:500]
    if body is None:
        assert count - len(answer[0]) - 4 == (PART if part else WHOLE), (target, count)
    return answer[2]


def measure(server: str, folder: Path) -> None:
    """Print the rows of one server."""
    with running(server, folder) as port:
        path = fetch(port, "/api/save", part=False, body=os.urandom(MIB) * (WHOLE // MIB)).decode()
        path = path.partition('"path":')[2].strip(' "\n}')
        for part, what in ((True, "range of 64 MiB"), (False, "file of 256 MiB")):

            def get(target: str, part: bool = part) -> Callable[[], object]:
                return lambda: fetch(port, target, part=part)

            actions = {
                "ours": get("/api/ours"),
                "pread": get(f"/pread?path={path}"),
                "peer": get(f"/flask?path={path}"),
            }
            if server in WRAPPED:
                actions["wrapped"] = get(f"/wrapped?path={path}")
            found = warm(*actions.values(), repeats=ROUNDS, clock=time.perf_counter)
            times = dict(zip(actions, found, strict=True))
            unit = (PART if part else WHOLE) / MIB
            for floor, goal in {"pread": "1.1", "wrapped": "1.1", "peer": "-"}.items():
                if floor in times:
                    speeds = " / ".join(f"{unit / sorted(times[name])[ROUNDS // 2]:.0f}" for name in ("ours", floor))
                    row(f"{server}: {what} / {floor}", f"{ratio(times['ours'], times[floor])}  {speeds} MiB/s", goal)


def main(servers: list[str]) -> None:
    """Measure each server and print the table."""
    for server in servers or SERVERS:
        with tempfile.TemporaryDirectory() as folder:
            measure(server, Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
