"""Moving the write-ahead log into the database file, beside the commits and never in their way."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

import apsw

from flowbuilder.store.connection import open_connection

__all__ = ["Checkpoints"]

# A log that is moved often starts over often, and a commit that overwrites old frames is nearly
# twice as fast as one that makes the file longer (measured: 150 against 290 us).
_PASSIVE_BYTES: Final = 2 * 2**20
_TRUNCATE_BYTES: Final = 64 * 2**20
_TRUNCATE_TIMEOUT_MS: Final = 100

_log = logging.getLogger(__name__)


class Checkpoints:
    """Decides when to checkpoint, and does it on a connection of its own, on the flusher's thread.

    Parameters
    ----------
    path : Path or None
        The journal file; None if there is no write-ahead log (in memory, or a rollback journal).
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._connection: apsw.Connection | None = None
        self._written_bytes = 0

    @property
    def is_pending(self) -> bool:
        """Whether the log holds something of ours that a checkpoint would move."""
        return self._path is not None and self._written_bytes > 0

    @property
    def is_urgent(self) -> bool:
        """Whether the log grew so much that a checkpoint should not wait for a quiet moment."""
        return self._path is not None and self._written_bytes > _PASSIVE_BYTES

    def note(self, size_bytes: int) -> None:
        """Count what a commit added to the log."""
        self._written_bytes += size_bytes

    def run(self, commits_paused: AbstractContextManager[object]) -> None:
        """Move what can be moved without making anybody wait; shorten a very long log.

        Parameters
        ----------
        commits_paused : context manager
            Keeps this process from committing, for the last few frames: the log starts over only
            once all of it is moved, which under load never happens by itself.
        """
        if self._path is None:
            return
        self._written_bytes = 0
        try:
            if self._connection is None:
                self._connection = open_connection(self._path)
                self._connection.set_busy_timeout(_TRUNCATE_TIMEOUT_MS)
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            with commits_paused:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if self._log_bytes() > _TRUNCATE_BYTES:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            pass  # readers or another process are busy there: the next time will do
        except apsw.Error as error:
            _log.warning("could not checkpoint the journal %s: %s", self._path, error)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(apsw.FullError, apsw.IOError):  # the log stays as it is
                self._connection.close()
            self._connection = None

    def abandon(self) -> list[object]:
        """Forget the connection after a fork; return what must not be closed."""
        connection, self._connection = self._connection, None
        self._path = None
        return [connection] if connection is not None else []

    def _log_bytes(self) -> int:
        assert self._path is not None
        try:
            return self._path.with_name(self._path.name + "-wal").stat().st_size
        except OSError:
            return 0
