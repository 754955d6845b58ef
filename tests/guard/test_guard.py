"""The guard refuses every operation of ``inner.py``, which runs in a separate pytest.

Every target is a file of the test itself, never a path of the system.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import guard
from tests.guard import drop, policy

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]
INNER = Path(__file__).resolve().with_name("inner.py")
INI = f"""\
[pytest]
addopts = -p tests.guard -p no:valkey -p no:cacheprovider --import-mode=importlib --strict-markers -rA -q
pythonpath = {CHECKOUT} {CHECKOUT}/packages/silo-store/tests/support
filterwarnings = error
"""
OUTCOME = re.compile(r"^(PASSED|FAILED|SKIPPED|XFAIL|XPASS|ERROR) \S*?::(\S+(?: \S+)*?\]|\S+)", re.MULTILINE)

PROGRAM = re.compile(r"refused (subprocess\.Popen|fork_exec|os\.(exec|posix_spawn|system))\b")


def _inner(folder: Path, *arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run pytest with its basetemp and its tests' folder ``outside`` side by side in ``folder``."""
    outside = folder / "outside"
    (outside / "full" / "er").mkdir(parents=True)
    (outside / "empty").mkdir()
    (outside / "module.py").write_text("")
    for file in (outside / "file", outside / "full" / "er" / "file"):
        file.write_text("kept")
        file.chmod(0o600)
    (folder / "pytest.ini").write_text(INI)
    if drop.privileged() and (root := guard.root_of(outside)):
        with policy.exempt():
            drop.open_way(outside, root)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "pytest.ini", f"--basetemp={folder / 'base'}", *arguments],
        cwd=folder,
        env={**(os.environ if env is None else env), "GUARD_OUTSIDE": str(outside)},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_active() -> None:
    assert guard.active()


def test_inner_run(tmp_path: Path) -> None:
    done = _inner(tmp_path, INNER)
    assert all(PROGRAM.match(line) for line in guard.drain())  # this run refuses the programs too
    outcomes: dict[str, set[str]] = {}
    for outcome, name in OUTCOME.findall(done.stdout):
        outcomes.setdefault(name, set()).add(outcome)
    assert len(outcomes) > 50, done.stdout + done.stderr
    wrong = [name for name, found in outcomes.items() if ("FAILED" in found) != name.startswith("test_fails")]
    assert not wrong, done.stdout
    assert outcomes["test_passes_and_then_errs_in_teardown"] == {"PASSED", "ERROR"}
    assert done.stdout.count("refused os.remove of") >= 7
    assert "refused ctypes.dlopen of None" in done.stdout
    assert "refused ctypes.dlsym of 'Py_GetVersion'" in done.stdout
    assert "the child's own words" in done.stdout
    assert "number=7" in done.stdout
    if drop.privileged():
        assert "took more than 0.5 s" in done.stdout
        assert "ended without an outcome, with status 768" in done.stdout
    assert "as said in the child" in done.stdout


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_violation_after_the_last_test_fails_the_run(tmp_path: Path, workers: str) -> None:
    test = tmp_path / "test_late.py"
    test.write_text(f"""\
import os
import pytest

def test_late(request):
    def late():
        try:
            os.unlink({str(tmp_path / "outside" / "file")!r})
        except BaseException:
            pass
    request.config.add_cleanup(late)
    request.session.config.pluginmanager.register(type("Late", (), {{
        "pytest_sessionfinish": pytest.hookimpl(tryfirst=True)(lambda self: late())
    }})())
""")
    done = _inner(tmp_path, workers, test)
    assert (done.returncode, "after the tests: refused os.remove" in done.stdout) == (1, True), done.stdout
    assert (tmp_path / "outside" / "file").exists()


def test_each_violation_in_a_worker_is_told_once(tmp_path: Path) -> None:
    test = tmp_path / "test_in_worker.py"
    test.write_text(f"""\
from pathlib import Path
import pytest
from tests import guard

FILE = Path({str(tmp_path / "outside" / "file")!r})

def test_refused():
    assert guard.active()
    with pytest.raises(guard.GuardViolation):
        FILE.unlink()
    assert len(guard.drain()) == 1

def test_fails_when_swallowed():
    with pytest.raises(guard.GuardViolation):
        FILE.unlink()

@pytest.mark.hostile
def test_hostile_tests_reach_their_folder(tmp_path):
    (tmp_path / "file").touch()
""")
    done = _inner(tmp_path, "-n2", test)
    outcomes = {name: outcome for outcome, name in OUTCOME.findall(done.stdout)}
    expected = {"test_refused": "PASSED", "test_fails_when_swallowed": "FAILED"}
    assert outcomes == {**expected, "test_hostile_tests_reach_their_folder": "PASSED"}, done.stdout
    assert "after the tests" not in done.stdout
    assert (tmp_path / "outside" / "file").exists()


def test_hostile_tests_are_skipped_without_the_guard(tmp_path: Path) -> None:
    test = tmp_path / "test_off.py"
    test.write_text("import pytest\n\n@pytest.mark.hostile\ndef test_off():\n    assert False\n")
    with guard.unguarded_child() as env:
        done = _inner(tmp_path, test, env={**env, guard.OFF_VARIABLE: "off"})
    assert (done.returncode, "the guard is not active" in done.stdout) == (0, True), done.stdout


@pytest.mark.parametrize("base", [CHECKOUT, CHECKOUT.parent])
def test_a_wide_basetemp_is_refused(base: Path) -> None:
    with pytest.raises(pytest.UsageError):
        guard._refuse_wide(base, base)


@pytest.mark.hostile
def test_hostile_tests_have_no_root_rights() -> None:
    assert not hasattr(os, "geteuid") or os.geteuid() != 0
