"""The Python blocks of pages that the packages' own tests do not run are run here, unchanged."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flask_silo
import pytest
from flask_silo.files import answers as of_files
from flask_silo.replies import ANSWERS
from flask_silo.tasks import answers as of_tasks
from pages import ROOT, blocks
from servers import until
from werkzeug.exceptions import HTTPException


def run(readme: str) -> dict[str, Any]:
    """Run the blocks of a page and return the names that they have defined."""
    scope: dict[str, Any] = {"__name__": "readme"}
    for number, block in enumerate(blocks(ROOT / readme)):
        exec(compile(block, f"{readme}, block {number}", "exec", dont_inherit=True), scope)
    return scope


@pytest.mark.parametrize(
    ("readme", "count", "url"),
    [
        ("README.md", 1, "memory://"),
        ("README.md", 1, "memory://?copy=1"),
        ("packages/flask-silo/README.md", 1, "memory://"),
        ("packages/flask-silo/GUIDE.md", 14, "memory://"),
        ("packages/flask-silo/GUIDE.md", 14, "memory://?copy=1"),
    ],
)
def test_the_blocks_run_one_after_the_other(
    readme: str,
    count: int,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SILO_STORE_URL", url)
    assert len(blocks(ROOT / readme)) >= count
    scope = run(readme)
    if silo := scope.get("silo"):
        silo.stop()
    assert "changed state" not in caplog.text, "a view changes state without the write lock"


def anchors(page: Path) -> set[str]:
    """Return the anchor of each section of a page, as GitHub makes it."""
    headings = re.findall(r"^##+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


PAGES = [ROOT / "README.md", *ROOT.glob(".github/*.md"), *ROOT.glob("packages/*/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_page_and_a_section(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for path, anchor in re.findall(r"\]\((?!http)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        target = (page.parent / path) if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor}"


def test_the_table_of_contents_of_the_guide_names_its_sections() -> None:
    page = ROOT / "packages/flask-silo/GUIDE.md"
    contents = page.read_text(encoding="utf-8").partition("\n## ")[0]
    assert set(re.findall(r"\]\(#([^)]*)\)", contents)) == anchors(page)


def test_the_readme_of_flask_silo_is_one_screen() -> None:
    assert len((ROOT / "packages/flask-silo/README.md").read_text(encoding="utf-8").splitlines()) <= 60


EACH_ANSWER = ANSWERS | of_tasks.ANSWERS | of_files.ANSWERS


@pytest.mark.parametrize("kind", EACH_ANSWER, ids=lambda kind: kind.__name__)
def test_the_table_of_errors_names_what_an_errorhandler_needs(kind: type[Exception]) -> None:
    answer = EACH_ANSWER[kind]
    text = (ROOT / "packages/flask-silo/GUIDE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \| (.*?) \|", text, re.M)
    (classes,) = [classes for status, error, classes in rows if (int(status), error) == (answer.status, answer.error)]
    assert f"`{kind.__name__}`" in classes
    assert issubclass(kind, HTTPException) or getattr(flask_silo, kind.__name__) is kind


def test_an_upload_while_its_task_runs_is_refused_and_the_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scope = run("packages/flask-silo/GUIDE.md")
    client, uploads, track = scope["app"].test_client(), scope["uploads"], scope["track"]
    sid = client.post("/api/increment").headers["X-Session-ID"]
    mine = {"X-Session-ID": sid}
    began, gate = threading.Event(), threading.Event()

    def held(lines: Iterable[bytes]) -> Any:
        began.set()
        assert gate.wait(30)
        return track(lines)

    scope["track"] = held
    try:
        assert client.post("/api/lines", headers=mine, data=b"a\nb\n").status_code == 202
        assert began.wait(30)
        (name,) = uploads.list_files(sid)
        refused = client.post("/api/lines", headers=mine, data=b"x\n")
        assert (refused.status_code, refused.json["error"]) == (409, "task_running")
        assert uploads.list_files(sid) == [name]
        assert Path(uploads.get_path(sid, name)).read_bytes() == b"a\nb\n"
    finally:
        gate.set()
    until(lambda: client.get("/api/tasks/count_lines", headers=mine).json["status"] == "succeeded", "it does not end")
    assert scope["silo"].store.peek(sid)["counter"] == {"value": 2}
    assert client.post("/api/lines", headers=mine, data=b"x\n").status_code == 202
    until(lambda: not client.get("/api/tasks/count_lines", headers=mine).json["running"], "it does not end")
    assert len(uploads.list_files(sid)) == 2
    scope["silo"].stop()
