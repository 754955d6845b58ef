"""``python -m silo_files``: what the commands print, their exit status, and folders that they refuse."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from silo_files import FileStore
from silo_files.cli.program import main
from silo_files.cli.text import Progress, columns, size
from silo_files.escaping import printable
from silo_files.names import hash_key, hash_name

COMMANDS = [["usage"], ["ls"], ["sweep"], ["fsck"], ["fsck", "--repair"]]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    store = FileStore(tmp_path / "base")
    store.save("sid", "a.csv", b"12345")
    store.save("sid", "größe.txt", b"1" * 1500)
    store.save("other", "a.csv", b"")
    store.save("empty", "a", b"1")
    store.delete("empty", "a")
    store.close()
    return tmp_path / "base"


def test_usage(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = next((base / "areas").glob("??/*/w-*")) / "7.part"
    part.write_bytes(b"123")

    assert main(["usage", str(base)]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "3 areas",
        "finished    3 files   1.5 kB",
        "unfinished   1 file  3 bytes",
        "trash       0 areas",
    ]


def test_usage_as_json(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--json", str(base)]) == 0

    assert json.loads(capsys.readouterr().out) == {
        "root": str(base),
        "areas": 3,
        "files": 3,
        "bytes": 1505,
        "unfinished": {"files": 0, "bytes": 0},
        "trash": {"areas": 0},
    }


def test_ls(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = base / "areas" / hash_key("sid")[:2] / hash_key("sid")
    for name in ("a.csv", "größe.txt"):
        os.utime(folder / hash_name(name), (86_400, 86_400))

    assert main(["ls", str(base)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(hash_key("sid")[:8])] == [
        f"{hash_key('sid')[:8]}  5 bytes  1970-01-02 00:00:00 UTC  a.csv",
        f"{hash_key('sid')[:8]}   1.5 kB  1970-01-02 00:00:00 UTC  größe.txt",
    ]
    assert [line.split(maxsplit=1) for line in lines if line.startswith(hash_key("empty")[:8])] == [
        [hash_key("empty")[:8], "(no files)"]
    ]


def test_ls_as_json(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--json", str(base)]) == 0

    areas = {each["area"]: each["files"] for each in json.loads(capsys.readouterr().out)["areas"]}
    assert areas.keys() == {hash_key(sid) for sid in ("sid", "other", "empty")}
    assert [(file["name"], file["size"]) for file in areas[hash_key("sid")]] == [("a.csv", 5), ("größe.txt", 1500)]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_names_are_printed_without_control_characters(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A journal that another program wrote may have any name in it."""
    name = "evil\x1b[31m\u202etxt.exe\ud800"
    folder = base / "areas" / hash_key("sid")[:2] / hash_key("sid")
    with next(folder.glob("w-*/names")).open("ab") as file:
        file.write(b"\n" + json.dumps({"name": name}).encode() + b"\n")
    (folder / hash_name(name)).touch(0o600)
    (folder / "not\x1b[31mours\u202e").touch()

    main(["ls", str(base)])
    main(["ls", "--json", str(base)])
    main(["fsck", str(base)])
    main(["fsck", "--json", str(base)])

    out = capsys.readouterr().out
    assert "evil\\x1b[31m\\u202etxt.exe\\ud800" in out
    assert "not\\x1b[31mours\\u202e" in out
    assert not {"\x1b", "\u202e"} & {*out}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("place", ["missing", "file", "empty", "no store", "areas only"])
