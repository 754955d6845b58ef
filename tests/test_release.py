"""Each reason not to release is found before the release, whose edits one command makes."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from release.__main__ import main
from release.build import PLACEHOLDER, copy_helpers, write_addresses
from release.changelog import missing, mistakes, read
from release.checks import plan, reasons
from release.index import newest, published
from release.prepare import prepare, range_from
from release.programs import Refused
from release.workspace import Package, Workspace
from tiny_workspace import CHANGELOG, TinyWorkspace, write_wheel

ROOT = Path(__file__).parents[1]
TODAY = datetime.now(tz=timezone.utc).date()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyWorkspace:
    return TinyWorkspace.create(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def tiny(model: TinyWorkspace, tmp_path: Path) -> TinyWorkspace:
    """A copy: to create one takes many commands."""
    return TinyWorkspace(Path(shutil.copytree(model.root, tmp_path / "tiny")))


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index that has nothing."""
    folder = tmp_path / "index"
    folder.mkdir()
    return folder


@pytest.fixture
def ready(tiny: TinyWorkspace, index: Path) -> TinyWorkspace:
    """A workspace whose flask-silo 0.2.0 may be published, as silo-tasks 0.2.0 is."""
    write_wheel(index, "silo-tasks", "0.2.0")
    tiny.replace("packages/flask-silo/CHANGELOG.md", "Unreleased", "0.2.0 (2026-11-28)")
    tiny.commit("Release flask-silo 0.2.0")
    return tiny


def test_packages_come_after_those_that_they_need() -> None:
    names = list(Workspace(ROOT).packages)
    assert set(names) == {"silo-files", "silo-store", "silo-tasks", "flask-silo"}
    assert names[-1] == "flask-silo"


def test_a_release_that_is_ready_may_be_published(ready: TinyWorkspace, index: Path) -> None:
    assert reasons(Workspace(ready.root), "flask-silo-v0.2.0", index) == []
    ready.git("tag", "flask-silo-v0.2.0")
    assert reasons(Workspace(ready.root), "flask-silo-v0.2.0", index) == []


def unfilled(tiny: TinyWorkspace, index: Path) -> None:
    tiny.replace("pyproject.toml", "https://example.org/tiny", "")
    tiny.commit("Empty the publisher")


def undated(tiny: TinyWorkspace, index: Path) -> None:
    tiny.write("packages/flask-silo/CHANGELOG.md", CHANGELOG.replace("Unreleased", "0.2.0"))
    tiny.commit("Take the date away")


def without_entries(tiny: TinyWorkspace, index: Path) -> None:
    tiny.write("packages/flask-silo/CHANGELOG.md", "# Changelog\n\n## 0.2.0 (2026-11-28)\n\nNothing.\n")
    tiny.commit("Take the entries away")


def with_later_entries(tiny: TinyWorkspace, index: Path) -> None:
    path = "packages/flask-silo/CHANGELOG.md"
    tiny.write(path, CHANGELOG + tiny.read(path).partition("# Changelog\n")[2])
    tiny.commit("Change more")


def with_a_later_section(tiny: TinyWorkspace, index: Path) -> None:
    path = "packages/flask-silo/CHANGELOG.md"
    later = CHANGELOG.replace("Unreleased", "0.2.1 (2026-11-28)")
    tiny.write(path, later + tiny.read(path).partition("# Changelog\n")[2])
    tiny.commit("Date a later version")


def uncommitted(tiny: TinyWorkspace, index: Path) -> None:
    tiny.write("packages/flask-silo/src/flask_silo/more.py", "")


def not_on_main(tiny: TinyWorkspace, index: Path) -> None:
    tiny.git("checkout", "--quiet", "-b", "branch")
    tiny.git("commit", "--quiet", "--allow-empty", "--message", "Go on")


def not_on_the_main_of_the_repository(tiny: TinyWorkspace, index: Path) -> None:
    tiny.git("update-ref", "refs/remotes/origin/main", "HEAD")
    tiny.git("commit", "--quiet", "--allow-empty", "--message", "Go on")


def shallow(tiny: TinyWorkspace, index: Path) -> None:
    tiny.path(".git/shallow").write_text(tiny.git("rev-parse", "HEAD"), encoding="utf-8")
    tiny.git("update-ref", "refs/remotes/origin/main", tiny.git("commit-tree", "-m", "Go on", "HEAD^{tree}").strip())


