"""A named dataset: appended to, replaced, thinned out, read at any version that is kept."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flowbuilder.datasets.catalogue import DatasetRow
from flowbuilder.datasets.column_facts import ColumnStatistics, merge_statistics
from flowbuilder.datasets.commits import Change, commit, create
from flowbuilder.datasets.evolution import (
    decode_schema,
    encode_schema,
    merge_schemas,
    storable_schema,
)
from flowbuilder.datasets.intake import Rows, open_rows
from flowbuilder.datasets.janitor import Vacuumed, vacuum
from flowbuilder.datasets.manifest import Version
from flowbuilder.datasets.partitions import check_partition_columns
from flowbuilder.datasets.parts import StoreParts
from flowbuilder.datasets.rewriting import compact, delete_rows
from flowbuilder.datasets.sketches_reading import read_sketches
from flowbuilder.datasets.snapshot import Snapshot
from flowbuilder.datasets.sql_session import SqlSession
from flowbuilder.datasets.uses import version_used
from flowbuilder.datasets.writing import FileSet, gathered
from flowbuilder.errors import StorageError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Dataset", "nanoseconds"]


class Dataset:
    """A handle on a dataset by name; holds nothing open, and need not exist before `append`.

    Every change is atomic and durable when its method returns, and makes a new version. Methods may
    be called from any thread and any process at once.

    Parameters
    ----------
    name : str
        Its name.
    parts : StoreParts
        The store it belongs to.
    session : SqlSession
        The store's DuckDB.
    on_change : callable
        Told after every new version.
    """

    def __init__(
        self, name: str, parts: StoreParts, session: SqlSession, on_change: Callable[[], None]
    ) -> None:
        self.name = name
        self._parts, self._session, self._on_change = parts, session, on_change

    @property
    def exists(self) -> bool:
        """Whether there is such a dataset."""
        return self._parts.catalogue.find(self.name) is not None

    @property
    def schema(self) -> Any:
        """The Arrow schema of the newest version."""
        row = self._row()
        manifest = self._parts.catalogue.manifest(row)
        return decode_schema(manifest.schemas[manifest.version.schema_id])

    @property
    def partition_by(self) -> tuple[str, ...]:
        """The columns files are split by."""
        return self._row().partition_by

    def append(
        self, data: object, *, partition_by: Sequence[str] | None = None, note: str = ""
    ) -> Version:
        """Add rows at the end; makes the dataset if there is none.

        Parameters
        ----------
        data : object
            Arrow table, record batches or a reader of them, polars or pandas frame, anything with
            the Arrow stream interface, or a mapping of columns.
        partition_by : sequence of str, optional
            For a new dataset: write a folder per combination of values of these columns.
        note : str
            Kept in the history.

        Returns
        -------
        Version
            The new version. Columns the rows lack are NULL; columns they add are NULL in older
            rows; integers, floats and decimals widen where the new rows need it.

        Raises
        ------
        StorageError
            If a column's type has no common one with the dataset's, before anything is kept; or if
            the rows could not be written.
        """
        rows = open_rows(data, name=self.name)
        schema = storable_schema(rows.schema)
        row = self._ready(schema, partition_by)
        head = self._parts.catalogue.manifest(row)
        current = decode_schema(head.schemas[head.version.schema_id])
        merged = merge_schemas(current, schema, dataset=self.name)
        return self._write(row, rows, merged, "append", note=note)

    def overwrite(
        self, data: object, *, partition_by: Sequence[str] | None = None, note: str = ""
    ) -> Version:
        """Put rows, with their schema, in the place of all there are; older versions stay readable.

        Parameters
        ----------
        data : object
            As for `append`.
        partition_by : sequence of str, optional
            New partition columns; by default those of before.
        note : str
            Kept in the history.

        Returns
        -------
        Version
            The new version.
        """
        rows = open_rows(data, name=self.name)
        schema = storable_schema(rows.schema)
        row = self._parts.catalogue.find(self.name) or self._ready(schema, partition_by)
        columns = row.partition_by if partition_by is None else _listed(partition_by)
        check_partition_columns(columns, schema, dataset=self.name)
        return self._write(row, rows, schema, "overwrite", note=note, partition_by=columns)

    def delete(self, where: str, *, note: str = "") -> Version:
        """Remove the rows a SQL condition is true for; rows it is NULL for stay.

        Parameters
        ----------
        where : str
            A condition over the dataset's columns, such as ``delay > 60``.
        note : str
            Kept in the history.

        Returns
        -------
        Version
            The new version, or the present one if there was no such row.

        Raises
        ------
        StorageError
            If the condition is wrong, or others kept changing the dataset.
        """
        with self._changing():
            return delete_rows(self._parts, self._session, self._row(), where, note=note)

    def compact(self, *, target_rows: int = 4_915_200) -> Version:
        """Join small neighbouring files into large ones; rows, order and schema stay.

        Parameters
        ----------
        target_rows : int
            Files of fewer rows are joined until they have about so many.

        Returns
        -------
        Version
            The new version, or the present one if there was nothing to join.
        """
        with self._changing():
            return compact(self._parts, self._session, self._row(), target_rows=target_rows)

    def snapshot(
        self,
        version: int | None = None,
        *,
        as_of: dt.datetime | None = None,
        run: str | None = None,
    ) -> Snapshot:
        """Give one version, which stays readable while it is held.

        Parameters
        ----------
        version : int, optional
            Its number; by default the newest.
        as_of : datetime, optional
            The newest at that time; without a zone, in local time.
        run : str, optional
            The one a run used, by its id or a suffix of it.

        Raises
        ------
        StorageError
            If there is none, or more than one of these is given.
        """
        row = self._row()
        if sum(choice is not None for choice in (version, as_of, run)) > 1:
            raise StorageError("expected one of version, as_of and run, found several")
        if as_of is not None:
            version = self._parts.catalogue.version_at(row, nanoseconds(as_of))
        elif run is not None:
            version = version_used(self._parts.catalogue, row, run)
        return self._parts.snapshot(row, version)

    def arrow(self, columns: Sequence[str] | None = None) -> Any:
        """Read the newest version as an Arrow table; see `Snapshot.arrow`."""
        with self.snapshot() as snapshot:
            return snapshot.arrow(columns)

    def pl(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read the newest version as a polars frame."""
        with self.snapshot() as snapshot:
            return snapshot.pl(columns)

    def pandas(self, columns: Sequence[str] | None = None) -> Any:
        """Read the newest version as a pandas frame."""
        with self.snapshot() as snapshot:
            return snapshot.pandas(columns)

    def history(self) -> list[Version]:
        """List the versions that are kept, newest first."""
        return self._parts.catalogue.versions(self._row())

    def statistics(self, version: int | None = None) -> dict[str, ColumnStatistics]:
        """Give counts, nulls, smallest and largest value and distinct values of every column.

        Parameters
        ----------
        version : int, optional
            By default the newest. Reads no data, only what was noted when files were written.
        """
        manifest = self._parts.catalogue.manifest(self._row(), version)
        schema = decode_schema(manifest.schemas[manifest.version.schema_id])
        sketches = read_sketches(self._parts.catalogue, manifest)
        return merge_statistics(manifest, schema, sketches)

    def vacuum(self, *, keep: int = 1, keep_runs: bool = True) -> Vacuumed:
        """Forget old versions and remove the files nobody needs any more.

        Parameters
        ----------
        keep : int
            How many of the newest versions stay.
        keep_runs : bool
            Whether versions that runs used stay as well.

        Returns
        -------
        Vacuumed
            What was removed. Files of versions somebody is reading, in any process, stay until a
            later vacuum.
        """
        parts = self._parts
        done = vacuum(
            parts.catalogue, parts.pins, parts.folder, self._row(), keep=keep, keep_runs=keep_runs
        )
        self._on_change()
        return done

    def _row(self) -> DatasetRow:
        return self._parts.catalogue.get(self.name)

    def _ready(self, schema: Any, partition_by: Sequence[str] | None) -> DatasetRow:
        """Find the dataset or make it, empty, with these columns."""
        given = None if partition_by is None else _listed(partition_by)
        row = self._parts.catalogue.find(self.name)
        if row is None:
            check_partition_columns(given or (), schema, dataset=self.name)
            row = create(
                self._parts.catalogue,
                self.name,
                encode_schema(schema),
                partition_by=given or (),
                run_id=self._parts.asking().run_id,
            )
        if given is not None and given != row.partition_by:
            raise StorageError(
                f"dataset {self.name!r} is partitioned by {list(row.partition_by)}, found"
                f" partition_by={list(given)}",
                hint="overwrite() can change how a dataset is partitioned",
            )
        return row

    def _write(
        self,
        row: DatasetRow,
        rows: Rows,
        schema: Any,
        operation: str,
        *,
        note: str,
        partition_by: tuple[str, ...] | None = None,
    ) -> Version:
        columns = row.partition_by if partition_by is None else partition_by
        parts = self._parts
        files = FileSet(
            parts.folder / str(row.dataset_id),
            parts.pins.owner_id(),
            self._session,
            schema,
            partition_by=columns,
        )
        with self._changing(), files.complete_or_absent():
            for table in gathered(rows.tables, is_partitioned=bool(columns)):
                files.write(table)
            files.finish()
            change = Change(
                operation=operation,
                schema=encode_schema(schema),
                additions=tuple(files.additions),
                replaces=operation == "overwrite",
                partition_by=partition_by,
                run_id=parts.asking().run_id,
                note=note,
            )
            files.is_submitted = True
            version = commit(parts.catalogue, row, change)
        parts.note(row.dataset_id, version.version)
        return version

    @contextmanager
    def _changing(self) -> Iterator[None]:
        parts = self._parts
        parts.writers += 1
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"could not write dataset {self.name!r} in {parts.folder}:"
                f" {error.strerror or error}; nothing was changed",
                hint="free some space on the disk, or choose another place with data_dir",
            ) from error
        finally:
            parts.writers -= 1
        self._on_change()

    def __len__(self) -> int:
        row = self._parts.catalogue.find(self.name)
        return 0 if row is None else self._parts.catalogue.versions(row)[0].num_rows

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        row = self._parts.catalogue.find(self.name)
        if row is None:
            return f"<Dataset {self.name!r}: not there yet>"
        newest = self._parts.catalogue.versions(row)[0]
        return (
            f"<Dataset {row.name!r}: version {newest.version}, {newest.num_rows:,} rows,"
            f" {newest.num_files} files, {newest.size_bytes:,} bytes>"
        )


def _listed(columns: Sequence[str]) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(columns)


def nanoseconds(instant: dt.datetime) -> int:
    """Give an instant as Unix time in nanoseconds; without a zone it is local time."""
    aware = instant.astimezone(dt.UTC)
    since = aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
