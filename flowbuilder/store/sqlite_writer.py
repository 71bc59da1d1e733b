"""The write side of the journal on SQLite: one connection, few wide statements."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import apsw

from flowbuilder.errors import StorageError
from flowbuilder.store.batch import Batch
from flowbuilder.store.codec import HEADER_KIND
from flowbuilder.store.connection import storage_errors
from flowbuilder.store.writing import OccupiedError

__all__ = ["SqliteWriter"]


class SqliteWriter:
    """A `JournalWriter` on a SQLite file or on a database in memory.

    Parameters
    ----------
    connection : apsw.Connection
        The only connection of this process that writes records.
    path : Path or None
        The journal file; None in memory.
    """

    def __init__(self, connection: apsw.Connection, path: Path | None) -> None:
        self.connection = connection
        self._path = path
        self._file_id = _file_id(path)

    def write(self, batch: Batch) -> None:
        """Write a batch in one transaction and return once it is on disk."""
        try:
            with storage_errors("write", self._path, batch.size_bytes):
                self._check_file()
                self.connection.execute("BEGIN IMMEDIATE")
                try:
                    self.write_rows(batch)
                    self.connection.execute("COMMIT")
                except BaseException:
                    self._rollback()
                    raise
        except StorageError as error:
            if isinstance(error.__cause__, apsw.ConstraintError | apsw.TooBigError):
                raise OccupiedError(error.message, hint=error.hint) from error
            raise

    def write_rows(self, batch: Batch) -> None:
        """Run the statements of a batch inside the caller's transaction."""
        connection = self.connection
        if batch.versions:
            _insert(connection, _INSERT_VERSION, batch.versions)
        pos = _last_position(connection)
        rows = []
        for row in batch.rows:
            pos += 1
            rows.append((pos, *row))
            if row.kind == HEADER_KIND:
                batch.positions[row.run_id] = pos
        _insert(connection, _INSERT_JOURNAL, rows)
        runs = [(batch.positions[row.run_id], *row) for row in batch.progress]
        _insert(connection, _UPSERT_RUN, runs)
        if batch.artifacts:
            _insert(connection, _INSERT_ARTIFACT, batch.artifacts)
        if batch.snapshots:
            _insert(connection, _INSERT_SNAPSHOT, batch.snapshots)

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """Hold the only writing transaction; commit at the end, else undo."""
        with storage_errors("write", self._path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                self._rollback()
                raise

    def was_written(self, batch: Batch) -> bool:
        """End what an interrupt left open, and tell whether a batch is on disk."""
        with storage_errors("write", self._path):
            self._rollback()
            if not batch.progress:
                return False
            newest = batch.progress[0]
            pos = batch.positions.get(newest.run_id, 0)
            query = "SELECT 1 FROM runs WHERE pos = ? AND run_id = ? AND last_seq = ?"
            found = self.connection.execute(query, (pos, newest.run_id, newest.last_seq))
            return next(found, None) is not None

    def has_version(self, plan_id: str) -> bool:
        """Tell whether a workflow version is stored already."""
        query = "SELECT 1 FROM versions WHERE plan_id = ?"
        return next(self.connection.execute(query, (plan_id,)), None) is not None

    def close(self) -> None:
        """Close the connection.

        The last one of all processes moves the log into the file; if the disk refuses that, the
        log stays, and whoever opens the journal next reads it.
        """
        with suppress(apsw.FullError, apsw.IOError):
            self.connection.close()

    def abandon(self) -> list[object]:
        """Forget the connection after a fork; return what must not be closed."""
        return [self.connection]

    def _rollback(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def _check_file(self) -> None:
        # Writing to a removed file succeeds and keeps nothing.
        if _file_id(self._path) != self._file_id:
            raise StorageError(
                f"the journal {self._path} was moved or removed while runs were being recorded",
                hint="put it back, or end this program and run again",
            )


def _file_id(path: Path | None) -> tuple[int, int]:
    if path is None:
        return (0, 0)
    try:
        status = os.stat(path)  # noqa: PTH116 - once a commit, and three times as fast as pathlib
    except OSError:
        return (-1, -1)
    return (status.st_dev, status.st_ino)


def _last_position(connection: apsw.Connection) -> int:
    query = "SELECT seq FROM sqlite_sequence WHERE name = 'journal'"
    found = next(connection.execute(query), None)
    return found[0] if found is not None and isinstance(found[0], int) else 0


_INSERT_VERSION = ("INSERT OR IGNORE INTO versions VALUES ", 5, "")
_INSERT_JOURNAL = ("INSERT INTO journal VALUES ", 8, "")
_UPSERT_RUN = (
    "INSERT INTO runs VALUES ",
    8,
    (
        " ON CONFLICT (pos) DO UPDATE SET state = excluded.state, owner = excluded.owner,"
        " last_seq = excluded.last_seq, crc32 = excluded.crc32, progress = excluded.progress"
    ),
)
_INSERT_ARTIFACT = ("INSERT OR REPLACE INTO artifacts VALUES ", 10, "")
_INSERT_SNAPSHOT = ("INSERT OR REPLACE INTO snapshots VALUES ", 4, "")

# Rows per statement. A statement gives up the interpreter lock once and must win it back, which
# takes 5 ms beside code that hogs it: many rows in few statements. Few sizes, so that all stay in
# apsw's statement cache.
_ROWS_PER_STATEMENT: Final = (512, 64, 8, 4, 2, 1)


def _insert(
    connection: apsw.Connection,
    statement: tuple[str, int, str],
    rows: Sequence[tuple[object, ...]],
) -> None:
    place = 0
    left = len(rows)
    for size in _ROWS_PER_STATEMENT:
        while left >= size:
            chunk = rows[place : place + size]
            values = [value for row in chunk for value in row]
            connection.execute(_statement(statement, size), values)
            place += size
            left -= size


_statements: dict[tuple[str, int], str] = {}


def _statement(parts: tuple[str, int, str], size: int) -> str:
    head, width, tail = parts
    text = _statements.get((head, size))
    if text is None:
        row = "(" + ", ".join("?" * width) + ")"
        text = _statements[head, size] = head + ", ".join([row] * size) + tail
    return text
