"""What is published: asked of the index that uv is set up for, or of a folder of built files."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from .programs import Refused, run, uv
from .workspace import Package, range_of


def newest(requirement: Requirement, index: Path | None, excluded: Sequence[Version] = ()) -> Version | None:
    """Return the newest published version that a requirement allows; None if there is none.

    Args:
        requirement: A name and a range; extras do not matter.
        index: A folder of built files; None for the index that uv is set up for.
        excluded: Versions that are left out.

    Raises:
        Refused: The index gave no clear answer.
    """
    asked = ",".join([range_of(requirement), *(f"!={version}" for version in excluded)])
    command = [uv(), "pip", "compile", "-", "--quiet", "--no-deps", "--no-header", "--no-annotate", "--no-sources"]
    # A release of the last minutes counts, which the cache does not have.
    command += ["--no-index", "--find-links", str(index.resolve())] if index else ["--refresh"]
    # Outside the workspace, whose sources would be found.
    done = subprocess.run(command, input=asked, cwd=tempfile.gettempdir(), capture_output=True, text=True, check=False)
    # uv adds a hint if it did not ask the index or did not see all of it: offline, without access, or before a date.
    if done.returncode == 1 and "No solution found" in done.stderr and "hint:" not in done.stderr:
        return None
    if done.returncode:
        raise Refused(f"the index gives no clear answer about {asked}\n{done.stderr.rstrip()}")
    return Version(done.stdout.strip().partition("==")[2])


def published(requirement: Requirement, index: Path | None) -> list[Version]:
    """Return the published versions that a requirement allows, newest first. Raises what ``newest`` raises."""
    found: list[Version] = []
    while version := newest(requirement, index, found):
        found.append(version)
    return found


def fetch(package: Package, out: Path) -> list[str]:
    """Download the wheels of all published siblings that a package allows into a folder, and return what they are.

    Raises:
        Refused: No release is in one of the ranges, or the index gave no clear answer.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = []
    for needed in package.siblings:
        exact = [f"{needed.name}=={version}" for version in published(needed, None)]
        if not exact:
            raise Refused(f"no release of {range_of(needed)} is published: release {needed.name} first, or build it")
        for each in exact:
            options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(out.resolve())]
            run(sys.executable, "-m", "pip", "download", *options, each, cwd=out)
        found += exact
    return found
