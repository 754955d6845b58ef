"""A workspace of two tiny packages, of which one needs the other, for tests of releases."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from textwrap import dedent

from release.programs import run

ROOT = Path(__file__).parents[2]
NEEDS = {"silo-tasks": [], "flask-silo": ["silo-tasks>=0.2,<0.3"]}
CHANGELOG = "# Changelog\n\n## Unreleased\n\n### Added\n\n- The first\n  release.\n"


class TinyWorkspace:
    """A repository with one commit on main, in which all is ready for ``prepare``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def create(cls, root: Path) -> TinyWorkspace:
        self = cls(root)
        self.write(
            "pyproject.toml",
            """
            [project]
            name = "tiny-workspace"
            version = "0"
            requires-python = ">=3.10"
            dependencies = ["flask-silo", "silo-tasks"]

            [tool.uv]
            package = false

            [tool.uv.workspace]
            members = ["packages/*"]

            [tool.uv.sources]
            flask-silo = { workspace = true }
            silo-tasks = { workspace = true }

            [tool.silo.publisher]
            repository = "https://example.org/tiny"
            """,
        )
        for name in NEEDS:
            self.write_package(name)
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commit("Begin")
        return self

    def write_package(self, name: str) -> None:
        folder, module = f"packages/{name}", name.replace("-", "_")
        requirements = ", ".join(f'"{text}"' for text in NEEDS[name])
        self.write(
            f"{folder}/pyproject.toml",
            f"""
            [build-system]
            requires = ["hatchling>=1.26"]
            build-backend = "hatchling.build"

            [project]
            name = "{name}"
            version = "0.2.0"
            description = "A tiny package."
            readme = "README.md"
            license = "MIT"
            license-files = ["LICENSE"]
            requires-python = ">=3.10"
            dependencies = [{requirements}]

            [project.optional-dependencies]
            more = [{requirements.replace("silo-tasks", "silo-tasks[more]")}]

            [dependency-groups]
            test = ["pytest>=9.0"]

            [tool.hatch.build.targets.wheel]
            packages = ["src/{module}"]

            [tool.hatch.build.targets.sdist]
            include = ["src", "tests", "README.md", "GUIDE.md", "CHANGELOG.md", "LICENSE"]
            """,
        )
        version = "import importlib.metadata\n\n__version__ = importlib.metadata.version(__name__.replace('_', '-'))\n"
        self.write(f"{folder}/src/{module}/__init__.py", version)
        self.write(f"{folder}/src/{module}/py.typed", "")
        self.write(
            f"{folder}/tests/test_it.py", f"import {module}\n\n\ndef test_it():\n    assert {module}.__version__\n"
        )
        self.write(f"{folder}/README.md", f"# {name}\n\n[The guide](GUIDE.md#more), [packages](..), `a[0](b)`.\n")
        self.write(f"{folder}/GUIDE.md", "# Guide\n\n[README](README.md) and [root](../../pyproject.toml).\n")
        self.write(f"{folder}/CHANGELOG.md", CHANGELOG)
        shutil.copyfile(ROOT / "LICENSE", self.root / folder / "LICENSE")

    def path(self, name: str) -> Path:
        return self.root / name

    def read(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8", newline="\n")

    def replace(self, name: str, old: str, new: str) -> None:
        text = self.read(name)
        assert old in text
        self.write(name, text.replace(old, new))

    def git(self, *words: str) -> str:
        options = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
        return run("git", *options, *words, cwd=self.root)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)


def write_wheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel that holds metadata and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    about = f"{module}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
