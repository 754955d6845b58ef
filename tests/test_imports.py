"""Importing a package does not import what few programs use, or use only later."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATE = {
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
        "run.waiting",
        "runners.celery",
        "runners.process",
        "runners.rq",
        "runners.worker",
        "stores.redis",
        "terminal",
        "testing",
    },
    "silo_files": {"testing"},
    "flask_silo": {"cli.commands", "cli.doctor", "cli.inspect"},
}
"""Modules of each package that it imports when it first uses them."""


def imported(code: str, *, after: str = "pass") -> set[str]:
    """Return the modules that code imports in a new interpreter, beside those that ``after`` has imported."""
    program = f"import sys; {after}; before = set(sys.modules); {code}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("package", ["silo_store", "silo_tasks", "silo_files"])
def test_a_package_is_imported_without_what_it_uses_later(package: str) -> None:
    late = LATE | {f"{package}.{name}" for name in OWN[package]}

    assert not imported(f"import {package}") & late


def test_silo_tasks_imports_nothing_for_the_tokens_and_records_of_task_stores() -> None:
    assert not imported("import silo_tasks") & {"hashlib", "hmac", "json", "random", "secrets"}


def test_silo_files_imports_neither_dataclasses_nor_the_modules_of_archives() -> None:
    assert not imported("import silo_files") & {"bz2", "dataclasses", "inspect", "lzma", "secrets", "shutil", "zlib"}


def test_flask_silo_imports_little_besides_flask() -> None:
    late = LATE | {f"{package}.{name}" for package, names in OWN.items() for name in names}

    assert not imported("import flask_silo", after="import flask") & late


def test_the_commands_are_imported_when_the_group_is_used() -> None:
    make = "from flask import Flask; from flask_silo import Silo; app = Flask('app'); Silo(app)"

    assert "flask_silo.cli.commands" not in imported(make)
    assert "flask_silo.cli.commands" in imported("app.test_cli_runner().invoke(args=['silo', '--help'])", after=make)


@pytest.mark.parametrize("url", ["memory://", "memory://?copy=1"])
def test_a_store_imports_its_codec_when_it_is_made_if_it_keeps_bytes(url: str) -> None:
    new = imported(f"silo_store.SessionStore(backend={url!r})", after="import silo_store")

    assert ("msgspec" in new) == ("copy" in url)
