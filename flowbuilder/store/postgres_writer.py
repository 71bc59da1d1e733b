"""The write side of the journal on PostgreSQL: a statement per table and batch, sent in one go."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from flowbuilder.errors import StorageError
from flowbuilder.store.batch import Batch
from flowbuilder.store.codec import HEADER_KIND, Row
from flowbuilder.store.postgres_connection import (
    PostgresConnection,
    escape_text,
    postgres_error,
)
from flowbuilder.store.postgres_session import PostgresSession
from flowbuilder.store.writing import InDoubtError, OccupiedError

__all__ = ["PostgresWriter"]

_RECONNECT_S: Final = 15.0
_STATEMENT_BYTES: Final = 8 * 2**20
_MAX_BODY_BYTES: Final = 512 * 2**20
"""A field holds less than 1 GiB, and a message of the protocol too."""


class _LostError(StorageError):
    """The session ended under a transaction: it may or may not have been committed."""


class PostgresWriter:
    """A `JournalWriter` on PostgreSQL. Used by one thread at a time.

    Every transaction begins by locking the one row of ``position``, across all processes: positions
    have no gaps and become visible in order.

    Parameters
    ----------
    session : PostgresSession
        The session to write with.
    reconnect_s : float
        How long a batch waits for a server that went away, as one does that restarts.
    """

    def __init__(self, session: PostgresSession, reconnect_s: float = _RECONNECT_S) -> None:
        self._session = session
        self._reconnect_s = reconnect_s
        self._pos = 0

    def write(self, batch: Batch) -> None:
        """Write a batch in one transaction and return once it is on disk."""
        _refuse_giants(batch.rows)
        try:
            self._write_once(batch)
        except _LostError as error:
            self._write_after_loss(batch, error)
        except StorageError as error:
            if _is_hopeless(error.__cause__):
                raise OccupiedError(error.message, hint=error.hint) from error
            raise

    def write_rows(self, batch: Batch) -> None:
        """Write a batch inside the caller's transaction."""
        connection = self._session.in_transaction()
        pos = self._pos
        rows: list[tuple[int, Row]] = []
        for row in batch.rows:
            pos += 1
            rows.append((pos, row))
            if row.kind == HEADER_KIND:
                batch.positions[row.run_id] = pos
        artifacts = list({row[:4]: row for row in batch.artifacts}.values())
        with connection.raw.pipeline():
            _insert(connection, _VERSIONS, batch.versions)
            for chunk in _chunks(rows):
                _insert(connection, _JOURNAL, chunk)
            runs = [(batch.positions[row.run_id], *row) for row in batch.progress]
            _insert(connection, _RUNS, runs)
            _insert(connection, _FORGET_ARTIFACTS, [row[:4] for row in artifacts])
            _insert(connection, _ARTIFACTS, artifacts)
            _insert(connection, _SNAPSHOTS, list({row[0]: row for row in batch.snapshots}.values()))
            connection.send("UPDATE position SET pos = %s", (pos,))
        self._pos = pos

    @contextmanager
    def transaction(self) -> Iterator[PostgresConnection]:
        """Hold the only writing transaction of all processes; commit at the end, else undo."""
        import psycopg

        session = self._session
        try:
            connection = self._begin()
            try:
                yield connection
                connection.execute("COMMIT")
            except Exception:
                session.rollback()
                raise
            except BaseException:
                session.drop()  # an interrupt may have left half an answer unread
                raise
        except psycopg.Error as error:
            told = postgres_error("write", session.address, error)
            kind = _LostError if session.is_lost else StorageError
            raise kind(told.message, hint=told.hint) from error

    def was_written(self, batch: Batch) -> bool:
        """End what an interrupt left open, and tell whether a batch is on disk."""
        if not batch.progress:
            return False
        newest = batch.progress[0]
        pos = batch.positions.get(newest.run_id, 0)
        # The transaction waits for the lock, and so for the end of the session that wrote.
        with self.transaction() as connection:
            query = "SELECT 1 FROM runs WHERE pos = ? AND run_id = ? AND last_seq = ?"
            found = connection.execute(query, (pos, newest.run_id, newest.last_seq))
            return next(found, None) is not None

    def has_version(self, plan_id: str) -> bool:
        """Tell whether a workflow version is stored already; False if nobody answers."""
        import psycopg

        query = "SELECT 1 FROM versions WHERE plan_id = ?"
        try:
            return next(self._session.connected().execute(query, (plan_id,)), None) is not None
        except psycopg.Error:
            return False  # storing it again changes nothing, and writing tells what is wrong

    def close(self) -> None:
        """End the session."""
        self._session.drop()

    def abandon(self) -> list[object]:
        """Forget the connection after a fork; return what must not be closed."""
        return self._session.abandon()

    def _write_once(self, batch: Batch) -> None:
        with self.transaction():
            self.write_rows(batch)

    def _write_after_loss(self, batch: Batch, error: StorageError) -> None:
        deadline = time.monotonic() + self._reconnect_s
        pause_s = 0.02
        while True:
            try:
                if not self.was_written(batch):
                    self._write_once(batch)
            except _LostError as again:
                error = again
            else:
                return
            if time.monotonic() + pause_s > deadline:
                raise InDoubtError(error.message, hint=error.hint) from error
            time.sleep(pause_s)
            pause_s = min(1.0, 2 * pause_s)

    def _begin(self) -> PostgresConnection:
        import psycopg

        session = self._session
        try:
            return self._lock_position(session.connected())
        except psycopg.OperationalError:
            session.rollback()
            if not session.is_lost:
                raise
        # It ended while nothing was written, so nothing is in doubt.
        return self._lock_position(session.connected())

    def _lock_position(self, connection: PostgresConnection) -> PostgresConnection:
        connection.execute("BEGIN")
        found = next(connection.execute("SELECT pos FROM position FOR UPDATE"), None)
        if found is None:
            self._session.rollback()
            raise StorageError(
                f"the journal in {self._session.address.shown} is damaged: 'position' is empty",
                hint="INSERT INTO flowbuilder.position SELECT max(pos) FROM flowbuilder.journal",
            )
        self._pos = found[0]
        return connection


