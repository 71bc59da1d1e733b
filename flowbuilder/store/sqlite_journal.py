"""The journal on SQLite: the tables in a file that many processes share, or in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from flowbuilder.errors import StorageError
from flowbuilder.store.checkpoints import Checkpoints
from flowbuilder.store.connection import BUSY_TIMEOUT_MS, open_connection, storage_errors
from flowbuilder.store.findings import CheckCounts, Finding, Severity
from flowbuilder.store.forks import leak
from flowbuilder.store.group_commit import GroupCommit
from flowbuilder.store.reading import PooledReaders, Readers, SharedReader
from flowbuilder.store.schema import ensure_schema
from flowbuilder.store.sql_journal import SqlJournal
from flowbuilder.store.sqlite_writer import SqliteWriter
from flowbuilder.store.table_copy import copy_database

__all__ = ["SqliteJournal"]


class SqliteJournal(SqlJournal):
    """A `Journal` in a SQLite file, which many processes share, or in memory. Thread-safe.

    Parameters
    ----------
    path : Path or None
        The file, created if missing; None keeps everything in memory.
    is_owner_alive : callable
        Tells whether the engine with a given id lives.
    flush_interval_s : float
        Longest time a notified record waits for its commit to begin, in seconds.
    has_log : bool
        Whether to use a write-ahead log; False for file systems that cannot share memory between
        processes.

    Raises
    ------
    StorageError
        If the file is not a journal or is damaged.
    apsw.Error
        If it cannot be opened; `open_journal` decides what that means.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        is_owner_alive: Callable[[str], bool],
        flush_interval_s: float = 0.005,
        has_log: bool = True,
    ) -> None:
        self.path = path
        self.connection = connection = open_connection(path)
        try:
            if path is not None:
                _set_journal_mode(connection, "wal" if has_log else "truncate")
            is_writable = ensure_schema(connection)
        except BaseException:
            connection.close()
            raise
        self._checkpoints = Checkpoints(path if has_log else None)
        writer = SqliteWriter(connection, path)
        group = GroupCommit(
            writer,
            refusal="" if is_writable else _NEWER.format(path=path),
            interval_s=flush_interval_s,
            checkpoints=self._checkpoints,
        )
        super().__init__(group, writer, self._open_readers(group), is_owner_alive)

    def _open_readers(self, group: GroupCommit) -> Readers:
        path = self.path
        if path is not None:
            return PooledReaders(
                lambda: open_connection(path, read_only=True),
                lambda: storage_errors("read", path),
                group.check_usable,
            )

        @contextmanager
        def lend() -> Iterator[apsw.Connection]:
            with storage_errors("read", None), group.settled():
                yield self.connection

        return SharedReader(lend)

    def check(self, counts: CheckCounts) -> Iterator[Finding]:
        """Read everything and say what is wrong, the database file included."""
        with self._readers.reading() as connection:
            answers = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
        if answers != ["ok"]:
            yield Finding(
                severity=Severity.ERROR,
                subject="database",
                message=f"the journal {self.path} is damaged: {'; '.join(answers)[:500]}",
                hint="restore the store from a backup, or save what can be read with"
                " 'sqlite3 journal.db .recover'",
            )
        yield from super().check(counts)

    def copy_to(self, target: Path) -> None:
        """Write a consistent copy as a SQLite file, while runs go on."""
        if self.path is None:
            super().copy_to(target)
        else:
            self._group.flush_notified()
            copy_database(self.path, target)

    def abandon(self) -> None:
        """Become unusable in a forked child; nothing inherited is touched."""
        super().abandon()
        leak(self._checkpoints.abandon())


_NEWER = (
    "the journal {path} was made by a newer version of FlowBuilder and can only be read by this one"
)


def _set_journal_mode(connection: apsw.Connection, mode: str) -> None:
    if connection.pragma("journal_mode") != mode:
        found = _change_journal_mode(connection, mode)
        if found != mode:
            raise StorageError(
                f"expected the journal mode {mode!r}, found {found!r} for {connection.filename}",
                hint="another process may hold the journal: end it and repeat",
            )


def _change_journal_mode(connection: apsw.Connection, mode: str) -> object:
    # SQLite does not wait here for another process that creates the same journal: its busy timeout
    # does not apply.
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            return connection.pragma("journal_mode", mode)
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
