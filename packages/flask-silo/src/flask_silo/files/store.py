"""The file store of an application: its files belong to lives of sessions."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from flask import Response
from silo_files import (
    FileInfo,
    FileMissing,
    FileStore,
    FileStoreError,
    OnConflict,
    Saving,
    Validator,
    Writer,
    check_name,
)
from silo_store import SessionExpired, StoreUnavailable

from ..replies import refusal
from .archive import response_with_all, zip_stream
from .links import Linked, path_of, read, sign
from .receiving import receive
from .routes import check_routes
from .sending import response_with

if TYPE_CHECKING:
    from ..lives import SessionFiles

logger = logging.getLogger("flask_silo")

LIMITS = ("max_file_bytes", "max_session_bytes", "max_files", "max_store_bytes", "min_free_bytes")
"""The options that are limits."""


class SessionFileStore(FileStore):
    """A ``FileStore`` whose files belong to one life of a session and are deleted when it ends.

    Made by ``Silo.add_file_store()``. If the session does not exist yet, ``save()`` and ``writer()`` begin it. They, or
    the commit of the writer, raise ``SessionExpired`` if the session has ended before the file was complete, and
    ``SessionRotated`` if another request has given it another id. Then nothing of the file is kept.

    Attributes:
        name: The name of the store.
        routes: The names of the routes that applications serve for it.
        limits: Those of its limits that are set, by name.
        is_relative: Whether the folder was given as a relative path, which depends on where the process starts.
    """

    def __init__(
        self,
        files: SessionFiles,
        name: str,
        base_dir: str | PathLike[str],
        *,
        routes: str | Collection[str] = (),
        **options: Any,
    ) -> None:
        self.name: str = name
        self.routes: frozenset[str] = check_routes(name, routes)
        if "zip" in self.routes:
            zip_stream(", or leave 'zip' out of routes")
        super().__init__(base_dir, key_for=files.key, origin=files.origin, **options)
        self._files = files
        self.limits: dict[str, int] = {name: options[name] for name in LIMITS if options.get(name) is not None}
        self.is_relative: bool = not Path(base_dir).is_absolute()

    def session_dir(self, sid: str) -> str:
        """Return the folder of a session. A session that does not exist yet begins.

        Raises:
            SessionExpired: The session ended meanwhile. The folder is removed.
        """
        uid = self._files.begin(sid)
        try:
            folder = self.key_dir(uid)
        except BaseException:
            self._drop_if_ended(sid, uid, False)
            raise
        self._drop_if_ended(sid, uid, True)
        return folder

    def begin_save(self, sid: str) -> Saving:
        """Begin the session if it does not exist. Return whose file ``save()`` and ``writer()`` are about to save."""
        uid = self._files.begin(sid)
        check = partial(self._files.refuse_rotated, sid, uid)
        return Saving(uid, check, partial(self._drop_if_ended, sid, uid))

    def receive(
        self,
        name: str | None = None,
        *,
        digest: str | None = None,
        on_conflict: OnConflict = "replace",
        validate: Validator | None = None,
    ) -> list[FileInfo]:
        """Save the upload of the running request for its session, which begins if it does not exist.

        The bytes are written while they come in, without a temporary copy. A body of ``multipart/form-data`` is a form
        with any number of files: all are saved, or none if one is refused. Only if one is refused at the very end,
        because another request has taken its name meanwhile, the files before it stay. Afterwards ``request.form`` has
        the form's fields, and ``request.files`` the saved files, which are opened when they are read. Any other body is
        one file.

        Call this before anything else reads the body.

        Args:
            name: The name of the file. A form then must have one file, whose own name is ignored. Without ``name`` the
                body must be a form, and its files have the names that the client gives: the last part if that is a
                path.
            digest: The digest that the file must have, as for ``save()``. It needs ``name``.
            on_conflict: What to do if there is a file of this name, as for ``save()``. With ``"rename"``, several files
                of a form may have the same name.
            validate: Called with each file, as for ``save()``.

        Returns:
            The saved files, in their order; an empty list if the client has chosen none.

        Raises:
            MalformedUpload: The body is not an upload of the kind described. The client gets 400.
            TruncatedInput: The body ended early. The client gets 400.
            RequestEntityTooLarge: The body has more than ``MAX_CONTENT_LENGTH``, or the form has too many parts or too
                large a field by Flask's settings. The client gets 413.
            FileStoreError: As for ``save()``.
            SessionExpired: As for ``save()``.
            SessionRotated: As for ``save()``.
            RuntimeError: There is no request with a session, or something has read the body before.
            ValueError: ``digest`` is given without ``name``.
        """
        if digest is not None and name is None:
            raise ValueError("a digest is that of one file: give its name too")
        options: dict[str, Any] = {"digest": digest, "on_conflict": on_conflict, "validate": validate}

        def begin(name: str, size: int | None) -> Writer:
            return self.writer(self._files.current_sid(), name, size=size, **options)

        def reopen(name: str) -> BinaryIO:
            return self.open(self._files.current_sid(), name)

        return receive(name, begin, reopen, may_repeat=on_conflict == "rename")

    def send(self, sid: str, name: str, *, inline: bool = False) -> Response:
        """Return the response that sends a file of a session to the client of the running request.

        The file is sent as it is now, to its end, even if it is replaced or deleted meanwhile. The response answers
        HEAD, a range, and a client that has the file already (``ETag``). It tells browsers to save the file under its
        name, to run nothing in it, and to ask again before they use what they have kept.

        Args:
            sid: The session id.
            name: The name of the file.
            inline: Whether a browser may show the file instead of saving it. Only images, sound, video and plain text
                are shown, by their names: what may hold a script, such as HTML, SVG or PDF, is still saved.

        Raises:
            FileMissing: The session has no such file.
            RuntimeError: There is no request.
        """
        return self._send(self._key(sid), name, inline=inline)

    def link(self, sid: str, name: str, expires: float = 300) -> str:
        """Return a link by which any client can download a file of a session for a while.

        The link holds no session id, and using it does not renew the session. It ends with the session, and leads to
        the file that has the name then. The application's ``SECRET_KEY`` signs it.

        Args:
            sid: The session id.
            name: The name of the file.
            expires: Seconds for which the link is valid.

        Returns:
            A path, which begins at the root of the host: ``/api/files/uploads/link/...``. In a request it has the
            application's ``SCRIPT_NAME``, in a task its ``APPLICATION_ROOT``.

        Raises:
            FileMissing: The session has no such file.
            ValueError: ``expires`` is not a positive number.
            RuntimeError: The routes of this store lack ``"link"``, or the application has no ``SECRET_KEY``.
        """
        if "link" not in self.routes:
            raise RuntimeError(
                f"links to files of {self.name!r} are not served: give add_file_store() routes that contain 'link'"
            )
        if not 0 < expires < math.inf:
            raise ValueError(f"expires must be a positive number of seconds, not {expires!r}")
        key, name = self._key(sid), check_name(name)
        if self.backend.size(key, name) is None:
            raise FileMissing
        binding = self._files.binding
        token = sign(binding.app, self.name, Linked(key, name, self._files.now() + expires))
        return path_of(binding.app, binding.settings.prefixes, self.name, token)

    def serve_link(self, token: str) -> Response:
        """Return the response to a client that follows a link: the file, or the reason why it gets none.

        A token that was not signed here, or whose time is over, is answered with 403 ``link_refused``; one whose
        session has ended with 410 ``session_expired``. No session is renewed.

        Raises:
            FileMissing: The file was deleted.
            StoreUnavailable: The sessions cannot be reached.
            RuntimeError: The application has no ``SECRET_KEY``.
        """
        linked = read(self._files.binding.app, self.name, token)
        if linked is None or self._files.now() > linked.until:
            return refusal(403, "link_refused", "This link is not valid, or its time is over. Ask for a new one.")
        try:
            if self._files.lives(linked.uid):
                return self._send(linked.uid, linked.name, inline=False)
        except FileMissing:
            if self._files.lives(linked.uid):  # otherwise its end has removed the file meanwhile
                raise
        return refusal(410, "session_expired", "The session that this file belonged to has ended.")

    def send_all(self, sid: str, download_name: str = "files.zip") -> Response:
        """Return the response that sends all files of a session as one zip archive, made while it is sent.

        The length is announced, so clients can show progress; there are no ranges. The files are stored as they are,
        under names that any system can save. The first 32 files are open from the beginning and are sent in any case.
        If any other is replaced or deleted before its turn comes, the connection ends early, so that the client
        notices. A session without files has an empty archive.

        Args:
            sid: The session id.
            download_name: The name under which a browser saves the archive.

        Raises:
            InvalidFileName: ``download_name`` cannot be the name of a file.
            ImportError: zipstream-ng is not installed.
            RuntimeError: There is no request.
        """
        key = self._key(sid)
        return response_with_all(self.backend.list(key), partial(self.backend.open, key), download_name)

    def _send(self, key: str, name: str, *, inline: bool) -> Response:
        file, info = self.backend.open(key, check_name(name))
        return response_with(file, info, inline=inline)

    def _drop_if_ended(self, sid: str, uid: str, succeeded: bool) -> None:
        """Remove the files of the session if it has ended. Called once files or folders were made, or that failed.

        The clean-up at the session's end may have run before the files were made, so the end is checked again here. It
        is checked also after a failure, because an upload that broke off has made its folder.

        Raises:
            SessionExpired: The caller ``succeeded``, and the session has ended.
        """
        try:
            if not self._files.has_ended(sid, uid):
                return
            self.cleanup_key(uid)
        except (OSError, FileStoreError, StoreUnavailable):
            if succeeded:
                raise
            # The caller gets the error that came first.
            logger.exception(
                "the folder of a failed save could not be removed: it may stay until another process starts"
            )
            return
        if succeeded:
            raise SessionExpired(sid)
