"""Every Python block of the pages runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from silo_store import SessionStore

ROOT = Path(__file__).parent.parent


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("README.md", ["{'items': ['book']}"]),
        ("GUIDE.md", ["expired", "session 01234…: cart['items'][1] (object) cannot be stored: keep plain", "1"]),
        ("TYPES.md", []),
        ("BACKENDS.md", []),
    ],
)
def test_the_blocks_run(
    page: str,
    printed: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One after the other, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", text(page), re.S | re.M)
    scope: dict[str, object] = {"__name__": page}

    for number, block in enumerate(blocks):
        exec(compile(block, f"{page}, block {number}", "exec", dont_inherit=True), scope)
    if isinstance(store := scope.get("store"), SessionStore):
        store.close()

    lines = capsys.readouterr().out.splitlines()
    assert len(blocks) == text(page).count("```python")
    assert len(lines) == len(printed)
    assert all(line.startswith(start) for line, start in zip(lines, printed, strict=True))


def test_the_readme_is_one_screen() -> None:
    assert len(text("README.md").splitlines()) <= 60


def test_the_contents_of_the_guide_name_its_sections() -> None:
    headings = [heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", text("GUIDE.md"), re.M)]
    contents = re.findall(r"^- \[.*\]\(#([^)]*)\)$", text("GUIDE.md").partition("\n## ")[0], re.M)
    assert contents == headings
