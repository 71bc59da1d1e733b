"""What to tell somebody whose disk is full: how much is needed, how much there is, and where."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Final

from flowbuilder.errors import StorageError

__all__ = ["free_bytes", "is_out_of_space", "space_error"]

_NO_SPACE: Final = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


def is_out_of_space(error: OSError) -> bool:
    """Tell whether a disk or a quota is full."""
    return error.errno in _NO_SPACE


def free_bytes(place: Path) -> int:
    """Give the free space where a file is or would be; -1 if that cannot be told."""
    for folder in (place, *place.parents):
        try:
            return shutil.disk_usage(folder).free
        except FileNotFoundError:
            continue
        except OSError:
            return -1
    return -1


def space_error(what: str, place: Path, needed_bytes: int) -> StorageError:
    """Make the error for a full disk.

    Parameters
    ----------
    what : str
        What could not be done: ``write the journal``.
    place : Path
        The file or folder.
    needed_bytes : int
        About how much it takes.
    """
    free = free_bytes(place)
    # A quota is full while the disk has space, so what is free may be more than what is needed.
    found = f", {_amount(free)} free" if 0 <= free < needed_bytes else ""
    return StorageError(
        f"could not {what} in {place}: the disk or quota is full"
        f" ({_amount(needed_bytes)} needed{found})",
        hint=f"free at least {_amount(needed_bytes - max(0, free) if found else needed_bytes)} on"
        " that disk, or choose another place with --data-dir; nothing recorded earlier is lost",
    )


def _amount(size_bytes: int) -> str:
    if size_bytes < 10**6:
        return f"{max(1, -(-size_bytes // 1000)):,} KB"
    return f"{size_bytes / 10**6:,.1f} MB"
