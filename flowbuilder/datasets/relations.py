"""A version of a dataset as a SQL relation: which files, which types, in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from flowbuilder.datasets.libraries import arrow
from flowbuilder.datasets.manifest import DataFile
from flowbuilder.datasets.names import fold_identifier, quote_identifier, quote_text
from flowbuilder.datasets.snapshot import Snapshot
from flowbuilder.datasets.sql_session import SqlSession

__all__ = ["files_select", "sql_schema", "sql_types"]


def sql_schema(schema: Any) -> Any:
    """Give the Arrow schema that DuckDB reads as the types it reads from Parquet.

    Both paths to a dataset's rows, its files and an index's tables, then have the same SQL types.
    """
    pa = arrow()
    return pa.schema([pa.field(field.name, _sql_type(field.type)) for field in schema])


def _sql_type(kind: Any) -> Any:
    pa = arrow()
    types = pa.types
    if types.is_timestamp(kind) and kind.unit == "ms":
        return pa.timestamp("us", kind.tz)
    if types.is_dictionary(kind):
        return kind.value_type
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, _sql_type(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(_sql_type(kind.key_type), _sql_type(kind.item_type))
    if types.is_list(kind):
        return pa.list_(_sql_type(kind.value_type))
    if types.is_large_list(kind):
        return pa.large_list(_sql_type(kind.value_type))
    return kind


def sql_types(session: SqlSession, cursor: Any, snapshot: Snapshot) -> dict[str, str]:
    """Give the SQL type of each column of a version, by column."""
    key = ("types", snapshot.manifest.dataset_id, snapshot.version.schema_id)
    known = session.recall(key)
    if known is not None:
        return known  # type: ignore[no-any-return]
    cursor.register("types_of_a_dataset", sql_schema(snapshot.schema).empty_table())
    found = cursor.sql("DESCRIBE FROM types_of_a_dataset").fetchall()
    cursor.unregister("types_of_a_dataset")
    return session.remember(key, {row[0]: row[1] for row in found})  # type: ignore[no-any-return]


def files_select(
    session: SqlSession,
    cursor: Any,
    snapshot: Snapshot,
    files: Sequence[DataFile],
    *,
    row_number: str = "",
) -> str:
    """Write the query that reads files of a version.

    Parameters
    ----------
    session, cursor : SqlSession, duckdb.DuckDBPyConnection
        Where types are looked up.
    snapshot : Snapshot
        The version.
    files : sequence of DataFile
        Some of its files, in their order.
    row_number : str
        Name of a column with the row's number in its file; none if empty.

    Returns
    -------
    str
        A SELECT with the version's columns, whatever schema each file was written with.
    """
    if not files:
        return _nothing(sql_types(session, cursor, snapshot))
    parts = []
    for schema_id, group in groupby(files, key=lambda file: file.schema_id):
        paths = snapshot.paths(tuple(group))
        columns = _columns(session, cursor, snapshot, schema_id, paths[0])
        if row_number:
            columns = f"{columns}, file_row_number AS {quote_identifier(row_number)}"
        parts.append(f"SELECT {columns} FROM {_read_parquet(paths)}")  # noqa: S608
    return " UNION ALL ".join(parts)


def _read_parquet(paths: Iterable[Path]) -> str:
    # A path with the characters of a pattern is taken literally where such a file exists.
    listed = ", ".join(quote_text(str(path)) for path in paths)
    return f"read_parquet([{listed}], hive_partitioning = false, union_by_name = false)"


def _nothing(types: dict[str, str]) -> str:
    columns = ", ".join(
        f"{_cast('NULL', kind)} AS {quote_identifier(name)}" for name, kind in types.items()
    )
    return f"SELECT {columns} WHERE false"


def _cast(expression: str, kind: str) -> str:
    return "NULL" if kind in {'"NULL"', "NULL"} else f"CAST({expression} AS {kind})"


def _columns(
    session: SqlSession, cursor: Any, snapshot: Snapshot, schema_id: int, path: Path
) -> str:
    key = ("columns", snapshot.manifest.dataset_id, snapshot.version.schema_id, schema_id)
    known = session.recall(key)
    if known is not None:
        return known  # type: ignore[no-any-return]
    types = sql_types(session, cursor, snapshot)
    described = cursor.sql(f"DESCRIBE FROM {_read_parquet([path])}").fetchall()
    stored = {fold_identifier(row[0]): (row[0], row[1]) for row in described}
    kinds = {fold_identifier(field.name): field.type for field in snapshot.schema_of(schema_id)}
    columns = [
        f"{_expression(stored, kinds, name, kind)} AS {quote_identifier(name)}"
        for name, kind in types.items()
    ]
    return session.remember(key, ", ".join(columns))  # type: ignore[no-any-return]


def _expression(
    stored: dict[str, tuple[str, str]], kinds: dict[str, Any], name: str, kind: str
) -> str:
    found = stored.get(fold_identifier(name))
    if found is None:
        return _cast("NULL", kind)
    column, stored_kind = quote_identifier(found[0]), found[1]
    arrow_kind = kinds[fold_identifier(name)]
    if arrow().types.is_duration(arrow_kind):
        return _interval(column, arrow_kind.unit)
    return column if stored_kind == kind else _cast(column, kind)


def _interval(column: str, unit: str) -> str:
    """Parquet keeps durations as bare numbers."""
    factors = {"s": "* 1000000", "ms": "* 1000", "us": "", "ns": "// 1000"}
    return f"to_microseconds({column} {factors[unit]})"
