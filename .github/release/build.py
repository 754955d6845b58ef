"""Built files of one package, made outside the workspace."""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

from packaging.metadata import Metadata

from .programs import Refused, run, uv
from .workspace import Package, Workspace

PLACEHOLDER = "https://example.org/silo"
"""The address of the repository in built files until the publisher fills it in. Such files are not published."""

IMPORT = re.compile(r"^(?:from|import) (\w+)", re.M)
# Code, which is left as it is; or the target of a relative link.
LINK = re.compile(r"(?P<code>^```.*?^```|`[^`]+`)|(?<=\]\()(?!https?:|mailto:|#)(?P<path>[^)#\s]+)", re.S | re.M)


def build(workspace: Workspace, package: Package, out: Path) -> list[str]:
    """Build the sdist of a package, and its wheel from the sdist, into a folder, and return their paths.

    The package is first copied out of the workspace. The copy has the addresses of the repository, and the helpers that
    its tests import from the tests of other packages.

    Raises:
        Refused: The build fails, or the built files are not as they must be.
    """
    repository = workspace.repository or PLACEHOLDER
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, package.name)
        tracked = workspace.git("ls-files", "-z", "--", str(package.folder)).split("\0")[:-1]
        for name in tracked:
            target = source / Path(name).relative_to(package.folder.relative_to(workspace.root))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(workspace.root / name, target)
        write_addresses(workspace, package, source, repository)
        copy_helpers(workspace, source)
        dist = Path(folder, "dist")
        run(uv(), "build", "--quiet", "--no-sources", "--no-create-gitignore", "--out-dir", dist, cwd=source)
        sdist, wheel = sorted(dist.iterdir(), key=lambda path: path.suffix)
        if found := faults(package, source, sdist, wheel, repository):
            raise Refused("\n".join(found))
        out.mkdir(parents=True, exist_ok=True)
        return [str(shutil.copy2(path, out)) for path in (sdist, wheel)]


def write_addresses(workspace: Workspace, package: Package, source: Path, repository: str) -> None:
    """Write the addresses of the project into the manifest, and make the links of pages absolute.

    The README is read on the index, so all its links become absolute. On the other pages, those that lead out of the
    package do.
    """
    pages = f"{repository}/blob/{package.tag}/packages/{package.name}"
    urls = {
        "Changelog": f"{pages}/CHANGELOG.md",
        "Documentation": f"{pages}/GUIDE.md",
        "Issues": f"{repository}/issues",
        "Source": repository,
    }
    lines = ["", "[project.urls]", *(f'{name} = "{url}"' for name, url in urls.items())]
    with (source / "pyproject.toml").open("a", encoding="utf-8", newline="\n") as manifest:
        manifest.write("\n".join(lines) + "\n")
    for page in source.glob("*.md"):
        text = page.read_text(encoding="utf-8")

        def absolute(link: re.Match[str], everywhere: bool = page.name == "README.md") -> str:
            if not link["path"] or not (everywhere or link["path"].startswith("../")):
                return link[0]
            target = (package.folder / link["path"]).resolve()
            kind = "tree" if target.is_dir() else "blob"
            return f"{repository}/{kind}/{package.tag}/{target.relative_to(workspace.root).as_posix()}"

        page.write_text(LINK.sub(absolute, text), encoding="utf-8", newline="\n")


def copy_helpers(workspace: Workspace, source: Path) -> None:
    """Copy the helpers of other packages' tests that the tests of a package import, so that its sdist runs alone."""
    helpers = {path.stem: path for path in workspace.root.glob("packages/*/tests/support/*.py")}
    files = [*(source / "tests").rglob("*.py")]
    while files:
        for name in IMPORT.findall(files.pop().read_text(encoding="utf-8")):
            target = source / "tests" / "support" / f"{name}.py"
            if name in helpers and not target.exists():
                target.parent.mkdir(exist_ok=True)
                files.append(Path(shutil.copyfile(helpers[name], target)))


def faults(package: Package, source: Path, sdist: Path, wheel: Path, repository: str) -> list[str]:
    """Return what is wrong with the built files of a package."""
    with tarfile.open(sdist) as files:
        in_sdist = {name.partition("/")[2] for name in files.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
        about = f"{package.module}-{package.version}.dist-info"
        metadata = Metadata.from_email(archive.read(f"{about}/METADATA"))
    kept = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    code = {name.removeprefix("src/") for name in kept if name.startswith("src/")}
    inside = {name for name in in_wheel if not name.startswith(f"{about}/")}
    found = [f"{sdist.name} lacks {name}" for name in sorted(kept - in_sdist)]
    found += [f"{sdist.name} has {name}" for name in sorted(in_sdist - kept - {"PKG-INFO"})]
    found += [f"{wheel.name} lacks {name}" for name in sorted(code - inside)]
    found += [f"{wheel.name} has {name}" for name in sorted(inside - code)]
    if f"{about}/licenses/LICENSE" not in in_wheel or f"{package.module}/py.typed" not in in_wheel:
        found.append(f"{wheel.name} lacks its licence or py.typed")
    if (metadata.name, metadata.version) != (package.name, package.version):
        found.append(f"{wheel.name} says that it is {metadata.name} {metadata.version}")
    if (metadata.project_urls or {}).get("Source") != repository:
        found.append(f"{wheel.name} does not have the address of the repository")
    found += [f"{wheel.name} requires a file: {each}" for each in metadata.requires_dist or [] if each.url]
    links = [link["path"] for link in LINK.finditer(metadata.description or "") if link["path"]]
    return [*found, *(f"the README of {wheel.name} has a relative link: {link}" for link in links)]
