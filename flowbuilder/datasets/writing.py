"""From rows to data files: aligned with the dataset, split into partitions, rolled at a size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from flowbuilder.datasets.column_facts import FactsCollector
from flowbuilder.datasets.commits import Addition, is_refusal
from flowbuilder.datasets.data_files import ROW_GROUP_ROWS, DataFileWriter, data_file_name
from flowbuilder.datasets.evolution import align
from flowbuilder.datasets.libraries import arrow
from flowbuilder.datasets.partitions import split_by_partition
from flowbuilder.datasets.sql_session import SqlSession

__all__ = ["FileSet", "gathered"]

_BATCH_ROWS: Final = 8 * ROW_GROUP_ROWS
_FILE_ROWS: Final = 40 * ROW_GROUP_ROWS
_FILE_BYTES: Final = 512 * 2**20
_GATHER_BYTES: Final = 256 * 2**20


class FileSet:
    """The files of one change: all of them, or none after an error.

    Parameters
    ----------
    folder : Path
        The dataset's folder.
    owner_id : str
        Whose files these are until they are committed.
    session : SqlSession
        The DuckDB that gathers statistics.
    schema : pyarrow.Schema
        What the rows are aligned to.
    partition_by : tuple of str
        Partition columns.
    directory : str
        Where below the folder files go that are not split.
    partition : tuple of str
        The partition such files belong to.
    """

    def __init__(
        self,
        folder: Path,
        owner_id: str,
        session: SqlSession,
        schema: Any,
        *,
        partition_by: tuple[str, ...] = (),
        directory: str = "",
        partition: tuple[str, ...] = (),
    ) -> None:
        self._directory, self._partition = directory, partition
        self._folder, self._owner_id, self._schema = folder, owner_id, schema
        self._session = session
        self._partition_by = partition_by
        self._open: DataFileWriter | None = None
        self._all: list[DataFileWriter] = []
        self.is_submitted = False
        """Whether the files were handed to a commit."""
        self.additions: list[Addition] = []

    @contextmanager
    def complete_or_absent(self) -> Iterator[None]:
        """Remove every file if the block, which ends with the commit, raises."""
        try:
            yield
        except BaseException as error:
            self.discard_after(error)
            raise

    def discard_after(self, error: BaseException) -> None:
        """Remove every file, unless a commit that failed with ``error`` may have listed them."""
        if not self.is_submitted or is_refusal(error):
            for writer in self._all:
                writer.discard()

    def write(self, table: Any, *, place: int | None = None) -> None:
        """Add rows."""
        aligned = align(table, self._schema)
        if not self._partition_by:
            self._write_on(aligned, place)
            return
        for directory, values, rows in split_by_partition(aligned, self._partition_by):
            writer = self._new_writer(directory, values)
            writer.write(rows)
            self.additions.append(writer.finish(place=place))

    def _write_on(self, table: Any, place: int | None) -> None:
        for start in range(0, table.num_rows, _BATCH_ROWS):
            if self._open is None:
                self._open = self._new_writer(self._directory, self._partition)
            self._open.write(table.slice(start, _BATCH_ROWS))
            if self._open.num_rows >= _FILE_ROWS or self._open.size_bytes >= _FILE_BYTES:
                self.finish(place=place)

    def finish(self, *, place: int | None = None) -> None:
        """Complete the file that is open; the next rows begin another."""
        writer, self._open = self._open, None
        if writer is not None:
            self.additions.append(writer.finish(place=place))

    def _new_writer(self, directory: str, values: tuple[str, ...]) -> DataFileWriter:
        name = data_file_name(self._owner_id, directory)
        facts = FactsCollector(self._session, self._schema)
        writer = DataFileWriter(self._folder, name, self._schema, facts, partition=values)
        self._all.append(writer)
        return writer


def gathered(tables: Iterator[Any], *, is_partitioned: bool) -> Iterator[Any]:
    """Join small pieces, so that row groups are full and partitions are not cut into crumbs.

    Yields
    ------
    pyarrow.Table
        Pieces of at least a million rows (partitioned: five million) or 256 MB, except the last.
    """
    wanted = _FILE_ROWS if is_partitioned else _BATCH_ROWS
    held: list[Any] = []
    rows = size = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        size += table.nbytes
        if rows >= wanted or size >= _GATHER_BYTES:
            whole = arrow().concat_tables(held)
            # What does not fill a row group waits for the next piece.
            cut = whole.num_rows if is_partitioned else _whole_groups(whole.num_rows)
            yield whole.slice(0, cut)
            rest = whole.slice(cut)
            held, rows, size = [rest], rest.num_rows, rest.nbytes
    if held:
        yield arrow().concat_tables(held)


def _whole_groups(rows: int) -> int:
    return rows // ROW_GROUP_ROWS * ROW_GROUP_ROWS or rows
