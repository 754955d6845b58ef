"""The kind of file system that a path is on."""

from __future__ import annotations

import os
import re
from pathlib import Path

_NETWORK = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2")
) | frozenset(("smb", "smb2", "smb3", "smbfs", "virtiofs", "fuse.ceph", "fuse.cephfs", "fuse.glusterfs", "fuse.rclone"))
_NETWORK_FUSE = re.compile(r"fuse\.(sshfs|s3fs|gcsfuse|goofys|davfs2?|glusterfs.*|smbnetfs|nfs.*|juicefs|mfs.*)")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def mounts() -> str:
    """Return the mounts that this process sees, in the form of ``/proc/self/mountinfo``; empty if it is missing."""
    try:
        return Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return ""


def file_system(path: str, mountinfo: str) -> str | None:
    """Return the kind of file system that an absolute path is on, such as ``ext4``; None if it is unknown."""
    found, longest = None, -1
    for line in mountinfo.splitlines():
        fields, separator, rest = line.partition(" - ")
        words, kind = fields.split(" "), rest.partition(" ")[0]
        if not separator or len(words) < 5:
            continue
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), words[4]).rstrip(os.sep)
        # Of two mounts on one folder, the later one is visible.
        if (path == point or path.startswith(point + os.sep)) and len(point) >= longest:
            found, longest = kind, len(point)
    return found


def is_network(kind: str | None) -> bool:
    """Return whether another host may change files on this kind of file system."""
    return kind is not None and (kind in _NETWORK or _NETWORK_FUSE.fullmatch(kind) is not None)
