"""A consistent copy of a journal's tables in a SQLite file, whichever database they are in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw

from flowbuilder.store.connection import open_connection, storage_errors
from flowbuilder.store.reading import Readers
from flowbuilder.store.schema import ensure_schema
from flowbuilder.store.writing import SqlConnection

__all__ = ["copy_database", "copy_tables"]

_ROWS: Final = 512
_TABLES: Final = {"versions": 5, "journal": 8, "runs": 8, "snapshots": 4, "artifacts": 10}
"""Tables and their width. Where the first column is unique, they are read in its order."""


def copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite file as of one moment, while others write.

    Raises
    ------
    StorageError
        If it cannot be read or written.
    """
    with storage_errors("copy", source), _open(target) as copy:
        reader = open_connection(source, read_only=True)
        try:
            with copy.backup("main", reader, "main") as backup:
                # In one step: whatever another process writes between two would begin it anew.
                backup.step(-1)
        finally:
            reader.close()
        _finish(copy)


def copy_tables(readers: Readers, target: Path) -> None:
    """Copy the tables of any database as of one moment, row by row.

    Raises
    ------
    StorageError
        If they cannot be read or written.
    """
    with storage_errors("copy to", target), _open(target) as copy:
        ensure_schema(copy)
        with readers.reading() as connection, copy:
            connection.execute("BEGIN")
            try:
                for table, width in _TABLES.items():
                    insert = f"INSERT INTO {table} VALUES ({', '.join('?' * width)})"  # noqa: S608
                    for page in _pages(connection, table):
                        copy.executemany(insert, page)
            finally:
                connection.execute("ROLLBACK")
        _finish(copy)


def _pages(connection: SqlConnection, table: str) -> Iterator[list[tuple[Any, ...]]]:
    if table == "artifacts":  # small rows, and no single column that tells them apart
        yield list(connection.execute("SELECT * FROM artifacts"))
        return
    key = {"versions": "plan_id", "snapshots": "run_id"}.get(table, "pos")
    first = f"SELECT * FROM {table} ORDER BY {key} LIMIT ?"  # noqa: S608
    following = f"SELECT * FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT ?"  # noqa: S608
    page = list(connection.execute(first, (_ROWS,)))
    while page:
        yield page
        page = list(connection.execute(following, (page[-1][0], _ROWS)))


@contextmanager
def _open(path: Path) -> Iterator[apsw.Connection]:
    connection = open_connection(path)
    try:
        yield connection
    finally:
        connection.close()


def _finish(copy: apsw.Connection) -> None:
    """Leave one file, complete and on disk, that the journal can open."""
    copy.pragma("journal_mode", "delete")
