"""Importing a package does not import what few programs use, or use only later."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LATE = {
    "argparse",
    "asyncio",
    "celery",
    "concurrent.futures",
    "decimal",
    "email",
    "http",
    "importlib.metadata",
    "msgspec",
    "multiprocessing",
    "pickle",
    "redis",
    "rq",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "uuid",
}
"""Modules that each package imports when it first uses them."""

OWN = {
    "silo_store": {"backends.redis", "backends.sqlite", "msgpack", "testing"},
    "silo_tasks": {
        "console",
        "log.capture",
        "run.waiting",
        "runners.celery",
        "runners.process",
        "runners.rq",
        "runners.worker",
        "stores.redis",
        "terminal",
        "testing",
    },
    "silo_files": {"cli", "testing"},
    "flask_silo": {"cli.commands", "cli.doctor", "cli.inspect"},
}
"""Modules of each package that it imports when it first uses them."""


def imported(code: str, *, after: str = "pass") -> set[str]:
    """Return the modules that code imports in a new interpreter, beside those that ``after`` has imported."""
    lines = ["import sys", after, "before = set(sys.modules)", code, "print(*set(sys.modules) - before)"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("package", ["silo_store", "silo_tasks", "silo_files"])
def test_a_package_is_imported_without_what_it_uses_later(package: str) -> None:
    late = LATE | {f"{package}.{name}" for name in OWN[package]}

    assert not imported(f"import {package}") & late


def test_a_store_without_options_imports_nothing_that_reads_them() -> None:
    assert "urllib.parse" not in imported("from silo_store import SessionStore; SessionStore(backend='memory://')")


def test_silo_tasks_imports_nothing_for_the_checks_tokens_and_records_of_task_stores() -> None:
    assert not imported("import silo_tasks") & {"hashlib", "hmac", "inspect", "json", "random", "secrets"}


NO_EVAL = """
import builtins

def compiled(source, name, mode, *args, compile=compile, **kwargs):
    assert mode != "eval", source
    return compile(source, name, mode, *args, **kwargs)

builtins.compile = compiled
import silo_tasks
"""


def test_silo_tasks_compiles_no_annotations() -> None:
    """A named tuple compiles each that is a string, and the first ``compile()`` of a process takes milliseconds."""
    subprocess.run([sys.executable, "-c", NO_EVAL], check=True)


def test_silo_tasks_imports_what_executes_runs_when_the_first_one_starts() -> None:
    pool = {"logging", "silo_tasks.runners.thread"}
    late = pool | {f"silo_tasks.{name}" for name in ("fitting", "run.job", "runners.inline", "stores.base", "timer")}

    assert not imported("import silo_tasks; silo_tasks.BackgroundTask()") & {*late, "traceback"}
    assert imported("silo_tasks.BackgroundTask().start(lambda task: None)", after="import silo_tasks") & late == pool


def test_silo_tasks_imports_what_makes_a_state_when_a_caller_first_looks_at_one() -> None:
    late = {"dataclasses", "inspect", "silo_tasks.run.snapshot", "silo_tasks.state"}
    run = "task = silo_tasks.BackgroundTask(); task.start(lambda task: None); task.wait()"

    assert not imported(run, after="import silo_tasks") & late
    assert imported("task.state", after=f"import silo_tasks; {run}") >= late - {"inspect"}


START = "task = silo_tasks.BackgroundTask(); task.start(lambda task: None); task.wait()"
FORK_DURING_IMPORT = """
import faulthandler, os, sys, threading
import silo_tasks

class Finder:
    def find_spec(self, name, *_):
        if name == "{module}":
            importing.set()
            forking.wait(10)

def use():
    {use}

task = silo_tasks.BackgroundTask()
importing, forking = threading.Event(), threading.Event()
sys.meta_path.insert(0, Finder())
os.register_at_fork(before=forking.set)
thread = threading.Thread(target=use)
thread.start()
assert importing.wait(10)
if not (child := os.fork()):
    faulthandler.dump_traceback_later(10, exit=True)
    use()
    os._exit(0)
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork")
@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("silo_tasks.state", "task.state"),
        ("silo_tasks.runners.thread", START),
        ("logging", START),
        ("silo_tasks.timer", START.replace("()", "(timeout=60)", 1)),
        ("silo_tasks.log.capture", "task.logging()"),
    ],
)
def test_a_child_that_is_forked_during_an_import_can_import_the_same(module: str, use: str) -> None:
    code = FORK_DURING_IMPORT.format(module=module, use=use)

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


FORK = """
import os, sys
import silo_tasks

before = set(sys.modules)
if not (child := os.fork()):
    os._exit(0)
os.waitpid(child, 0)
assert set(sys.modules) == before
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork")
def test_a_fork_imports_nothing() -> None:
    """An import of the logging module would register functions for the fork that has begun, which then fail."""
    done = subprocess.run([sys.executable, "-c", FORK], check=True, capture_output=True, text=True)

    assert not done.stderr


IMPORT_THAT_WAITS = """
import os, threading
import silo_tasks
from silo_tasks import importing

def use():
    with importing.importing:
        waiting.set()
        over.wait()

importing.LONGEST_WAIT = 0.01
waiting, over = threading.Event(), threading.Event()
thread = threading.Thread(target=use)
thread.start()
assert waiting.wait(10)
if not (child := os.fork()):
    task = silo_tasks.BackgroundTask()
    task.start(lambda task: None)
    os._exit(not task.wait(10))
