"""``Writer``, a file that a caller writes in blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from .backend import Block, FileBackend, FileInfo, SavedPath
from .digest import Expected
from .errors import FileTooLarge, NameTaken, TruncatedInput
from .ledger import Ledger, Reservation
from .moving import MovedFile
from .names import free_name
from .policy import OnConflict, Validator, accepted_extension, check_conflict
from .source import as_block


class Place(NamedTuple):
    """Where a store's files are written, and what is accepted there.

    Attributes:
        backend: Keeps the files.
        ledger: Counts the files, and keeps them within the limits of sessions and of the store.
        max_file_bytes: Bytes that each file may have; None for no limit.
        extensions: The extensions that are accepted, as ``check_extensions()`` returns them; None for all.
        validate: Looks at each file before it is visible; None to accept all.
    """

    backend: FileBackend
    ledger: Ledger
    max_file_bytes: int | None
    extensions: tuple[str, ...] | None
    validate: Validator | None


class Saving(NamedTuple):
    """Whose file is being saved. The ``begin_save`` of a ``FileStore`` returns it.

    Attributes:
        key: The key that the file will belong to.
        check: Called once all bytes are written and before the file gets its name. If it raises, the save fails with
            its error.
        ended: Called with True after the commit, which raises what it raises, or with False if the file could not be
            begun or was not saved.
    """

    key: str
    check: Callable[[], object] | None = None
    ended: Callable[[bool], object] | None = None


class Writer:
    """A file that is being written. ``FileStore.writer()`` makes it.

    As a context manager it commits when its block ends, and aborts if the block raises. Without ``with``, the caller
    calls ``commit()`` or ``abort()``. One thread uses it at a time, of the process that made it.
    """

    __slots__ = (
        "_adopted",
        "_digest",
        "_extension",
        "_key",
        "_name",
        "_on_conflict",
        "_place",
        "_reservation",
        "_saved",
        "_saving",
        "_size",
        "_staged",
        "_state",
        "_validators",
        "_written",
    )  # fmt: skip

    def __init__(
        self,
        place: Place,
        saving: Saving,
        name: str,
        *,
        size: int | None = None,
        digest: str | None = None,
        on_conflict: OnConflict = "replace",
        validate: Validator | None = None,
        is_moved: bool = False,
    ) -> None:
        if size is not None and size < 0:
            raise ValueError("size must not be negative")
        limit = place.max_file_bytes
        if limit is not None and size is not None and size > limit:
            raise FileTooLarge(limit, size=size)
        check_conflict(on_conflict)
        self._extension = None if place.extensions is None else accepted_extension(name, place.extensions)
        self._digest = None if digest is None else Expected(digest)
        if on_conflict == "error" and place.backend.size(saving.key, name) is not None:
            raise NameTaken
        self._on_conflict = on_conflict
        self._validators = [each for each in (place.validate, validate) if each is not None]
        self._place = place
        self._saving = saving
        self._key = saving.key
        self._name = name
        self._size = size
        self._written = 0
        self._adopted = False
        self._state = "open"
        self._saved: SavedPath | None = None
        self._staged = place.backend.stage(saving.key, name)
        try:
            # After stage(): a clean-up before this line is counted, and one after it makes the commit fail.
            self._reservation: Reservation = self._reserve(is_written=not is_moved)
        except BaseException:
            self._staged.abort()
            raise

    @property
    def saved(self) -> SavedPath:
        """The absolute path of the saved file, or where its backend keeps it, with its ``info``.

        Raises:
            ValueError: The file is not committed.
        """
        if self._saved is None:
            raise ValueError("the file is not saved: look at it after its commit")
        return self._saved

    @property
    def info(self) -> FileInfo:
        """The saved file, see ``saved``."""
        return self.saved.info

    @property
    def path(self) -> str:
        """Where the file was saved, see ``saved``."""
        return str(self.saved)

    def write(self, block: Block) -> int:
        """Append ``block``. Return its number of bytes. The caller may reuse its buffer afterwards.

        After an error nothing of the file is kept, and it can no longer be committed.

        Raises:
            InvalidSource: ``block`` is not bytes.
            FileTooLarge: The file would have more bytes than ``max_file_bytes`` or its announced size.
            SessionQuotaExceeded: The session would hold more than ``max_session_bytes``.
            StoreQuotaExceeded: All sessions together would hold more than ``max_store_bytes``.
            StorageFull: There is no room left.
            ValueError: The file was committed or aborted.
        """
        if self._state != "open":
            raise self._misuse()
        try:
            if not isinstance(block, bytes):
                block = as_block(block)
            count = len(block)
            self._take(count)
            self._staged.write(block)
            if self._digest is not None:
                self._digest.add(block)
        except BaseException:
            self._end("failed")
            raise
        return count

    def move(self, moved: MovedFile) -> None:
        """Take the bytes of a local file, in place of ``write()``: without copying them, if that is possible.

        Raises:
            InvalidSource: Another process has changed the file.
        """
        if self._state != "open":
            raise self._misuse()
        try:
            self._adopted = self._staged.adopt(moved.path, moved.status)
            if self._adopted:
                self._take(moved.size)
            else:
                self._reservation.release()
                self._reservation = self._reserve(is_written=True)
        except BaseException:
            self._end("failed")
            raise
        if not self._adopted:
            for block in moved.blocks():
                self.write(block)
        moved.close()

    def finish(self) -> None:
        """Close the file, which is then complete, and look at it. Only ``commit()`` and ``abort()`` follow.

        A caller that commits several files together finishes each first, so that few are open at a time, none holds
        more room than it needs, and none is saved if one is refused. A second call does nothing.

        Raises:
            TruncatedInput: The file has fewer bytes than its announced size.
            DigestMismatch: The file has another digest than the expected one.
            FileRefused: A validator refused the file. Any other error of a validator passes through.
            StorageFull: There is no room left.
            ValueError: The file was committed or aborted, or a block could not be written.
        """
        if self._state != "complete":
            self._complete()
            self._reservation.trim()

    def commit(self) -> FileInfo:
        """Make the whole file visible under its name. Return its description.

        It finishes the file first, and raises what ``finish()`` raises. After an error nothing of the file is kept.
        Called again after success, it returns the same description.

        Raises:
            NameTaken: There is a file of this name, and ``on_conflict`` is ``"error"``.
            StorageFull: There is no room left.
            AreaGone: The session was cleaned up meanwhile.
            ValueError: The file was aborted, or a block could not be written.
        """
        self._commit()
        return self.info

    def _commit(self) -> None:
        """Commit the file, see ``commit()``. Describing it takes time, and few callers ask for that."""
        if self._saved is not None:
            return
        if self._state != "complete":
            self._complete()
        try:
            saved = self._save()
        except BaseException:
            self._end("failed")
            raise
        self._saved = saved
        try:
            self._end("saved")
        except BaseException:
            self._saved, self._state = None, "failed"
            raise

    def abort(self) -> None:
        """Discard the file. Does nothing after ``commit()``."""
        if self._state in ("open", "complete"):
            self._end("aborted")

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.abort()
        elif self._state != "aborted":
            self._commit()

    def _complete(self) -> None:
        if self._state != "open":
            raise self._misuse()
        try:
            if self._size is not None and self._written < self._size:
                raise TruncatedInput(self._written, self._size)
            self._staged.finish()
            if self._digest is not None:
                if self._adopted:
                    with self._staged.open() as file:
                        self._digest.read(file)
                self._digest.check()
            for validate in self._validators:
                with self._staged.open() as file:
                    validate(self._name, file)
        except BaseException:
            self._end("failed")
            raise
        self._state = "complete"

    def _reserve(self, *, is_written: bool) -> Reservation:
        replacing = self._name if self._on_conflict == "replace" else None
        return self._place.ledger.reserve(self._key, size=self._size, replacing=replacing, is_written=is_written)

    def _take(self, count: int) -> None:
        """Count ``count`` more bytes, before they are written."""
        written = self._written + count
        limit, size = self._place.max_file_bytes, self._size
        if limit is not None and written > limit:
            raise FileTooLarge(limit, size=size)
        if size is not None and written > size:
            raise FileTooLarge(size=size)
        self._reservation.take(count)
        self._written = written

    def _save(self) -> SavedPath:
        if self._saving.check is not None:
            self._saving.check()
        backend = self._place.backend
        with self._place.ledger.change(self._key) as change:
            name = self._final_name()
            old = backend.size(self._key, name) if self._on_conflict == "replace" else None
            change.add(bytes=self._written - (old or 0), files=int(old is None), reservation=self._reservation)
            saved = self._staged.commit(name)
        if self._digest is not None:
            saved = SavedPath(saved, replace(saved.info, digest=self._digest.text))
        return saved

    def _final_name(self) -> str:
        """Return the name that the file gets. The lock of the key is held."""
        if self._on_conflict == "replace":
            return self._name
        if self._on_conflict == "rename":
            return free_name(self._name, self._is_taken, self._extension)
        if self._is_taken(self._name):
            raise NameTaken
        return self._name

    def _is_taken(self, name: str) -> bool:
        return self._place.backend.size(self._key, name) is not None

    def _end(self, state: str) -> None:
        """Release what the file took. After ``commit()`` of the staged file, ``abort()`` of it does nothing."""
        self._state = state
        try:
            if state != "saved":
                self._staged.abort()
        finally:
            self._reservation.release()
        if self._saving.ended is not None:
            self._saving.ended(state == "saved")

    def _misuse(self) -> ValueError:
        reason = {
            "complete": "it is complete",
            "saved": "it is saved",
            "aborted": "it was aborted",
            "failed": "an error has ended it",
        }[self._state]
        return ValueError(f"the file is no longer being written: {reason}")
