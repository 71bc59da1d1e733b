"""A table on disk that nobody has read yet: what a task gives instead of a table that is too large
for memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from flowbuilder.errors import StorageError

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.dataset as pads  # type: ignore[import-untyped]

__all__ = ["ScanFiles", "TableScan"]

_BATCH_ROWS: Final = 122_880


class ScanFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Where a scanned table is. Plain data, so that it can be kept and sent.

    Parameters
    ----------
    paths : tuple of str
        Absolute paths of files of one format, in order.
    format : str
        ``parquet`` or ``arrow``.
    stamps : tuple of (int, int)
        Size and modification time (ns) of each when the scan was made.
    columns : tuple of str or None
        Columns that belong to it, in this order; None for all.
    root : str
        Folder below which ``name=value`` folders are columns; empty for none.
    """

    paths: tuple[str, ...]
    format: str
    stamps: tuple[tuple[int, int], ...]
    columns: tuple[str, ...] | None = None
    root: str = ""


class TableScan:
    """A table in files: it takes no memory until somebody reads of it what they need.

    What a consumer does with it: `lazy` for a polars ``LazyFrame``, `dataset` for a
    ``pyarrow.dataset.Dataset``, `relation` for a DuckDB relation, `batches` for a stream,
    `to_arrow` for the whole table. ``polars.DataFrame(scan)`` and ``pyarrow.table(scan)`` work too.
    A ``sql`` task reads it by name like any table, only the columns and rows it needs.

    Parameters
    ----------
    files : ScanFiles
        Where it is.
    lease : object, optional
        What keeps the files there as long as it lives.

    Notes
    -----
    Immutable and thread-safe. Files that a task made belong to its scan, and are removed when the
    last one lets go of it; files it found are left alone.
    """

    __slots__ = ("__weakref__", "_lease", "files")

    def __init__(self, files: ScanFiles, lease: object = None) -> None:
        self.files = files
        self._lease = lease

    @classmethod
    def of(
        cls,
        paths: Sequence[Path],
        file_format: str,
        *,
        columns: Sequence[str] | None = None,
        root: Path | None = None,
    ) -> TableScan:
        """Make a scan of files that are there, and note how they look now.

        Raises
        ------
        StorageError
            If one is missing.
        """
        stamps = tuple(_stamp(path) for path in paths)
        return cls(
            ScanFiles(
                paths=tuple(str(path.absolute()) for path in paths),
                format=file_format,
                stamps=stamps,
                columns=None if columns is None else tuple(columns),
                root="" if root is None else str(root.absolute()),
            )
        )

    @classmethod
    def owning(cls, path: Path, file_format: str) -> TableScan:
        """Make a scan of a file that is removed when nobody in this process needs it any more."""
        return cls(cls.of([path], file_format).files, _Lease(path))

    @property
    def is_owner(self) -> bool:
        """Whether the file was made for this scan."""
        return self._lease is not None

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return self.dataset().schema if self.files.columns is None else self._picked_schema()

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, in order."""
        if self.files.columns is not None:
            return list(self.files.columns)
        return list(self.dataset().schema.names)

    @property
    def num_rows(self) -> int:
        """Number of rows, from the files' own statistics."""
        return int(self.dataset().count_rows())

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return sum(size for size, _ in self.files.stamps)

    def lazy(self) -> pl.LazyFrame:
        """Give a polars ``LazyFrame``: filters and columns are pushed into the files."""
        import polars as pl

        self.check()
        paths = list(self.files.paths)
        if self.files.format == "parquet":
            frame = pl.scan_parquet(paths, hive_partitioning=bool(self.files.root))
        else:
            frame = pl.scan_ipc(paths, hive_partitioning=bool(self.files.root))
        return frame if self.files.columns is None else frame.select(self.files.columns)

    def dataset(self) -> pads.Dataset:
        """Give a ``pyarrow.dataset.Dataset`` of the files (all their columns)."""
        from pyarrow import dataset

        self.check()
        root = self.files.root
        return dataset.dataset(
            list(self.files.paths),
            format=self.files.format,
            partitioning="hive" if root else None,
            partition_base_dir=root or None,
        )

    def relation(self, connection: duckdb.DuckDBPyConnection | None = None) -> Any:
        """Give a DuckDB relation on a connection, by default DuckDB's own."""
        import duckdb

        source = duckdb.default_connection() if connection is None else connection
        if self.files.format == "parquet":
            self.check()
            found = source.read_parquet(
                list(self.files.paths), hive_partitioning=bool(self.files.root)
            )
        else:
            found = source.from_arrow(self.dataset())
        if self.files.columns is None:
            return found
        return found.project(", ".join(map(_quoted, self.files.columns)))

    def batches(self, rows: int = _BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Iterate over the table in batches of up to ``rows`` rows; a few are read ahead."""
        yield from self._scanner(rows).to_batches()

    def slice(self, offset: int, length: int) -> pa.Table:
        """Read ``length`` rows from row ``offset`` on, and no more than the batches they are in."""
        import pyarrow as pa

        found, at = [], 0
        for batch in self.batches():
            start, end = max(0, offset - at), min(batch.num_rows, offset + length - at)
            if start < end:
                found.append(batch.slice(start, end - start))
            at += batch.num_rows
            if at >= offset + length:
                break
        return pa.Table.from_batches(found, schema=self.schema)

    def to_arrow(self) -> pa.Table:
        """Read the whole table into memory."""
        return self._scanner(_BATCH_ROWS).to_table()

    def to_reader(self) -> pa.RecordBatchReader:
        """Give a stream of the table, to be read once."""
        return self._scanner(_BATCH_ROWS).to_reader()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return self.num_rows

    def __reduce__(self) -> tuple[Callable[[ScanFiles], TableScan], tuple[ScanFiles]]:
        return TableScan, (self.files,)

    def __repr__(self) -> str:
        count = len(self.files.paths)
        where = self.files.paths[0] if count == 1 else f"{count} files"
        return f"<TableScan of {where}: {self.files.format}, {self.size_bytes:,} bytes>"

    def check(self) -> None:
        """Make sure that the files are what they were when the scan was made.

        Raises
        ------
        StorageError
            If one changed or is gone.
        """
        for path, stamp in zip(self.files.paths, self.files.stamps, strict=True):
            if _stamp(Path(path)) != stamp:
                raise StorageError(
                    f"expected the file {path!r} as it was when the task ended, found it changed",
                    hint="run the task again",
                )

    def _scanner(self, rows: int) -> Any:
        columns = None if self.files.columns is None else list(self.files.columns)
        # Few are read ahead: the reader of a large table is short of memory.
        return self.dataset().scanner(
            columns=columns, batch_size=rows, batch_readahead=2, fragment_readahead=1
        )

    def _picked_schema(self) -> pa.Schema:
        import pyarrow as pa

        schema = self.dataset().schema
        return pa.schema([schema.field(name) for name in self.files.columns or ()])


class _Lease:
    """Keeps a file of this process alive; several scans may share it."""

    __slots__ = ("__weakref__",)

    def __init__(self, path: Path) -> None:
        import os

        weakref.finalize(self, _remove, os.getpid(), path)


def _remove(pid: int, path: Path) -> None:
    import os

    if os.getpid() == pid:  # a forked child inherits the finalizers but not the files
        with suppress(OSError):
            path.unlink()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise StorageError(
            f"expected a file of a table at {str(path)!r}: {error.strerror or error}",
            hint="run the task that made it again",
        ) from error
    return status.st_size, status.st_mtime_ns


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
