"""Manifests, licences, pages and layout of the workspace are consistent."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from release.prepare import range_from

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
NAMES = ["flask-silo", "silo-files", "silo-store", "silo-tasks"]


def project(name: str) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text(encoding="utf-8"))
    return table["project"]  # type: ignore[no-any-return]


def test_the_top_level_holds_what_it_may() -> None:
    made = {"dist", "__pycache__"}  # ignored by version control
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - made
    assert found == {"packages", "tests", "examples", "pyproject.toml", "uv.lock", "README.md", "LICENSE"}
    assert sorted(path.name for path in (ROOT / "packages").iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_package_is_whole(name: str) -> None:
    folder = ROOT / "packages" / name
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {"dist", "__pycache__"}
    pages = {"GUIDE.md"} | ({"TYPES.md", "BACKENDS.md", "examples"} if name == "silo-store" else set())
    assert found == {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "src", "tests"} | pages
    module = name.replace("-", "_")
    assert (folder / "src" / module / "py.typed").exists()
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    version = project(name)["version"]
    assert importlib.import_module(module).__version__ == version
    titles = re.findall(r"^## (\S+)", (folder / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert titles[0] in {"Unreleased", version}


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_of_a_changelog_has_at_most_three_lines(name: str) -> None:
    text = (ROOT / "packages" / name / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [entry for entry in re.findall(r"^- .*\n(?:  .*\n)*", text, re.M) if entry.count("\n") > 3] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_version_is_asked_of_the_metadata_when_first_read(name: str) -> None:
    module = importlib.import_module(name.replace("-", "_"))
    vars(module).pop("__version__", None)
    assert "__version__" in dir(module)
    assert "__version__" in module.__all__
    assert module.__version__ == importlib.metadata.version(name)
    assert module.__version__ is module.__version__


@pytest.mark.parametrize("name", NAMES)
def test_every_range_admits_the_sibling_in_the_tree(name: str) -> None:
    extras = project(name).get("optional-dependencies", {}).values()
    for text in [*project(name)["dependencies"], *(text for texts in extras for text in texts)]:
        needed = Requirement(text)
        assert "==" not in str(needed.specifier)
        if needed.name in NAMES:
            assert needed.extras <= project(needed.name).get("optional-dependencies", {}).keys()
            assert needed.specifier.contains(project(needed.name)["version"]), text
            (floor,) = [each.version for each in needed.specifier if each.operator == ">="]
            assert needed.specifier == Requirement(f"{needed.name}{range_from(Version(floor))}").specifier, text


@pytest.mark.parametrize("name", NAMES)
def test_the_index_can_find_a_package_and_tell_that_it_is_typed(name: str) -> None:
    assert project(name)["keywords"]
    assert "Typing :: Typed" in project(name)["classifiers"]
    assert "urls" not in project(name)  # a release writes them, from the one address in the root manifest


@pytest.mark.parametrize(("module", "packages"), [("fork.py", 4), ("seam.py", 3)])
def test_modules_that_packages_share_have_the_same_content(module: str, packages: int) -> None:
    copies = [path.read_bytes() for path in (ROOT / "packages").glob(f"*/src/*/{module}")]
    assert len(copies) == packages
    assert len(set(copies)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_package_says_how_its_tests_run_from_its_sdist(name: str) -> None:
    page = (ROOT / "packages" / name / "tests" / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    (.*)$", page, re.M)
    assert commands[0] == "python3 -m venv .venv"
    assert commands[1] == '.venv/bin/python -m pip install --upgrade "pip>=25.1"'
    siblings = [word for word in commands[2].split() if word.endswith(".tar.gz")]
    assert commands[2] == " ".join([".venv/bin/python -m pip install", *siblings, ". --group test"])
    needed = {Requirement(text).name for text in project(name)["dependencies"]} & {*NAMES}
    assert {path.removeprefix("../").removesuffix("-*.tar.gz").replace("_", "-") for path in siblings} == needed
    assert commands[3:] == [".venv/bin/python -m pytest"]


def test_the_mini_packages_stay_mini() -> None:
    assert project("silo-tasks")["dependencies"] == []
    assert project("silo-files")["dependencies"] == []
    assert [Requirement(text).name for text in project("silo-store")["dependencies"]] == ["msgspec"]
    needed = {Requirement(text).name for text in project("flask-silo")["dependencies"]}
    assert needed == {"flask", "multipart", "silo-files", "silo-store", "silo-tasks"}


def test_hostile_tests_of_a_package_need_the_guard() -> None:
    for path in (ROOT / "packages").glob("*/tests/*.py"):
        text = path.read_text(encoding="utf-8")
        if "mark.hostile" in text:
            assert 'importorskip("tests.guard"' in text, path
            assert "guard.active()" in text, path


def test_classifiers_and_matrix_name_the_same_versions() -> None:
    versions = ["3.10", "3.11", "3.12", "3.13", "3.14"]
    for name in NAMES:
        table = project(name)
        assert table["requires-python"] == ">=3.10"
        found = [text.rpartition(" ")[2] for text in table["classifiers"] if "Python :: 3." in text]
        assert found == versions
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert ", ".join(f'"{version}"' for version in versions) in workflow


def test_the_readme_has_two_commands_of_one_line() -> None:
    commands = re.findall(r"^    (python3 .*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert len(commands) == 2
    assert commands[0].endswith("examples/data_processor/app.py")
    assert commands[1].endswith("pytest -n auto --dist loadfile")
