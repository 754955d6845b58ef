"""Receives uploads: the body of a request becomes saved files, and each byte is written once."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import IO, Any, BinaryIO, cast

from flask import after_this_request, request
from silo_files import FileInfo, FileStoreError, Writer, check_name
from werkzeug.datastructures import FileStorage

from .body import Body
from .errors import MalformedUpload
from .form import FORM, Head, Part, read_form


def receive(
    name: str | None,
    begin: Callable[[str, int | None], Writer],
    reopen: Callable[[str], BinaryIO],
    *,
    may_repeat: bool,
) -> list[FileInfo]:
    """Save what the body of the running request contains, see ``SessionFileStore.receive()``.

    If that fails, the rest of the body is read after the answer was sent, so that the client reads the answer.

    Args:
        name: The name of the file; None if a form names its files.
        begin: Begins to write a file, given its name and its size in bytes, if that is known.
        reopen: Opens a saved file by its name.
        may_repeat: Whether several files of a form may have the same name.
    """
    body = Body(request)
    try:
        body.check()
        if "HTTP_CONTENT_RANGE" in request.environ:  # RFC 9110, section 14.5: a part must not become the whole file
            raise MalformedUpload("it is a part of a file (Content-Range): send the whole file")
        if request.mimetype == FORM:
            return _receive_form(body, FormFiles(name, begin, may_repeat), reopen)
        if name is None:
            raise MalformedUpload(f"it is not {FORM}, and nothing names the file")
        with begin(name, body.size) as writer:
            while block := body.read():
                writer.write(block)
        return [writer.info]
    except Exception:
        after_this_request(body.linger)
        raise


def _receive_form(body: Body, files: FormFiles, reopen: Callable[[str], BinaryIO]) -> list[FileInfo]:
    """Save the files of a form, all or none. Fill ``request.form`` and ``request.files``."""
    try:
        fields = read_form(body, request, files.begin)
        saved = files.commit()
    except BaseException:
        files.abort()
        raise
    body.set_form(request, fields, files.opened(reopen))
    return saved


@contextmanager
def _naming(file: str | None) -> Iterator[None]:
    """Put the name of a file into the errors of a block; None if the client has not given it."""
    try:
        yield
    except FileStoreError as error:
        error.file = file
        raise


class FilePart:
    """A file of a form that is being written.

    Args:
        head: The head of the part.
        writer: Writes the file.
        name: The name of the file, for the errors; None if the client has not given it.
    """

    def __init__(self, head: Head, writer: Writer, name: str | None) -> None:
        self.head: Head = head
        self.writer: Writer = writer
        self._name = name

    def write(self, data: bytes) -> None:
        """Write the next bytes of the file."""
        with _naming(self._name):
            self.writer.write(data)

    def end(self) -> None:
        """Close the file: a form may have more files than a process may have open."""
        with _naming(self._name):
            self.writer.finish()

    def commit(self) -> FileInfo:
        """Make the file visible."""
        with _naming(self._name):
            return self.writer.commit()


class NoFile:
    """The part that a browser sends if its user has chosen no file: it has no name and no bytes."""

    def write(self, data: bytes) -> None:
        """Take no bytes.

        Raises:
            InvalidFileName: There are some.
        """
        if data:
            check_name("")

    def end(self) -> None:
        """Do nothing."""


class FormFiles:
    """The files of a form. All are written before the first gets its name.

    Args:
        name: The name of the only file; None if the form names its files.
        begin: Begins to write a file, given its name and its size in bytes, if that is known.
        may_repeat: Whether several files may have the same name.
    """

    def __init__(self, name: str | None, begin: Callable[[str, int | None], Writer], may_repeat: bool) -> None:
        self._name = name
        self._begin = begin
        self._may_repeat = may_repeat
        self._names: set[str] = set()
        self._parts: list[FilePart] = []

    def begin(self, head: Head) -> Part:
        """Begin to write a file.

        Raises:
            InvalidFileName: Its name is refused.
            MalformedUpload: One file was expected, or an earlier file has the same name.
        """
        if not head.filename:
            return NoFile()
        if self._name is not None and self._parts:
            raise MalformedUpload("the form has several files, and one is expected")
        # Old browsers send "C:\\fakepath\\a.csv", and a folder is uploaded as "folder/a.csv" (RFC 7578, section 4.2).
        name = check_name(re.split(r"[/\\]", head.filename)[-1]) if self._name is None else self._name
        shown = name if self._name is None else None
        with _naming(shown):
            if name in self._names and not self._may_repeat:
                raise MalformedUpload("two files of the form have the same name")
            part = FilePart(head, self._begin(name, None), shown)
        self._names.add(name)
        self._parts.append(part)
        return part

    def commit(self) -> list[FileInfo]:
        """Make all files visible, one after the other. Return them in the order of the form.

        Raises:
            MalformedUpload: One file was expected, and there is none.
        """
        if self._name is not None and not self._parts:
            raise MalformedUpload("the form has no file, and one is expected")
        return [part.commit() for part in self._parts]

    def abort(self) -> None:
        """Discard the files that have no name yet."""
        for part in self._parts:
            part.writer.abort()

    def opened(self, reopen: Callable[[str], BinaryIO]) -> list[tuple[str, FileStorage]]:
        """Return the saved files under the names of their fields. Each is opened when it is first read."""
        found = []
        for part in self._parts:
            head, file = part.head, SavedFile(partial(reopen, part.writer.info.name))
            storage = FileStorage(cast(IO[bytes], file), head.filename, head.name, headers=head.headers)
            found.append((head.name, storage))
        return found


class SavedFile(io.RawIOBase):
    """A saved file for reading, opened when it is first used."""

    def __init__(self, reopen: Callable[[], BinaryIO]) -> None:
        super().__init__()
        self._reopen = reopen

    @cached_property
    def _file(self) -> BinaryIO:
        return self._reopen()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readline(self, size: int | None = -1, /) -> bytes:  # the inherited one reads byte by byte
        return self._file.readline(-1 if size is None else size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def close(self) -> None:
        if "_file" in self.__dict__:
            self._file.close()
        super().close()
