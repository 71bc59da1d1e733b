"""One version of a dataset, readable for as long as the snapshot is held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from flowbuilder.datasets.data_files import FileChecks
from flowbuilder.datasets.evolution import align, decode_schema
from flowbuilder.datasets.libraries import arrow, arrow_parquet, library
from flowbuilder.datasets.manifest import DataFile, Manifest, Version
from flowbuilder.datasets.names import fold_identifier
from flowbuilder.datasets.pins import Pin
from flowbuilder.errors import StorageError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Snapshot"]


class Snapshot:
    """A version of a dataset: the same rows whatever is appended, deleted or vacuumed meanwhile.

    Holds a pin until `close` (or the end of a ``with`` block, or of the object).

    Parameters
    ----------
    manifest : Manifest
        What it consists of.
    checks : FileChecks
        Where files are and how they are checked.
    pin : Pin or None
        Keeps the files; None where nothing can be written, hence nothing vacuumed from here.
    """

    def __init__(self, manifest: Manifest, checks: FileChecks, pin: Pin | None) -> None:
        self.manifest = manifest
        self._checks = checks
        self._pin = pin
        self._schemas: dict[int, Any] = {}

    @property
    def name(self) -> str:
        """The dataset."""
        return self.manifest.name

    @property
    def version(self) -> Version:
        """Which version this is."""
        return self.manifest.version

    @property
    def schema(self) -> Any:
        """The Arrow schema rows are read with."""
        return self.schema_of(self.version.schema_id)

    @property
    def num_rows(self) -> int:
        """How many rows there are; takes no reading."""
        return self.version.num_rows

    def schema_of(self, schema_id: int) -> Any:
        """Give a schema some of the files were written with."""
        schema = self._schemas.get(schema_id)
        if schema is None:
            schema = self._schemas[schema_id] = decode_schema(self.manifest.schemas[schema_id])
        return schema

    def paths(self, files: Sequence[DataFile] | None = None) -> list[Path]:
        """Give where files are, by default all, checked.

        Raises
        ------
        StorageError
            If one is missing or damaged.
        """
        chosen = self.manifest.files if files is None else files
        return self._checks.check(self.manifest.dataset_id, chosen, dataset=self.name)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """Read row group by row group, for datasets larger than memory.

        Parameters
        ----------
        columns : sequence of str, optional
            Only these.

        Yields
        ------
        pyarrow.Table
            At most 122,880 rows, all of one schema.
        """
        schema = self._selected(columns)
        wanted = {fold_identifier(name) for name in schema.names}
        for file in self.manifest.files:
            (path,) = self.paths([file])
            with arrow_parquet().ParquetFile(path, page_checksum_verification=True) as reader:
                names = [name for name in reader.schema_arrow.names if _is_in(name, wanted)]
                for group in range(reader.metadata.num_row_groups):
                    yield align(reader.read_row_group(group, columns=names), schema)

    def arrow(self, columns: Sequence[str] | None = None) -> Any:
        """Read everything as an Arrow table.

        Parameters
        ----------
        columns : sequence of str, optional
            Only these.

        Returns
        -------
        pyarrow.Table
            In the order rows were appended. Dictionaries and string views come back as they went.
        """
        schema = self._selected(columns)
        return arrow().concat_tables([schema.empty_table(), *self.batches(columns)])

    def pl(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read everything as a polars frame; see `arrow`."""
        table = self.arrow(columns)
        return library("polars").from_arrow(table, rechunk=False)  # type: ignore[no-any-return]

    def pandas(self, columns: Sequence[str] | None = None) -> Any:
        """Read everything as a pandas frame with Arrow-backed columns; see `arrow`."""
        pandas = library("pandas")
        return self.arrow(columns).to_pandas(types_mapper=pandas.ArrowDtype)

    def _selected(self, columns: Sequence[str] | None) -> Any:
        if columns is None:
            return self.schema
        fields = {fold_identifier(field.name): field for field in self.schema}
        missing = [name for name in columns if fold_identifier(name) not in fields]
        if missing:
            raise StorageError(
                f"dataset {self.name!r} has no column {missing[0]!r}",
                hint="columns: " + ", ".join(self.schema.names),
            )
        return arrow().schema([fields[fold_identifier(name)] for name in columns])

    def close(self) -> None:
        """Let the files go. May be repeated."""
        pin, self._pin = self._pin, None
        if pin is not None:
            pin.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(AttributeError):  # __init__ may not have come that far
            self.close()

    def __len__(self) -> int:
        return self.num_rows

    def __repr__(self) -> str:
        version = self.version
        return (
            f"<Snapshot {self.name}@{version.version}: {version.num_rows:,} rows,"
            f" {version.num_files} files>"
        )


def _is_in(name: str, wanted: set[str]) -> bool:
    return fold_identifier(name) in wanted
