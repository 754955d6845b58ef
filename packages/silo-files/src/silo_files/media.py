"""Media types by the name of a file."""

from __future__ import annotations

UNKNOWN = "application/octet-stream"

_OF_ENCODINGS = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
}


def media_type(name: str) -> str:
    """Return the media type that a file name suggests, ``application/octet-stream`` if there is none.

    A compressed file has the type of its compression: ``a.tar.gz`` is ``application/gzip``.
    """
    from mimetypes import guess_type  # reads files of the system, which takes milliseconds

    # The stem is left out: guess_type() takes "data:..." for a URL.
    kind, encoding = guess_type("_" + name[name.find(".") :] if "." in name else "_")
    if encoding is not None:
        return _OF_ENCODINGS.get(encoding, UNKNOWN)
    return kind or UNKNOWN
