"""The endpoints of file stores, which need no view of the application: list, save, send, link and delete files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from flask import Response, abort, after_this_request, jsonify, request
from silo_files import FileInfo, FileMissing, InvalidFileName, NameTaken, check_name

from ..current import current_request
from ..replies import refusal
from ..request.endpoints import Endpoints
from ..request.session import RequestSession
from .body import Body
from .conditions import change_refused
from .routes import FILE, FILES, LINK, LINKED, ZIP, StoreRules
from .store import SessionFileStore

NO_STORE = {"Cache-Control": "no-store"}
SHOWN_LIMITS = ("max_file_bytes", "max_session_bytes", "max_files")
"""The limits that clients may know."""


class FileViews:
    """Serves the routes of file stores below each prefix of an application, see ``StoreRules``.

    Args:
        endpoints: The endpoints that the application has no view for.
        prefixes: The paths below which requests have a session.
    """

    def __init__(self, endpoints: Endpoints, prefixes: tuple[str, ...]) -> None:
        self._endpoints = endpoints
        self._prefixes = prefixes
        self._stores: dict[str, SessionFileStore] = {}

    def add(self, store: SessionFileStore) -> None:
        """Serve the routes of a file store from now on."""
        self._stores[store.name] = store
        views: Mapping[str, Callable[..., Response]] = {
            FILES: self._files,
            FILE: self._file,
            LINK: self._link,
            LINKED: self._linked,
            ZIP: self._zip,
        }
        for prefix in self._prefixes if store.routes else ():
            base = f"{prefix.rstrip('/')}/files/{store.name}"
            rules = StoreRules.of(store.name, base, store.routes)
            self._endpoints.add(base, rules.find, rules.served(), views)

    def _files(self, store: str) -> Response:
        uploads = self._stores[store]
        if request.method == "POST":
            return _json(201, files=[_described(info) for info in uploads.receive()])
        sid = _sid()
        files = uploads.files(sid) if sid is not None else []
        usage = {"bytes": sum(info.size for info in files), "files": len(files)}
        limits = {limit: uploads.limits[limit] for limit in SHOWN_LIMITS if limit in uploads.limits}
        return _json(200, files=[_described(info) for info in files], usage=usage, limits=limits)

    def _file(self, store: str, name: str) -> Response:
        uploads = self._stores[store]
        if request.method == "PUT":
            return _put(uploads, name)
        name, sid = _checked(name), _sid()
        if sid is None:
            raise FileMissing
        if request.method == "DELETE":
            return _delete(uploads, sid, name)
        return uploads.send(sid, name)

    def _link(self, store: str, name: str) -> Response:
        uploads, name = self._stores[store], _checked(name)
        sid = _sid()
        if sid is None:
            raise FileMissing
        return _json(200, link=uploads.link(sid, name))

    def _linked(self, store: str, token: str) -> Response:
        return self._stores[store].serve_link(token)

    def _zip(self, store: str) -> Response:
        sid = _sid()
        if sid is None:
            raise FileMissing
        return self._stores[store].send_all(sid, f"{store}.zip")


def _put(uploads: SessionFileStore, name: str) -> Response:
    try:
        before = _replaced(uploads, _checked(name))
        _check_version(before)
    except Exception:
        with suppress(RuntimeError):  # raised if a hook has read the body
            after_this_request(Body(request).linger)
        raise
    only_new = request.if_none_match.star_tag
    try:
        (info,) = uploads.receive(name, on_conflict="error" if only_new else "replace")
    except NameTaken:  # meanwhile
        _refuse_change()
    response = _json(201 if before is None else 200, **_described(info))
    response.set_etag(info.etag)
    return response


def _replaced(uploads: SessionFileStore, name: str) -> FileInfo | None:
    """Return the file that an upload is about to replace; None if there is none."""
    session = _session()
    if session.uid is None:
        return None
    try:
        return uploads.info(session.sid, name)
    except FileMissing:
        return None


def _delete(uploads: SessionFileStore, sid: str, name: str) -> Response:
    _check_version(uploads.info(sid, name))
    if not uploads.delete(sid, name):
        raise FileMissing
    response = Response(status=204, headers=NO_STORE)
    del response.headers["Content-Type"]  # there is no content
    return response


def _check_version(info: FileInfo | None) -> None:
    """Refuse with 412 a change that names another version of the file than the present one."""
    if change_refused(request, info):
        _refuse_change()


def _refuse_change() -> NoReturn:
    abort(refusal(412, "precondition_failed", "The file is not the one that this request is for."))


def _session() -> RequestSession:
    session = current_request()
    assert session is not None
    return session


def _sid() -> str | None:
    """Return the id of the request's session; None if there is no session.

    Raises:
        SessionExpired: The presented id has no session; an empty list would mislead the client.
    """
    session = _session()
    session.require()
    return session.sid if session.uid is not None else None


def _checked(name: str) -> str:
    """Return a file name of a path.

    Raises:
        InvalidFileName: The gate refuses it, or it is not UTF-8: then Werkzeug has put other characters in its place.
    """
    path: str = request.environ["PATH_INFO"]
    try:
        path.encode("latin-1").decode()
    except UnicodeError:
        raise InvalidFileName("it is not UTF-8") from None
    return check_name(name)


def _described(info: FileInfo) -> dict[str, Any]:
    """Return the description of a file that clients get."""
    return {
        "name": info.name,
        "size": info.size,
        "modified": info.modified,
        "media_type": info.media_type,
        "etag": info.etag,
    }


def _json(status: int, **content: Any) -> Response:
    response = jsonify(**content)
    response.status_code = status
    response.headers.update(NO_STORE)
    return response
