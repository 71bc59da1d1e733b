"""Index pieces: the rows of one data file sorted by a key, as an Arrow file that is mapped.

A piece holds its rows in batches of 65,536 and, outside of the file, the first and last key of each
batch (its zone map) and a checksum per batch. A search touches the zone map and a batch or two, and
checks just those. The last column is the row's number in the data file; NULL keys are left out,
because no condition an index serves is true for them, and NaN stands behind all other keys.
"""

from __future__ import annotations

import os
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from flowbuilder.datasets.data_files import Sealed, sync
from flowbuilder.datasets.evolution import align
from flowbuilder.datasets.filters import Range
from flowbuilder.datasets.libraries import arrow, arrow_compute, arrow_parquet
from flowbuilder.datasets.manifest import Ordinal
from flowbuilder.datasets.names import fold_identifier
from flowbuilder.datasets.ordinals import ordinal_array, sort_class
from flowbuilder.datasets.selection import plain_schema

__all__ = ["BuildStoppedError", "Piece", "PieceBody", "PieceDamagedError", "Zone", "write_piece"]

BATCH_ROWS: Final = 65_536
_ROW: Final = "row number in the data file"


class BuildStoppedError(Exception):
    """Whoever asked for a piece does not want it any more."""


class PieceDamagedError(Exception):
    """A piece is missing or not what was written; it must not be used."""


class Zone(msgspec.Struct, frozen=True, array_like=True):
    """One batch: its keys' range without NaN (None if it has no other), its bytes, its checksum."""

    low: Ordinal | None
    high: Ordinal | None
    rows: int
    offset: int
    length: int
    crc32: int


