from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = {name: (Path(__file__).parents[1] / name).read_text("utf-8") for name in ("README.md", "GUIDE.md")}
BLOCKS = {name: re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) for name, text in PAGES.items()}
EACH = [pytest.param(code, id=f"{name}-{i}") for name, blocks in BLOCKS.items() for i, code in enumerate(blocks)]


def test_there_are_blocks() -> None:
    for name, blocks in BLOCKS.items():
        assert len(blocks) == PAGES[name].count("```python")
    assert len(EACH) >= 12


@pytest.mark.slow
@pytest.mark.parametrize("code", EACH)
def test_block_runs(code: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(code, "utf-8")
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_first_program_draws_a_full_bar() -> None:
    program = BLOCKS["README.md"][0]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "[" + "#" * 30 + "] 100% 100/100" in done.stderr
    assert len([line for line in program.splitlines() if line.strip()]) <= 10


def test_the_readme_is_one_screen() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 60


def test_links_within_a_page_lead_to_a_heading() -> None:
    for text in PAGES.values():
        headings = {
            re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)
        }
        assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def test_every_public_name_is_in_the_guide_or_a_seam() -> None:
    import silo_tasks

    seams = {"Job", "StepState", "Status", "Cancelled", "MAX_LINE", "__version__"}
    missing = [name for name in silo_tasks.__all__ if name not in PAGES["GUIDE.md"] and name not in seams]
    assert missing == []
