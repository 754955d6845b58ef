"""Workflows: what neither actionlint nor zizmor can know."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from release.__main__ import parser
from release.workspace import Workspace

ROOT = Path(__file__).parent.parent
WORKFLOWS = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / ".github/workflows").glob("*.yml")}
RUN = (ROOT / ".ci/run").read_text(encoding="utf-8")
VALUES = {"TAG": "silo-tasks-v0.2.0", "PACKAGE": "silo-tasks", "UV_PYTHON": "3.10", "GITHUB_BASE_REF": "main"}
COMMANDS = re.findall(r"bash \.ci/run (.+)", "\n".join(WORKFLOWS.values()))


@pytest.mark.parametrize("command", sorted({each for each in COMMANDS if each.startswith("release ")}))
def test_each_command_of_a_release_exists(command: str) -> None:
    words = shlex.split(re.sub(r"\$(\w+)", lambda name: VALUES[name[1]], command))[1:]

    args = parser(list(Workspace(ROOT).packages)).parse_args(words)

    assert args.command == words[0]


def test_ci_runs_each_part_of_the_script() -> None:
    (parts,) = re.findall(r"^parts=\((.+)\)$", RUN, re.M)
    (matrix,) = re.findall(r" part: \[(.+)\]", WORKFLOWS["ci"])

    assert {*parts.split()} == {*matrix.split(", ")} | {"tests", "versions"}
    assert {each for each in COMMANDS if not each.startswith("release ")} == {"tests", "rehearse", '"$PART"'}


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_each_supported_python_is_tested(name: str) -> None:
    manifest = (ROOT / "packages/silo-tasks/pyproject.toml").read_text(encoding="utf-8")
    supported = re.findall(r'Python :: (3\.\d+)"', manifest)

    assert ", ".join(f'"{each}"' for each in supported) in WORKFLOWS[name]


def test_only_the_job_that_publishes_may_write_and_it_runs_no_code_of_the_repository() -> None:
    publish = WORKFLOWS["release"].partition("\n  publish:\n")[2]

    assert re.findall(r"\S+: write", "".join(WORKFLOWS.values())) == ["id-token: write"]
    assert "id-token: write" in publish
    assert "checkout" not in publish
    assert "run:" not in publish