over.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork")
def test_a_fork_does_not_wait_for_ever_for_an_import_that_waits_for_the_fork() -> None:
    command = [sys.executable, "-W", "ignore", "-c", IMPORT_THAT_WAITS]  # Python warns of forks beside threads

    done = subprocess.run(command, check=True, capture_output=True, timeout=30)

    assert not done.stderr


def test_silo_files_imports_no_modules_of_archives() -> None:
    assert not imported("import silo_files") & {"bz2", "lzma", "secrets", "shutil", "zlib"}


def test_flask_silo_imports_little_besides_flask() -> None:
    late = LATE | {f"{package}.{name}" for package, names in OWN.items() for name in names}

    assert not imported("import flask_silo", after="import flask") & late


NO_PARTS = """
from flask import Flask
from flask_silo import SessionBusy, Silo

app = Flask("app")
app.testing = True
silo = Silo(app, auto_cleanup=False)
silo.register("counter", lambda: {"value": 0})

@app.post("/api/use")
def use():
    silo.state("counter")["value"] += 1
    return dict(silo.state("counter"))

@app.post("/api/busy")
def busy():
    raise SessionBusy(silo.sid)

@app.post("/api/fail")
def fail():
    raise ValueError

client = app.test_client()
session = {"X-Session-ID": client.post("/api/use").headers["X-Session-ID"]}
assert client.post("/api/busy", headers=session).status_code == 409
assert client.post("/api/use", headers=session).status_code == 200
assert client.get("/api/tasks/events", headers=session).status_code == 404
app.testing = False
app.logger.disabled = True
assert client.post("/api/fail", headers=session).status_code == 500
silo.store.destroy(session["X-Session-ID"])
"""


def of_part(part: str, modules: set[str]) -> set[str]:
    """Return those of the modules that only applications with tasks, or only those with files, need."""
    return {name for name in modules if f"{name}.".startswith((f"silo_{part}.", f"flask_silo.{part}."))}


@pytest.mark.parametrize("part", ["tasks", "files"])
def test_an_application_without_tasks_and_files_imports_nothing_for_them(part: str) -> None:
    assert not of_part(part, imported(NO_PARTS))


@pytest.mark.parametrize(
    ("part", "name"),
    [
        *[("tasks", name) for name in ("tasks", "BackgroundTask", "SessionTask", "TaskState", "TaskRunning", "track")],
        *[("files", name) for name in ("files", "FileStore", "SessionFileStore", "ALL_ROUTES", "FileMissing")],
    ],
)
def test_a_name_of_tasks_or_files_is_imported_when_it_is_used(part: str, name: str) -> None:
    for use in (f"flask_silo.{name}", f"from flask_silo import {name}"):
        new = imported(use, after="import flask_silo")
        assert of_part(part, new)
        assert not of_part({"tasks": "files", "files": "tasks"}[part], new)


@pytest.mark.parametrize(
    ("part", "use"), [("tasks", "silo.task(lambda: None)"), ("files", "silo.add_file_store('files', {folder!r})")]
)
def test_an_application_imports_only_the_part_that_it_uses(part: str, use: str, tmp_path: Path) -> None:
    make = "from flask import Flask; from flask_silo import Silo; silo = Silo(Flask('app'))"

    new = imported(use.format(folder=str(tmp_path / "files")), after=make)

    assert of_part(part, new)
    assert not of_part({"tasks": "files", "files": "tasks"}[part], new)


APPLICATION = """
from flask import Flask
from flask_silo import Silo

app = Flask("app")
silo = Silo(app, store_url={url!r})
silo.register("counter", lambda: {{"value": 0}})
files = silo.add_file_store("files", {folder!r})

@silo.task
def work():
    pass

@app.post("/api/use")
def use():
    silo.state("counter")["value"] += 1
    work.start()
    files.save(silo.sid, "a.txt", b"a")
    return dict(silo.state("counter"))
"""
REQUESTS = """
client = app.test_client()
response = client.post("/api/use")
assert response.status_code == 200, response.text
headers = {"X-Session-ID": response.headers["X-Session-ID"]}
assert client.get("/api/tasks/work", headers=headers).status_code == 200
"""


@pytest.mark.parametrize("url", ["memory://", "memory://?copy=1", "sqlite:///{tmp}/sessions.db"])
def test_the_first_requests_import_nothing(url: str, tmp_path: Path) -> None:
    """What an application uses is imported while it is set up. Otherwise the first clients would wait for it."""
    application = APPLICATION.format(url=url.format(tmp=tmp_path), folder=str(tmp_path / "files"))

    new = imported(REQUESTS, after=application)

    assert not {name for name in new if name in LATE or name.startswith(("silo_", "flask_silo", "msgspec"))}


def test_the_commands_are_imported_when_the_group_is_used() -> None:
    make = "from flask import Flask; from flask_silo import Silo; app = Flask('app'); Silo(app)"

    assert "flask_silo.cli.commands" not in imported(make)
    assert "flask_silo.cli.commands" in imported("app.test_cli_runner().invoke(args=['silo', '--help'])", after=make)


@pytest.mark.parametrize("url", ["memory://", "memory://?copy=1"])
def test_a_store_imports_its_codec_when_it_is_made_if_it_keeps_bytes(url: str) -> None:
    new = imported(f"silo_store.SessionStore(backend={url!r})", after="import silo_store")

    assert ("msgspec" in new) == ("copy" in url)
