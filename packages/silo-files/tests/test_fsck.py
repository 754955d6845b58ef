"""``fsck`` finds each damage, and its repair loses no byte of a file and touches nothing outside.

Runs only under the guard, without root privileges. All targets of links lie in tmp_path.
"""

from __future__ import annotations

import io
import json
import os
import random
import select
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damages import DAMAGES, DATA, Damage, forget_the_key, make_store, open_store
from folder_walk import area, size, stored
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from silo_files.cli.problems import LEFTOVERS, PROBLEMS
from silo_files.cli.program import main

guard = pytest.importorskip("tests.guard", reason="links could lead to harm: run in the repository, under its guard")
if not guard.active():
    pytest.skip("the guard is not active", allow_module_level=True)
if sys.platform == "win32":
    pytest.skip("makes links, sockets and modes", allow_module_level=True)

pytestmark = pytest.mark.hostile

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with ``--json``. The result has its exit status as ``status``."""

    def call(command: str, base: Path, *options: str) -> dict[str, Any]:
        capsys.readouterr()
        status = main([command, str(base), "--json", *options])
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return {**document, "status": status}

    return call


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return what is in ``folder``, with modes, sizes and times of change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def codes(document: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in document["findings"]}


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    return make_places(tmp_path)


def make_places(folder: Path) -> tuple[Path, Path]:
    """Return the folder of a store, and one outside it that nothing may touch."""
    base, outside = folder / "base", folder / "outside"
    outside.mkdir(parents=True)
    (outside / "precious").write_bytes(b"keep")
    make_store(base)
    return base, outside


def test_a_folder_without_damage_is_clean(places: tuple[Path, Path], run: Run) -> None:
    base, _ = places
    before = snapshot(base)

    found = run("fsck", base)

    assert (found["status"], found["findings"], found["areas"]) == (0, [], 3)
    assert snapshot(base) == before


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("seed", range(4))
def test_a_damage_is_found_and_repaired(places: tuple[Path, Path], run: Run, damage: Damage, seed: int) -> None:
    base, outside = places
    code = damage(base, outside, random.Random(seed))
    before, neighbour = snapshot(base), snapshot(outside)

    found = run("fsck", base)

    assert snapshot(base) == before, "a check changes nothing"
    if code != "maybe":
        assert code in codes(found)
        assert found["status"] == 1
    assert found["repaired"] == 0

    repaired = run("fsck", base, "--repair")

    assert codes(repaired) >= codes(found) - {"unreadable"}
    check_repaired(base, run)
    assert snapshot(outside) == neighbour


def check_repaired(base: Path, run: Run) -> None:
    """Check that a repaired folder is clean, and has all bytes of all files, each with a name."""
    again = run("fsck", base)
    assert (again["status"], again["findings"]) == (0, [])
    store = open_store(base)
    kept: Counter[bytes] = Counter()
    for sid in ("one", "two", "empty"):
        names = store.list_files(sid)
        paths = stored(base, sid)
        assert len(names) == len(paths)
        usage = store.usage(sid)
        assert (usage.bytes, usage.files) == (size(paths), len(paths))
        for name in names:
            with store.open(sid, name) as file:
                data = file.read()
            kept[data] += 1
            if (sid, name) in DATA:
                assert data == DATA[sid, name]
            else:
                assert name.startswith("recovered-")
    assert not Counter(DATA.values()) - kept, "a file is lost"
    assert store.total_size_bytes == size(stored(base))
    store.close()


@given(seeds=st.lists(st.tuples(st.sampled_from(DAMAGES), st.integers(0, 2**32)), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.hostile(deadline=110)
def test_any_damages_are_repaired(tmp_path: Path, run: Run, seeds: list[tuple[Damage, int]]) -> None:
    base, outside = make_places(tmp_path / os.urandom(8).hex())
    choices = [random.Random(f"{number} {seed}") for number, (_, seed) in enumerate(seeds)]
    done = [damage(base, outside, choose) for (damage, _), choose in zip(seeds, choices, strict=True)]
    neighbour = snapshot(outside)

    repaired = run("fsck", base, "--repair")

    assert repaired["left"] == 0, done
    check_repaired(base, run)
    assert snapshot(outside) == neighbour


@pytest.mark.parametrize(
    "place",
    ["areas", "owners", "trash", "owners/counts", "areas/*", "areas/*/*", "areas/*/*/[cw]*", "areas/*/*/*/names"],
)
def test_what_cannot_be_read_is_found(places: tuple[Path, Path], run: Run, place: str) -> None:
    base, _ = places
    damaged = sorted(base.glob(place))
    for path in damaged:
        path.chmod(0)

    found = run("fsck", base)

    # A user who may read everything, such as root, has only the mode to find.
    may_read = all(os.access(path, os.R_OK, effective_ids=True) for path in damaged)
    assert codes(found) - {"wrong-counts"} == ({"wrong-mode"} if may_read else {"wrong-mode", "unreadable"})
    assert len({(each["code"], each["place"]) for each in found["findings"]}) == len(found["findings"])
    assert run("fsck", base, "--repair")["left"] == 0
    check_repaired(base, run)


def test_an_area_without_its_key_stays_and_says_why(
    places: tuple[Path, Path], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    base, _ = places
    forget_the_key(base, "two")

    found = run("fsck", base, "--repair")

    (finding,) = found["findings"]
    assert (finding["code"], finding["repaired"], found["status"]) == ("lost-key", False, 1)
    assert "only the session has the key" in finding["repair"]
    store = open_store(base)
    assert store.list_files("two") == ["big.txt", "none"]
    store.save("two", "new", b"1")
    assert run("fsck", base)["status"] == 0


def test_files_without_any_journal_get_names(places: tuple[Path, Path], run: Run) -> None:
    base, _ = places
    for path in area(base, "two").glob("w-*/names"):
        path.unlink()

    found = run("fsck", base, "--repair")

    assert Counter(finding["code"] for finding in found["findings"] if finding["repaired"])["unnamed-file"] == 2
    assert [finding["code"] for finding in found["findings"] if not finding["repaired"]] == ["lost-key"]
    names = open_store(base).list_files("two")
    assert len(names) == 2
    assert all(name.startswith("recovered-") for name in names)


def test_a_sweep_deletes_what_ended_processes_left_and_nothing_else(places: tuple[Path, Path], run: Run) -> None:
    base, outside = places
    for seed, damage in enumerate(DAMAGES * 2):
        # Those left out hide something that a sweep would delete.
        if not damage.__name__.endswith(("_link", "_mode", "_counts")):
            damage(base, outside, random.Random(seed))
    before = snapshot(base)
    found = run("fsck", base)
    assert codes(found) >= LEFTOVERS

    swept = run("sweep", base)

    assert codes(swept) == LEFTOVERS
    assert swept["left"] == 0
    expected = {finding["place"] for finding in found["findings"] if finding["code"] in LEFTOVERS}
    assert {finding["place"] for finding in swept["findings"]} == expected
    gone = {str(Path(path).relative_to(base)) for path in before.keys() - snapshot(base).keys()}
    assert {path for path in gone if not any(path == each or path.startswith(each + "/") for each in expected)} == set()
    assert codes(run("fsck", base)) == codes(found) - LEFTOVERS


def test_living_processes_keep_what_they_are_writing(places: tuple[Path, Path], run: Run) -> None:
    base, _ = places
    store = open_store(base)
    staged = store.backend.stage("one", "new.csv")
    staged.write(b"half")
    store.backend.stage("fresh", "new.csv").write(b"half")
    before = snapshot(base)

    assert run("fsck", base)["findings"] == []
    assert run("sweep", base)["findings"] == []
    assert run("fsck", base, "--repair")["findings"] == []

    assert snapshot(base) == before
    staged.finish()
    staged.commit()
    assert "new.csv" in store.list_files("one")


def test_a_check_beside_a_process_that_writes_finds_nothing(
    places: tuple[Path, Path], run: Run, fork: Callable[[Callable[[], object]], int]
) -> None:
    """Nor does a repair or a sweep disturb that process."""
    base, _ = places
    started, starting = os.pipe()
    ended, ending = os.pipe()

    def write() -> None:
        os.close(ending)
        store = open_store(base)
        for number in range(100_000):
            name = f"{number % 7}.csv"
            store.save("one", name, b"x" * (number % 300_000))
            store.save("busy", name, io.BytesIO(b"x" * 5000), size=5000)
            if number == 3:
                os.write(starting, b"x")
            if number % 3 == 0:
                assert store.delete("one", name)
            if number % 5 == 0:
                store.cleanup("busy")
            if select.select([ended], [], [], 0)[0]:
                break
        store.close()

    child = fork(write)
    os.close(starting)
    assert os.read(started, 1) == b"x"
    found = []
    for _ in range(15):
        for command in (("fsck",), ("fsck", "--repair"), ("sweep",)):
            found += run(command[0], base, *command[1:])["findings"]
    os.close(ending)
    _, status = os.waitpid(child, 0)
    os.close(ended)
    os.close(started)
    assert [finding for finding in found if finding["code"] != "undeleted-trash"] == []
    assert status == 0, "the process that wrote failed: see its traceback above"
    assert run("sweep", base)["left"] == 0
    assert run("fsck", base)["findings"] == []


def test_each_problem_says_what_is_wrong_and_what_a_repair_does() -> None:
    assert all(problem.text and problem.repair for problem in PROBLEMS.values())
    assert PROBLEMS.keys() >= LEFTOVERS
