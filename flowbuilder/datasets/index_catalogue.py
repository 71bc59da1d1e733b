"""Indexes, their pieces, and what was observed, as the catalogue keeps them.

All of this is derived: a piece belongs to a data file that never changes, and may vanish any time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping

import msgspec

from flowbuilder.datasets.catalogue import Catalogue
from flowbuilder.datasets.database import fetch, seal, unseal
from flowbuilder.datasets.index_files import PieceBody
from flowbuilder.errors import StorageError

__all__ = ["IndexCatalogue", "IndexRow", "Observation", "PieceRow"]


class IndexRow(msgspec.Struct, frozen=True, kw_only=True):
    """An index: ``kind`` is ``sorted`` (a projection) or ``lookup`` (keys and row numbers)."""

    index_id: int
    dataset_id: int
    column: str
    kind: str
    used_ns: int
    used: int


class PieceRow(msgspec.Struct, frozen=True, kw_only=True):
    """The piece of an index for one data file."""

    index_id: int
    file_id: int
    name: str
    size_bytes: int


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What queries asked of a column, summed up.

    Parameters
    ----------
    kind : str
        ``point`` or ``range``.
    queries : float
        How many, extrapolated where only some were counted.
    scans, scan_s : float
        How many of them had no index, and how long those took together, in seconds.
    share : float
        Part of the rows they asked for, summed over the queries.
    """

    dataset_id: int
    column: str
    kind: str
    queries: float
    scans: float
    scan_s: float
    share: float


