"""The commands that install the packages work, and none of them can fetch a package of another author by its name."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from pages import ROOT
from release.workspace import Workspace, read_toml
from tiny_workspace import write_wheel

from tests.guard import unguarded_child

UNPUBLISHED = {"flask-silo", "silo-files", "silo-store", "silo-tasks"}
"""Names that are not this project's on the index. A package leaves the set when its first release is prepared."""

README = ROOT / "README.md"
INSTALLER = re.compile(r"""(?<![\w.-])((?:pip3?|pipx|uv|uvx|poetry|pdm|conda)["']?[\s,].*)""")
VERBS = {"install", "add", "download", "wheel", "run", "tool", "uvx", "sync"}


def bare_names(text: str) -> Iterator[str]:
    """Yield each of our names that a command in a text lets an installer look for on an index."""
    text = text.replace("\\\n", " ")
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    for line in [*text.splitlines(), *spans]:
        for command in INSTALLER.findall(line):
            words = [word.strip("\"',()`;") for word in re.split(r"[\s,]+", re.split(r"`|&&|\|\|", command)[0])]
            if VERBS.isdisjoint(words) or "--no-index" in words:
                continue
            for word, following in pairwise([*words, ""]):
                name = re.fullmatch(r"([a-z][\w.-]*?)(\[[\w,-]*\]?)?([<>=!~].*)?", word, re.I)
                if name and re.sub(r"[_.-]+", "-", name[1]).lower() in UNPUBLISHED and following != "@":
                    yield word


def tracked() -> list[Path]:
    """Return the tracked text files, but not this one."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = (ROOT / name for name in names.split("\0")[:-1])
    return [path for path in paths if path != Path(__file__) and b"\0" not in path.read_bytes()]


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("pip install silo-tasks", ["silo-tasks"]),
        ("python -m pip install -U 'flask-silo[redis]>=0.2'", ["flask-silo[redis]>=0.2"]),
        ("Run `pip install\n  'flask-silo[rq]'`, or wait.", ["flask-silo[rq]"]),
        ("pip install \\\n    flask \\\n    silo_store", ["silo_store"]),
        ('run("pip", "install", "-q", "silo-files==0.2.0")', ["silo-files==0.2.0"]),
        ("uv add flask-silo && uv sync", ["flask-silo"]),
        (".uv/bin/uvx --from flask-silo flask", ["flask-silo"]),
        ("uv run --with silo-store python", ["silo-store"]),
        ("pip install ./packages/silo-tasks", []),
        ("pip install 'silo-tasks @ git+REPOSITORY#subdirectory=packages/silo-tasks'", []),
        ("pip install --no-index --find-links dist flask-silo", []),
        ("`pip install redis` is for silo-store", []),
        ("uv run pytest packages/silo-files", []),
    ],
)
def test_a_bare_name_is_found(command: str, found: list[str]) -> None:
    assert sorted(set(bare_names(command))) == found


def test_no_command_installs_an_unpublished_package_by_its_name() -> None:
    found = [(str(path.relative_to(ROOT)), name) for path in tracked() for name in bare_names(path.read_text("utf-8"))]
    assert found == []


def commands(page: Path) -> list[str]:
    return re.findall(r"^(pip install .*)$", page.read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("name", Workspace(ROOT).packages)
def test_the_readme_of_a_package_says_whether_it_is_published(name: str) -> None:
    page = ROOT / "packages" / name / "README.md"
    assert ("is not on PyPI yet" in page.read_text(encoding="utf-8")) == (name in UNPUBLISHED)
    (command,) = commands(page)
    if name not in UNPUBLISHED:
        assert command == f"pip install {name}"


def test_what_is_installed_before_the_built_files_is_what_they_need() -> None:
    projects = [read_toml(path)["project"] for path in ROOT.glob("packages/*/pyproject.toml")]
    needed = {Requirement(text).name for project in projects for text in project["dependencies"]}
    (words,) = [line.split()[2:] for line in commands(README) if "silo" not in line]
    assert set(words) == needed - {project["name"] for project in projects}


INSTALLED = sorted({line for page in [README, *ROOT.glob("packages/*/README.md")] for line in commands(page)})
RUN = [line for line in INSTALLED if "/packages/" in line or " @ " in line]


@pytest.mark.slow
@pytest.mark.parametrize("line", RUN)
def test_a_command_installs_what_it_names_and_looks_for_no_package_of_ours(line: str, tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    index, target = tmp_path / "index", tmp_path / "target"
    for name in ("flask", "msgspec"):
        write_wheel(index, name, "999")
    address = "https://example.org/silo"
    words = shlex.split(line.replace("REPOSITORY", address))[2:]
    options = [
        "--no-index",
        "--find-links",
        str(index),
        "--no-build-isolation",
        "--no-compile",
        "--target",
        str(target),
    ]
    with unguarded_child() as env:
        # The address leads here, and git goes nowhere else.
        env |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf"}
        env |= {"GIT_CONFIG_VALUE_0": address, "GIT_ALLOW_PROTOCOL": "file"}
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options, *words]
        done = subprocess.run(pip, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    origins = [json.loads(path.read_text("utf-8"))["url"] for path in target.glob("*.dist-info/direct_url.json")]
    assert len(origins) == len([word for word in words if "silo" in word])
    assert all(origin.startswith((ROOT.as_uri(), address)) for origin in origins)
