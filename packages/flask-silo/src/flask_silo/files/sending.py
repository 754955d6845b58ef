"""The response that sends a saved file: all of it, a range, or the answer that the client already has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

from flask import Response, request
from silo_files import FileInfo
from werkzeug.http import http_date

from ..replies import refusal
from .conditions import unmet_condition, wanted_range
from .headers import SAFE_HEADERS, disposition, harmless_type
from .piece import Piece, body


def response_with(file: BinaryIO, info: FileInfo, *, inline: bool) -> Response:
    """Return the response that sends an open file to the client of the running request.

    Args:
        file: The open file, which the response closes.
        info: The description of this very file.
        inline: Whether a browser may show the file, if its type is harmless.
    """
    reads = request.method in ("GET", "HEAD")
    status = unmet_condition(request, info.etag, info.modified) if reads else None
    asked = wanted_range(request, info.etag, info.size) if status is None and file.seekable() else None
    if status == 412:
        response = refusal(412, "precondition_failed", "The file is not the one that this request is for.")
    elif status == 304:
        response = Response(status=304, headers={**SAFE_HEADERS, **_version(info)})
    elif asked is not None and not asked:
        response = refusal(416, "range_not_satisfiable", "The file has no bytes in that range.")
        response.headers["Content-Range"] = f"bytes */{info.size}"
    else:
        return _with_bytes(file, info, asked, inline)
    file.close()
    return response


def _with_bytes(file: BinaryIO, info: FileInfo, asked: range | None, inline: bool) -> Response:
    sent = range(info.size) if asked is None else asked
    shown_as = harmless_type(info.name) if inline else None
    headers = {
        **SAFE_HEADERS,
        **_version(info),
        "Accept-Ranges": "bytes" if file.seekable() else "none",
        "Content-Disposition": disposition(info.name, inline=shown_as is not None),
        "Content-Length": str(len(sent)),
        "Content-Type": shown_as or info.media_type,
    }
    if asked is not None:
        headers["Content-Range"] = f"bytes {sent.start}-{sent.stop - 1}/{info.size}"
    if request.method == "HEAD":
        file.close()
        content: Iterable[bytes] = ()
    else:
        content = body(request.environ, Piece(file, sent.start, sent.stop))
    return Response(content, status=200 if asked is None else 206, headers=headers, direct_passthrough=True)


def _version(info: FileInfo) -> dict[str, str]:
    """Return the headers by which a client knows whether it has this file already."""
    return {"ETag": f'"{info.etag}"', "Last-Modified": http_date(info.modified)}
