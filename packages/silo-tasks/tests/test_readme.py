from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_there_are_blocks() -> None:
    assert len(BLOCKS) == README.count("```python")
    assert len(BLOCKS) >= 6


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_block_runs(code: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(code, "utf-8")
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_first_program_draws_a_full_bar() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKS[0]], capture_output=True, text=True, timeout=60)
    assert "[" + "#" * 30 + "] 100% 100/100" in done.stderr
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 10


def test_every_public_name_is_in_the_readme_or_a_seam() -> None:
    import silo_tasks

    seams = {"Job", "StepState", "Status", "Cancelled", "MAX_LINE", "__version__", "check_target", "explain_call"}
    missing = [name for name in silo_tasks.__all__ if name not in README and name not in seams]
    assert missing == []
