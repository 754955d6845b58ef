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

NAMES = set(Workspace(ROOT).packages)
README = ROOT / "README.md"
INSTALLER = re.compile(r"""(?<![\w.-])((?:pip3?|pipx|uv|uvx|poetry|pdm|conda)["']?[\s,].*)""")
VERBS = {"install", "add", "download", "wheel", "run", "tool", "uvx", "sync"}


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of an installer in a text, in lines and in inline code."""
    text = text.replace("\\\n", " ")
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    for line in [*text.splitlines(), *spans]:
        for command in INSTALLER.findall(line):
            words = [word.strip("\"',()`;") for word in re.split(r"[\s,]+", re.split(r"`|&&|\|\|", command)[0])]
            if not VERBS.isdisjoint(words):
                yield words


def sought(words: list[str], names: set[str]) -> Iterator[str]:
    """Yield each of some packages of ours that a command lets an installer look for on an index."""
    if "--no-index" in words:
        return
    for word, following in pairwise([*words, ""]):
        name = re.fullmatch(r"([a-z][\w.-]*?)(\[[\w,-]*\]?)?([<>=!~].*)?", word, re.I)
        if name and normal(name[1]) in names and following != "@":
            yield normal(name[1])
    if "install" in words and re.search(r"/flask[-_]silo\b|\bflask_silo-", " ".join(words)):
        given = normal(" ".join(words))
        yield from (name for name in names if name not in given)


def normal(name: str) -> str:
    return re.sub(r"[_.-]+", "-", name).lower()


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
        ("pip install silo-tasks", {"silo-tasks"}),
        ("python -m pip install -U 'flask-silo[redis]>=0.2'", {"flask-silo"}),
        ("Run `pip install\n  'flask-silo[rq]'`, or wait.", {"flask-silo"}),
        ("pip install \\\n    flask \\\n    silo_store", {"silo-store"}),
        ('run("pip", "install", "-q", "silo-files==0.2.0")', {"silo-files"}),
        ("uv add flask-silo && uv sync", {"flask-silo"}),
        (".uv/bin/uvx --from flask-silo flask", {"flask-silo"}),
        ("uv run --with silo-store python", {"silo-store"}),
        ("pip install ./packages/flask-silo ./packages/silo-store", {"silo-files", "silo-tasks"}),
        ("pip install dist/flask_silo-0.2.0.tar.gz", {"silo-files", "silo-store", "silo-tasks"}),
        ("pip install ./packages/silo-tasks", set()),
        ("pip install 'silo-tasks @ git+REPOSITORY#subdirectory=packages/silo-tasks'", set()),
        ("pip install --no-index --find-links dist flask-silo", set()),
        ("`pip install redis` is for silo-store", set()),
        ("uv run pytest packages/flask-silo", set()),
    ],
)
def test_a_package_that_is_looked_for_is_found(command: str, found: set[str]) -> None:
    assert {name for words in commands(command) for name in sought(words, NAMES)} == found


def test_no_command_looks_for_an_unpublished_package() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {' '.join(words)}"
        for path in tracked()
        for words in commands(path.read_text(encoding="utf-8"))
        if any(sought(words, UNPUBLISHED)) or ("--find-links" in words and "--no-index" not in words)
    ]
    assert found == []


def lines(page: Path) -> list[str]:
    return re.findall(r"^(pip install .*)$", page.read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_readme_of_a_package_says_whether_it_is_published(name: str) -> None:
    page = ROOT / "packages" / name / "README.md"
    assert ("is not on PyPI yet" in page.read_text(encoding="utf-8")) == (name in UNPUBLISHED)
    (command,) = lines(page)
    if name not in UNPUBLISHED:
        assert command == f"pip install {name}"


def test_what_is_installed_before_the_built_files_is_what_they_need() -> None:
    projects = [read_toml(path)["project"] for path in ROOT.glob("packages/*/pyproject.toml")]
    needed = {Requirement(text).name for project in projects for text in project["dependencies"]}
    for line in lines(README):
        assert "silo" in line or set(line.split()[2:]) == needed - NAMES


INSTALLED = sorted({line for page in [README, *ROOT.glob("packages/*/README.md")] for line in lines(page)})
RUN = [line for line in INSTALLED if "/packages/" in line or " @ " in line]


@pytest.mark.slow
@pytest.mark.parametrize("line", RUN)
def test_a_command_installs_what_it_names_and_looks_for_no_package_of_ours(line: str, tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    index, target = tmp_path / "index", tmp_path / "target"
    for name in ("flask", "msgspec", "multipart"):
        write_wheel(index, name, "999")
    address = "https://example.org/silo"
    words = shlex.split(line.replace("REPOSITORY", address))[2:]
    options = ["--quiet", "--no-build-isolation", "--no-compile", "--target", str(target)]
    options += ["--disable-pip-version-check", "--no-index", "--find-links", str(index)]
    with unguarded_child() as env:
        # The address leads here, and git goes nowhere else.
        env |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf"}
        env |= {"GIT_CONFIG_VALUE_0": address, "GIT_ALLOW_PROTOCOL": "file"}
        pip = [sys.executable, "-m", "pip", "install", *options, *words]
        done = subprocess.run(pip, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    origins = [json.loads(path.read_text("utf-8"))["url"] for path in target.glob("*.dist-info/direct_url.json")]
    assert len(origins) == len([word for word in words if "silo" in word])
    assert all(origin.startswith((ROOT.as_uri(), address)) for origin in origins)