def _is_hopeless(error: BaseException | None) -> bool:
    from psycopg import errors

    kinds = (errors.UniqueViolation, errors.DataError, errors.ProgramLimitExceeded)
    return isinstance(error, kinds)


def _refuse_giants(rows: Sequence[Row]) -> None:
    for row in rows:
        if len(row.body) > _MAX_BODY_BYTES:
            raise OccupiedError(
                f"record {row.first_seq} of run {row.run_id} takes {len(row.body)} bytes, more than"
                f" {_MAX_BODY_BYTES}",
                hint="return large values as outputs, which are kept as files",
            )


class _Table(NamedTuple):
    """How rows reach a table: column by column, so that the text of a statement never changes."""

    statement: str
    types: tuple[str, ...]

    @property
    def text(self) -> str:
        columns = ", ".join(f"%s::{name}[]" for name in self.types)
        return self.statement.replace("ROWS", f"unnest({columns})")


_VERSIONS = _Table(
    "INSERT INTO versions SELECT * FROM ROWS ON CONFLICT (plan_id) DO NOTHING",
    ("text", "text", "text", "bigint", "bytea"),
)
_JOURNAL = _Table(
    "INSERT INTO journal SELECT * FROM ROWS",
    ("bigint", "text", "bigint", "bigint", "text", "integer", "bigint", "bytea"),
)
_RUNS = _Table(
    "INSERT INTO runs SELECT * FROM ROWS ON CONFLICT (pos) DO UPDATE SET state = excluded.state,"
    " owner = excluded.owner, last_seq = excluded.last_seq, crc32 = excluded.crc32,"
    " progress = excluded.progress",
    ("bigint", "text", "text", "text", "text", "bigint", "bigint", "bytea"),
)
# Names may be longer than an index takes, so there is no constraint to conflict with.
_FORGET_ARTIFACTS = _Table(
    "DELETE FROM artifacts AS old USING ROWS AS new (run_id, instance, attempt, name)"
    " WHERE old.run_id = new.run_id AND old.instance = new.instance"
    " AND old.attempt = new.attempt AND old.name = new.name",
    ("text", "bigint", "bigint", "text"),
)
_ARTIFACTS = _Table(
    "INSERT INTO artifacts SELECT * FROM ROWS",
    (*("text", "bigint", "bigint"), *("text",) * 3, "bigint", "text", "text", "bigint"),
)
_SNAPSHOTS = _Table(
    "INSERT INTO snapshots SELECT * FROM ROWS ON CONFLICT (run_id) DO UPDATE SET"
    " seq = excluded.seq, crc32 = excluded.crc32, states = excluded.states",
    ("text", "bigint", "bigint", "bytea"),
)


def _insert(connection: PostgresConnection, table: _Table, rows: Sequence[Sequence[Any]]) -> None:
    if rows:
        columns = [
            [escape_text(value) for value in column] if kind == "text" else list(column)
            for kind, column in zip(table.types, zip(*rows, strict=True), strict=True)
        ]
        connection.send(table.text, columns)


def _chunks(rows: Sequence[tuple[int, Row]]) -> Iterator[list[tuple[Any, ...]]]:
    chunk: list[tuple[Any, ...]] = []
    size = 0
    for pos, row in rows:
        chunk.append((pos, *row))
        size += len(row.body)
        if size > _STATEMENT_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
