"""mypy and pyright check a project that uses the built wheels, and an editor shows the parameters of its tasks."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from language_server import LanguageServer

from tests.guard import unguarded_child

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[1]
PACKAGES = ["silo-store", "silo-tasks", "silo-files", "flask-silo"]
THIRD_PARTIES = ["celery", "flask", "msgspec", "multipart", "redis", "rq", "typing_extensions"]


def run(command: list[str], cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    with unguarded_child() as usual:
        return subprocess.run(
            command, cwd=cwd, env=usual | (env or {}), capture_output=True, encoding="utf-8", timeout=240
        )


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that has the built wheels, and finds third parties in this one."""
    folder = tmp_path_factory.mktemp("typing")
    ignored = shutil.ignore_patterns("__pycache__", "tests", ".*")
    for name in PACKAGES:
        source = shutil.copytree(ROOT / "packages" / name, folder / name, ignore=ignored)
        done = run([sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", ".."], source)
        assert done.returncode == 0, done.stderr
    environment = folder / "environment"
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wheels = [str(wheel) for wheel in folder.glob("*.whl")]
    assert len(wheels) == len(PACKAGES)
    install = ["--python", str(environment), "install", "--quiet", "--no-deps", "--no-index", "--no-compile", *wheels]
    for command in (["venv", "--without-pip", str(environment)], ["pip", *install]):
        done = run([sys.executable, "-m", *command], folder)
        assert done.returncode == 0, done.stdout + done.stderr
    origins = [spec.origin for name in THIRD_PARTIES if (spec := importlib.util.find_spec(name)) and spec.origin]
    assert len(origins) == len(THIRD_PARTIES)
    # A path file does not read those of the folders that it names, so the sources of this workspace stay out.
    places = {str(Path(each).parents[Path(each).name == "__init__.py"]) for each in origins}
    site = next(environment.rglob("silo_store")).parent
    (site / "third_parties.pth").write_text("\n".join(places), encoding="utf-8")
    return python


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, in a folder that leads to no settings of this workspace."""
    return Path(shutil.copytree(ROOT / "tests/downstream", tmp_path_factory.mktemp("downstream") / "project"))


@pytest.fixture(scope="module")
def pyright(python: Path, project: Path) -> dict[str, str]:
    """The variables with which pyright finds the environment: it asks the first Python of the PATH."""
    pytest.importorskip("pyright", reason="pyright is not installed")
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    env = {"PATH": path, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "PYRIGHT_PYTHON_CACHE_DIR": str(project.parent)}
    done = run([sys.executable, "-m", "pyright", "--version"], project, env)
    if done.returncode:
        pytest.skip(f"pyright does not run here: {done.stderr.strip()[-300:]}")
    return env


def test_the_wheels_are_what_is_checked(python: Path, project: Path) -> None:
    modules = [name.replace("-", "_") for name in PACKAGES]
    code = f"import {', '.join(modules)}; print(*[each.__path__[0] for each in ({', '.join(modules)})], sep='\\n')"
    done = run([str(python), "-I", "-c", code], project)
    assert done.returncode == 0, done.stderr
    for folder in map(Path, done.stdout.splitlines()):
        assert folder.is_relative_to(python.parents[1])
        assert (folder / "py.typed").exists()


def test_mypy_accepts_the_project_and_reports_its_wrong_calls(python: Path, project: Path) -> None:
    options = ["--strict", "--config-file=", "--cache-dir", str(project.parent / "cache")]
    done = run([sys.executable, "-m", "mypy", *options, "--python-executable", str(python), "."], project)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_accepts_the_project_and_reports_its_wrong_calls(pyright: dict[str, str], project: Path) -> None:
    done = run([sys.executable, "-m", "pyright"], project, pyright)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors, 0 warnings" in done.stdout


@pytest.mark.parametrize("name", PACKAGES)
def test_no_checker_must_guess_a_type(name: str, python: Path, pyright: dict[str, str], project: Path) -> None:
    options = ["--verifytypes", name.replace("-", "_"), "--ignoreexternal", "--outputjson"]
    done = run([sys.executable, "-m", "pyright", *options], project, pyright)
    found = json.loads(done.stdout)["typeCompleteness"]
    assert Path(found["packageRootDirectory"]).is_relative_to(python.parents[1])
    assert found["exportedSymbolCounts"]["withUnknownType"] == 0
    guessed = {
        each["name"]
        for each in found["symbols"]
        if each["isExported"] and any(one["message"].startswith("Type is missing") for one in each["diagnostics"])
    }
    assert {each for each in guessed if not each.endswith(".logger")} == set()
    assert found["completenessScore"] > 0.96


def test_an_editor_shows_the_parameters_of_tasks(pyright: dict[str, str], project: Path) -> None:
    summarise = "column: str, limit: int = 10, *, fast: bool = False"
    crunch = "rows: list[int], *, scale: float = 1"
    with unguarded_child() as env, LanguageServer(project, env | pyright) as server:
        server.open("web.py")
        server.open("jobs.py")

        def hover(name: str, code: str) -> str:
            return " ".join(server.hover(name, code).split()).replace("( ", "(").replace(" )", ")")

        assert f"summarise: SessionTask[({summarise}), list[float]]" in hover("web.py", "    summarise")
        assert f"def start({summarise}) -> None Run the function in the background" in hover(
            "web.py", "summarise.start"
        )
        assert server.signature("web.py", "summarise.start(") == f"({summarise}) -> None"
        assert "def result(timeout: float | None = None) -> list[float]" in hover("web.py", "summarise.result")
        assert "def start(path: Path) -> None" in hover("web.py", "write_report.start")
        assert "carts: Namespace[Cart]" in hover("web.py", "cart = carts")
        assert "state: Cart" in hover("web.py", "carts.state")
        assert "ttl: float | None = None" in hover("web.py", "silo = Silo")

        assert f"def crunch(task: BackgroundTask, {crunch}) -> float" in hover("jobs.py", "task.start(crunch")
        assert server.signature("jobs.py", "task.start(").endswith(f", {crunch}) -> None")
        assert 'class BackgroundTask(name: str = "task", *, timeout: float | None = None' in hover(
            "jobs.py", "task = BackgroundTask"
        )
