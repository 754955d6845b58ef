"""Pytest plugin: refuses deletes, renames and writes outside the tests' temporary folders.

A hostile session id once made this library delete whole folders, and tests run as root. So no test may be able to do
damage, whatever the code under test does with hostile input:

- an audit hook (``hook``) refuses every change outside the run's own folders, in this process and in every
  Python process that a test starts; a program that cannot be watched is not started (see ``unguarded_child``);
- a refused operation fails its test, even if the exception was swallowed or raised in a child;
- a test marked ``hostile`` runs only if the guard is active, and as an unprivileged user if the run has root's rights.
  It cannot call C libraries through ctypes, because their operations raise no audit event.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from . import drop, hook
from .policy import ROOTS_VARIABLE, GuardViolation, Policy, canonical, enforced, exempt, policies, unguarded_child

__all__ = ["GuardViolation", "active", "drain", "unguarded_child"]

OFF_VARIABLE = "SILO_GUARD"
HOSTILE_DEADLINE = 60.0


class _Run:
    """The folders of this test run and how much of the children's report has been read.

    Attributes:
        controller: In a worker of pytest-xdist, the policy of the process that started it.
    """

    def __init__(self, policy: Policy, private: Path, controller: Policy | None) -> None:
        self.policy = policy
        self.private = private
        self.controller = controller
        self.read = 0
        self.keep = True


_runs: list[_Run] = []


def active() -> bool:
    """Return whether changes outside the tests' folders are refused."""
    return bool(_runs) and hook.active()


def drain() -> list[str]:
    """Return the violations since the last call, of this process and of its children."""
    if not _runs:
        return []
    run = _runs[-1]
    found, run.policy.seen = run.policy.seen, []
    with Path(run.policy.report).open("rb") as file:
        file.seek(run.read)
        data = file.read()
    run.read += len(data)
    return found + [line for line in data.decode(errors="replace").split("\0") if line]


def root_of(folder: Path) -> Path | None:
    """Return the allowed folder that contains ``folder``, a resolved path; None if there is none."""
    roots = (_runs[-1].controller or _runs[-1].policy).roots
    return next((root for root in map(Path, roots) if root in folder.parents), None)


def _refuse_wide(root: Path, rootdir: Path) -> None:
    """Refuse an allowed folder that contains the checkout or a home, which the guard must protect."""
    kept = [rootdir.resolve(), Path(__file__).resolve().parent, Path.home().resolve()]
    if any(path.is_relative_to(root) for path in kept):
        raise pytest.UsageError(f"the guard allows no temporary folder as wide as {root}")


def _roots(config: pytest.Config, private: Path) -> list[Path]:
    """Return the folders in which everything may change."""
    roots = [private]
    given = config.option.basetemp
    if given is not None:
        _refuse_wide(Path(given).resolve(), config.rootpath)
        factory: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]
        roots.append(factory.getbasetemp())
    if hasattr(config, "cache"):
        cache = config.cache
        assert cache is not None
        roots.append(cache.mkdir("guard").parent.parent)  # pytest's cache: last failed tests, durations
    return roots


def _storage() -> Path:
    """Return the folder in which hypothesis keeps failing examples. It may not exist yet."""
    return Path(os.environ.get("HYPOTHESIS_STORAGE_DIRECTORY", ".hypothesis")).absolute()


def _prefixes(config: pytest.Config) -> list[str]:
    """Return the beginnings of the paths of files whose content may change."""
    coverage = os.environ.get("COVERAGE_FILE", ".coverage")
    paths = [Path(coverage).absolute()]  # data of coverage: ``.coverage`` and ``.coverage.<host>.<pid>``
    if report := getattr(config.option, "xmlpath", None):
        paths.append(Path(report).absolute())  # the JUnit report, which CI reads
    return [canonical(str(path)) for path in paths]


