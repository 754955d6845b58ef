"""The Python blocks of the READMEs that no package tests for itself run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def blocks(readme: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", readme.read_text(encoding="utf-8"), re.S | re.M)


@pytest.mark.parametrize(
    ("readme", "count"),
    [
        ("README.md", 1),
        ("packages/silo-store/README.md", 4),
        ("packages/silo-store/BACKENDS.md", 1),
        ("packages/flask-silo/README.md", 6),
    ],
)
def test_the_blocks_run_one_after_the_other(
    readme: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = blocks(ROOT / readme)
    assert len(found) >= count
    scope: dict[str, object] = {"__name__": "readme"}
    for number, block in enumerate(found):
        exec(compile(block, f"{readme}, block {number}", "exec", dont_inherit=True), scope)
    if readme.endswith("BACKENDS.md"):
        scope["store"].close()  # type: ignore[attr-defined]
    if silo := scope.get("silo"):
        silo.stop()  # type: ignore[attr-defined]
    if readme.endswith("silo-store/README.md"):
        lines = capsys.readouterr().out.splitlines()
        assert lines[:2] == ["{'items': ['book']}", "expired"]
        assert lines[2].startswith("session 01234…: cart['items'][1] (object) cannot be stored: keep plain")