def tagged_before(tiny: TinyWorkspace, index: Path) -> None:
    tiny.git("tag", "flask-silo-v0.2.0", "HEAD~1")


def without_sibling(tiny: TinyWorkspace, index: Path) -> None:
    (index / "silo_tasks-0.2.0-py3-none-any.whl").unlink()


def with_too_new_a_sibling(tiny: TinyWorkspace, index: Path) -> None:
    without_sibling(tiny, index)
    write_wheel(index, "silo-tasks", "0.3.0")


def published_already(tiny: TinyWorkspace, index: Path) -> None:
    write_wheel(index, "flask-silo", "0.2.0")


def unreachable(tiny: TinyWorkspace, index: Path) -> None:
    shutil.rmtree(index)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (unfilled, "fill in repository in [tool.silo.publisher]"),
        (undated, "'## 0.2.0': write '## Unreleased'"),
        (undated, "no dated section with entries for 0.2.0: prepare 0.2.0"),
        (without_entries, "no dated section with entries for 0.2.0"),
        (with_a_later_section, "no dated section with entries for 0.2.0"),
        (with_later_entries, "has entries under Unreleased, which would be published"),
        (uncommitted, "changes that are not committed"),
        (not_on_main, "is not on main: merge it"),
        (not_on_the_main_of_the_repository, "is not on origin/main: merge it"),
        (shallow, "the clone is shallow"),
        (tagged_before, "the tag flask-silo-v0.2.0 is on another commit"),
        (without_sibling, "requires silo-tasks>=0.2,<0.3, and no such release is published: release silo-tasks first"),
        (with_too_new_a_sibling, "requires silo-tasks>=0.2,<0.3, and no such release is published"),
        (published_already, "flask-silo 0.2.0 is published already"),
        (unreachable, "the index gives no clear answer about silo-tasks>=0.2,<0.3"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_reason_against_a_release_is_named(
    ready: TinyWorkspace, index: Path, spoil: Callable[[TinyWorkspace, Path], None], reason: str
) -> None:
    spoil(ready, index)
    assert [found for found in reasons(Workspace(ready.root), "flask-silo-v0.2.0", index) if reason in found]


def test_all_reasons_are_named_at_once(ready: TinyWorkspace, index: Path) -> None:
    for spoil in (unfilled, undated, published_already, without_sibling, uncommitted):
        spoil(ready, index)
    assert len(reasons(Workspace(ready.root), "flask-silo-v0.2.1", index)) == 7


@pytest.mark.parametrize("tag", ["flask-v0.2.0", "flask-silo", "v0.2.0", "flask-silo-0.2.0"])
def test_a_tag_that_names_no_package_is_refused(ready: TinyWorkspace, index: Path, tag: str) -> None:
    (reason,) = reasons(Workspace(ready.root), tag, index)
    assert reason.startswith(f"the tag {tag} names no package: ")
    assert "silo-tasks, flask-silo" in reason


@pytest.mark.parametrize("version", ["0.2.1", "0.2", "0.2.0.0", "1"])
def test_a_tag_with_another_version_than_the_manifest_is_refused(
    ready: TinyWorkspace, index: Path, version: str
) -> None:
    (reason,) = reasons(Workspace(ready.root), f"flask-silo-v{version}", index)
    assert f"the tag says {version}, the manifest 0.2.0" in reason


def test_the_plan_says_for_each_package_what_is_next(ready: TinyWorkspace, index: Path) -> None:
    ready.git("tag", "silo-tasks-v0.2.0")
    lines = plan(Workspace(ready.root), index)
    assert lines == [
        "silo-tasks 0.2.0: has not changed since silo-tasks-v0.2.0",
        "flask-silo 0.2.0: was never released",
        "  may be released: tag flask-silo-v0.2.0",
    ]
    ready.write("packages/silo-tasks/src/silo_tasks/__init__.py", "changed = True\n")
    ready.commit("Change silo-tasks")
    lines = plan(Workspace(ready.root), index)
    assert lines[:2] == [
        "silo-tasks 0.2.0: changed since silo-tasks-v0.2.0",
        "  - this version is tagged already: prepare the next one",
    ]


def test_a_tag_that_is_not_of_a_release_of_the_package_is_not_its_last(ready: TinyWorkspace) -> None:
    for tag in ("silo-tasks-v0.2.0", "silo-tasks-v0.10.0", "silo-tasks-vNext", "silo-tasks-vendored-v9.0"):
        ready.git("tag", tag)
    workspace = Workspace(ready.root)
    assert workspace.last_tag(workspace.packages["silo-tasks"]) == "silo-tasks-v0.10.0"


def test_the_index_names_all_versions_that_a_range_allows(index: Path) -> None:
    for version in ("0.1.9", "0.2.0", "0.2.1", "0.2.10", "0.3.0"):
        write_wheel(index, "silo-tasks", version)
    needed = Requirement("silo-tasks[rq]>=0.2,<0.3")
    assert published(needed, index) == [Version("0.2.10"), Version("0.2.1"), Version("0.2.0")]
    assert newest(Requirement("silo-store"), index) is None


def test_an_index_that_cannot_be_asked_is_not_an_empty_one(monkeypatch: pytest.MonkeyPatch, index: Path) -> None:
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(index / "missing"))
    with pytest.raises(Refused, match="no clear answer about silo-tasks"):
        newest(Requirement("silo-tasks"), None)


