"""The store that an application uses."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO

from .backend import FileBackend, FileInfo, Living, Origin, SavedPath, Usage
from .digest import digest_of
from .errors import AreaGone, FileMissing, NoLocalPath
from .ledger import Ledger, Limits
from .living import ask
from .local import LocalFileBackend, LocalLedger
from .memory_ledger import MemoryLedger
from .moving import MovedFile
from .names import check_key, check_name
from .policy import OnConflict, Validator, check_extensions, check_limits
from .seam import check_seam
from .source import Source, as_block, read_blocks
from .writer import Place, Saving, Writer


class FileStore:
    """Files that belong to sessions: saved whole or not at all, deleted together.

    Every method that takes a session id or a key raises ``InvalidKey`` if it is malformed, and every method that takes
    a file name ``InvalidFileName``. All methods may be called from several threads at once, and several processes may
    share one ``base_dir``. With a local folder, the limits hold among all these processes: give each the same limits.

    Args:
        base_dir: The folder for the files. The store touches only its own folders in it.
        auto_create: Whether to create ``base_dir`` if it is missing, and to check now that files can be saved in it.
            Without it the folder is not checked before the first save, so a process without write permission can read.
        backend: Keeps the files in place of a local folder. ``auto_create``, ``durable`` and ``min_free_bytes`` then
            have no effect.
        ledger: Counts the files, and has the limits of sessions and of the store. By default the counts of a local
            folder are kept in it, for all processes, and those of another backend in the memory of each process.
        max_file_bytes: Bytes that each file may have; None for no limit.
        max_session_bytes: Bytes that the files of each session may have together; None for no limit.
        max_store_bytes: Bytes that all files may have together; None for no limit.
        max_files: Number of files that each session may have; None for no limit.
        extensions: The only extensions that the names of saved files may have, such as ``{".csv", ".tar.gz"}``, in any
            case; None to accept all names.
        validate: Looks at each file before it is visible, see ``save()``; None to accept all files.
        min_free_bytes: Bytes that saving must leave free on the file system, for all programs; None for no limit.
        durable: Whether a saved file survives a power cut. Each save then waits for the disk.
        origin: The name of the place where the sessions are kept, or a function that returns it, called when a process
            saves its first file of a session and when a sweep begins. The name is stored with the files. A sweep
            removes no files of another origin, because ``living`` cannot know their sessions. So two applications that
            share a folder by mistake do not remove each other's files. It has no effect with a ``backend``.
        key_for: Returns the key that the files of a session id belong to. Called by each method that takes an id; its
            errors pass through. By default the id is the key.

    Attributes:
        base_dir: Absolute path of the folder.
        auto_create: As given.
        backend: The backend that keeps the files.

    Raises:
        FolderUnusable: With ``auto_create``, ``base_dir`` cannot be created or written to.
        TypeError: ``backend`` or ``ledger`` lacks a method or has one that takes other arguments; the message lists all
            of them. Or ``key_for`` or ``validate`` cannot be called, ``extensions`` is not a collection of str, a limit
            is not a number, or ``origin`` is something other than a str or a function.
        ValueError: A limit is negative or NaN, or was given beside a ``ledger``, which has its own. Or an extension has
            no dot in front.
    """

    def __init__(
        self,
        base_dir: str | os.PathLike[str],
        *,
        auto_create: bool = True,
        backend: FileBackend | None = None,
        ledger: Ledger | None = None,
        max_file_bytes: int | None = None,
        max_session_bytes: int | None = None,
        max_store_bytes: int | None = None,
        max_files: int | None = None,
        extensions: Collection[str] | None = None,
        validate: Validator | None = None,
        min_free_bytes: int | None = None,
        durable: bool = False,
        origin: Origin = None,
        key_for: Callable[[str], str] | None = None,
    ) -> None:
        check_limits(
            max_file_bytes=max_file_bytes,
            max_session_bytes=max_session_bytes,
            max_store_bytes=max_store_bytes,
            max_files=max_files,
            min_free_bytes=min_free_bytes,
        )
        if key_for is not None and not callable(key_for):
            raise TypeError(f"key_for takes a function that is called as function(sid), not {key_for!r}")
        if validate is not None and not callable(validate):
            raise TypeError(f"validate takes a function that is called as function(name, file), not {validate!r}")
        if not (origin is None or isinstance(origin, str) or callable(origin)):
            raise TypeError(f"origin takes a str, or a function that returns one, not {origin!r}")
        self.base_dir: str = os.path.abspath(os.fspath(base_dir))  # noqa: PTH100 - a str, as it always was
        self.auto_create = auto_create
        if backend is None:
            backend = LocalFileBackend(self.base_dir, auto_create=auto_create, durable=durable, origin=origin)
        else:
            check_seam("backend", backend, FileBackend, "silo_files.FileBackend")
        self.backend: FileBackend = backend
        self._key_for = key_for
        limits = Limits(max_session_bytes, max_store_bytes, max_files, min_free_bytes)
        if ledger is None:
            ledger = _ledger_of(backend, limits)
        else:
            check_seam("ledger", ledger, Ledger, "silo_files.Ledger")
            if limits != Limits():
                raise ValueError("a limit was given beside a ledger: give the limits to the ledger")
        self._ledger: Ledger = ledger
        self._place = Place(backend, ledger, max_file_bytes, check_extensions(extensions), validate)

    def session_dir(self, sid: str) -> str:
        """Return the absolute path of the session's folder, whose name is a hash. With ``auto_create`` it is created.

        Raises:
            NoLocalPath: The backend has no folders.
        """
        return self.key_dir(self._key(sid))

    def key_dir(self, key: str) -> str:
        """Return the folder of a key, as ``session_dir()`` does for a session id. Does not call ``key_for``."""
        path = self.backend.area_path(check_key(key), create=self.auto_create)
        if path is None:
            raise NoLocalPath
        return path

    def save(
        self,
        sid: str,
        filename: str,
        data: Source,
        *,
        size: int | None = None,
        digest: str | None = None,
        on_conflict: OnConflict = "replace",
        validate: Validator | None = None,
    ) -> SavedPath:
        """Save ``data`` as ``filename``. Return its absolute path.

        Readers see the old file or the whole new one. After any error, also one that reading ``data`` raises, the old
        file is still there and nothing of the new one is.

        Args:
            sid: The session id.
            filename: The name, which ``check_name()`` must accept.
            data: Bytes; a binary file-like object, read from its current position to its end; an iterable of blocks of
                bytes; or a path object, such as a ``pathlib.Path``, of a file to move. On the same file system no byte
                of that is copied. After an error the file is still where it was.
            size: The number of bytes that ``data`` must have; None if it is unknown.
            digest: The digest that the bytes must have, such as ``"sha256:9f86d0..."``, of any algorithm that
                ``hashlib`` has; None if it is unknown.
            on_conflict: What to do if there is a file of this name: ``"replace"`` it; raise an ``"error"``,
                ``NameTaken``; or ``"rename"`` the new one, as in ``a (2).txt``. The ``info`` has the name.
            validate: Called as ``validate(name, file)`` with the finished file, open for reading, before the file is
                visible, after the store's own ``validate``. No lock is held. It raises ``FileRefused`` to refuse the
                file; any other error passes through.

        Returns:
            The path, a str, which has the saved file's ``info``.

        Raises:
            InvalidSource: ``data`` is none of these, or a path to anything but a regular file. Links are not followed.
            TruncatedInput: ``data`` ended before ``size`` bytes.
            DigestMismatch: ``data`` has another digest.
            FileTooLarge: ``data`` has more bytes than ``max_file_bytes`` or ``size``.
            ExtensionRefused: The store accepts no such ``extensions``.
            FileRefused: A validator refused the file.
            NameTaken: There is such a file, and ``on_conflict`` is ``"error"``.
            SessionQuotaExceeded: The session would hold more than ``max_session_bytes`` or ``max_files``.
            StoreQuotaExceeded: All sessions together would hold more than ``max_store_bytes``.
            StorageFull: The disk is full, or the user's quota is used up.
            AreaGone: The session was cleaned up meanwhile.
            BaseMissing: ``base_dir`` is missing, and ``auto_create`` is off.
            FolderUnusable: ``base_dir`` is missing and cannot be created, or this process may not write to the counts.
            UnsafeCounts: A link or a folder stands in place of a file of counts.
            UnsafeFolder: A link or a file stands in place of a folder of the store.
        """
        saving, name = self._saving(sid, filename)
        begin = partial(self._begin, saving, name, digest=digest, on_conflict=on_conflict, validate=validate)
        if isinstance(data, (bytes, bytearray, memoryview)):
            block = as_block(data)
            with begin(size=len(block) if size is None else size) as out:
                out.write(block)
        elif isinstance(data, os.PathLike):
            with MovedFile(data, self.base_dir) as moved:
                size = moved.size if size is None else size
                with begin(size=size, is_moved=True) as out:
                    out.move(moved)
            moved.remove()
        else:
            # A bad source fails here, before anything is created.
            blocks = read_blocks(data)
            first = next(blocks, b"")
            with begin(size=size) as out:
                out.write(first)
                for block in blocks:
                    out.write(block)
        return out.saved

    def writer(
        self,
        sid: str,
        filename: str,
        *,
        size: int | None = None,
        digest: str | None = None,
        on_conflict: OnConflict = "replace",
        validate: Validator | None = None,
    ) -> Writer:
        """Begin to save ``filename``, whose bytes the caller writes. Return a context manager.

        The file is saved when the ``with`` block ends, and not if it raises:

            with files.writer("session-1", "sums.csv") as out:
                out.write(b"month,sum\\n")
            print(out.info.size)

        Args:
            sid: The session id.
            filename: As for ``save()``.
            size: As for ``save()``, and so are the others.
            digest: The expected digest.
            on_conflict: What to do if the name is taken.
            validate: Looks at the finished file before it is visible.

        Raises:
            FileTooLarge: ``size`` is more than ``max_file_bytes``.
            ExtensionRefused: The store accepts no such ``extensions``.
            NameTaken: There is such a file, and ``on_conflict`` is ``"error"``. The commit may raise this too.
            SessionQuotaExceeded: The session would hold more than ``max_files``.
            StorageFull: The disk is full, or the user's quota is used up.
            BaseMissing: ``base_dir`` is missing, and ``auto_create`` is off.
            FolderUnusable: ``base_dir`` is missing and cannot be created, or this process may not write to the counts.
            UnsafeCounts: A link or a folder stands in place of a file of counts.
            UnsafeFolder: A link or a file stands in place of a folder of the store.
        """
        saving, name = self._saving(sid, filename)
        return self._begin(saving, name, size=size, digest=digest, on_conflict=on_conflict, validate=validate)

    def begin_save(self, sid: str) -> Saving:
        """Return whose file ``save()`` and ``writer()`` are about to save. They call it with no lock held.

        By default that is the key of ``key_for``. A subclass may return another key, and what to check and to tell.
        """
        return Saving(self._key(sid))

    def get_path(self, sid: str, filename: str) -> str | None:
        """Return the absolute path of a saved file; None if it does not exist, or the backend has no local paths."""
        return self.backend.path(self._key(sid), check_name(filename))

    def open(self, sid: str, filename: str) -> BinaryIO:
        """Open a saved file for reading bytes. The caller closes it.

        Raises:
            FileMissing: The session has no such file.
        """
        return self.backend.open(self._key(sid), check_name(filename))[0]

    def info(self, sid: str, filename: str, *, digest: str | None = None) -> FileInfo:
        """Describe a saved file.

        Args:
            sid: The session id.
            filename: The name of the file.
            digest: A name that ``hashlib`` knows, such as ``"sha256"``: the file is read to fill
                ``FileInfo.digest``.

        Raises:
            FileMissing: The session has no such file.
            ValueError: ``hashlib`` has no such digest.
        """
        key, name = self._key(sid), check_name(filename)
        if digest is not None:
            file, info = self.backend.open(key, name)
            with file:
                return replace(info, digest=digest_of(file, digest))
        found = self.backend.stat(key, name)
        if found is None:
            raise FileMissing
        return found

    def files(self, sid: str) -> list[FileInfo]:
        """Describe all files of the session, ordered by name."""
        return self.backend.list(self._key(sid))

    def list_files(self, sid: str) -> list[str]:
        """Return the names of all files of the session, sorted. Cheaper than ``files()``, which looks at each file."""
        return self.backend.names(self._key(sid))

    def delete(self, sid: str, filename: str) -> bool:
        """Delete one file. Return whether it existed.

        Raises:
            UnsafeCounts: A link or a folder stands in place of a file of counts.
        """
        key = self._key(sid)
        name = check_name(filename)
        try:
            with self._ledger.change(key) as change:
                size = self.backend.size(key, name)
                if size is None:
                    return False
                change.add(bytes=-size, files=-1)
                if not self.backend.delete(key, name):
                    raise FileMissing
        except (AreaGone, FileMissing):
            return False
        return True

    def cleanup(self, sid: str) -> None:
        """Remove all files of the session, at once for every process. Their space is freed soon after.

        Raises:
            UnsafeCounts: A link or a folder stands in place of the counts of the store.
        """
        self._cleanup(self._key(sid))

    def cleanup_key(self, key: str) -> None:
        """Remove all files of a key, as ``cleanup()`` does for a session id. Does not call ``key_for``."""
        self._cleanup(check_key(key))

    def cleanup_all(self) -> None:
        """Remove the files of all sessions, also those that other processes saved."""
        try:
            self.backend.remove_all()
        finally:
            self._ledger.forget()

    def purge(self) -> None:
        """Free the space of all removed files. Return when that is done."""
        self.backend.purge()

    def sweep(self, living: Living, *, on_progress: Callable[[int, int], object] | None = None) -> int:
        """Remove the files whose key does not live, and the unfinished files of ended processes.

        Files of a session to which another living process has written are never removed.

        A key must be live before its first file is saved, and as long as more may be saved. If it becomes live only
        after ``living`` did not return it, its files are removed, also those saved meanwhile.

        Args:
            living: Called with lists of at most 1,000 keys, with no lock held. Returns a collection of those that still
                have a session; other keys may be in it. If ``living`` raises, or returns something other than a
                collection of str, the files of all keys that it was asked about stay, and the log says so.
            on_progress: Called from time to time with the number of sessions looked at so far and of all sessions that
                have files, with no lock held. Its errors end the sweep.

        Returns:
            The number of sessions whose files were removed.
        """
        removed = -1
        try:
            removed = self.backend.sweep(partial(ask, living), on_progress=on_progress)
        finally:
            if removed:
                self._ledger.forget()
        return removed

    def usage(self, sid: str) -> Usage:
        """Return the number of bytes and files that the session has now.

        In a local folder, its files are counted at the first look, and again only after a process was killed while it
        changed them.
        """
        return self._ledger.usage(self._key(sid))

    def total(self) -> Usage:
        """Return the number of bytes and files that all sessions have now.

        A local folder that has or had ``max_store_bytes`` keeps both. In any other, the counts of all sessions are
        added up.
        """
        return self._ledger.total()

    @property
    def total_size_bytes(self) -> int:
        """Bytes of the files of all sessions, see ``total()``."""
        return self.total().bytes

    def close(self) -> None:
        """Stop counting as a living writer, so that other processes may sweep. Files stay, and saving works again."""
        self.backend.close()

    def _saving(self, sid: str, filename: str) -> tuple[Saving, str]:
        """Return whose file is saved, and its name. Called before the source is read, which may take long."""
        sid, name = check_key(sid), check_name(filename)
        saving = self.begin_save(sid)
        check_key(saving.key)
        return saving, name

    def _begin(self, saving: Saving, name: str, **options: Any) -> Writer:
        try:
            return Writer(self._place, saving, name, **options)
        except BaseException:
            if saving.ended is not None:
                saving.ended(False)
            raise

    def _cleanup(self, key: str) -> None:
        with self._ledger.removal(key):
            self.backend.remove_area(key)

    def _key(self, sid: str) -> str:
        sid = check_key(sid)
        return sid if self._key_for is None else check_key(self._key_for(sid))


def _ledger_of(backend: FileBackend, limits: Limits) -> Ledger:
    if isinstance(backend, LocalFileBackend):
        return LocalLedger(backend.counts, limits)
    return MemoryLedger(backend, limits)
