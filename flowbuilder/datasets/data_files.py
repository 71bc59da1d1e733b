"""Data files: immutable Parquet, complete or absent, checked before they are believed."""

from __future__ import annotations

import os
import secrets
import threading
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from flowbuilder.datasets.column_facts import FactsCollector
from flowbuilder.datasets.commits import Addition
from flowbuilder.datasets.evolution import encode_schema
from flowbuilder.datasets.libraries import arrow, arrow_parquet
from flowbuilder.datasets.manifest import DataFile, FileBody
from flowbuilder.errors import StorageError

__all__ = ["ROW_GROUP_ROWS", "DataFileWriter", "FileChecks", "Sealed", "data_file_name", "sync"]

ROW_GROUP_ROWS: Final = 122_880
"""What DuckDB reads at once; a row group of another size would be split or padded."""
_READ_BYTES: Final = 1 << 20


class Sealed:
    """A binary sink that counts and checksums what passes, as pyarrow wants it."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size_bytes = 0
        self.crc32 = 0

    def write(self, data: Any) -> int:
        """Append bytes."""
        view = memoryview(data).cast("B")
        self._file.write(view)
        self.crc32 = zlib.crc32(view, self.crc32)
        self.size_bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Give the number of bytes written."""
        return self.size_bytes

    def flush(self) -> None:
        """Pass on what is buffered."""
        self._file.flush()

    def close(self) -> None:
        """Do nothing: whoever opened the file closes it."""


class DataFileWriter:
    """One data file being written; an `Addition` at the end, nothing after an error.

    Parameters
    ----------
    folder : Path
        The dataset's folder.
    name : str
        Path of the file below it, with ``/``.
    schema : pyarrow.Schema
        A storable schema.
    facts : FactsCollector
        Gathers statistics of it.
    partition : tuple of str
        Values of the partition columns.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        schema: Any,
        facts: FactsCollector,
        *,
        partition: tuple[str, ...] = (),
    ) -> None:
        self._folder, self._name, self._schema = folder, name, schema
        self._partition = partition
        self._path = folder.joinpath(*name.split("/"))
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._temporary = self._path.with_name(f"{self._path.name}.tmp")
        self._file: BinaryIO = self._temporary.open("xb")
        self._sink = Sealed(self._file)
        self._facts = facts
        self.num_rows = 0
        self._writer = arrow_parquet().ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            write_page_checksum=True,
            write_statistics=_with_statistics(schema),
        )

    def write(self, table: Any) -> None:
        """Append rows; whole row groups are best."""
        if table.num_rows:
            self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            self._facts.add(table)
            self.num_rows += table.num_rows

    @property
    def size_bytes(self) -> int:
        """Bytes written so far."""
        return self._sink.size_bytes

    def finish(self, *, place: int | None = None) -> Addition:
        """Complete the file and make it durable."""
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.rename(self._path)
        sync(self._path.parent)
        body = FileBody(
            name=self._name,
            num_rows=self.num_rows,
            size_bytes=self._sink.size_bytes,
            crc32=self._sink.crc32,
            columns=self._facts.facts(),
            partition=self._partition,
        )
        return Addition(
            body=body,
            schema=encode_schema(self._schema),
            sketches=self._facts.sketches(),
            place=place,
        )

    def discard(self) -> None:
        """Remove what was written. May be repeated, also after `finish`."""
        with suppress(Exception):
            self._writer.close()
        self._file.close()
        for path in (self._temporary, self._path):
            with suppress(OSError):
                path.unlink()


def _with_statistics(schema: Any) -> list[str]:
    """Leave out floats: Parquet's statistics ignore NaN, and DuckDB 2.0 drops a filter that all
    values between them meet, so that ``x <= 0`` would let NaN through.
    """
    types = arrow().types
    return [
        field.name
        for field in schema
        if not (types.is_floating(field.type) or types.is_nested(field.type))
    ]


def data_file_name(owner_id: str, directory: str = "") -> str:
    """Invent the name of a new file, which says whose it is until the catalogue lists it."""
    name = f"{owner_id}.{secrets.token_hex(8)}.parquet"
    return f"{directory}/{name}" if directory else name


def sync(folder: Path) -> None:
    """Make a folder's entries durable, where the system allows it."""
    with suppress(PermissionError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


class FileChecks:
    """Which data files this process has compared with their checksum.

    Parameters
    ----------
    folder : Path
        The folder of all datasets.
    is_thorough : bool
        Whether contents are read once per process (about 1 GB/s) or only sizes are compared.
    """

    def __init__(self, folder: Path, *, is_thorough: bool = True) -> None:
        self._folder = folder
        self._is_thorough = is_thorough
        self._passed: dict[str, tuple[int, int, int]] = {}
        self._lock = threading.Lock()

    def path_of(self, dataset_id: int, name: str) -> Path:
        """Give where a file of a dataset is."""
        return self._folder.joinpath(str(dataset_id), *name.split("/"))

    def check(self, dataset_id: int, files: Iterable[DataFile], *, dataset: str) -> list[Path]:
        """Compare files with what the catalogue says of them.

        Returns
        -------
        list of Path
            Where they are, in the same order.

        Raises
        ------
        StorageError
            At the first that is missing or damaged.
        """
        return [self._check(dataset_id, file.body, dataset) for file in files]

    def _check(self, dataset_id: int, body: FileBody, dataset: str) -> Path:
        path = self.path_of(dataset_id, body.name)
        try:
            found = path.stat()
        except OSError as error:
            raise _damage(dataset, path, f"is missing ({error.strerror})") from error
        if found.st_size != body.size_bytes:
            raise _damage(dataset, path, f"has {found.st_size} bytes instead of {body.size_bytes}")
        state = (found.st_mtime_ns, found.st_ino, found.st_size)
        if self._is_thorough and self._passed.get(str(path)) != state:
            if checksum(path) != body.crc32:
                raise _damage(dataset, path, "does not have the checksum it was written with")
            with self._lock:
                self._passed[str(path)] = state
        return path

    def forget(self) -> None:
        """Compare everything anew at the next read."""
        with self._lock:
            self._passed.clear()


def checksum(path: Path) -> int:
    """Read a file's checksum."""
    crc32 = 0
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            crc32 = zlib.crc32(block, crc32)
    return crc32


def _damage(dataset: str, path: Path, what: str) -> StorageError:
    return StorageError(
        f"a file of dataset {dataset!r} {what}: {path}",
        hint="restore it from a backup, or read an older version that does not need it",
    )
