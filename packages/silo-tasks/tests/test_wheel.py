"""The wheel alone, in an environment that holds nothing else, does what the README begins with."""

from __future__ import annotations

import ensurepip
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

guard = pytest.importorskip("tests.guard", reason="needs the guard of the repository, which an sdist does not have")

PACKAGE = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (PACKAGE / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)

LOADED = """
import json, sys
before = set(sys.modules)
import silo_tasks, silo_tasks.console, importlib.metadata
new = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
names = [each.metadata["Name"] for each in importlib.metadata.distributions()]
print(json.dumps([sorted(new), sorted(names), silo_tasks.__file__]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the backend itself, which asks no network for anything."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "tests", ".*"))
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(build, cwd=folder / "source", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel."""
    folder = tmp_path_factory.mktemp("environment")
    # pip runs from the wheel that Python brings: to install itself would take it seconds. It writes compiled files, and
    # runs isolated from what would watch it.
    bundled = sysconfig.get_config_var("WHEEL_PKG_DIR") or Path(ensurepip.__file__).parent / "_bundled"
    (pip,) = Path(bundled).glob("pip-*.whl")
    with guard.unguarded_child() as env:
        python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--no-compile"]
        install = [str(pip / "pip"), "install", *options, str(wheel)]
        for command in ([sys.executable, "-m", "venv", "--without-pip", str(folder)], [str(python), "-I", *install]):
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=110)
            assert done.returncode == 0, done.stdout + done.stderr
    return python


def run(python: Path, code: str) -> subprocess.CompletedProcess[str]:
    with guard.unguarded_child() as env:
        # Isolated: neither the folder nor the variables of this run lead it to any other code.
        command = [str(python), "-I", "-W", "error", "-c", code]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def test_the_wheel_requires_nothing(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        parsed = BytesParser().parsebytes(files.read(metadata))
    needed = parsed.get_all("Requires-Dist", [])
    assert [line for line in needed if not re.search(r";.*\bextra == ", line)] == []
    # Celery reaches Redis only with what its own extra names, not with any client that happens to be there.
    assert "celery[redis]>=5.5; extra == 'celery'" in needed
    assert parsed["Name"] == "silo-tasks"
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"silo_tasks"}
    assert "silo_tasks/py.typed" in names
    assert [name for name in names if name.endswith("/LICENSE")]


def test_it_works_where_nothing_else_is(python: Path) -> None:
    done = run(python, LOADED)
    assert done.returncode == 0, done.stderr
    loaded, installed, place = json.loads(done.stdout)
    assert loaded == ["silo_tasks"]
    # The two come with the environment, as nothing else could install into it.
    assert set(installed) - {"pip", "setuptools"} == {"silo-tasks"}
    assert Path(place).is_relative_to(python.parents[1])


def test_the_first_program_of_the_readme_runs_there(python: Path) -> None:
    done = run(python, BLOCKS[0])
    assert done.returncode == 0, done.stderr
    assert "[" + "#" * 30 + "] 100% 100/100" in done.stderr
