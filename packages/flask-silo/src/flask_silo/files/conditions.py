"""What a request wants of a file: all of it, a part, or nothing because the client has it (RFC 9110, 13 and 14)."""

from __future__ import annotations

import re

from flask import Request
from silo_files import FileInfo

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,100})-(\d{0,100})[ \t]*", re.ASCII | re.IGNORECASE)


def unmet_condition(req: Request, etag: str, modified: float) -> int | None:
    """Return the status that answers a GET or HEAD in place of the file; None if the file is to be sent.

    Args:
        req: The request.
        etag: The strong entity tag of the file, without quotes.
        modified: Time of the save, in seconds since the epoch.

    Returns:
        412 if the file is not the one that the client wants, 304 if the client has this one.
    """
    if "If-Match" in req.headers:
        if not (req.if_match.star_tag or req.if_match.is_strong(etag)):
            return 412
    elif req.if_unmodified_since is not None and int(modified) > req.if_unmodified_since.timestamp():
        return 412
    if "If-None-Match" in req.headers:
        return 304 if req.if_none_match.contains_weak(etag) else None
    if req.if_modified_since is not None and int(modified) <= req.if_modified_since.timestamp():
        return 304
    return None


def change_refused(req: Request, info: FileInfo | None) -> bool:
    """Return whether a PUT or DELETE names another version of the file than the present one.

    Args:
        req: The request.
        info: The file; None if there is none of its name.
    """
    if info is None:
        return "If-Match" in req.headers
    status = unmet_condition(req, info.etag, info.modified)
    return status == 412 or (status == 304 and "If-None-Match" in req.headers)  # not by If-Modified-Since


def wanted_range(req: Request, etag: str, size: int) -> range | None:
    """Return the positions of the bytes that a request asks for.

    Args:
        req: The request.
        etag: The strong entity tag of the file, without quotes.
        size: The size of the file in bytes.

    Returns:
        None for the whole file: if there is no range, if there are several, or if the client has a part of another
        file (``If-Range``). A date in ``If-Range`` counts as another file: two saves in one second have the same. An
        empty range if the range begins beyond the end of the file.
    """
    asked = _RANGE.fullmatch(req.headers.get("Range", "")) if req.method == "GET" else None
    if asked is None or req.headers.get("If-Range", f'"{etag}"').strip() != f'"{etag}"':
        return None
    first, last = asked.groups()
    if not first:
        if not last or (int(last) and not size):  # no range can name the bytes of an empty file
            return None
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return range(min(int(first), size), min(int(last) + 1, size) if last else size)
