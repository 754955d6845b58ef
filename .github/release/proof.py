"""Tests of built files: installed from a folder alone, in a new environment, with the tests of the sdist."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.version import Version

from .index import published
from .programs import Refused, alone, environment, run, uv
from .workspace import Package, Workspace, range_of, read_toml

GUARD = Path(__file__).parents[2] / "tests" / "guard"
PLACES = "import importlib, sys; print(*(importlib.import_module(name).__file__ for name in sys.argv[1:]), sep='\\n')"

Versions = dict[str, Version]


class Proof:
    """Tests the version in the manifest, as a folder has it.

    Attributes:
        allowed: The versions of each sibling in the folder that the ranges allow, newest first.
        failed: The siblings with which the tests have failed.
    """

    def __init__(
        self, workspace: Workspace, package: Package, index: Path, python: str | None, options: Sequence[str]
    ) -> None:
        self.package, self.names, self.index = package, workspace.packages, index.resolve()
        self.python, self.options = python, options
        self.sdist = self.index / f"{package.module}-{package.version}.tar.gz"
        if not self.sdist.exists():
            raise Refused(f"{index} has no {self.sdist.name}: build {package.name} into it")
        self.failed: list[Versions] = []
        self.allowed: dict[str, list[Version]] = {}
        for needed in package.siblings:
            found = published(needed, index)
            self.allowed[needed.name] = [each for each in self.allowed.get(needed.name, found) if each in found]
            if not self.allowed[needed.name]:
                raise Refused(f"{index} has no {range_of(needed)}: build {needed.name} into it, or fetch it")
        self.newest = {name: versions[0] for name, versions in self.allowed.items()}

    def test(self, *, oldest: bool) -> list[str]:
        """Run the tests with the newest siblings, or with the oldest ones that the ranges allow.

        Raises:
            Refused: They fail. With the oldest siblings, the message names each range that is too wide, and the floor
                that works.
        """
        siblings = {name: versions[-1] for name, versions in self.allowed.items()} if oldest else self.newest
        if self.passes(siblings):
            return [f"the tests of {self.package.tag} pass with {listed(siblings)}"]
        failed = f"the tests of {self.package.tag} fail with {listed(siblings)}"
        if siblings == self.newest or not self.passes(self.newest, "-x"):
            raise Refused(failed if siblings == self.newest else f"{failed}, and with {listed(self.newest)}")
        floors = [(needed, self.floor(needed.name)) for needed in self.package.siblings]
        wide = [(needed, floor) for needed, floor in floors if floor != siblings[needed.name]]
        found = [
            f"{range_of(needed)} is too wide: prepare with --floor {needed.name}={floor}" for needed, floor in wide
        ]
        raise Refused("\n".join([failed, *found]))

    def floor(self, name: str) -> Version:
        """Return the oldest version of a sibling with which the tests pass, beside the newest of the others."""
        *older, newest = reversed(self.allowed[name])
        return next((each for each in older if self.passes(self.newest | {name: each}, "-x")), newest)

    def passes(self, siblings: Versions, *options: str) -> bool:
        """Return whether the tests pass with some versions of the siblings. Shows what pytest prints."""
        if siblings in self.failed:
            return False
        print(f"{self.package.tag} with {listed(siblings)}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder).resolve()
            source = work / f"{self.package.module}-{self.package.version}"
            run("tar", "-xf", self.sdist, cwd=work)
            shutil.rmtree(source / "src")
            python = environment(work / "environment", self.python)
            exact = {self.package.name: self.package.version} | siblings
            needs = map(Requirement, read_toml(source / "pyproject.toml")["dependency-groups"]["test"])
            install_needs(python, self.index, exact, self.names, needs)
            install(python, self.index, exact)
            # Under another name, so that tests that need the guard skip, as they do for a user who unpacks the sdist.
            shutil.copytree(GUARD, work / "guard" / "guard_of_the_run")
            env = alone() | {"PYTHONPATH": str(work / "guard")}
            env["PATH"] = os.pathsep.join([str(python.parent), env["PATH"]])
            passed = self.loads(python, exact, source, env) and self.runs(python, source, env, *options)
        if not passed:
            self.failed.append(siblings)
        return passed

    def loads(self, python: Path, packages: Collection[str], cwd: Path, env: dict[str, str]) -> bool:
        """Return whether the modules can be imported. Raises ``Refused`` if one is not of the environment."""
        try:
            modules = [name.replace("-", "_") for name in packages]
            places = run(python, "-c", PLACES, *modules, cwd=cwd, env=env).splitlines()
        except Refused as error:
            print(error, flush=True)
            return False
        if outside := [place for place in places if not Path(place).resolve().is_relative_to(python.parents[1])]:
            raise Refused(f"the tests would not run against what was installed, but against {', '.join(outside)}")
        return True

    def runs(self, python: Path, cwd: Path, env: dict[str, str], *options: str) -> bool:
        """Return whether pytest passes."""
        command = [str(python), "-m", "pytest", "-q", "-p", "guard_of_the_run", *self.options, *options]
        return subprocess.run(command, cwd=cwd, env=env, check=False).returncode == 0


def listed(versions: Versions) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "no siblings"


def install_needs(
    python: Path, index: Path, packages: Versions, ours: Collection[str], more: Iterable[Requirement] = ()
) -> None:
    """Install what packages in a folder require, but none of ours, from the index that uv is set up for."""
    needed = list(more)
    for name, version in packages.items():
        module = name.replace("-", "_")
        with zipfile.ZipFile(index / f"{module}-{version}-py3-none-any.whl") as wheel:
            metadata = Metadata.from_email(wheel.read(f"{module}-{version}.dist-info/METADATA"))
        needed += [each for each in metadata.requires_dist or [] if "extra ==" not in str(each.marker)]
    if words := [str(each) for each in needed if each.name not in ours]:
        run(uv(), "pip", "install", "--quiet", "--python", python, *words, cwd=index)


def install(python: Path, index: Path, packages: Versions) -> None:
    """Install exact versions of our packages from a folder alone."""
    words = [f"{name}=={version}" for name, version in packages.items()]
    place: list[str | Path] = ["--no-index", "--find-links", index]
    run(uv(), "pip", "install", "--quiet", "--python", python, *place, *words, cwd=index, env=alone())
