"""The packages of the workspace, as their manifests and the tags describe them."""

from __future__ import annotations

import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from .programs import run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Package(NamedTuple):
    """One package of the workspace.

    Attributes:
        siblings: The other packages that it or one of its extras requires, each with its range.
    """

    name: str
    folder: Path
    version: Version
    siblings: list[Requirement]

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def tag(self) -> str:
        return f"{self.name}-v{self.version}"

    @property
    def changelog(self) -> Path:
        return self.folder / "CHANGELOG.md"


class Workspace:
    """The tree in a folder.

    Attributes:
        packages: The packages by name, each after those that it requires.
        repository: The address of the repository; empty until the publisher fills it in.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        projects = {
            path.parent.name: read_toml(path)["project"] for path in sorted(self.root.glob("packages/*/pyproject.toml"))
        }
        siblings = {name: _siblings(project, projects) for name, project in projects.items()}
        order = TopologicalSorter({name: [each.name for each in siblings[name]] for name in projects}).static_order()
        self.packages = {
            name: Package(name, self.root / "packages" / name, Version(projects[name]["version"]), siblings[name])
            for name in order
        }
        tools = read_toml(self.root / "pyproject.toml")["tool"]
        self.repository: str = tools["silo"]["publisher"]["repository"].rstrip("/")

    def git(self, *words: str) -> str:
        """Return what a git command prints, without the last end of line. Raises ``Refused`` if it fails."""
        return run("git", *words, cwd=self.root).removesuffix("\n")

    def differs(self, base: str, *paths: Path) -> bool:
        """Return whether tracked files differ from those of a commit. Raises ``Refused`` if there is no such commit."""
        self.git("rev-parse", "--verify", f"{base}^{{commit}}")
        command = ["git", "diff", "--quiet", base, "--", *map(str, paths)]
        return subprocess.run(command, cwd=self.root, check=False).returncode != 0

    def last_tag(self, package: Package) -> str | None:
        """Return the tag of the newest release of a package; None if there is none."""
        start = f"{package.name}-v"
        versions = {tag: _version(tag.removeprefix(start)) for tag in self.git("tag", "--list", f"{start}*").split()}
        released = {version: tag for tag, version in versions.items() if version}
        return released[max(released)] if released else None


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def read_toml(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return table


def range_of(requirement: Requirement) -> str:
    """Return a requirement as the manifests write it: ``silo-store>=0.2,<0.3``, without extras and markers."""
    return requirement.name + ",".join(sorted(map(str, requirement.specifier), reverse=True))


def _siblings(project: dict[str, Any], names: dict[str, Any]) -> list[Requirement]:
    extras = project.get("optional-dependencies", {}).values()
    needed = [Requirement(text) for texts in (project.get("dependencies", []), *extras) for text in texts]
    return [Requirement(text) for text in sorted({range_of(each) for each in needed if each.name in names})]
