"""A rehearsal of releases: in a clone, with a folder in place of the index."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.version import Version

from .build import PLACEHOLDER
from .changelog import UNRELEASED, read
from .programs import Refused, alone, environment, run, uv
from .proof import install_needs
from .workspace import Package, Workspace

OPTIONS = {
    "user.name": "rehearsal",
    "user.email": "rehearsal@example.org",
    "commit.gpgsign": "false",
    "tag.gpgsign": "false",
}
EVERY_MODULE = """
import importlib, pkgutil, sys
name = sys.argv[1]
root = importlib.import_module(name)
assert root.__file__.startswith(sys.prefix), root.__file__
imported, missing = 1, set()
for module in pkgutil.walk_packages(root.__path__, f"{name}."):
    try:
        importlib.import_module(module.name)
        imported += 1
    except ModuleNotFoundError as error:
        if error.name.startswith(("silo_", "flask_silo")):
            raise
        missing.add(error.name)
others = f"; others need {', '.join(sorted(missing))}" if missing else ""
print(f"{name} {root.__version__}: {imported} modules imported{others}")
"""


def rehearse(root: Path, index: Path | None) -> list[str]:
    """Release all packages of the last commit into a folder, then silo-tasks again, then flask-silo, which requires it.

    Prints each command and what it prints.

    Args:
        root: The workspace, which is cloned.
        index: An empty folder, which is kept; None for one that is removed at the end.

    Raises:
        Refused: The folder is not empty, or a step failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        rehearsal = Rehearsal(root, work / "silo", (index or work / "index").resolve())
        for name in rehearsal.packages():
            rehearsal.release(name)
        rehearsal.change("silo-tasks")
        version = rehearsal.release("silo-tasks")
        rehearsal.change("flask-silo")
        rehearsal.release("flask-silo", "--floor", f"silo-tasks={version}")
        rehearsal.release_command("plan", "--index", str(rehearsal.index))
        return [f"rehearsed; the built files are in {index}" if index else "rehearsed"]


class Rehearsal:
    """Releases from a clone in which nothing was released yet, by the commands of RELEASING.md.

    Attributes:
        index: The folder in place of the index.
    """

    def __init__(self, root: Path, clone: Path, index: Path) -> None:
        self.clone, self.index = clone, index
        index.mkdir(parents=True, exist_ok=True)
        if any(index.iterdir()):
            raise Refused(f"{index} is not empty: name a new folder")
        run("git", "clone", "--quiet", root, clone, cwd=clone.parent)
        for name, value in OPTIONS.items():
            self.git("config", name, value)
        self.git("remote", "remove", "origin")
        self.git("checkout", "--quiet", "-B", "main")
        for tag in self.git("tag").split():
            self.git("tag", "--delete", tag)
        if not Workspace(clone).repository:
            _replace(clone / "pyproject.toml", 'repository = ""', f'repository = "{PLACEHOLDER}"')
            self.commit("Fill in the publisher")

    def packages(self) -> dict[str, Package]:
        return Workspace(self.clone).packages

    def change(self, name: str) -> None:
        """Change a package, with an entry for the change."""
        package = self.packages()[name]
        with (package.folder / "src" / package.module / "__init__.py").open("a", encoding="utf-8") as module:
            module.write("# Changed by the rehearsal.\n")
        _replace(package.changelog, "## ", f"## {UNRELEASED}\n\n### Fixed\n\n- An error of the rehearsal.\n\n## ")
        self.commit(f"Change {name}")
        self.release_command("changelog")

    def release(self, name: str, *options: str) -> Version:
        """Release a package and return its version: that of the manifest, or the next patch if that is dated."""
        package = self.packages()[name]
        version, sections = package.version, read(package.changelog.read_text(encoding="utf-8"))
        if sections[0].title == UNRELEASED:
            if any(section.version == version for section in sections):
                version = Version(f"{version.major}.{version.minor}.{version.micro + 1}")
            self.release_command("prepare", name, str(version), *options)
            self.commit(f"Release {name} {version}")
        tag = f"{name}-v{version}"
        self.say("git tag", tag)
        self.git("tag", tag)
        self.release_command("check", tag, "--index", str(self.index))
        self.release_command("build", name, "--out", str(self.index))
        self.install(name)
        return version

    def install(self, name: str) -> None:
        """Install a package by pip from the folder alone into a new environment, and import all modules."""
        packages = self.packages()
        exact = {each: packages[each].version for each in (name, *(need.name for need in packages[name].siblings))}
        with tempfile.TemporaryDirectory(dir=self.clone.parent) as folder:
            python = environment(Path(folder, "environment"))
            install_needs(python, self.index, exact, packages)
            words = ["install", "--no-index", "--find-links", str(self.index), f"{name}=={exact[name]}"]
            self.say("pip", *words)
            run(sys.executable, "-m", "pip", "--quiet", "--python", python, *words, cwd=self.clone, env=alone())
            for each in exact:
                self.show(run(python, "-I", "-c", EVERY_MODULE, each.replace("-", "_"), cwd=self.clone))

    def git(self, *words: str) -> str:
        return run("git", *words, cwd=self.clone)

    def commit(self, subject: str) -> None:
        self.git("commit", "--quiet", "--all", "--message", subject)

    def release_command(self, *words: str) -> None:
        """Run a command of the clone, and show it and what it prints."""
        self.say("python .github/release", *words)
        command, env = [sys.executable, ".github/release", *words], os.environ | {"UV": uv()}
        done = subprocess.run(command, cwd=self.clone, env=env, capture_output=True, text=True, check=False)
        self.show(done.stdout + done.stderr)
        if done.returncode:
            raise Refused("the last command failed: the rehearsal ends here")

    def say(self, *words: str) -> None:
        print("$", " ".join(words).replace(str(self.index), "INDEX"), flush=True)

    def show(self, text: str) -> None:
        for line in text.replace(str(self.index), "INDEX").splitlines():
            print("   ", line, flush=True)


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(old, new, 1), encoding="utf-8", newline="\n")
