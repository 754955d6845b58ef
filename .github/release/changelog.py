"""Changelogs: ``## Unreleased``, then ``## 0.2.0 (2026-11-28)``, and in each section groups of entries for users."""

from __future__ import annotations

import re
from datetime import date
from typing import NamedTuple

from packaging.version import Version

from .programs import Refused
from .workspace import Package, Workspace

UNRELEASED = "Unreleased"
GROUPS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
NONE = "a commit that users do not notice says so in a line of its own at its end: 'Changelog: none'"


class Section(NamedTuple):
    """A section of a changelog.

    Attributes:
        version: None for the unreleased section, and for a title that is wrong.
        groups: The entries of each group, each in one line.
    """

    title: str
    version: Version | None
    intro: str
    groups: dict[str, list[str]]

    @property
    def entries(self) -> list[str]:
        return [entry for entries in self.groups.values() for entry in entries]


def read(text: str) -> list[Section]:
    """Return the sections of a changelog as they stand, newest first."""
    sections = []
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        head, *parts = re.split(r"^### ", part, flags=re.M)
        title, _, intro = head.partition("\n")
        groups = {}
        for group in parts:
            name, _, body = group.partition("\n")
            groups[name.strip()] = [" ".join(entry.split()) for entry in re.split(r"^- ", body, flags=re.M)[1:]]
        sections.append(Section(title.strip(), _version(title.strip()), intro, groups))
    return sections


def _version(title: str) -> Version | None:
    found = re.fullmatch(r"(\S+) \((\d{4}-\d\d-\d\d)\)", title)
    try:
        return Version(found[1]) if found and date.fromisoformat(found[2]) else None
    except ValueError:
        return None


def mistakes(text: str) -> list[str]:
    """Return what does not follow the form of a changelog."""
    sections = read(text)
    found = [f"an entry without a group: '## {each.title}'" for each in sections if re.search("^- ", each.intro, re.M)]
    for number, section in enumerate(sections):
        if section.version is None and (number or section.title != UNRELEASED):
            found.append(f"'## {section.title}': write '## {UNRELEASED}' (the first), or '## 1.2.3 (2026-12-31)'")
        for group, entries in section.groups.items():
            if group not in GROUPS or not entries:
                found.append(
                    f"'## {section.title}', '### {group}': write a group ({', '.join(GROUPS)}) and its entries"
                )
    versions = [section.version for section in sections if section.version]
    if versions != sorted(set(versions), reverse=True):
        found.append("the sections are not in the order of their versions, newest first")
    return found


def dated(text: str, version: Version, day: date) -> str:
    """Return a changelog whose first section, unreleased or of that version, is of a version and a day.

    Raises:
        Refused: The section is missing, or has no entries.
    """
    first = next(iter(read(text)), None)
    if first is None or not first.entries or (first.title != UNRELEASED and first.version != version):
        raise Refused(f"the changelog has no section '## {UNRELEASED}' with entries: add what users notice")
    return text.replace(f"## {first.title}", f"## {version} ({day})", 1)


def missing(workspace: Workspace, since: str | None) -> list[str]:
    """Return what is wrong with the changelogs, and the packages that changed without a new entry.

    Args:
        since: A commit; None for the last release of each package.
    """
    found = []
    for package in workspace.packages.values():
        text = package.changelog.read_text(encoding="utf-8")
        where = package.changelog.relative_to(workspace.root).as_posix()
        found += [f"{where}: {mistake}" for mistake in mistakes(text)]
        base = workspace.git("merge-base", since, "HEAD") if since else workspace.last_tag(package)
        before = _entries(workspace.git("show", f"{base}:{where}")) if base else set()
        if _changed(workspace, package, base) and not _entries(text) - before:
            found.append(f"{where}: {package.name} changed since {base or 'its beginning'}: add an entry\n  ({NONE})")
    return found


def _entries(text: str) -> set[str]:
    return {entry for section in read(text) for entry in section.entries}


def _changed(workspace: Workspace, package: Package, base: str | None) -> bool:
    """Return whether users may notice what changed in the sources of a package."""
    sources = package.folder / "src"
    if base is None or workspace.differs("HEAD", sources):
        return True
    form = "%(trailers:key=Changelog,valueonly,separator=%x2C)"
    said = workspace.git("log", f"--format=[{form}]", f"{base}..HEAD", "--", str(sources)).split()
    return workspace.differs(base, sources) and set(said) != {"[none]"}
