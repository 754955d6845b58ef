"""The headers that make a file harmless to the page that links to it, and name it for the client."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

from silo_files import check_name, portable_names

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
"""The headers of every download. A browser runs nothing in it, and keeps it only for its own user."""

HARMLESS = {
    "avif": "image/avif",
    "flac": "audio/flac",
    "gif": "image/gif",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "m4a": "audio/mp4",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "png": "image/png",
    "txt": "text/plain; charset=utf-8",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webp": "image/webp",
}
"""The types that a browser may show instead of saving, by extension. None can hold a script, as PDF, SVG and HTML can.
They are listed here because the system's table of types differs between machines."""

# The characters of RFC 5987 that need no escape in ``filename*``.
_PLAIN = "!#$&+-.^_`|~"


def harmless_type(name: str) -> str | None:
    """Return the media type of a file that a browser may show; None if it has to be saved. The name alone decides."""
    stem, _, extension = name.rpartition(".")
    return HARMLESS.get(extension.lower()) if stem else None


def disposition(name: str, *, inline: bool = False) -> str:
    """Return the ``Content-Disposition`` of a file (RFC 6266), with a name that every system can save.

    A name that is not plain ASCII is there twice: whole as ``filename*``, and for old clients in ASCII, where ``_``
    stands for what ASCII lacks.

    Raises:
        InvalidFileName: The name cannot be that of a file, see ``check_name()``.
    """
    name = check_name(name)
    name = portable_names([name])[name]
    parts = unicodedata.normalize("NFKD", name)
    plain = "".join(each for each in parts if not unicodedata.combining(each))
    plain = re.sub(r"[^ -~]|[%\"\\/]", "_", plain)  # some browsers decode %41 in it
    text = f'{"inline" if inline else "attachment"}; filename="{plain}"'
    return text if plain == name else f"{text}; filename*=UTF-8''{quote(name, safe=_PLAIN)}"
