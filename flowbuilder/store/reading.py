"""Read connections and the rows they give, page by page, so that no transaction stays open."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from flowbuilder.errors import StorageError
from flowbuilder.store.codec import HEADER_KIND, HEADER_SEQ, Row
from flowbuilder.store.writing import SqlConnection

__all__ = [
    "ClosableConnection",
    "PooledReaders",
    "Readers",
    "SharedReader",
    "header_row",
    "rows_of_run",
    "tail_rows",
]

_PAGE_ROWS: Final = 64
_MAX_IDLE: Final = 4
_COLUMNS = "run_id, first_seq, n, kind, schema_version, crc32, body"


class Readers(Protocol):
    """Where read connections come from."""

    def reading(self) -> AbstractContextManager[SqlConnection]:
        """Lend a connection for one short read."""
        ...

    def close(self) -> None:
        """Close the idle connections."""
        ...

    def abandon(self) -> list[object]:
        """Forget the connections after a fork; return what must not be closed."""
        ...


class ClosableConnection(SqlConnection, Protocol):
    """A connection that can be closed."""

    def close(self) -> None:
        """Let go of it."""
        ...


class PooledReaders:
    """A few connections that only read, kept open between reads.

    Parameters
    ----------
    open_connection : callable
        Makes one more.
    errors : callable
        A context that turns the database's errors into `StorageError`.
    check : callable
        Raises if the journal is closed or forked.
    """

    def __init__(
        self,
        open_connection: Callable[[], ClosableConnection],
        errors: Callable[[], AbstractContextManager[None]],
        check: Callable[[], None],
    ) -> None:
        self._open = open_connection
        self._errors = errors
        self._check = check
        self._idle: deque[ClosableConnection] = deque()

    @contextmanager
    def reading(self) -> Iterator[SqlConnection]:
        """Lend a connection for one short read."""
        self._check()
        with self._errors():
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._open()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
        if len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def abandon(self) -> list[object]:
        """Forget the connections after a fork; return what must not be closed."""
        idle, self._idle = list(self._idle), deque()
        return list(idle)


class SharedReader:
    """Reads on the write connection, under its lock: all a journal in memory has.

    Parameters
    ----------
    lend : callable
        Gives the locked connection.
    """

    def __init__(self, lend: Callable[[], AbstractContextManager[SqlConnection]]) -> None:
        self._lend = lend

    def reading(self) -> AbstractContextManager[SqlConnection]:
        """Lend the connection for one short read."""
        return self._lend()

    def close(self) -> None:
        """Do nothing: the connection belongs to the writer."""

    def abandon(self) -> list[object]:
        """Forget nothing: the connection belongs to the writer."""
        return []


def header_row(connection: SqlConnection, run_id: str) -> Row:
    """Read the row that describes a run.

    Raises
    ------
    StorageError
        If it is missing.
    """
    query = f"SELECT {_COLUMNS} FROM journal WHERE run_id = ? AND first_seq = ?"  # noqa: S608
    found = next(connection.execute(query, (run_id, HEADER_SEQ)), None)
    if found is None:
        raise StorageError(f"the journal is damaged: the header of run {run_id} is missing")
    return _row(found)


def rows_of_run(readers: Readers, run_id: str, after_seq: int = -1) -> Iterator[Row]:
    """Iterate over a run's rows, from the one that holds ``after_seq + 1``; none may be missing.

    Raises
    ------
    StorageError
        At the place where rows are missing.
    """
    with readers.reading() as connection:
        start = _row_start(connection, run_id, after_seq + 1)
    expected = start
    while True:
        with readers.reading() as connection:
            page = read_page(connection, run_id, expected)
        for row in page:
            if row.first_seq != expected:
                raise missing_records(run_id, expected, row.first_seq - 1)
            expected += row.n
            yield row
        if len(page) < _PAGE_ROWS:
            return


def rows_in_transaction(connection: SqlConnection, run_id: str, after_seq: int) -> Iterator[Row]:
    """Iterate over the rows that begin after ``after_seq``, inside the caller's transaction."""
    expected = after_seq + 1
    while page := read_page(connection, run_id, expected):
        for row in page:
            if row.first_seq != expected:
                raise missing_records(run_id, expected, row.first_seq - 1)
            expected += row.n
            yield row


def missing_records(run_id: str, first: int, last: int) -> StorageError:
    """Make the error for a gap in a run's records."""
    return StorageError(
        f"the journal is damaged: records {first} to {last} of run {run_id} are missing",
        hint="restore the store from a copy",
    )


def _row_start(connection: SqlConnection, run_id: str, seq: int) -> int:
    query = "SELECT max(first_seq) FROM journal WHERE run_id = ? AND first_seq BETWEEN 0 AND ?"
    (found,) = next(connection.execute(query, (run_id, seq)))
    return found if isinstance(found, int) else 0


def read_page(connection: SqlConnection, run_id: str, from_seq: int) -> list[Row]:
    """Read the next rows of a run that begin at or after ``from_seq``."""
    query = (
        f"SELECT {_COLUMNS} FROM journal WHERE run_id = ? AND first_seq >= ?"  # noqa: S608
        " ORDER BY first_seq LIMIT ?"
    )
    return [_row(found) for found in connection.execute(query, (run_id, from_seq, _PAGE_ROWS))]


def rows_of_kind(readers: Readers, run_id: str, kind: str) -> Iterator[Row]:
    """Iterate over a run's rows of one kind, in order."""
    query = (
        f"SELECT {_COLUMNS} FROM journal WHERE run_id = ? AND kind = ? AND first_seq > ?"  # noqa: S608
        " ORDER BY first_seq LIMIT ?"
    )
    after = -1
    while True:
        with readers.reading() as connection:
            found = list(connection.execute(query, (run_id, kind, after, _PAGE_ROWS)))
        yield from map(_row, found)
        if len(found) < _PAGE_ROWS:
            return
        after = _row(found[-1]).first_seq


def tail_rows(connection: SqlConnection, after_pos: int, limit: int) -> list[tuple[int, Row]]:
    """Read the rows after a position, of all runs, in the order they were written."""
    query = f"SELECT pos, {_COLUMNS} FROM journal WHERE pos > ? AND kind <> ? ORDER BY pos LIMIT ?"  # noqa: S608
    found = connection.execute(query, (after_pos, HEADER_KIND, limit))
    return [(_integer(values[0]), _row(values[1:])) for values in found]


def _row(values: tuple[object, ...]) -> Row:
    run_id, first_seq, n, kind, version, seal, body = values
    if isinstance(run_id, str) and isinstance(kind, str) and isinstance(body, bytes):
        return Row(
            run_id, _integer(first_seq), _integer(n), kind, _integer(version), _integer(seal), body
        )
    raise StorageError("the journal is damaged: a row has columns of wrong types")


def _integer(value: object) -> int:
    if isinstance(value, int):
        return value
    raise StorageError(f"the journal is damaged: expected a number, found {value!r}")
