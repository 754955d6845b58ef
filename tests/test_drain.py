"""When Gunicorn ends a worker, its tasks finish in time or are cancelled, and the process ends either way."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from flask import Flask
from flask_silo import Silo
from servers import DEADLINE, Gunicorn, until

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="Gunicorn needs POSIX"), pytest.mark.slow]

KINDS = ["sync", "gthread", "gevent"]
LOST = "lost: its process was stopped"

# Each task waits for a file with the name that it was given. A task named "s" waits for ever.
APP = """
import os, time
from pathlib import Path
from flask import Flask, jsonify
from flask_silo import Silo, current_task
from silo_tasks import ThreadRunner

folder, runner = Path(os.environ["FOLDER"]), ThreadRunner(workers=1, drain_timeout=float(os.environ["DRAIN"]))
app = Flask("drain")
silo = Silo(app, auto_cleanup=False, store_url=os.environ["STORE"], accept_client_ids=True)

@silo.task(runner=runner)
def work(name):
    (folder / f"{name}-begun").write_text(str(os.getpid()))
    while name == "s":
        time.sleep(1)
    while not (folder / name).exists():
        time.sleep(0.005)
        current_task().checkpoint()
    return name

@app.post("/api/start/<name>")
def start(name):
    work.start(name)
    return jsonify(os.getpid())

@app.get("/who")
def who():
    return jsonify(os.getpid())
"""


class Served:
    """The application under Gunicorn, and what the records in its store say."""

    def __init__(self, folder: Path, kind: str, drain: float) -> None:
        (folder / "draining.py").write_text(APP)
        self.folder = folder
        self.store = f"sqlite:///{folder / 'sessions.db'}"
        env = {"FOLDER": str(folder), "DRAIN": str(drain), "STORE": self.store}
        args = [f"--worker-class={kind}", "--workers=1", *(["--threads=4"] if kind == "gthread" else [])]
        self.gunicorn = Gunicorn("draining:app", *args, folder=folder / "log", cwd=folder, env=env, path="/who")

        self._app = Flask("watcher")
        silo = Silo(self._app, auto_cleanup=False, store_url=self.store, accept_client_ids=True)
        self._work = silo.task(name="work")(lambda name: None)
        self._app.get("/api/status")(lambda: self._work.state.to_dict())

    def ask(self, method: str, path: str, sid: str = "") -> Any:
        request = Request(self.gunicorn.url + path, method=method, headers={"X-Session-ID": sid} if sid else {})
        with urlopen(request, timeout=DEADLINE) as answer:
            return json.load(answer)

    def who(self) -> int | None:
        """Return the pid of the worker that answers; None if a worker dropped the request as it ended (Gunicorn 23)."""
        try:
            return int(self.ask("GET", "/who"))
        except OSError:
            return None

    def start(self, *names: str) -> int:
        """Start the tasks, each in a session of its own, wait until the first runs, and return the worker's pid."""
        pids = {self.ask("POST", f"/api/start/{name}", sid_of(name)) for name in names}
        until((self.folder / f"{names[0]}-begun").exists, "the task does not begin")
        (pid,) = pids
        return int(pid)

    def let(self, *names: str) -> None:
        """Let the named tasks end."""
        for name in names:
            (self.folder / name).touch()

    def status(self, name: str) -> str:
        """Return the error of a task, or its status, as another process reads its record."""
        answer = self._app.test_client().get("/api/status", headers={"X-Session-ID": sid_of(name)})
        record = json.loads(answer.text)
        return str(record["error"] or record["status"])

    def begun(self, name: str) -> bool:
        return (self.folder / f"{name}-begun").exists()


def sid_of(name: str) -> str:
    return name * 32


def losses(log: str) -> list[tuple[str, str]]:
    """Return the names and reasons in the log lines of lost runs."""
    line = r"^.*Task 'work' of session (\w){6}… \(run [0-9a-f]{8}\) is lost: (.*)$"
    return sorted(re.findall(line, log, re.MULTILINE))


