"""Release one package of the workspace. RELEASING.md says when to use which command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from packaging.version import Version

from release import changelog, checks, index
from release.build import build
from release.prepare import prepare
from release.programs import Refused
from release.proof import Proof
from release.rehearsal import rehearse
from release.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


def parser(packages: list[str]) -> argparse.ArgumentParser:
    """Return the parser of the commands."""
    top = argparse.ArgumentParser(prog="python .github/release", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, does: str, *, package: bool = False) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
        if package:
            command.add_argument("package", choices=packages)
        return command

    folder = "a folder of built files, in place of the index that uv is set up for"
    plan = add("plan", "show the packages in the order of their releases, and the reasons not to release each now")
    plan.add_argument("--index", type=Path, help=folder)
    check = add("check", "show the reasons not to publish a tag")
    check.add_argument("tag")
    check.add_argument("--index", type=Path, help=folder)
    edit = add("prepare", "set the version, date the changelog, raise ranges and lock", package=True)
    edit.add_argument("version", type=Version)
    edit.add_argument(
        "--floor",
        type=floor,
        action="append",
        default=[],
        metavar="SIBLING=VERSION",
        help="the oldest release of a sibling that works",
    )
    make = add("build", "build the sdist and the wheel outside the workspace, and check them", package=True)
    make.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    load = add("fetch", "download the published siblings that a package allows", package=True)
    load.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    test = add(
        "test", "run the sdist's tests against what a folder installs; -- begins options of pytest", package=True
    )
    test.add_argument("--from", dest="index", type=Path, required=True, metavar="FOLDER")
    test.add_argument("--python", metavar="VERSION")
    test.add_argument("--oldest-siblings", action="store_true", help="use the oldest siblings that the ranges allow")
    walk = add("rehearse", "release everything in a clone, into a folder")
    walk.add_argument("--index", type=Path, help="an empty folder, which is kept")
    entries = add("changelog", "show which packages changed without an entry in their changelog")
    entries.add_argument("--since", metavar="COMMIT", help="in place of the last release of each package")
    return top


def floor(text: str) -> tuple[str, Version]:
    name, _, version = text.partition("=")
    return name, Version(version)


def main(words: list[str], root: Path = ROOT) -> int:
    """Run a command, print what it says, and return the status to exit with: 1 if the command refused."""
    workspace = Workspace(root)
    end = words.index("--") if "--" in words else len(words)
    args = parser(list(workspace.packages)).parse_args(words[:end])
    try:
        print(*run(args, words[end + 1 :], workspace), sep="\n")
    except Refused as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run(args: argparse.Namespace, options: list[str], workspace: Workspace) -> list[str]:
    """Run a command and return its last lines. Raises ``Refused`` with the reasons if it refuses."""
    if args.command == "plan":
        return checks.plan(workspace, args.index)
    if args.command == "check":
        return checked(checks.reasons(workspace, args.tag, args.index), f"{args.tag} may be published")
    if args.command == "changelog":
        return checked(changelog.missing(workspace, args.since), "each package that changed has an entry")
    if args.command == "rehearse":
        return rehearse(workspace.root, args.index)
    package = workspace.packages[args.package]
    if args.command == "prepare":
        return prepare(workspace, package, args.version, dict(args.floor))
    if args.command == "build":
        return build(workspace, package, args.out)
    if args.command == "fetch":
        return index.fetch(package, args.out)
    return Proof(workspace, package, args.index, args.python, options).test(oldest=args.oldest_siblings)


def checked(reasons: list[str], otherwise: str) -> list[str]:
    """Return the line for the case that there are no reasons. Raises ``Refused`` with the reasons if there are any."""
    if reasons:
        raise Refused("\n".join(reasons))
    return [otherwise]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
