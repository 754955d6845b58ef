"""Errors carry what they are about, say what to do, and survive pickle."""

from __future__ import annotations

import errno
import pickle
from typing import Any

import pytest
import silo_files
from silo_files import (
    AreaGone,
    BaseMissing,
    DigestMismatch,
    ExtensionRefused,
    FileMissing,
    FileRefused,
    FileStoreError,
    FileTooLarge,
    FolderUnusable,
    InvalidFileName,
    InvalidKey,
    InvalidSource,
    NameTaken,
    NoLocalPath,
    SessionQuotaExceeded,
    StorageFull,
    StoreQuotaExceeded,
    TruncatedInput,
    UnsafeCounts,
    UnsafeFolder,
)

CASES: list[tuple[FileStoreError, dict[str, Any], str]] = [
    (FileStoreError("of a backend"), {}, "of a backend"),
    (InvalidKey("its type is list, not str"), {"reason": "its type is list, not str"}, "key refused: its type is list"),
    (InvalidFileName("it is empty"), {"reason": "it is empty"}, "file name refused: it is empty"),
    (InvalidSource("a list is not bytes"), {"reason": "a list is not bytes"}, "source refused: a list is not bytes"),
    (TruncatedInput(3, 4), {"received": 3, "size": 4}, "after 3 of 4 bytes: send the whole file again"),
    (TruncatedInput(3), {"received": 3, "size": None}, "broke off after 3 bytes: send the whole file again"),
    (FileTooLarge(10), {"max_bytes": 10, "size": None}, "more than 10 bytes: save a smaller one, or raise max_file_"),
    (FileTooLarge(10, size=11), {"max_bytes": 10, "size": 11}, "more than 10 bytes"),
    (FileTooLarge(size=4), {"max_bytes": None, "size": 4}, "more than the 4 bytes announced"),
    (
        DigestMismatch("md5:1", "md5:2"),
        {"expected": "md5:1", "actual": "md5:2"},
        "digest md5:2, not md5:1: send the wh",
    ),
    (NameTaken(), {}, "has a file of this name: choose another name, or delete that file"),
    (ExtensionRefused([".a", ".b"]), {"extensions": (".a", ".b")}, "must end with .a or .b and have no colon"),
    (FileRefused("it has no header"), {"reason": "it has no header"}, "was refused: it has no header"),
    (SessionQuotaExceeded(max_bytes=9), {"max_bytes": 9, "max_files": None}, "9 bytes: delete some of its files, or"),
    (SessionQuotaExceeded(max_files=2), {"max_bytes": None, "max_files": 2}, "2 files: delete some of its files, or"),
    (StoreQuotaExceeded(99), {"max_bytes": 99}, "more than 99 bytes: clean up sessions, or raise max_store_bytes"),
    (StorageFull(errno.ENOSPC), {"errno": errno.ENOSPC}, "free some space"),
    (AreaGone(), {}, "nothing was saved"),
    (BaseMissing("base"), {"folder": "base", "errno": errno.ENOENT}, "folder base is missing: create it, or choose"),
    (FolderUnusable("base", 13), {"folder": "base", "errno": 13, "obstacle": None}, "may not write to base. Give that"),
    (FolderUnusable("b", 13, "a: no"), {"folder": "b", "errno": 13, "obstacle": "a: no"}, "cannot be created (a: no)"),
    (UnsafeFolder("areas"), {"folder": "areas", "errno": errno.ENOTDIR}, "areas is a link or a file"),
    (
        UnsafeCounts("base/owners/counts", "a link", "base"),
        {"path": "base/owners/counts", "found": "a link", "base_dir": "base", "errno": errno.EINVAL},
        "owners/counts is a link where the store needs a file of counts: `python -m silo_files fsck base --repair`",
    ),
    (FileMissing(), {}, "the session has no file of this name"),
    (NoLocalPath(), {}, "read files with open()"),
]


def copy_of(error: FileStoreError) -> FileStoreError:
    copied: FileStoreError = pickle.loads(pickle.dumps(error))
    return copied


@pytest.mark.parametrize(("error", "values", "text"), CASES, ids=lambda value: type(value).__name__)
def test_an_error_carries_its_values_also_through_pickle(
    error: FileStoreError, values: dict[str, Any], text: str
) -> None:
    assert error.file is None
    error = copy_of(error)
    error.file = "a.csv"
    copy = copy_of(error)

    assert copy.file == "a.csv"
    assert text in str(error)
    assert (type(copy), str(copy)) == (type(error), str(error))
    for each in (error, copy):
        assert {name: getattr(each, name) for name in values} == values


def test_every_error_is_a_case_here() -> None:
    exported = {getattr(silo_files, name) for name in silo_files.__all__}
    errors = {value for value in exported if isinstance(value, type) and issubclass(value, FileStoreError)}
    assert errors == {type(error) for error, _, _ in CASES}
