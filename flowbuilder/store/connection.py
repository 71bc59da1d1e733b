"""SQLite connections as the journal needs them, and SQLite's errors in the reader's words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from flowbuilder.errors import StorageError
from flowbuilder.store.disk import current_disk
from flowbuilder.store.disk_space import free_bytes, space_error

__all__ = ["BUSY_TIMEOUT_MS", "check_library", "open_connection", "storage_error", "storage_errors"]

BUSY_TIMEOUT_MS: Final = 10_000
"""How long one statement waits for another process; a commit takes a fraction of a millisecond."""

_LEAST_BYTES: Final = 64 * 1024
"""What the smallest write may take: the log and its shared memory grow in pieces."""

_FIRST_AFFECTED = (3, 7, 0)
_FIRST_FIXED = (3, 51, 3)
_BACKPORTS = {(3, 50): (3, 50, 7), (3, 44): (3, 44, 6)}


def check_library(version: str | None = None) -> None:
    """Refuse a SQLite library that can lose acknowledged commits.

    Parameters
    ----------
    version : str, optional
        Version such as ``3.54.1``; by default that of the library in use.

    Raises
    ------
    StorageError
        If several processes committing to and checkpointing one write-ahead log could lose data
        with it.

    References
    ----------
    sqlite.org/wal.html, "The WAL-reset bug": 3.7.0 to 3.51.2, fixed in 3.51.3, 3.50.7 and 3.44.6.
    """
    text = version if version is not None else apsw.sqlite_lib_version()
    number = tuple(int(part) for part in text.split(".")[:3])
    fixed = _BACKPORTS.get((number[0], number[1]), _FIRST_FIXED)
    if _FIRST_AFFECTED <= number < fixed:
        raise StorageError(
            f"expected SQLite 3.51.3 or newer, found {text}, whose write-ahead log can lose"
            " committed runs when several processes share a store",
            hint="install the apsw wheel from PyPI, which brings its own SQLite",
        )


def open_connection(path: Path | None, *, read_only: bool = False) -> apsw.Connection:
    """Open a connection with the journal's settings; None is a database in memory.

    Raises
    ------
    apsw.Error
        As SQLite reports it; callers map it with `storage_errors`.
    """
    if path is None:
        return apsw.Connection(":memory:")
    flags = apsw.SQLITE_OPEN_READWRITE | (0 if read_only else apsw.SQLITE_OPEN_CREATE)
    connection = apsw.Connection(str(path), flags=flags, vfs=current_disk().vfs)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.wal_autocheckpoint(0)
    connection.pragma("synchronous", "FULL")
    if sys.platform == "darwin":  # fsync does not reach the disk there
        connection.pragma("fullfsync", 1)
    if read_only:
        # Not SQLITE_OPEN_READONLY: a reader of a WAL must be able to write its shared-memory index.
        connection.pragma("query_only", 1)
    return connection


@contextmanager
def storage_errors(action: str, path: Path | None, needed_bytes: int = 0) -> Iterator[None]:
    """Turn SQLite's errors inside the block into `StorageError` with what to do about them.

    ``needed_bytes`` is about what is being written.
    """
    try:
        yield
    except apsw.Error as error:
        raise storage_error(action, path, error, needed_bytes) from error
    except UnicodeDecodeError as error:  # how apsw meets damaged text
        where = "memory" if path is None else path
        raise StorageError(
            f"could not {action} the journal in {where}: a text in it is damaged",
            hint="run 'flowbuilder store check'; restore the store from a backup",
        ) from error


def storage_error(
    action: str, path: Path | None, error: apsw.Error, needed_bytes: int = 0
) -> StorageError:
    """Say in our words what SQLite reported."""
    if path is not None and _is_out_of_space(error, path, needed_bytes):
        return space_error(f"{action} the journal", path, max(needed_bytes, _LEAST_BYTES))
    where = str(path) if path is not None else "memory"
    return StorageError(f"could not {action} the journal in {where}: {error}", hint=_advice(error))


def _is_out_of_space(error: apsw.Error, path: Path, needed_bytes: int) -> bool:
    if isinstance(error, apsw.FullError):
        return True
    # The shared memory and a new file fail in other words when there is no space for them.
    may_be = isinstance(error, apsw.IOError | apsw.CantOpenError)
    return may_be and 0 <= free_bytes(path) < max(needed_bytes, _LEAST_BYTES)


def _advice(error: apsw.Error) -> str:
    for kind, advice in _ADVICE:
        if isinstance(error, kind):
            return advice
    return "run 'flowbuilder doctor' for a check of the store"


_ADVICE: Final[tuple[tuple[type[apsw.Error], str], ...]] = (
    (apsw.FullError, "free some space; nothing earlier is lost"),
    (apsw.BusyError, "another process holds the journal's lock: wait for it or end it"),
    (apsw.LockedError, "another process holds the journal's lock: wait for it or end it"),
    (apsw.ReadOnlyError, "the place is read-only: choose another with --data-dir"),
    (apsw.CantOpenError, "check the permissions of the folder, or choose another with --data-dir"),
    (apsw.PermissionsError, "check the permissions of the folder, or choose another"),
    (apsw.IOError, "the disk reported an error: check it and its free space"),
    (apsw.CorruptError, "the file is damaged: keep a copy, then move it away to begin a new one"),
    (apsw.NotADBError, "the file is not a journal: move it away to begin a new one"),
)