def gone(pid: int) -> bool:
    """Return whether there is no such process, also no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_what_ends_in_time_is_finished(kind: str, tmp_path: Path) -> None:
    if kind == "gevent":
        pytest.importorskip("gevent")
    served = Served(tmp_path, kind, drain=DEADLINE)
    with served.gunicorn as server:
        old = served.start("a", "b")
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: served.who() not in (old, None), "no new worker serves")
        until(lambda: served.status("a") == "running", "the old worker no longer says how its task goes")
        assert served.status("b") == "queued"
        assert not gone(old)
        served.let("a", "b")
        until(lambda: gone(old), "the old worker does not end")
        assert (served.status("a"), served.status("b")) == ("succeeded", "succeeded")
        assert (tmp_path / "b-begun").read_text() == str(old)

        new = served.start("c", "d")
        assert new != old
        os.kill(server.pid, signal.SIGTERM)
        served.let("c", "d")
        until(lambda: not server.running, "Gunicorn does not end")
        assert gone(new)
        assert (served.status("c"), served.status("d")) == ("succeeded", "succeeded")
        assert "SIGKILL" not in server.log()


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_end_in_time_is_cancelled_and_its_record_says_so(kind: str, tmp_path: Path) -> None:
    if kind == "gevent":
        pytest.importorskip("gevent")
    served = Served(tmp_path, kind, drain=0)
    with served.gunicorn as server:
        old = served.start("a", "b")
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: gone(old), "the old worker does not end")
        assert (served.status("a"), served.status("b")) == (LOST, LOST)
        assert not served.begun("b")

        # The task of a session that was cancelled there is started again here.
        (tmp_path / "a-begun").unlink()
        new = served.start("a", "d")
        assert new != old
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: not server.running, "Gunicorn does not end")
        assert gone(new)
        assert (served.status("a"), served.status("d")) == (LOST, LOST)
        assert not served.begun("d")
        assert "SIGKILL" not in server.log()
        # One line for each run, also where the record is read meanwhile.
        assert losses(server.log()) == [(name, "its process was stopped") for name in "aabd"]
        assert sid_of("a") not in server.log()


def test_a_task_that_does_not_stop_keeps_no_worker(tmp_path: Path) -> None:
    served = Served(tmp_path, "gthread", drain=0)
    with served.gunicorn as server:
        old = served.start("s", "b")
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: gone(old), "the old worker does not end")
        assert not served.begun("b")
        assert losses(server.log()) == [(name, "its process ended before it was over") for name in "bs"]
        assert served.start("a") != old
        served.let("a")
        until(lambda: served.status("a") == "succeeded", "the new worker does not work")
        assert "SIGKILL" not in server.log()


PRELOADED = """
import os
from flask import Flask, jsonify
from silo_tasks import BackgroundTask, ThreadRunner

runner = ThreadRunner(workers=2)
first, kept = BackgroundTask("first", runner=runner), BackgroundTask("kept", runner=runner, timeout=60)
first.start(lambda task: os.getpid())
loaded = first.result(30)
app = Flask("preloaded")

@app.get("/")
def run():
    before = kept.state.status.value
    kept.start(lambda task: os.getpid())
    return jsonify(loaded=loaded, before=before, first=first.result(30), ran=kept.result(30), pid=os.getpid())
"""


def test_a_pool_that_has_worked_before_the_fork_works_in_each_worker(tmp_path: Path) -> None:
    (tmp_path / "preloaded.py").write_text(PRELOADED)
    with Gunicorn("preloaded:app", "--preload", "--workers=2", "--threads=2", folder=tmp_path, path="/none") as server:
        until(lambda: len(server.worker_pids()) == 2, "the second worker does not start")
        seen: set[int] = set()

        def all_asked() -> bool:
            with urlopen(server.url, timeout=DEADLINE) as answer:
                told = json.load(answer)
            assert told["loaded"] == told["first"] == server.pid
            assert told["ran"] == told["pid"] != server.pid
            assert told["before"] == ("succeeded" if told["pid"] in seen else "idle")
            seen.add(told["pid"])
            return len(seen) == 2

        until(all_asked, "one worker answers every request")
        workers = server.worker_pids()
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: not server.running, "Gunicorn does not end")
        assert all(map(gone, workers))
