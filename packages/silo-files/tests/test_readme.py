"""Every Python block of the README and of the guide runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.S | re.M)


@pytest.mark.parametrize(("page", "count"), [("README.md", 1), ("GUIDE.md", 10)])
def test_the_blocks_run(page: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    found = blocks(page)
    scope: dict[str, object] = {"__name__": page}

    for number, block in enumerate(found):
        exec(compile(block, f"{page}, block {number}", "exec"), scope)

    assert len(found) == count


def test_what_the_guide_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "".join(blocks("GUIDE.md"))

    exec(compile(text, "GUIDE.md", "exec"), {})

    assert capsys.readouterr().out.splitlines() == re.findall(r"^ *print\(.*\)  # (.*)", text, re.M)


def test_the_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 60
