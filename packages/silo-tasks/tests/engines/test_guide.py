"""The modules and commands for RQ and Celery in the guide."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from engines.harness import Worker
from servers import RedisServer

pytestmark = pytest.mark.slow

SECTION = (Path(__file__).parents[2] / "GUIDE.md").read_text("utf-8").split("\n## RQ and Celery\n")[1].split("\n## ")[0]
URL = "redis://localhost:6379/0"
READY = {"rq": "Listening on", "celery": "[queues]"}


@pytest.mark.parametrize(("number", "program"), [(0, "rq"), (1, "celery")])
def test_the_example_runs(own_server: RedisServer, tmp_path: Path, number: int, program: str) -> None:
    module = re.findall(r"^```python\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)[number]
    worker, use = re.findall(r"^```\n(.*?)\n(.*?)\n```$", SECTION, re.MULTILINE)[number]
    (tmp_path / "counts.py").write_text(module.replace(URL, own_server.url), "utf-8")
    command = shlex.split(worker.replace(URL, own_server.url))
    assert command.pop(0) == program
    where = ["-m", {"rq": "rq.cli", "celery": "celery"}[program]]
    with Worker([*where, *command], READY[program], folder=tmp_path):
        python = shlex.split(use)
        done = subprocess.run(
            [sys.executable, *python[1:]],
            cwd=tmp_path,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.stdout == "6\n", done.stderr