class IndexCatalogue:
    """The part of the catalogue that is derived.

    Parameters
    ----------
    catalogue : Catalogue
        The whole.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._database = catalogue.database
        self._lock = threading.Lock()
        self._own_changes = 0
        self._known: tuple[object, list[IndexRow], dict[tuple[int, int], PieceRow]] | None = None
        self._bodies: dict[str, PieceBody] = {}

    def indexes(self, dataset_id: int | None = None) -> list[IndexRow]:
        """List the indexes of a dataset, or all."""
        _, rows, _ = self._load()
        return [row for row in rows if dataset_id in {None, row.dataset_id}]

    def pieces(self) -> Mapping[tuple[int, int], PieceRow]:
        """Give all pieces by index and file."""
        return self._load()[2]

    def _load(self) -> tuple[object, list[IndexRow], dict[tuple[int, int], PieceRow]]:
        with self._database.reading() as connection:
            # Changes when another connection has written, whoever's it is.
            ((version,),) = fetch(connection, "PRAGMA data_version")
            state = (version, self._own_changes)
            known = self._known
            if known is not None and known[0] == state:
                return known
            indexes = [
                IndexRow(
                    index_id=row[0],
                    dataset_id=row[1],
                    column=row[2],
                    kind=row[3],
                    used_ns=row[4],
                    used=row[5],
                )
                for row in fetch(
                    connection,
                    "SELECT index_id, dataset_id, column_name, kind, used_ns, used FROM indexes",
                )
            ]
            pieces = {
                (row[0], row[1]): PieceRow(
                    index_id=row[0], file_id=row[1], name=row[2], size_bytes=row[3]
                )
                for row in fetch(
                    connection, "SELECT index_id, file_id, name, size_bytes FROM pieces"
                )
            }
            self._known = (state, indexes, pieces)
            return self._known

    def body(self, piece: PieceRow) -> PieceBody:
        """Read what is known of a piece.

        Raises
        ------
        StorageError
            If the row is damaged or gone.
        """
        known = self._bodies.get(piece.name)
        if known is None:
            sql = "SELECT crc32, body FROM pieces WHERE index_id = ? AND file_id = ?"
            with self._database.reading() as connection:
                rows = fetch(connection, sql, (piece.index_id, piece.file_id))
            if not rows:
                raise StorageError(f"index piece {piece.name} is gone")
            crc32, body = rows[0]
            known = unseal(body, crc32, PieceBody, f"index piece {piece.name}", piece.name)
            if len(self._bodies) > 4096:
                self._bodies.clear()
            self._bodies[piece.name] = known
        return known

    def ensure(self, dataset_id: int, column: str, kind: str) -> IndexRow:
        """Find an index or enter it, empty."""
        now = time.time_ns()
        with self._database.writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO indexes (dataset_id, column_name, kind, created_ns, used_ns)"
                " VALUES (?, ?, ?, ?, ?)",
                (dataset_id, column, kind, now, now),
            )
            self._own_changes += 1
        return next(
            row for row in self.indexes(dataset_id) if (row.column, row.kind) == (column, kind)
        )

    def add_piece(
        self,
        index: IndexRow,
        file_id: int,
        name: str,
        body: PieceBody,
        *,
        took_s: float,
        cells: int,
    ) -> bool:
        """Enter a finished piece; False if its index or its data file has gone meanwhile."""
        content = msgspec.msgpack.encode(body)
        with self._database.writing() as connection:
            self._own_changes += 1
            is_needed = fetch(
                connection,
                "SELECT 1 FROM indexes, files WHERE index_id = ? AND file_id = ?",
                (index.index_id, file_id),
            )
            if not is_needed:
                return False
            connection.execute(
                "INSERT OR REPLACE INTO pieces VALUES (?, ?, ?, ?, ?, ?)",
                (
                    index.index_id,
                    file_id,
                    name,
                    body.size_bytes,
                    seal(content, name),
                    content,
                ),
            )
            connection.execute(
                "UPDATE indexes SET build_s = build_s + ?, built_cells = built_cells + ?"
                " WHERE index_id = ?",
                (took_s, cells, index.index_id),
            )
        return True

    def remove_piece(self, piece: PieceRow) -> None:
        """Forget a piece."""
        with self._database.writing() as connection:
            self._own_changes += 1
            connection.execute(
                "DELETE FROM pieces WHERE index_id = ? AND file_id = ?",
                (piece.index_id, piece.file_id),
            )

    def remove_index(self, index: IndexRow) -> None:
        """Forget an index with its pieces."""
        with self._database.writing() as connection:
            self._own_changes += 1
            for table in ("pieces", "indexes"):
                connection.execute(f"DELETE FROM {table} WHERE index_id = ?", (index.index_id,))  # noqa: S608

    def stale_pieces(self) -> list[PieceRow]:
        """List pieces whose data file, dataset or index is gone."""
        sql = (
            "SELECT index_id, file_id, name, size_bytes FROM pieces WHERE file_id NOT IN"
            " (SELECT file_id FROM files) OR index_id NOT IN (SELECT index_id FROM indexes"
            " WHERE dataset_id IN (SELECT dataset_id FROM datasets))"
        )
        with self._database.reading() as connection:
            return [
                PieceRow(index_id=row[0], file_id=row[1], name=row[2], size_bytes=row[3])
                for row in fetch(connection, sql)
            ]

    def orphaned(self) -> list[IndexRow]:
        """List indexes whose dataset was dropped."""
        sql = "SELECT dataset_id FROM datasets"
        with self._database.reading() as connection:
            alive = {dataset_id for (dataset_id,) in fetch(connection, sql)}
        return [row for row in self.indexes() if row.dataset_id not in alive]

    def pace(self) -> float | None:
        """Give how long building took per value so far, in seconds; None before the first."""
        sql = "SELECT sum(build_s), sum(built_cells) FROM indexes"
        with self._database.reading() as connection:
            ((seconds, cells),) = fetch(connection, sql)
        return seconds / cells if cells else None

    def observe(
        self, observations: Iterable[Observation], used: Mapping[int, int], now_ns: int
    ) -> None:
        """Add up what was observed, and how often indexes were used."""
        with self._database.writing() as connection:
            self._own_changes += 1
            for each in observations:
                connection.execute(
                    "INSERT INTO observations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
                    " ON CONFLICT DO UPDATE SET queries = queries + ?4, scan_s = scan_s + ?5,"
                    " scans = scans + ?6, share = share + ?7, seen_ns = ?8",
                    (
                        each.dataset_id,
                        each.column,
                        each.kind,
                        each.queries,
                        each.scan_s,
                        each.scans,
                        each.share,
                        now_ns,
                    ),
                )
            for index_id, count in used.items():
                connection.execute(
                    "UPDATE indexes SET used = used + ?, used_ns = ? WHERE index_id = ?",
                    (count, now_ns, index_id),
                )

    def observations(self) -> list[Observation]:
        """List what was observed of datasets that are there."""
        sql = (
            "SELECT dataset_id, column_name, kind, queries, scans, scan_s, share FROM observations"
            " WHERE dataset_id IN (SELECT dataset_id FROM datasets)"
        )
        with self._database.reading() as connection:
            return [
                Observation(
                    dataset_id=row[0],
                    column=row[1],
                    kind=row[2],
                    queries=row[3],
                    scans=row[4],
                    scan_s=row[5],
                    share=row[6],
                )
                for row in fetch(connection, sql)
            ]