def _private() -> Path:
    """Create a folder for this run. Other users may traverse it, so an unprivileged child reaches its own folder."""
    path = Path(tempfile.mkdtemp(prefix="silo-guard-")).resolve()
    path.chmod(0o711)
    (path / "violations").touch()
    (path / "violations").chmod(0o666)  # children of any user append to it
    return path


def _redirect_temporary_files(path: Path) -> None:
    """Make ``path`` the temporary folder of this process and of its children."""
    tempfile.tempdir = str(path)
    for name in ("TMPDIR", "TEMP", "TMP"):
        os.environ[name] = str(path)


def _remove_private(run: _Run, owner: int) -> None:
    """Remove the folder of a run that passed. The folder of a failed run is kept for inspection."""
    if os.getpid() == owner and not run.keep:
        with exempt():
            shutil.rmtree(run.private, ignore_errors=True)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Activate the guard: after the other plugins, which create files of their own, and before any test module."""
    config.addinivalue_line(
        "markers",
        "hostile(deadline=60): hands hostile input to code that touches files. Runs only under the guard, and in a"
        " child process without root's rights.",
    )
    if os.environ.get(OFF_VARIABLE) == "off":
        return
    controller = policies[-1] if hasattr(config, "workerinput") else None
    private = _private()
    _redirect_temporary_files(private)
    roots, report = _roots(config, private), str(private / "violations")
    for root in (*roots, _storage()):
        _refuse_wide(root.resolve(), config.rootpath)
    policy = Policy(
        [*map(str, roots), str(_storage())],
        [*map(str, roots), report],
        _prefixes(config),
        report,
        os.getpid(),
    )
    run = _Run(policy, private, controller)
    atexit.register(_remove_private, run, os.getpid())
    if controller is not None:  # its policy would report the violations of all workers again
        policies.remove(controller)
    hook.add_policy(policy)
    _runs.append(run)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a hostile test if the guard is not active."""
    if item.get_closest_marker("hostile") and not active():
        pytest.skip("the guard is not active")


@contextmanager
def _hostile() -> Iterator[None]:
    """Refuse C libraries too, in this process and in the Python processes that it starts."""
    policy = _runs[-1].policy
    policy.hostile = True
    os.environ[ROOTS_VARIABLE] = enforced()
    try:
        yield
    finally:
        policy.hostile = False
        os.environ[ROOTS_VARIABLE] = enforced()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a hostile test's body without C libraries; as root, run it in a child without root's rights."""
    marker = pyfuncitem.get_closest_marker("hostile")
    if marker is None:
        return None
    args = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    if not drop.privileged():
        with _hostile():
            pyfuncitem.obj(**args)
        return True
    private = _runs[-1].private
    with exempt():
        home = Path(tempfile.mkdtemp(prefix="hostile-", dir=private))
        drop.hand_over(home, private)
        for folder in {value.resolve() for value in pyfuncitem.funcargs.values() if isinstance(value, Path)}:
            if root := root_of(folder):
                drop.hand_over(folder, root)

    def body() -> None:
        _redirect_temporary_files(home)
        with _hostile():
            pyfuncitem.obj(**args)

    def describe(error: BaseException) -> str:
        return str(pyfuncitem.repr_failure(pytest.ExceptionInfo.from_exception(error)))

    drop.run(body, describe, marker.kwargs.get("deadline", HOSTILE_DEADLINE))
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test with a violation, even if the test swallowed it, was skipped or is expected to fail."""
    report = yield
    if refused := drain():
        before = f"\n\n{report.longreprtext}" if report.longrepr else ""
        report.outcome = "failed"
        report.longrepr = "the guard " + "\nthe guard ".join(refused) + before
        vars(report).pop("wasxfail", None)
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail the run if there was a violation after the last test."""
    if not _runs:
        return
    if refused := drain():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if controller := _runs[-1].controller:
            for text in refused:
                controller.record(text)
        reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("\nthe guard, after the tests: " + "\n".join(refused), red=True)
    _runs[-1].keep = session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
