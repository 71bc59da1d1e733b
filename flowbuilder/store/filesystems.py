"""What kind of file system a folder is on, as far as the journal must know."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["network_filesystem"]

_NETWORK_TYPES: Final = frozenset(
    {
        "9p",
        "afs",
        "ceph",
        "cifs",
        "davfs",
        "fuse.davfs2",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb2",
        "smb3",
        "smbfs",
    }
)
_MOUNTS = Path("/proc/mounts")


def network_filesystem(path: Path, mounts: Path = _MOUNTS) -> str:
    """Name the network file system a path is on.

    Parameters
    ----------
    path : Path
        A file or folder, which need not exist.
    mounts : Path
        The table of mounts; where the system has none (macOS, Windows), every path counts as local.

    Returns
    -------
    str
        Its type, such as ``nfs4``; empty if the path is local.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    place = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _unescape(fields[1])
        # A later mount on the same point covers the earlier one.
        if _holds(point, place) and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind if kind in _NETWORK_TYPES else ""


def _holds(point: str, place: str) -> bool:
    return point in {"/", place} or place.startswith(point + "/")


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
