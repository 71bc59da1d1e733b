"""The catalogue's SQLite file: one connection per process, short transactions, sealed rows."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from flowbuilder.datasets.catalogue_schema import ensure_catalogue_schema
from flowbuilder.errors import StorageError
from flowbuilder.store.connection import check_library, open_connection
from flowbuilder.store.forks import leak, watch_forks

__all__ = ["Database", "fetch", "seal", "unseal"]

_T = TypeVar("_T")
_CHECKPOINT_FRAMES = 1000


class Database:
    """The connection, behind a lock; every method of the catalogue goes through `reading` or
    `writing`.

    Parameters
    ----------
    path : Path
        The file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        check_library()
        self.path = path
        self._lock = threading.RLock()
        with self._errors("open"):
            self._connection: apsw.Connection | None = open_connection(path)
            self._connection.pragma("journal_mode", "wal")
            ensure_catalogue_schema(self._connection)
        watch_forks(self)

    @contextmanager
    def reading(self) -> Iterator[apsw.Connection]:
        """Lend the connection for statements that see one state of the catalogue.

        Yields
        ------
        apsw.Connection
            Inside a read transaction; may be nested, also in `writing`.
        """
        with self._lock, self._errors("read"):
            connection = self._usable()
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[apsw.Connection]:
        """Lend the connection for one atomic, durable change; other processes wait.

        Yields
        ------
        apsw.Connection
            Inside a write transaction, committed when the block ends well.
        """
        with self._lock, self._errors("write"):
            connection = self._usable()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self._keep_log_short(connection)

    def _keep_log_short(self, connection: apsw.Connection) -> None:
        wal = Path(f"{self.path}-wal")
        try:
            is_long = wal.stat().st_size > _CHECKPOINT_FRAMES * 4096
        except OSError:
            return
        if is_long:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _usable(self) -> apsw.Connection:
        if self._connection is None:
            raise StorageError(
                f"the catalogue of datasets in {self.path} is closed in this process",
                hint="open the store again with fb.store()",
            )
        return self._connection

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise StorageError(
                f"could not {action} the catalogue of datasets in {self.path}: {error}",
                hint="check free space and permissions of the folder; nothing committed is lost",
            ) from error

    def close(self) -> None:
        """Close the file. May be repeated."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def abandon(self) -> None:
        """Leave the connection alone in a forked child, which must not close it."""
        self._lock = threading.RLock()
        connection, self._connection = self._connection, None
        if connection is not None:
            leak([connection])


def fetch(
    connection: apsw.Connection, sql: str, values: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """Give all rows of a query."""
    return list(connection.execute(sql, tuple(values)))


def seal(body: bytes, *place: object) -> int:
    """Give the checksum of a row's content together with where it belongs."""
    return zlib.crc32(repr(place).encode("utf-8", "surrogatepass"), zlib.crc32(body))


def unseal(body: bytes, crc32: int, kind: type[_T], what: str, *place: object) -> _T:
    """Decode a sealed row.

    Raises
    ------
    StorageError
        If it was damaged or moved.
    """
    if seal(body, *place) == crc32:
        try:
            return msgspec.msgpack.decode(body, type=kind)
        except msgspec.MsgspecError:
            pass  # a checksum that fits damaged content: as good as damaged
    raise StorageError(
        f"{what} is damaged in the catalogue of datasets",
        hint="restore the catalogue from a backup; the data files were not touched",
    )
