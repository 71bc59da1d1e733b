"""Opening the journal of a place, or one in memory where the place allows none."""

from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from flowbuilder.config import prepare_data_dir
from flowbuilder.errors import StorageError
from flowbuilder.store.connection import check_library, storage_error
from flowbuilder.store.filesystems import network_filesystem
from flowbuilder.store.ownership import Owners
from flowbuilder.store.ports import Journal, OwnerRegistry
from flowbuilder.store.sqlite_journal import SqliteJournal

__all__ = ["JOURNAL_NAME", "OpenedStore", "open_journal", "open_store"]

JOURNAL_NAME: Final = "journal.db"
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class OpenedStore(NamedTuple):
    """A journal with those who write it."""

    journal: Journal
    owners: OwnerRegistry
    is_in_memory: bool
    """Whether nothing outlives this process, because the place cannot be written."""


def open_store(
    data_dir: Path, journal_url: str = "", *, flush_interval_s: float = 0.005
) -> OpenedStore:
    """Open the journal a setting names, with the registry of its engines.

    Parameters
    ----------
    data_dir : Path
        The store directory, created if needed; with a journal elsewhere it still holds outputs.
    journal_url : str
        ``postgresql://...``; empty for the store directory itself.
    flush_interval_s : float
        Longest time a notified record waits for its commit to begin, in seconds.

    Raises
    ------
    StorageError
        If it cannot be opened.
    ConfigurationError
        If the URL is wrong, or the directory is a file.
    """
    if not journal_url:
        journal = open_journal(data_dir, flush_interval_s=flush_interval_s)
        is_in_memory = journal.path is None
        return OpenedStore(journal, Owners(None if is_in_memory else data_dir), is_in_memory)
    from flowbuilder.store.postgres_journal import PostgresJournal

    try:
        prepare_data_dir(data_dir)
    except OSError as error:
        raise StorageError(
            f"could not make the folder {data_dir}: {error.strerror or error}",
            hint="choose another place with --data-dir",
        ) from error
    shared = PostgresJournal(journal_url, flush_interval_s=flush_interval_s)
    return OpenedStore(shared, shared.owners, is_in_memory=False)


def open_journal(data_dir: Path | None, *, flush_interval_s: float = 0.005) -> SqliteJournal:
    """Open the journal of a store directory, creating both if needed.

    Parameters
    ----------
    data_dir : Path or None
        The store directory; None for a journal in memory.
    flush_interval_s : float
        Longest time a notified record waits for its commit to begin, in seconds.

    Returns
    -------
    SqliteJournal
        With ``path`` None if the place is read-only: runs are then kept in memory, after one
        warning.

    Raises
    ------
    StorageError
        If the SQLite library is unsafe, or there is a file that is damaged or no journal.
    ConfigurationError
        If the directory is a file.
    """
    check_library()
    if data_dir is None:
        return _open(None, None, flush_interval_s, has_log=True)
    try:
        prepare_data_dir(data_dir)
        kind = network_filesystem(data_dir)
        if kind:
            _warn(
                f"{data_dir} is on a network file system ({kind}): runs are recorded more slowly,"
                " by one process at a time; choose a local folder with --data-dir"
            )
        return _open(data_dir / JOURNAL_NAME, data_dir, flush_interval_s, has_log=not kind)
    except (OSError, apsw.Error) as error:
        if not _is_forbidden(error, data_dir):
            raise _open_failure(error, data_dir / JOURNAL_NAME) from error
    _warn(
        f"{data_dir} cannot be written: this run is kept in memory only and cannot be resumed;"
        " choose another folder with --data-dir"
    )
    return _open(None, None, flush_interval_s, has_log=True)


def _open(
    path: Path | None, data_dir: Path | None, flush_interval_s: float, *, has_log: bool
) -> SqliteJournal:
    return SqliteJournal(
        path,
        is_owner_alive=Owners(data_dir).is_alive,
        flush_interval_s=flush_interval_s,
        has_log=has_log,
    )


def _open_failure(error: OSError | apsw.Error, path: Path) -> StorageError:
    if isinstance(error, apsw.Error):
        return storage_error("open", path, error)
    return StorageError(
        f"could not open the journal in {path}: {error.strerror or error}",
        hint="choose another place with --data-dir",
    )


def _is_forbidden(error: Exception, data_dir: Path) -> bool:
    if isinstance(error, OSError):
        return error.errno in _FORBIDDEN
    if isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError):
        return True
    is_denied = not os.access(data_dir, os.W_OK | os.X_OK)
    return isinstance(error, apsw.CantOpenError) and is_denied


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=3)