def test_an_index_that_was_not_asked_is_not_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(Refused, match=r"(?s)no clear answer about silo-tasks.*UV_OFFLINE"):
        newest(Requirement("silo-tasks>=99"), None)


@pytest.mark.parametrize("status", [401, 403])
def test_an_index_that_refuses_access_is_not_an_empty_one(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}/simple")
        with pytest.raises(Refused, match=f"(?s)no clear answer about silo-tasks.*{status}"):
            newest(Requirement("silo-tasks"), None)
        server.shutdown()


def test_an_index_is_asked_again_and_not_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    class Cacheable(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Cache-Control", "max-age=600")
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Cacheable) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}/simple")
        assert newest(Requirement("silo-tasks"), None) is newest(Requirement("silo-tasks"), None) is None
        server.shutdown()
    assert asked == ["/simple/silo-tasks/"] * 2


def test_preparing_dates_the_changelog_and_sets_the_version(tiny: TinyWorkspace) -> None:
    workspace = Workspace(tiny.root)
    prepare(workspace, workspace.packages["silo-tasks"], Version("0.2.1"), {})
    assert 'version = "0.2.1"' in tiny.read("packages/silo-tasks/pyproject.toml")
    assert tiny.read("packages/silo-tasks/CHANGELOG.md") == CHANGELOG.replace("Unreleased", f"0.2.1 ({TODAY})")
    assert 'name = "silo-tasks"\nversion = "0.2.1"' in tiny.read("uv.lock")
    assert "silo-tasks>=0.2,<0.3" in tiny.read("packages/flask-silo/pyproject.toml")


def test_preparing_raises_the_floor_of_a_sibling_in_every_range(tiny: TinyWorkspace) -> None:
    tiny.replace("packages/silo-tasks/pyproject.toml", 'version = "0.2.0"', 'version = "0.2.1"')
    workspace = Workspace(tiny.root)
    done = prepare(workspace, workspace.packages["flask-silo"], Version("0.2.0"), {"silo-tasks": Version("0.2.1")})
    text = tiny.read("packages/flask-silo/pyproject.toml")
    assert 'dependencies = ["silo-tasks>=0.2.1,<0.3"]' in text
    assert 'more = ["silo-tasks[more]>=0.2.1,<0.3"]' in text
    assert "flask-silo requires silo-tasks>=0.2.1,<0.3" in done


def test_a_release_without_a_tag_can_be_prepared_again(tiny: TinyWorkspace) -> None:
    for floors in ({}, {"silo-tasks": Version("0.2.0")}):
        workspace = Workspace(tiny.root)
        prepare(workspace, workspace.packages["flask-silo"], Version("0.2.1"), floors)
    assert tiny.read("packages/flask-silo/CHANGELOG.md") == CHANGELOG.replace("Unreleased", f"0.2.1 ({TODAY})")
    assert "silo-tasks>=0.2.0,<0.3" in tiny.read("packages/flask-silo/pyproject.toml")


def test_preparing_a_breaking_release_raises_the_ranges_that_do_not_admit_it(tiny: TinyWorkspace) -> None:
    workspace = Workspace(tiny.root)
    done = prepare(workspace, workspace.packages["silo-tasks"], Version("0.3.0"), {})
    assert done[1:] == ["flask-silo requires silo-tasks>=0.3.0,<0.4"]
    assert 'dependencies = ["silo-tasks>=0.3.0,<0.4"]' in tiny.read("packages/flask-silo/pyproject.toml")


