"""A store accepts certain names and contents only, and decides that before a file is visible."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from silo_files import DigestMismatch, ExtensionRefused, FileRefused, FileStore, InvalidSource, check_name
from store_files import content, parts

DATA = b"month,sum\n"
SHA256 = "sha256:" + hashlib.sha256(DATA).hexdigest()


# Blocks


def test_blocks_may_come_from_an_iterable(store: FileStore) -> None:
    def blocks() -> Iterator[bytes | bytearray | memoryview]:
        yield from (b"one", b"", bytearray(b"two"), memoryview(b"three"))

    assert store.save("sid", "a", blocks(), size=11).info.size == 11
    assert content(store, "a") == b"onetwothree"
    assert store.save("sid", "empty", []).info.size == 0
    assert store.save("sid", "lines", (line for line in io.BytesIO(b"1\n2\n"))).info.size == 4


@pytest.mark.parametrize("blocks", ["text", [b"x", "text"], [b"x", None], [1], {"a": b"x"}, [memoryview(b"abcd")[::2]]])
def test_blocks_of_other_types_are_refused(store: FileStore, blocks: Any) -> None:
    store.save("sid", "a", b"old")
    with pytest.raises(InvalidSource):
        store.save("sid", "a", blocks)
    assert content(store, "a") == b"old"
    assert parts(store) == []


# Digests


@pytest.mark.parametrize("digest", [SHA256, SHA256.upper(), "md5:" + hashlib.md5(DATA).hexdigest()])
def test_an_expected_digest_is_checked(store: FileStore, digest: str) -> None:
    saved = store.save("sid", "a.csv", io.BytesIO(DATA), digest=digest)
    assert saved.info.digest == digest.lower()
    with pytest.raises(DigestMismatch) as caught:
        store.save("sid", "a.csv", DATA + b"1,20\n", digest=digest)
    assert caught.value.expected == digest.lower()
    assert caught.value.actual.split(":")[0] == digest.lower().split(":")[0]
    assert content(store, "a.csv") == DATA
    assert parts(store) == []


def test_a_writer_checks_its_digest(store: FileStore) -> None:
    out = store.writer("sid", "a", digest=SHA256)
    out.write(DATA[:3])
    with pytest.raises(DigestMismatch):
        out.commit()
    with store.writer("sid", "a", digest=SHA256) as out:
        out.write(DATA[:3])
        out.write(DATA[3:])
    assert out.info.digest == SHA256


@pytest.mark.parametrize(
    "digest", ["", "sha256", "sha256:", "sha256:12", "sha256:" + "g" * 64, ":" + "0" * 64, "no:12"]
)
def test_a_digest_that_is_none_is_a_mistake(store: FileStore, digest: str) -> None:
    with pytest.raises(ValueError, match="digest"):
        store.save("sid", "a", DATA, digest=digest)
    assert list(Path(store.base_dir).iterdir()) == []


def test_a_digest_without_its_algorithm_is_a_mistake(store: FileStore) -> None:
    with pytest.raises(ValueError, match="is not a digest: give 'sha256:' followed by 64 hexadecimal digits"):
        store.save("sid", "a", DATA, digest=SHA256.partition(":")[2])


# Extensions


@pytest.fixture
def tables(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "tables", extensions={".csv", ".tar.gz", ".CSV", ".é"})


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.b.csv", "x.tar.gz", "a.E\u0301", ".a.csv", "a.exe.csv"])
def test_an_accepted_extension(tables: FileStore, name: str) -> None:
    tables.save("sid", name, b"1")
    assert tables.list_files("sid") == [check_name(name)]


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a.exe",
        "a.gz",
        "a.csv.exe",
        ".csv",
        ".tar.gz",
        "csv",
        "a.csv_",
        "a.c\u017fv",
        "a.exe:.csv",
        "a:b.csv",
        "a.csv::$DATA",
        "a.csv\u200d",
    ],
)
def test_another_extension_is_refused(tables: FileStore, name: str) -> None:
    for save in (
        lambda: tables.save("sid", name, b"1"),
        lambda: tables.save("sid", name, b"1", on_conflict="rename"),
        lambda: tables.writer("sid", name),
    ):
        with pytest.raises(ExtensionRefused) as caught:
            save()
        assert caught.value.extensions == (".csv", ".tar.gz", ".é")
    assert list(Path(tables.base_dir).iterdir()) == []


def test_a_store_without_a_policy_accepts_all_names(store: FileStore) -> None:
    for name in ("a", "a.exe", "a:b.csv"):
        store.save("sid", name, b"1")
    assert store.list_files("sid") == ["a", "a.exe", "a:b.csv"]


@pytest.mark.parametrize(
    ("extensions", "error"),
    [(".csv", TypeError), ([5], TypeError), (["csv"], ValueError), (["."], ValueError), ([""], ValueError)],
)
def test_extensions_are_checked(tmp_path: Path, extensions: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="extension"):
        FileStore(tmp_path / "base", extensions=extensions)


# Validators


def test_a_validator_sees_the_file_before_it_is_visible(store: FileStore) -> None:
    store.save("sid", "a.csv", b"old")
    seen: list[Any] = []

    def look(name: str, file: BinaryIO) -> None:
        seen.append((name, file.read(), content(store, "a.csv")))

    store.save("sid", "a.csv", [b"ne", b"w"], validate=look)
    assert seen == [("a.csv", b"new", b"old")]
    with store.writer("sid", "b.csv", validate=lambda name, file: seen.append((name, file.read()))) as out:
        out.write(b"1")
        assert len(seen) == 1
    assert seen[1:] == [("b.csv", b"1")]


def refuse(name: str, file: BinaryIO) -> None:
    raise FileRefused("it has no header")


def test_a_refused_file_is_not_saved(store: FileStore) -> None:
    store.save("sid", "a.csv", b"old")
    with pytest.raises(FileRefused) as caught:
        store.save("sid", "a.csv", b"new", validate=refuse)
    assert caught.value.reason == "it has no header"
    assert content(store, "a.csv") == b"old"
    assert parts(store) == []


def test_other_errors_of_a_validator_pass_through(store: FileStore) -> None:
    with pytest.raises(ZeroDivisionError):
        store.save("sid", "a.csv", b"new", validate=lambda name, file: 1 / 0)
    with pytest.raises(KeyboardInterrupt), store.writer("sid", "a.csv", validate=interrupt):
        pass
    assert store.list_files("sid") == []
    assert parts(store) == []


def interrupt(name: str, file: BinaryIO) -> None:
    raise KeyboardInterrupt


def test_the_store_validates_first_and_each_reads_from_the_start(tmp_path: Path) -> None:
    seen: list[Any] = []
    store = FileStore(tmp_path / "base", validate=lambda name, file: seen.append(("store", file.read())))
    store.save("sid", "a", b"12", validate=lambda name, file: seen.append(("save", file.read(), file.closed)))
    assert seen == [("store", b"12"), ("save", b"12", False)]
    store = FileStore(tmp_path / "base", validate=refuse)
    with pytest.raises(FileRefused):
        store.save("sid", "b", b"12", validate=lambda name, file: seen.append("never"))
    assert "never" not in seen
    with pytest.raises(TypeError, match="validate takes a function"):
        FileStore(tmp_path / "base", validate=5)  # type: ignore[arg-type]


def test_a_validator_may_use_the_store(store: FileStore) -> None:
    def nested(name: str, file: BinaryIO) -> None:
        store.save("sid", name, b"inner")
        store.delete("sid", "b")

    store.save("sid", "b", b"")
    store.save("sid", "a", b"outer", validate=nested)
    assert store.list_files("sid") == ["a"]
    assert content(store, "a") == b"outer"


def test_a_validator_cannot_write(store: FileStore) -> None:
    def write(name: str, file: BinaryIO) -> None:
        assert not file.writable()
        with suppress(io.UnsupportedOperation):
            file.write(b"other")

    store.save("sid", "a", b"mine", validate=write)
    assert content(store, "a") == b"mine"


def test_nothing_is_validated_that_fails_before(store: FileStore) -> None:
    with pytest.raises(DigestMismatch):
        store.save("sid", "a", b"x", digest=SHA256, validate=lambda name, file: pytest.fail("called"))
