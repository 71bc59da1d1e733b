"""What the catalogue says: versions, data files, statistics. Frozen values, nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

__all__ = [
    "ColumnFacts",
    "DataFile",
    "FileBody",
    "Manifest",
    "Ordinal",
    "Version",
]

Ordinal = int | float | str
"""A value of a sortable column as something Python compares like SQL does: integers for integers,
dates and times (in the column's unit), floats, and text."""

_NANOS: Final = 1_000_000_000


class ColumnFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Statistics of one column over some rows.

    Parameters
    ----------
    nulls : int
        Rows without a value.
    nans : int
        Rows that hold NaN, which ``low`` and ``high`` leave out.
    low, high : int, float, str or None
        Smallest and largest value; None if there is none, or none that is known.
    """

    nulls: int = 0
    nans: int = 0
    low: Ordinal | None = None
    high: Ordinal | None = None


class FileBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a data file when it has been written.

    Parameters
    ----------
    name : str
        Path below the dataset's folder, with ``/``.
    num_rows : int
        Rows in it.
    size_bytes : int
        Its size, the first thing to be compared.
    crc32 : int
        Checksum of its bytes.
    columns : mapping of str to ColumnFacts
        Statistics by column.
    partition : tuple of str
        Values of the partition columns, as in the path; empty if the dataset has none.
    """

    name: str
    num_rows: int
    size_bytes: int
    crc32: int
    columns: dict[str, ColumnFacts]
    partition: tuple[str, ...] = ()


class DataFile(msgspec.Struct, frozen=True, kw_only=True):
    """A data file as one dataset has it.

    Parameters
    ----------
    file_id : int
        Its number in the catalogue, never used twice.
    place : int
        Where its rows stand among those of the dataset; equal places are ordered by ``file_id``.
    schema_id : int
        The schema it was written with.
    """

    file_id: int
    place: int
    schema_id: int
    body: FileBody


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One state of a dataset, and what made it.

    Parameters
    ----------
    version : int
        1, 2, 3, ...; every change makes the next one.
    created_ns : int
        Unix time in nanoseconds; later versions are never older.
    operation : str
        ``create``, ``append``, ``overwrite``, ``delete`` or ``compact``.
    schema_id : int
        The schema rows are read with.
    added, removed : int
        Files that came and went.
    run_id : str
        The run whose task did it; empty outside of runs.
    note : str
        What the author said about it.
    """

    version: int
    created_ns: int
    operation: str
    schema_id: int
    num_rows: int
    num_files: int
    size_bytes: int
    added: int = 0
    removed: int = 0
    run_id: str = ""
    note: str = ""

    @property
    def created(self) -> datetime:
        """When, in UTC."""
        return datetime.fromtimestamp(self.created_ns / _NANOS, tz=UTC)


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a reader of one version needs; after this it asks the catalogue nothing.

    Parameters
    ----------
    schemas : mapping of int to bytes
        Arrow schemas by id, serialised.
    files : tuple of DataFile
        In the order of their rows.
    """

    dataset_id: int
    name: str
    version: Version
    partition_by: tuple[str, ...]
    schemas: dict[int, bytes]
    files: tuple[DataFile, ...]