def test_other_folders_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], place: str
) -> None:
    root = tmp_path / "root"
    if place == "file":
        root.write_bytes(b"keep")
    elif place != "missing":
        root.mkdir()
    if place == "no store":
        (root / "precious.part").write_bytes(b"keep")
        (root / "owners").mkdir()
        (root / "owners" / ("0" * 16 + ".lock")).touch()
    elif place == "areas only":
        (root / "areas" / "ab").mkdir(parents=True)
        (root / "areas" / "ab" / "notes.part").write_bytes(b"keep")
        (root / "trash" / ("0" * 32 + ".gone")).mkdir(parents=True)
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in tmp_path.rglob("*"))

    assert main([command[0], str(root), *command[1:]]) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: {root} ")
    assert sorted((str(path), path.lstat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_a_refusal_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fsck", "--json", str(tmp_path)]) == 2

    document = json.loads(capsys.readouterr().out)
    assert document["error"] == "folder_refused"
    assert str(tmp_path) in document["message"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners")
@pytest.mark.parametrize("command", [["sweep"], ["fsck", "--repair"]], ids=" ".join)
def test_another_user_must_not_write_here(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """What root would create here, the application could not open."""
    owner = base.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)

    assert main([command[0], str(base), *command[1:]]) == 2

    assert f"belong to the user with the id {owner}" in capsys.readouterr().err
    assert main(["fsck", str(base)]) == 0


def test_the_exit_status_of_fsck(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (base / "trash" / "odd").touch()

    assert main(["fsck", str(base)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "foreign-entry: trash/odd: a store does not create such an entry",
        "    left; --repair moves it to set-aside",
        "3 areas: 1 finding, 0 repaired, 1 left",
    ]
    assert main(["fsck", str(base), "--repair"]) == 0
    out = capsys.readouterr().out
    assert "    repaired (moved to set-aside/" in out
    assert "3 areas: 1 finding, 1 repaired, 0 left" in out
    assert main(["fsck", str(base)]) == 0
    assert capsys.readouterr().out == "3 areas: 0 findings\n"
    assert len(list((base / "set-aside").iterdir())) == 1


def test_a_sweep_says_what_it_deleted(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (next((base / "areas").glob("??/*/w-*")) / "7.part").write_bytes(b"123")
    for number in range(2):
        (base / "owners" / f"{number:016}.lock").write_bytes(b"1")

    assert main(["sweep", str(base)]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == ["1 unfinished file deleted", "2 lock files deleted"]
    assert main(["sweep", str(base)]) == 0
    assert capsys.readouterr().out == "nothing to delete\n"


@pytest.mark.parametrize("arguments", [[], ["usage"], ["mend", "x"], ["usage", "x", "--repair"]], ids=" ".join)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert "usage: python -m silo_files" in capsys.readouterr().err


@pytest.mark.slow
def test_the_module_is_a_program(base: Path) -> None:
    command = [sys.executable, "-m", "silo_files", "usage", str(base)]

    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("3 areas\n")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pipes end differently")
def test_a_reader_may_stop_reading(base: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)

    with os.fdopen(writing, "wb") as pipe:
        command = [sys.executable, "-m", "silo_files", "ls", str(base)]
        ran = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=60)

    assert (ran.returncode, ran.stderr) == (0, "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_long_work_shows_progress_on_a_terminal() -> None:
    now = 0.0
    stream = Terminal()
    progress = Progress("checked", stream=stream, clock=lambda: now)

    progress.show(10)
    assert stream.getvalue() == ""
    now = 1.5
    progress.show(2000)
    progress.show(2001)
    assert stream.getvalue() == "\r2,000 areas checked"
    progress.clear()
    assert stream.getvalue() == "\r2,000 areas checked\r                   \r"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nothing_but_progress_is_on_stderr(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    shown: list[int] = []
    monkeypatch.setattr(Progress, "show", lambda self, areas: shown.append(areas))

    main([command[0], str(base), *command[1:]])

    assert capsys.readouterr().err == ""
    assert shown == [1, 2, 3]


def test_a_pipe_gets_no_progress() -> None:
    stream = io.StringIO()
    progress = Progress("checked", stream=stream, clock=iter(range(0, 1000, 100)).__next__)
    progress.show(10)
    progress.clear()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (2_000_000, "2.0 MB"),
        (3 * 10**15, "3,000.0 TB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "ä\\n\\u202e"), ("ascii", "\\xe4\\n\\u202e")])
def test_text_fits_the_terminal(encoding: str, shown: str) -> None:
    assert printable("ä\n\u202e", encoding) == shown


def test_columns_are_aligned() -> None:
    assert columns([("a", "1"), ("long", "100")], right=(1,)) == ["a       1", "long  100"]
