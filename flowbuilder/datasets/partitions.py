"""Splitting rows by the values of partition columns, and folders named after those values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from flowbuilder.datasets.libraries import arrow
from flowbuilder.datasets.names import fold_identifier
from flowbuilder.datasets.selection import take_rows
from flowbuilder.errors import StorageError

__all__ = ["check_partition_columns", "split_by_partition"]

_MAX_PARTITIONS: Final = 4096
_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


def check_partition_columns(columns: tuple[str, ...], schema: Any, *, dataset: str) -> None:
    """Refuse partition columns that are not there, or hold nested values.

    Raises
    ------
    StorageError
        At the first such column.
    """
    kinds = {fold_identifier(field.name): field.type for field in schema}
    for column in columns:
        kind = kinds.get(fold_identifier(column))
        if kind is None:
            raise StorageError(
                f"dataset {dataset!r} is partitioned by {column!r}, which the rows do not have",
                hint="columns: " + ", ".join(schema.names),
            )
        if arrow().types.is_nested(kind) or arrow().types.is_floating(kind):
            raise StorageError(
                f"expected partition columns of plain values, found {column!r} of type {kind}",
                hint="partition by text, integers or dates",
            )


def split_by_partition(
    table: Any, columns: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Split rows by the values of some columns.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    columns : tuple of str
        Partition columns.

    Yields
    ------
    tuple
        The folder (``day=2026-01-01/kind=a``), the values as text, and the rows in their order.

    Raises
    ------
    StorageError
        If there are more than 4,096 different combinations in one piece.
    """
    pa = arrow()
    names = {fold_identifier(name): name for name in table.column_names}
    keys = [names[fold_identifier(column)] for column in columns]
    plain = pa.table({str(place): _plain(table.column(name)) for place, name in enumerate(keys)})
    numbered = plain.append_column("row", pa.array(range(table.num_rows), pa.int64()))
    groups = numbered.group_by([str(place) for place in range(len(keys))], use_threads=False)
    found = groups.aggregate([("row", "list")])
    if found.num_rows > _MAX_PARTITIONS:
        raise StorageError(
            f"expected at most {_MAX_PARTITIONS} partitions in one write, found {found.num_rows}",
            hint=f"partition by something coarser than {', '.join(columns)}",
        )
    for group in range(found.num_rows):
        values = [found.column(str(place))[group].as_py() for place in range(len(keys))]
        texts = tuple(_NULL if value is None else str(value) for value in values)
        folder = "/".join(
            f"{_segment(column)}={_segment(text)}" for column, text in zip(keys, texts, strict=True)
        )
        yield folder, texts, take_rows(table, found.column("row_list")[group].values)


def _plain(column: Any) -> Any:
    """Give a column grouping works on."""
    types = arrow().types
    if types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    if types.is_string_view(column.type):
        return column.cast(arrow().large_string())
    if types.is_binary_view(column.type):
        return column.cast(arrow().large_binary())
    return column


def _segment(text: str) -> str:
    """Write text as part of a path: no separators, no dots alone, no wild cards."""
    quoted = quote(text[:80], safe=" ").replace(".", "%2E") or "%00"
    return quoted[:180]
