"""silo-files alone: saving, reading, limits and clean-up."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from silo_files import (
    FileInfo,
    FileMissing,
    FileRefused,
    FileStore,
    FileTooLarge,
    SavedPath,
    SessionQuotaExceeded,
    Usage,
    Writer,
)
from typing_extensions import assert_type

store = FileStore(
    Path("uploads"),
    max_file_bytes=1_000_000,
    max_session_bytes=5_000_000,
    max_store_bytes=None,
    max_files=10,
    extensions={".csv"},
    validate=lambda name, file: None,
    durable=True,
    key_for=str.lower,
)


def look(name: str, file: BinaryIO) -> None:
    if not file.read(1):
        raise FileRefused("it is empty")


def save(sid: str, name: str, data: bytes) -> str | None:
    try:
        store.save(sid, name, memoryview(data), size=len(data))
        assert_type(store.save(sid, name, io.BytesIO(data)), SavedPath)
        with store.writer(sid, name, size=len(data)) as out:
            assert_type(out, Writer)
            assert_type(out.write(bytearray(data)), int)
        assert_type(out.info, FileInfo)
        assert_type(store.save(sid, name, Path("a.csv"), on_conflict="rename", digest="md5:").info, FileInfo)
        store.save(sid, name, [b"1", bytearray(b"2")], validate=look, on_conflict="error")
        assert_type(store.writer(sid, name).commit(), FileInfo)
        return out.path
    except FileTooLarge as error:
        assert_type(error.size, int | None)
        return None
    except SessionQuotaExceeded:
        return None


def read(sid: str, name: str) -> bytes:
    assert_type(store.get_path(sid, name), str | None)
    assert_type(store.files(sid), list[FileInfo])
    assert_type(store.info(sid, name).size, int)
    assert_type(store.info(sid, name, digest="sha256").digest, str | None)
    assert_type(store.usage(sid), Usage)
    try:
        with store.open(sid, name) as file:
            assert_type(file, BinaryIO)
            return file.read()
    except FileMissing:
        return b""


def clean(living: set[str]) -> int:
    store.cleanup("session-1")
    return store.sweep(living.intersection)
