"""Whatever holds rows, as Arrow tables of one schema."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from flowbuilder.datasets.libraries import arrow
from flowbuilder.errors import StorageError

__all__ = ["Rows", "open_rows"]

_ACCEPTED = "give an Arrow table, record batches, a polars or pandas frame, or a mapping of columns"


class Rows:
    """Rows to be written, in pieces that fit into memory.

    Parameters
    ----------
    schema : pyarrow.Schema
        That of every piece.
    tables : iterator of pyarrow.Table
        The pieces, read once.
    """

    def __init__(self, schema: Any, tables: Iterator[Any]) -> None:
        self.schema = schema
        self.tables = tables


def open_rows(data: object, *, name: str) -> Rows:
    """Read any kind of table.

    Parameters
    ----------
    data : object
        Arrow table, record batch, batch reader, iterable of batches or tables; polars frame, lazy
        or not; pandas frame (a named index becomes columns); anything with the Arrow stream
        interface, such as a DuckDB relation; mapping of column names to sequences.
    name : str
        The dataset, for the message.

    Returns
    -------
    Rows
        Streams are read as they are written, so they may be larger than memory.

    Raises
    ------
    StorageError
        If it is none of these, or its columns differ in length or mix types.
    """
    pa = arrow()
    try:
        rows = _open(pa, data)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise StorageError(
            f"the rows for dataset {name!r} could not be read as a table:"
            f" {str(error).partition(chr(10))[0]}",
            hint="give every column one type and one length",
        ) from error
    if rows is None:
        raise StorageError(
            f"expected rows for dataset {name!r}, found {type(data).__name__}", hint=_ACCEPTED
        )
    return rows


def _open(pa: Any, data: Any) -> Rows | None:
    if isinstance(data, pa.RecordBatchReader):
        return Rows(data.schema, (pa.Table.from_batches([batch]) for batch in data))
    table = _as_table(pa, data)
    if table is not None:
        return Rows(table.schema, iter([table]))
    if hasattr(data, "__arrow_c_stream__"):
        return _open(pa, pa.RecordBatchReader.from_stream(data))
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | Mapping):
        return _from_pieces(pa, iter(data))
    return None


def _as_table(pa: Any, data: Any) -> Any | None:
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if _is_a(data, "pandas", "DataFrame"):
        if any(level is not None for level in data.index.names):
            data = data.reset_index()
        return pa.Table.from_pandas(data, preserve_index=False)
    if _is_a(data, "polars", "LazyFrame"):
        data = data.collect()
    if _is_a(data, "polars", "DataFrame"):
        return pa.table(data)
    return pa.table(dict(data)) if isinstance(data, Mapping) and data else None


def _from_pieces(pa: Any, pieces: Iterator[Any]) -> Rows | None:
    first = next(pieces, None)
    head = None if first is None else _as_table(pa, first)
    if head is None:
        return None

    def tables() -> Iterator[Any]:
        for piece in chain([first], pieces):
            table = _as_table(pa, piece)
            if table is None or not table.schema.equals(head.schema):
                raise StorageError(
                    "expected record batches of one schema, found another one among them",
                    hint="append them one by one, so that the dataset's schema can grow",
                )
            yield table

    return Rows(head.schema, tables())


def _is_a(value: object, package: str, name: str) -> bool:
    """Compare with a class of a library that may not even be imported."""
    if package not in sys.modules:
        return False
    return any(
        base.__name__ == name and base.__module__.partition(".")[0] == package
        for base in type(value).__mro__
    )
