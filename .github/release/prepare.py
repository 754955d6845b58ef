"""The edits before a release: version, changelog, ranges of siblings and lock file."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from .changelog import dated
from .programs import Refused, run, uv
from .workspace import Package, Workspace


def prepare(workspace: Workspace, package: Package, version: Version, floors: dict[str, Version]) -> list[str]:
    """Edit the tree for a release, and return what was done. A release that has no tag yet may be prepared again.

    Another package whose range would not admit the new version gets a range from that version on.

    Args:
        floors: The oldest release of each named sibling that the package works with from now on.

    Raises:
        Refused: The version is not newer than the last release, the changelog has nothing unreleased, the package does
            not require a sibling that is named, or the range from its floor lacks its version here. Nothing is changed.
    """
    tag = workspace.last_tag(package)
    if version < package.version or (tag and version <= Version(tag.rpartition("-v")[2])):
        raise Refused(f"{version} is not newer than {tag or package.version}")
    if unknown := floors.keys() - {needed.name for needed in package.siblings}:
        raise Refused(f"{package.name} does not require {', '.join(sorted(unknown))}")
    for name, floor in floors.items():
        if not SpecifierSet(range_from(floor)).contains(here := workspace.packages[name].version, prereleases=True):
            way = f"prepare {name} first, or name another floor"
            raise Refused(f"{name} is {here} here, which is not in {range_from(floor)}: {way}")
    text = dated(package.changelog.read_text(encoding="utf-8"), version, datetime.now(tz=timezone.utc).date())
    package.changelog.write_text(text, encoding="utf-8", newline="\n")
    _edit(package, r'^(version = )"[^"]*"', rf'\1"{version}"')
    done = [f"{package.name} is {version}, and its changelog has the date"]
    raised = [(package, name, floor) for name, floor in floors.items()]
    for other in workspace.packages.values():
        needed = [each for each in other.siblings if each.name == package.name]
        if not all(each.specifier.contains(version, prereleases=True) for each in needed):
            raised.append((other, package.name, version))
    for user, name, floor in raised:
        _edit(user, rf'"({name}(?:\[[^]]*\])?)\s*[<>=~!][^";]*', rf'"\1{range_from(floor)}')
        done.append(f"{user.name} requires {name}{range_from(floor)}")
    run(uv(), "lock", "--quiet", cwd=workspace.root)
    return done


def range_from(floor: Version) -> str:
    """Return the range from a version to the next one that may break callers."""
    ceiling = f"0.{floor.minor + 1}" if floor.major == 0 else str(floor.major + 1)
    return f">={floor},<{ceiling}"


def _edit(package: Package, pattern: str, replacement: str) -> None:
    path = package.folder / "pyproject.toml"
    text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), flags=re.M)
    if not count:
        raise Refused(f"{path} has no text that matches {pattern}")
    path.write_text(text, encoding="utf-8", newline="\n")
