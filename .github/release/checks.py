"""The reasons not to publish a release."""

from __future__ import annotations

from pathlib import Path

from packaging.requirements import Requirement

from .changelog import UNRELEASED, mistakes, read
from .index import newest
from .programs import Refused
from .workspace import Package, Workspace, range_of

PUBLISHER = "the address of the repository is missing: fill in repository in [tool.silo.publisher] of pyproject.toml"


def reasons(workspace: Workspace, tag: str, index: Path | None) -> list[str]:
    """Return all reasons not to publish the tree as the release that a tag names; empty if there are none.

    Args:
        tag: ``<package>-v<version>``. It need not exist yet.
        index: A folder of built files to ask, in place of the index that uv is set up for.
    """
    name, _, version = tag.rpartition("-v")
    package = workspace.packages.get(name)
    if package is None:
        names = ", ".join(workspace.packages)
        return [f"the tag {tag} names no package: it is <package>-v<version>, and the packages are {names}"]
    found = [] if workspace.repository else [PUBLISHER]
    if version != str(package.version):
        found.append(f"the tag says {version}, the manifest {package.version}: tag {package.tag}, or prepare {version}")
    return [*found, *_of_changelog(package), *_of_commit(workspace, tag), *_of_index(package, index)]


def _of_changelog(package: Package) -> list[str]:
    text = package.changelog.read_text(encoding="utf-8")
    found = [f"CHANGELOG.md: {mistake}" for mistake in mistakes(text)]
    sections = read(text)
    latest = next((section for section in sections if section.version), None)
    if latest is None or latest.version != package.version or not latest.entries:
        found.append(f"CHANGELOG.md has no dated section with entries for {package.version}: prepare {package.version}")
    elif any(section.title == UNRELEASED and section.entries for section in sections):
        found.append(f"CHANGELOG.md has entries under {UNRELEASED}, which would be published: prepare the next version")
    return found


def _of_commit(workspace: Workspace, tag: str) -> list[str]:
    head = workspace.git("rev-parse", "HEAD")
    found = []
    if workspace.git("status", "--porcelain"):
        found.append("the tree has changes that are not committed: commit them, or work in a fresh clone")
    if workspace.git("tag", "--list", tag) and workspace.git("rev-parse", f"{tag}^{{commit}}") != head:
        found.append(f"the tag {tag} is on another commit than {head[:10]}: check it out")
    refs = workspace.git("for-each-ref", "--format=%(refname)", "refs/remotes/origin/main", "refs/heads/main").split()
    main = refs[-1] if refs else "refs/heads/main"  # that of the repository, where it was fetched
    if not refs or head not in workspace.git("rev-list", main).split():
        if workspace.git("rev-parse", "--is-shallow-repository") == "true":
            found.append("the clone is shallow, and does not show whether the commit is on main: make a full clone")
        else:
            where = "/".join(main.split("/")[2:])
            found.append(f"the commit {head[:10]} is not on {where}: merge it there, and fetch it")
    return found


def _of_index(package: Package, index: Path | None) -> list[str]:
    try:
        found = [
            f"{package.name} requires {range_of(needed)}, and no such release is published: release {needed.name} first"
            for needed in package.siblings
            if newest(needed, index) is None
        ]
        if newest(Requirement(f"{package.name}=={package.version}"), index):
            found.append(f"{package.name} {package.version} is published already: prepare the next version")
    except Refused as error:
        return [str(error)]
    return found


def plan(workspace: Workspace, index: Path | None) -> list[str]:
    """Return the packages in the order of their releases, each with the reasons not to release it now."""
    lines = []
    for package in workspace.packages.values():
        tag = workspace.last_tag(package)
        if tag and not workspace.differs(tag, package.folder / "src", package.folder / "pyproject.toml"):
            lines.append(f"{package.name} {package.version}: has not changed since {tag}")
            continue
        lines.append(f"{package.name} {package.version}: {f'changed since {tag}' if tag else 'was never released'}")
        if tag == package.tag:
            lines.append("  - this version is tagged already: prepare the next one")
            continue
        against = reasons(workspace, package.tag, index)
        lines += [f"  - {reason}" for reason in against] or [f"  may be released: tag {package.tag}"]
    return lines