@pytest.mark.parametrize(("floor", "ranges"), [("0.2.1", ">=0.2.1,<0.3"), ("1.4.0", ">=1.4.0,<2")])
def test_a_range_ends_before_the_next_breaking_version(floor: str, ranges: str) -> None:
    assert range_from(Version(floor)) == ranges


@pytest.mark.parametrize(
    ("name", "version", "floors", "message"),
    [
        ("silo-tasks", "0.1.9", {}, "0.1.9 is not newer than silo-tasks-v0.2.0"),
        ("flask-silo", "0.1.9", {}, "0.1.9 is not newer than 0.2.0"),
        ("silo-tasks", "0.2.0", {}, "0.2.0 is not newer than silo-tasks-v0.2.0"),
        ("flask-silo", "0.2.1", {"silo-store": Version("1")}, "flask-silo does not require silo-store"),
        (
            "flask-silo",
            "0.2.1",
            {"silo-tasks": Version("0.2.1")},
            "silo-tasks is 0.2.0 here, which is not in >=",
        ),
        ("flask-silo", "0.2.1", {"silo-tasks": Version("0.1")}, "silo-tasks is 0.2.0 here, which is not in >="),
        ("flask-silo", "0.2.1", {}, "the changelog has no section '## Unreleased' with entries"),
    ],
)
def test_preparing_what_cannot_be_released_changes_nothing(
    ready: TinyWorkspace, name: str, version: str, floors: dict[str, Version], message: str
) -> None:
    ready.git("tag", "silo-tasks-v0.2.0")
    workspace = Workspace(ready.root)
    with pytest.raises(Refused, match=re.escape(message)):
        prepare(workspace, workspace.packages[name], Version(version), floors)
    assert ready.git("status", "--porcelain") == ""


def test_a_changelog_is_read_by_sections_groups_and_entries() -> None:
    (section,) = read(CHANGELOG.replace("Unreleased", "0.2.0 (2026-11-28)") + "- Second.\n\n### Fixed\n\n- Third.\n")
    assert section.version == Version("0.2.0")
    assert section.groups == {"Added": ["The first release.", "Second."], "Fixed": ["Third."]}


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("## 0.2.0\n", "'## 0.2.0': write '## Unreleased'"),
        ("## 0.2.0 (28 November)\n", "write '## Unreleased'"),
        ("## 0.2.0 (2026-11-31)\n", "write '## Unreleased'"),
        ("## 0.2.0 (2026-11-28)\n\n## Unreleased\n", "'## Unreleased': write '## Unreleased' (the first)"),
        ("## Unreleased\n\n### Safer\n\n- An entry.\n", "'### Safer': write a group"),
        ("## Unreleased\n\n### Fixed\n", "'### Fixed': write a group"),
        ("## Unreleased\n\n- An entry.\n", "an entry without a group: '## Unreleased'"),
        ("## 0.2.0 (2026-11-28)\n\n## 0.2.1 (2026-11-29)\n", "not in the order of their versions"),
    ],
)
def test_a_changelog_in_another_form_is_refused(text: str, mistake: str) -> None:
    (found,) = mistakes(f"# Changelog\n\n{text}")
    assert mistake in found


@pytest.mark.parametrize("package", Workspace(ROOT).packages.values(), ids=lambda package: package.name)
def test_the_changelogs_are_in_the_form_that_a_release_needs(package: Package) -> None:
    text = package.changelog.read_text(encoding="utf-8")
    assert mistakes(text) == []
    assert all(section.entries for section in read(text))


def change(tiny: TinyWorkspace, message: str, *, entry: bool = False) -> None:
    """Change the sources of silo-tasks in a commit, with or without an entry."""
    path = "packages/silo-tasks/src/silo_tasks/__init__.py"
    tiny.write(path, f"{tiny.read(path)}# Changed.\n")
    if entry:
        tiny.replace("packages/silo-tasks/CHANGELOG.md", "### Added\n\n", "### Added\n\n- A change.\n")
    tiny.commit(message)


@pytest.mark.parametrize("since", [None, "base"], ids=["since the last release", "since a commit"])
def test_a_changed_package_needs_an_entry(tiny: TinyWorkspace, since: str | None) -> None:
    for tag in ("silo-tasks-v0.2.0", "flask-silo-v0.2.0", "base"):
        tiny.git("tag", tag)
    assert missing(Workspace(tiny.root), since) == []
    change(tiny, "Change silo-tasks")
    (found,) = missing(Workspace(tiny.root), since)
    assert found.startswith("packages/silo-tasks/CHANGELOG.md: silo-tasks changed since ")
    change(tiny, "Change silo-tasks again", entry=True)
    assert missing(Workspace(tiny.root), since) == []


