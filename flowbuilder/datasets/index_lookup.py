"""Using indexes: from ranges of keys to the rows that can match, file by file.

Whatever goes wrong here means that the file is scanned.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from flowbuilder.datasets.filters import ColumnFilter
from flowbuilder.datasets.index_catalogue import IndexCatalogue, IndexRow, PieceRow
from flowbuilder.datasets.index_files import Piece, PieceDamagedError
from flowbuilder.datasets.manifest import DataFile
from flowbuilder.datasets.names import fold_identifier
from flowbuilder.datasets.querying import Hits
from flowbuilder.datasets.snapshot import Snapshot
from flowbuilder.errors import StorageError

__all__ = ["IndexLookup", "piece_path"]

_OPEN_PIECES: Final = 256
_MAX_SHARE: Final = 0.05
_ALWAYS_ROWS: Final = 4096
_LOOKUP_ROWS: Final = 64
"""A lookup reads about a row group per hit: worth it for few."""

_Span = list[tuple[int, int]]


def piece_path(folder: Path, dataset_id: int, name: str) -> Path:
    """Give where a piece is."""
    return folder / str(dataset_id) / "index" / name


class IndexLookup:
    """Finds rows; a `Narrower`.

    Parameters
    ----------
    folder : Path
        The store's folder of datasets.
    catalogue : IndexCatalogue
        Which indexes there are.
    """

    def __init__(self, folder: Path, catalogue: IndexCatalogue) -> None:
        self._folder, self._catalogue = folder, catalogue
        self._open: OrderedDict[str, Piece] = OrderedDict()
        self._lock = threading.Lock()
        self.used: dict[int, int] = {}
        """How often each index was used since somebody looked."""

    def find_hits(
        self, snapshot: Snapshot, files: Sequence[DataFile], filters: Sequence[ColumnFilter]
    ) -> tuple[str, list[Hits]]:
        """Look up the rows that can match, with the index that leaves fewest of them.

        Parameters
        ----------
        snapshot : Snapshot
            The version being read.
        files : sequence of DataFile
            Files of it that statistics did not rule out.
        filters : sequence of ColumnFilter
            What the query asks.

        Returns
        -------
        tuple
            The index in words, and the hits; a file without hits entry must be scanned.
        """
        indexes = self._catalogue.indexes(snapshot.manifest.dataset_id)
        best: tuple[int, IndexRow, dict[int, tuple[Piece, _Span]]] | None = None
        for each in filters if indexes else ():
            for index in indexes:
                if fold_identifier(index.column) == fold_identifier(each.column):
                    found = self._search(index, files, each)
                    if found is not None and (best is None or found[0] < best[0]):
                        best = (found[0], index, found[1])
        if best is None:
            return "", []
        _, index, spans = best
        hits = self._hits(files, index, spans)
        if hits:
            with self._lock:
                self.used[index.index_id] = self.used.get(index.index_id, 0) + 1
        return f"{index.kind} index on {index.column!r} for {len(hits)} of {len(files)} files", hits

    def _search(
        self, index: IndexRow, files: Sequence[DataFile], asked: ColumnFilter
    ) -> tuple[int, dict[int, tuple[Piece, _Span]]] | None:
        """Find where hits stand in each piece; None if there are too many to be worth it."""
        pieces = self._catalogue.pieces()
        found, hits, covered = {}, 0, 0
        for file in files:
            row = pieces.get((index.index_id, file.file_id))
            piece = None if row is None else self._opened(index, row)
            if row is None or piece is None:
                continue
            try:
                spans = piece.spans(asked.ranges)
            except PieceDamagedError:
                self._give_up(index, row)
                continue
            except TypeError:  # keys of another kind than the column has now: scan
                continue
            found[file.file_id] = (piece, spans)
            hits += sum(stop - start for start, stop in spans)
            covered += file.body.num_rows
        limit = max(_ALWAYS_ROWS, int(covered * _MAX_SHARE))
        if not found or hits > (_LOOKUP_ROWS if index.kind == "lookup" else limit):
            return None
        return hits, found

    def _hits(
        self,
        files: Sequence[DataFile],
        index: IndexRow,
        spans: dict[int, tuple[Piece, _Span]],
    ) -> list[Hits]:
        hits = []
        for file in files:
            if file.file_id not in spans:
                continue
            piece, found = spans[file.file_id]
            try:
                rows = piece.rows(found)
            except PieceDamagedError:
                row = self._catalogue.pieces().get((index.index_id, file.file_id))
                if row is not None:
                    self._give_up(index, row)
                continue
            last = rows.num_columns - 1
            if index.kind == "lookup":
                numbers = tuple(rows.column(last).to_pylist())
                hits.append(Hits(file_id=file.file_id, numbers=numbers))
            else:
                hits.append(Hits(file_id=file.file_id, table=rows.remove_column(last)))
        return hits

    def _opened(self, index: IndexRow, row: PieceRow) -> Piece | None:
        with self._lock:
            piece = self._open.get(row.name)
        if piece is not None:
            return piece
        path = piece_path(self._folder, index.dataset_id, row.name)
        try:
            piece = Piece(path, self._catalogue.body(row), index.column)
        except (PieceDamagedError, StorageError):
            self._give_up(index, row)
            return None
        with self._lock:
            self._open[row.name] = piece
            while len(self._open) > _OPEN_PIECES:
                self._open.popitem(last=False)
        return piece

    def _give_up(self, index: IndexRow, row: PieceRow) -> None:
        """Forget a damaged piece; it is built anew when its index is."""
        self.forget(row.name)
        with suppress(StorageError, OSError):
            self._catalogue.remove_piece(row)
            piece_path(self._folder, index.dataset_id, row.name).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Close a piece."""
        with self._lock:
            self._open.pop(name, None)

    def close(self) -> None:
        """Close all pieces."""
        with self._lock:
            self._open.clear()
