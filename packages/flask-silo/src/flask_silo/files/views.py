"""The endpoints of file stores, which need no view of the application: list, save, send, link and delete files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import Response, jsonify, request
from silo_files import FileInfo, FileMissing, InvalidFileName, check_name

from ..current import current_request
from ..request.endpoints import Endpoints, allowed
from ..request.session import RequestSession
from .routes import FILE, FILES, LINK, LINKED, StoreRules
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
        }
        for prefix in self._prefixes if store.routes else ():
            base = f"{prefix.rstrip('/')}/files/{store.name}"
            rules = StoreRules.of(store.name, base, store.routes)
            self._endpoints.add(base, rules.find, rules.served(), views)

    def _files(self, store: str) -> Response:
        if request.method == "OPTIONS":
            return allowed(request)
        uploads = self._stores[store]
        if request.method == "POST":
            return _json(201, files=[_described(info) for info in _receive(uploads)])
        sid = _sid()
        files = uploads.files(sid) if sid is not None else []
        usage = {"bytes": sum(info.size for info in files), "files": len(files)}
        limits = {limit: uploads.limits[limit] for limit in SHOWN_LIMITS if limit in uploads.limits}
        return _json(200, files=[_described(info) for info in files], usage=usage, limits=limits)

    def _file(self, store: str, name: str) -> Response:
        if request.method == "OPTIONS":
            return allowed(request)
        uploads, name = self._stores[store], _checked(name)
        if request.method == "PUT":
            return _put(uploads, name)
        sid = _sid()
        if sid is None:
            raise FileMissing
        if request.method == "DELETE":
            return _delete(uploads, sid, name)
        return uploads.send(sid, name)

    def _link(self, store: str, name: str) -> Response:
        if request.method == "OPTIONS":
            return allowed(request)
        uploads, name = self._stores[store], _checked(name)
        sid = _sid()
        if sid is None:
            raise FileMissing
        return _json(200, link=uploads.link(sid, name))

    def _linked(self, store: str, token: str) -> Response:
        if request.method == "OPTIONS":
            return allowed(request)
        return self._stores[store].serve_link(token)


def _put(uploads: SessionFileStore, name: str) -> Response:
    session = _session()
    before = _info(uploads, session.sid, name) if session.uid is not None else None
    if _is_refused(before):
        return _refusal()
    (info,) = _receive(uploads, name)
    response = _json(200 if before else 201, **_described(info))
    response.set_etag(info.etag)
    return response


def _delete(uploads: SessionFileStore, sid: str, name: str) -> Response:
    if _is_refused(uploads.info(sid, name)):
        return _refusal()
    if not uploads.delete(sid, name):
        raise FileMissing
    return Response(status=204, headers=NO_STORE)


def _receive(uploads: SessionFileStore, name: str | None = None) -> list[FileInfo]:
    sid = _session().announce()
    if name is not None:
        return [uploads.save(sid, name, request.stream, size=request.content_length).info]
    return [uploads.save(sid, file.filename or "", file.stream).info for file in request.files.values()]


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


def _info(uploads: SessionFileStore, sid: str, name: str) -> FileInfo | None:
    try:
        return uploads.info(sid, name)
    except FileMissing:
        return None


def _is_refused(info: FileInfo | None) -> bool:
    """Return whether the request is to change another file than there is (RFC 9110, section 13.2.2).

    Args:
        info: The file as it is; None if there is none of that name.
    """
    match, since = request.if_match, request.if_unmodified_since
    if info is None:
        return "If-Match" in request.headers
    if "If-Match" in request.headers:
        if not (match.star_tag or match.is_strong(info.etag)):
            return True
    elif since is not None and int(info.modified) > since.timestamp():
        return True
    return request.if_none_match.contains_weak(info.etag)


def _refusal() -> Response:
    return _json(412, error="precondition_failed", message="The file is not the one that this request is for.")


def _described(info: FileInfo) -> dict[str, Any]:
    """Return what a client reads of a file."""
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