def test_a_commit_can_say_that_users_do_not_notice_it(tiny: TinyWorkspace) -> None:
    tiny.git("tag", "base")
    change(tiny, "Rename a variable\n\nNothing else.\n\nChangelog: none")
    assert missing(Workspace(tiny.root), "base") == []
    change(tiny, "Change silo-tasks")
    assert len(missing(Workspace(tiny.root), "base")) == 1


def test_what_is_not_committed_yet_needs_an_entry_too(tiny: TinyWorkspace) -> None:
    tiny.git("tag", "base")
    tiny.write("packages/silo-tasks/src/silo_tasks/__init__.py", "changed = True\n")
    assert len(missing(Workspace(tiny.root), "base")) == 1


def test_a_package_that_was_never_released_needs_entries(tiny: TinyWorkspace) -> None:
    assert missing(Workspace(tiny.root), None) == []
    tiny.write("packages/silo-tasks/CHANGELOG.md", "# Changelog\n")
    assert len(missing(Workspace(tiny.root), None)) == 1


def test_addresses_are_written_into_the_copy_from_one_place(tiny: TinyWorkspace, tmp_path: Path) -> None:
    workspace = Workspace(tiny.root)
    copy = Path(shutil.copytree(tiny.path("packages/silo-tasks"), tmp_path / "copy"))
    write_addresses(workspace, workspace.packages["silo-tasks"], copy, workspace.repository)
    at = "https://example.org/tiny/blob/silo-tasks-v0.2.0"
    assert f'Changelog = "{at}/packages/silo-tasks/CHANGELOG.md"' in (copy / "pyproject.toml").read_text("utf-8")
    readme = (copy / "README.md").read_text("utf-8")
    assert f"[The guide]({at}/packages/silo-tasks/GUIDE.md#more)" in readme
    assert "[packages](https://example.org/tiny/tree/silo-tasks-v0.2.0/packages)" in readme
    assert "`a[0](b)`" in readme
    guide = (copy / "GUIDE.md").read_text("utf-8")
    assert f"[README](README.md) and [root]({at}/pyproject.toml)" in guide


def test_a_copy_gets_the_helpers_that_its_tests_import_from_other_packages(tiny: TinyWorkspace) -> None:
    for name, text in {"servers": "import links\n", "links": "import socket\n", "children": "import os\n"}.items():
        tiny.write(f"packages/silo-tasks/tests/support/{name}.py", text)
    tiny.write("packages/flask-silo/tests/test_more.py", "from servers import until\n")
    copy_helpers(Workspace(tiny.root), tiny.path("packages/flask-silo"))
    folder = tiny.path("packages/flask-silo/tests/support")
    assert sorted(path.name for path in folder.iterdir()) == ["links.py", "servers.py"]


@pytest.mark.parametrize("name", Workspace(ROOT).packages)
def test_every_link_of_a_readme_can_be_made_absolute(name: str, tmp_path: Path) -> None:
    workspace = Workspace(ROOT)
    copy = Path(shutil.copytree(ROOT / "packages" / name, tmp_path / name))
    write_addresses(workspace, workspace.packages[name], copy, PLACEHOLDER)
    links = re.findall(r"\]\(([^)]*)\)", re.sub(r"`[^`]+`", "", (copy / "README.md").read_text("utf-8")))
    assert links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_commands_print_what_they_found_and_exit_with_a_status(
    ready: TinyWorkspace, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "flask-silo-v0.2.0", "--index", str(index)], ready.root) == 0
    assert capsys.readouterr().out == "flask-silo-v0.2.0 may be published\n"
    assert main(["check", "flask-silo-v0.3.0", "--index", str(index)], ready.root) == 1
    assert "the tag says 0.3.0, the manifest 0.2.0" in capsys.readouterr().err
    assert main(["test", "flask-silo", "--from", str(index)], ready.root) == 1
    assert "index has no flask_silo-0.2.0.tar.gz: build flask-silo into it" in capsys.readouterr().err
    assert main(["changelog"], ready.root) == 0
    assert main(["plan", "--index", str(index)], ready.root) == 0
    with pytest.raises(SystemExit):
        main(["build", "silo", "--out", str(index)], ready.root)
    assert "invalid choice: 'silo'" in capsys.readouterr().err
