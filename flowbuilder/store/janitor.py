"""Removes what killed processes left: temporary folders of engines, half-written files.

Who lives is known by locks, which the system drops however a process ends; nothing is removed by
its age alone where locks work.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from flowbuilder.store.file_locks import LocksUnsupportedError, try_lock

__all__ = [
    "PARTIAL_FOLDER",
    "Swept",
    "folder_bytes",
    "sweep_partial",
    "sweep_scratch",
    "temporary_folder",
]

PARTIAL_FOLDER: Final = ".partial"
"""Folder beside stored outputs that holds files while they are written."""
_ENGINE: Final = re.compile(r"engine-([A-Za-z0-9-]{1,64})")
_STALE_AFTER_S: Final = 86_400.0
"""Age from which on a file is left over, where there are no locks to ask."""


class Swept(msgspec.Struct, frozen=True):
    """What was removed."""

    count: int = 0
    size_bytes: int = 0

    def __add__(self, other: Swept) -> Swept:
        return Swept(self.count + other.count, self.size_bytes + other.size_bytes)


def temporary_folder(scratch: Path, engine_id: str) -> Path:
    """Name the folder an engine keeps files in that are of no use after it."""
    return scratch / f"engine-{engine_id}"


def sweep_scratch(scratch: Path, is_alive: Callable[[str], bool]) -> Swept:
    """Remove the temporary folders of dead engines.

    Parameters
    ----------
    scratch : Path
        The folder they are in.
    is_alive : callable
        Says of an engine id whether its process lives.

    Returns
    -------
    Swept
        How many folders, and the bytes in them.

    Notes
    -----
    One listing of a folder that is nearly always empty. Several processes may do it at once.
    """
    found = Swept()
    for path in _entries(scratch):
        match = _ENGINE.fullmatch(path.name)
        if match is not None and path.is_dir() and not path.is_symlink() and not is_alive(match[1]):
            found += _remove_folder(path)
    return found


def sweep_partial(outputs: Path) -> Swept:
    """Remove files below a folder of outputs that nobody writes any more."""
    found = Swept()
    for path in _entries(outputs / PARTIAL_FOLDER):
        if _is_abandoned(path):
            found += _remove_file(path)
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_abandoned(path: Path) -> bool:
    """Whether nobody writes a file any more: its writer holds a lock on it until it has its
    name.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        # A file that was made a moment ago may not be locked yet.
        is_old = time.time() - os.fstat(descriptor).st_mtime > 1.0
        return is_old and try_lock(descriptor)
    except LocksUnsupportedError:
        return time.time() - os.fstat(descriptor).st_mtime > _STALE_AFTER_S
    except OSError:
        return False
    finally:
        os.close(descriptor)


def folder_bytes(folder: Path) -> int:
    """Add up the files in a folder, as far as they can be seen."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            size += path.lstat().st_size
    return size


def _remove_folder(folder: Path) -> Swept:
    size = folder_bytes(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return Swept() if folder.exists() else Swept(1, size)


def _remove_file(path: Path) -> Swept:
    with suppress(OSError):
        size = path.stat().st_size
        path.unlink()
        return Swept(1, size)
    return Swept()