class PieceBody(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalogue knows of a piece.

    Parameters
    ----------
    values : int
        Rows whose key is neither NULL nor NaN; they come first.
    nans : int
        Rows whose key is NaN.
    zones : tuple of Zone
        In order.
    size_bytes : int
        Size of the file.
    frame_crc32 : int
        Checksum of what lies before the first and behind the last batch.
    """

    values: int
    nans: int
    zones: tuple[Zone, ...]
    size_bytes: int
    frame_crc32: int


def write_piece(
    source: Path, target: Path, key: str, *, has_rows: bool, is_wanted: Callable[[], bool]
) -> PieceBody:
    """Sort a data file by a column into a file of its own.

    Parameters
    ----------
    source, target : Path
        The data file, and the piece, which appears whole or not at all.
    key : str
        The column, as the file spells it.
    has_rows : bool
        Whether the other columns come along (a sorted projection) or only keys (a lookup).
    is_wanted : callable
        Asked now and then; False ends the work.

    Raises
    ------
    BuildStoppedError
        If it is not wanted any more.
    """
    pc = arrow_compute()
    _go_on(is_wanted)
    with arrow_parquet().ParquetFile(source, page_checksum_verification=True) as reader:
        table = reader.read(None if has_rows else [key], use_threads=False)
    kept = _piece_schema(table.schema)
    table = align(table, kept).combine_chunks()
    _go_on(is_wanted)
    keys = table.column(key)
    nans = 0
    if sort_class(keys.type) == "float":
        nans = int(pc.sum(pc.is_nan(keys)).as_py() or 0)
    count = table.num_rows - int(keys.null_count)
    order = pc.sort_indices(keys)  # stable; then NaN, then NULL
    _go_on(is_wanted)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.tmp")
    try:
        keyed = _Keyed(table, order.slice(0, count), key, nans)
        body = _write(temporary, keyed, is_wanted)
        temporary.rename(target)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return body


def _go_on(is_wanted: Callable[[], bool]) -> None:
    if not is_wanted():
        raise BuildStoppedError


def _piece_schema(schema: Any) -> Any:
    """Give what a piece keeps: no views, no dictionaries, so that every batch stands alone."""
    pa = arrow()
    return plain_schema(
        pa.schema([pa.field(field.name, _roomy_type(field.type)) for field in schema])
    )


def _roomy_type(kind: Any) -> Any:
    """Give text and bytes offsets that one chunk of any size can have."""
    pa = arrow()
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary(kind) else kind


class _Keyed(NamedTuple):
    """Rows and the order their keys give them."""

    table: Any
    order: Any
    key: str
    nans: int


def _write(path: Path, keyed: _Keyed, is_wanted: Callable[[], bool]) -> PieceBody:
    pa = arrow()
    table, order, key, nans = keyed
    values = len(order) - nans
    schema = table.schema.append(pa.field(_ROW, pa.uint32()))
    zones = []
    with path.open("xb") as file:
        sink = Sealed(file)
        with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), schema) as writer:
            # What lies before and behind the batches has a checksum of its own.
            frame = sink.crc32
            for start in range(0, len(order), BATCH_ROWS):
                _go_on(is_wanted)
                chosen = order.slice(start, BATCH_ROWS)
                columns = [column.combine_chunks() for column in table.take(chosen).columns]
                columns = [c.chunk(0) if isinstance(c, pa.ChunkedArray) else c for c in columns]
                batch = pa.record_batch([*columns, chosen.cast(pa.uint32())], schema=schema)
                offset, sink.crc32 = sink.size_bytes, 0
                writer.write_batch(batch)
                known = min(len(chosen), max(0, values - start))
                low, high = _ends(batch.column(table.schema.get_field_index(key)), known)
                zones.append(
                    Zone(low, high, len(chosen), offset, sink.size_bytes - offset, sink.crc32)
                )
            sink.crc32 = frame if zones else sink.crc32
        frame = sink.crc32
        file.flush()
        os.fsync(file.fileno())
        size = sink.size_bytes
    return PieceBody(
        values=values, nans=nans, zones=tuple(zones), size_bytes=size, frame_crc32=frame
    )


def _ends(keys: Any, known: int) -> tuple[Ordinal | None, Ordinal | None]:
    if not known:
        return None, None
    ordinals = ordinal_array(keys)
    return ordinals[0].as_py(), ordinals[known - 1].as_py()


class Piece:
    """An opened piece. Safe to use from several threads.

    Parameters
    ----------
    path : Path
        The file.
    body : PieceBody
        What the catalogue knows of it.
    key : str
        The column it is sorted by.

    Raises
    ------
    PieceDamagedError
        If the file is not the one that was written.
    """

    def __init__(self, path: Path, body: PieceBody, key: str) -> None:
        pa = arrow()
        self.body = body
        try:
            self._source = pa.memory_map(str(path), "r")
            self._bytes = self._source.read_buffer()
            if len(self._bytes) != body.size_bytes or self._frame_crc32() != body.frame_crc32:
                raise PieceDamagedError(f"{path} is not the file that was written")
            self._reader = pa.ipc.open_file(self._bytes)
        except (OSError, pa.ArrowException) as error:
            raise PieceDamagedError(f"{path}: {error}") from error
        names = [fold_identifier(name) for name in self._reader.schema.names]
        self._key = names.index(fold_identifier(key))
        self._passed: set[int] = set()
        self._highs = [zone.high for zone in body.zones if zone.high is not None]

    def _frame_crc32(self) -> int:
        zones = self.body.zones
        if not zones:
            return zlib.crc32(self._bytes)
        head = zlib.crc32(self._bytes.slice(0, zones[0].offset))
        return zlib.crc32(self._bytes.slice(zones[-1].offset + zones[-1].length), head)

    def spans(self, ranges: Sequence[Range]) -> list[tuple[int, int]]:
        """Find where keys of some ranges stand, as half-open intervals that do not overlap."""
        found = sorted((self._start(span.low), self._stop(span.high)) for span in ranges)
        merged: list[tuple[int, int]] = []
        for start, stop in found:
            if start >= stop:
                continue
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
            else:
                merged.append((start, stop))
        return merged

    def _start(self, low: Ordinal | None) -> int:
        """Find the first key that is not below ``low``; NaN is above everything."""
        if low is None:
            return 0
        number = bisect_left(self._highs, low)
        if number == len(self._highs):
            return self.body.values
        return number * BATCH_ROWS + bisect_left(self._keys(number), low)

    def _stop(self, high: Ordinal | None) -> int:
        """Find the first key above ``high``."""
        if high is None:
            return self.body.values + self.body.nans
        number = bisect_right(self._highs, high)
        if number == len(self._highs):
            return self.body.values
        return number * BATCH_ROWS + bisect_right(self._keys(number), high)

    def _keys(self, number: int) -> _Keys:
        zone = self.body.zones[number]
        known = min(zone.rows, self.body.values - number * BATCH_ROWS)
        return _Keys(ordinal_array(self._batch(number).column(self._key)), known)

    def _batch(self, number: int) -> Any:
        if number not in self._passed:
            zone = self.body.zones[number]
            if zlib.crc32(self._bytes.slice(zone.offset, zone.length)) != zone.crc32:
                raise PieceDamagedError(f"batch {number} is not what was written")
            self._passed.add(number)
        return self._reader.get_batch(number)

    def rows(self, spans: Sequence[tuple[int, int]]) -> Any:
        """Give the rows of some intervals in the order of the data file, their numbers last.

        Returns
        -------
        pyarrow.Table
            Columns of the piece, copied.
        """
        pa = arrow()
        slices = [part for start, stop in spans for part in self._slices(start, stop)]
        table = pa.Table.from_batches(slices, schema=self._reader.schema)
        numbers = table.column(table.num_columns - 1)
        return table.take(arrow_compute().sort_indices(numbers))

    def _slices(self, start: int, stop: int) -> Iterator[Any]:
        while start < stop:
            number, skipped = divmod(start, BATCH_ROWS)
            count = min(BATCH_ROWS - skipped, stop - start)
            yield self._batch(number).slice(skipped, count)
            start += count


class _Keys(Sequence[Any]):
    """The keys of a batch as `bisect` reads them: one at a time, no copies."""

    def __init__(self, array: Any, count: int) -> None:
        self._array, self._count = array, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        return self._array[place].as_py()
