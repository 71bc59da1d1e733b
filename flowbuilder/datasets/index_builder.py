"""Building indexes piece by piece, within a budget, and taking away what nobody needs."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from flowbuilder.datasets.advice import MIN_ROWS
from flowbuilder.datasets.catalogue import DatasetRow
from flowbuilder.datasets.index_catalogue import IndexCatalogue, IndexRow
from flowbuilder.datasets.index_files import BuildStoppedError, write_piece
from flowbuilder.datasets.index_lookup import piece_path
from flowbuilder.datasets.manifest import DataFile
from flowbuilder.datasets.names import fold_identifier
from flowbuilder.datasets.ordinals import is_sortable
from flowbuilder.datasets.parts import StoreParts
from flowbuilder.datasets.snapshot import Snapshot
from flowbuilder.errors import StorageError
from flowbuilder.store.file_locks import LocksUnsupportedError, try_lock

__all__ = ["Budget", "BuildReport", "IndexBuilder"]

_PATIENCE_S: Final = 0.05


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What building may take: seconds of work, and bytes on disk for all indexes of the store."""

    seconds: float = float("inf")
    size_bytes: float = float("inf")


class BuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was built.

    Parameters
    ----------
    pieces, rows, size_bytes : int
        Finished pieces; each helps at once.
    took_s : float
        Seconds of work.
    left : int
        Data files that still have none.
    stopped : str
        Why it ended before everything was built: ``cancelled``, ``seconds``, ``bytes``; empty if
        it did not.
    """

    pieces: int = 0
    rows: int = 0
    size_bytes: int = 0
    took_s: float = 0.0
    left: int = 0
    stopped: str = ""


class IndexBuilder:
    """Builds the pieces that are missing.

    Parameters
    ----------
    parts : StoreParts
        The store.
    catalogue : IndexCatalogue
        Its indexes.
    forget : callable
        Told the name of each piece that is removed.
    """

    def __init__(
        self, parts: StoreParts, catalogue: IndexCatalogue, forget: Callable[[str], None]
    ) -> None:
        self._parts, self._catalogue, self._forget = parts, catalogue, forget

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Hold the lock of whoever builds in the background; no process waits for another.

        Yields
        ------
        bool
            Whether it was free.
        """
        with (self._parts.folder / "building").open("ab") as file:
            try:
                yield try_lock(file.fileno())
            except LocksUnsupportedError:
                yield True

    def build(
        self,
        row: DatasetRow,
        column: str,
        kind: str,
        *,
        budget: Budget,
        is_cancelled: Callable[[], bool],
        is_polite: bool = False,
    ) -> BuildReport:
        """Build what is missing of one index.

        Parameters
        ----------
        row : DatasetRow
            The dataset.
        column, kind : str
            The index.
        budget : Budget
            Where to stop.
        is_cancelled : callable
            Asked now and then.
        is_polite : bool
            Wait while this process writes datasets.

        Raises
        ------
        StorageError
            If the column cannot be sorted by, or a data file is damaged.
        """
        with self._parts.snapshot(row) as snapshot:
            name = self._column(snapshot, column)
            index = self._catalogue.ensure(row.dataset_id, name, kind)
            work = _Work(budget, is_cancelled)
            missing = self._missing(index, snapshot)
            while missing and not work.stopped:
                if is_polite:
                    self._wait_for_writers(is_cancelled)
                self._build_piece(index, snapshot, missing[0], work, self._total_bytes())
                if not work.stopped:
                    missing.pop(0)
            return work.report(left=len(missing))

    def _column(self, snapshot: Snapshot, column: str) -> str:
        for field in snapshot.schema:
            if fold_identifier(field.name) == fold_identifier(column):
                if is_sortable(field.type):
                    return str(field.name)
                raise StorageError(
                    f"column {field.name!r} of dataset {snapshot.name!r} has type {field.type},"
                    " which indexes do not sort by",
                    hint="numbers, text, dates and timestamps can be indexed",
                )
        raise StorageError(
            f"dataset {snapshot.name!r} has no column {column!r}",
            hint="columns: " + ", ".join(snapshot.schema.names),
        )

    def _missing(self, index: IndexRow, snapshot: Snapshot) -> list[DataFile]:
        pieces = self._catalogue.pieces()
        key = fold_identifier(index.column)
        return [
            file
            for file in snapshot.manifest.files
            if file.body.num_rows >= MIN_ROWS
            and (index.index_id, file.file_id) not in pieces
            and key in {fold_identifier(name) for name in file.body.columns}
        ]

    def _total_bytes(self) -> int:
        return sum(piece.size_bytes for piece in self._catalogue.pieces().values())

    def _wait_for_writers(self, is_cancelled: Callable[[], bool]) -> None:
        pause = threading.Event()
        while self._parts.writers and not is_cancelled():
            pause.wait(_PATIENCE_S)

    def _build_piece(
        self, index: IndexRow, snapshot: Snapshot, file: DataFile, work: _Work, total: int
    ) -> None:
        (source,) = snapshot.paths([file])
        name = f"{self._parts.pins.owner_id()}.{secrets.token_hex(8)}.arrow"
        target = piece_path(self._parts.folder, index.dataset_id, name)
        key = next(
            n for n in file.body.columns if fold_identifier(n) == fold_identifier(index.column)
        )
        begin = time.perf_counter()
        if not work.may_go_on():
            return
        try:
            body = write_piece(
                source, target, key, has_rows=index.kind == "sorted", is_wanted=work.may_go_on
            )
        except BuildStoppedError:
            return
        took = time.perf_counter() - begin
        if total + body.size_bytes > work.budget.size_bytes:
            target.unlink(missing_ok=True)
            work.stopped = "bytes"
            return
        cells = file.body.num_rows * (len(file.body.columns) + 2)
        if self._catalogue.add_piece(index, file.file_id, name, body, took_s=took, cells=cells):
            work.add(file.body.num_rows, body.size_bytes)
        else:
            target.unlink(missing_ok=True)

    def remove(self, index: IndexRow) -> None:
        """Take an index away with its files."""
        pieces = [
            piece
            for (index_id, _), piece in self._catalogue.pieces().items()
            if index_id == index.index_id
        ]
        self._catalogue.remove_index(index)
        for piece in pieces:
            self._unlink(index.dataset_id, piece.name)

    def tidy(self, *, unused_before_ns: int) -> list[IndexRow]:
        """Take away pieces of files that are gone and indexes nobody used since an instant."""
        owners = {index.index_id: index.dataset_id for index in self._catalogue.indexes()}
        for piece in self._catalogue.stale_pieces():
            self._catalogue.remove_piece(piece)
            if piece.index_id in owners:
                self._unlink(owners[piece.index_id], piece.name)
        unused = [index for index in self._catalogue.indexes() if index.used_ns < unused_before_ns]
        for index in [*unused, *self._catalogue.orphaned()]:
            self.remove(index)
        return unused

    def _unlink(self, dataset_id: int, name: str) -> None:
        self._forget(name)
        path: Path = piece_path(self._parts.folder, dataset_id, name)
        with suppress(OSError):
            path.unlink()


class _Work:
    """How far a build is, and whether it may go on."""

    def __init__(self, budget: Budget, is_cancelled: Callable[[], bool]) -> None:
        self.budget = budget
        self.stopped = ""
        self._is_cancelled = is_cancelled
        self._begin = time.perf_counter()
        self._pieces = self._rows = self._size = 0

    def may_go_on(self) -> bool:
        if self._is_cancelled():
            self.stopped = "cancelled"
        elif time.perf_counter() - self._begin >= self.budget.seconds:
            self.stopped = "seconds"
        return not self.stopped

    def add(self, rows: int, size_bytes: int) -> None:
        self._pieces += 1
        self._rows += rows
        self._size += size_bytes

    def report(self, *, left: int) -> BuildReport:
        return BuildReport(
            pieces=self._pieces,
            rows=self._rows,
            size_bytes=self._size,
            took_s=time.perf_counter() - self._begin,
            left=left,
            stopped=self.stopped,
        )
