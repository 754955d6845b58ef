"""Releases are built, installed and tested outside the workspace, by the commands that RELEASING.md names."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from release.build import faults
from release.programs import uv
from release.workspace import Workspace
from tiny_workspace import TinyWorkspace

from tests.guard import unguarded_child

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyWorkspace:
    """A workspace that has the release's commands, and the guard, which they give to the tests that they run."""
    tiny = TinyWorkspace.create(tmp_path_factory.mktemp("release") / "tiny")
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in (".github/release", "tests/guard"):
        shutil.copytree(ROOT / folder, tiny.path(folder), ignore=ignored)
    tiny.write(".gitignore", "__pycache__/\nuv.lock\n")
    tiny.commit("Add what releases need")
    return tiny


def command(tiny: TinyWorkspace, *words: str) -> subprocess.CompletedProcess[str]:
    with unguarded_child() as env:
        line = [sys.executable, str(tiny.path(".github/release")), *words]
        return subprocess.run(line, env=env | {"UV": uv()}, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def rehearsed(tiny: TinyWorkspace) -> tuple[Path, str]:
    """The index after a rehearsal, and what it printed."""
    index = tiny.root.parent / "index"
    done = command(tiny, "rehearse", "--index", str(index))
    assert done.returncode == 0, done.stdout + done.stderr
    return index, done.stdout


def test_a_rehearsal_releases_each_package_then_one_again_then_one_that_needs_it(rehearsed: tuple[Path, str]) -> None:
    index, said = rehearsed
    modules = ("silo_tasks", "flask_silo")
    built = [f"{module}-0.2.{patch}" for module in modules for patch in (0, 1)]
    names = {f"{name}{end}" for name in built for end in (".tar.gz", "-py3-none-any.whl")}
    assert {path.name for path in index.iterdir()} == names
    assert (
        said.index("check silo-tasks-v0.2.0") < said.index("check flask-silo-v0.2.0") < said.index("silo-tasks-v0.2.1")
    )
    assert "$ python .github/release prepare flask-silo 0.2.1 --floor silo-tasks=0.2.1" in said
    assert "$ pip install --no-index --find-links INDEX flask-silo==0.2.1" in said
    assert "    flask_silo 0.2.1: 1 modules imported\n    silo_tasks 0.2.1: 1 modules imported" in said
    with zipfile.ZipFile(index / "flask_silo-0.2.1-py3-none-any.whl") as wheel:
        metadata = wheel.read("flask_silo-0.2.1.dist-info/METADATA").decode()
    assert "Requires-Dist: silo-tasks<0.3,>=0.2.1" in metadata
    assert "Project-URL: Source, https://example.org/tiny" in metadata


def test_a_rehearsal_refuses_a_folder_that_is_not_empty(tiny: TinyWorkspace, rehearsed: tuple[Path, str]) -> None:
    done = command(tiny, "rehearse", "--index", str(rehearsed[0]))
    assert done.returncode == 1
    assert "is not empty: name a new folder" in done.stderr


def test_the_oldest_siblings_show_which_range_is_too_wide(tiny: TinyWorkspace, rehearsed: tuple[Path, str]) -> None:
    index = tiny.root.parent / "wide"
    shutil.copytree(rehearsed[0], index)
    test = "import silo_tasks\n\n\ndef test_new():\n    assert silo_tasks.__version__ != '0.2.0'\n"
    tiny.write("packages/flask-silo/tests/test_new.py", test)
    tiny.commit("Need a new silo-tasks")
    assert command(tiny, "build", "flask-silo", "--out", str(index)).returncode == 0

    newest = command(tiny, "test", "flask-silo", "--from", str(index))
    oldest = command(tiny, "test", "flask-silo", "--from", str(index), "--oldest-siblings")

    assert newest.returncode == 0, newest.stdout + newest.stderr
    assert "the tests of flask-silo-v0.2.0 pass with silo-tasks 0.2.1" in newest.stdout
    assert oldest.returncode == 1
    assert oldest.stderr.splitlines() == [
        "the tests of flask-silo-v0.2.0 fail with silo-tasks 0.2.0",
        "silo-tasks>=0.2,<0.3 is too wide: prepare with --floor silo-tasks=0.2.1",
    ]


def test_a_sibling_that_is_not_in_the_folder_is_not_taken_from_anywhere_else(
    tiny: TinyWorkspace, rehearsed: tuple[Path, str], tmp_path: Path
) -> None:
    for path in rehearsed[0].glob("flask_silo-0.2.0*"):
        shutil.copy2(path, tmp_path)
    done = command(tiny, "test", "flask-silo", "--from", str(tmp_path))
    assert done.returncode == 1
    assert "has no silo-tasks>=0.2,<0.3: build silo-tasks into it, or fetch it" in done.stderr


def test_published_siblings_are_fetched_from_the_index(
    tiny: TinyWorkspace, rehearsed: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_NO_INDEX", "UV_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setenv(name, str(rehearsed[0]))
    done = command(tiny, "fetch", "flask-silo", "--out", str(tmp_path / "fetched"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["silo-tasks==0.2.1", "silo-tasks==0.2.0"]
    names = {path.name for path in (tmp_path / "fetched").iterdir()}
    assert names == {f"silo_tasks-0.2.{patch}-py3-none-any.whl" for patch in (0, 1)}


def test_built_files_that_are_not_as_they_must_be_are_refused(
    tiny: TinyWorkspace, rehearsed: tuple[Path, str], tmp_path: Path
) -> None:
    package = Workspace(tiny.root).packages["silo-tasks"]
    sdist = rehearsed[0] / "silo_tasks-0.2.0.tar.gz"
    wheel = Path(shutil.copy2(rehearsed[0] / "silo_tasks-0.2.0-py3-none-any.whl", tmp_path))
    shutil.unpack_archive(sdist, tmp_path)
    source = tmp_path / "silo_tasks-0.2.0"
    (source / "PKG-INFO").unlink()
    assert faults(package, source, sdist, wheel, "https://example.org/tiny") == []

    (source / "src" / "silo_tasks" / "new.py").touch()
    (source / "GUIDE.md").unlink()
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("silo_tasks/stray.py", "")

    found = faults(package, source, sdist, wheel, "https://example.org/other")
    assert found == [
        "silo_tasks-0.2.0.tar.gz lacks src/silo_tasks/new.py",
        "silo_tasks-0.2.0.tar.gz has GUIDE.md",
        "silo_tasks-0.2.0-py3-none-any.whl lacks silo_tasks/new.py",
        "silo_tasks-0.2.0-py3-none-any.whl has silo_tasks/stray.py",
        "silo_tasks-0.2.0-py3-none-any.whl does not have the address of the repository",
    ]
