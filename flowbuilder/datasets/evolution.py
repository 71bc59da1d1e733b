"""How a dataset's schema grows, and how older rows are read with a newer one."""

from __future__ import annotations

from typing import Any

from flowbuilder.datasets.arrow_types import storable_type, wider_type
from flowbuilder.datasets.libraries import arrow
from flowbuilder.datasets.names import check_column_names, fold_identifier
from flowbuilder.errors import StorageError

__all__ = ["align", "decode_schema", "encode_schema", "merge_schemas", "storable_schema"]


def storable_schema(schema: Any) -> Any:
    """Give the schema data of ``schema`` is kept with; nothing but names and types survives.

    Raises
    ------
    StorageError
        If a type or a name cannot be kept.
    """
    pa = arrow()
    check_column_names(schema.names)
    return pa.schema(
        [pa.field(field.name, storable_type(field.type, field.name)) for field in schema]
    )


def merge_schemas(current: Any, given: Any, *, dataset: str) -> Any:
    """Give the schema that holds rows of both.

    Parameters
    ----------
    current, given : pyarrow.Schema
        That of the dataset and that of the new rows, both storable.
    dataset : str
        Its name, for the message.

    Returns
    -------
    pyarrow.Schema
        Columns of ``current`` in their order, widened where needed, then the new ones.

    Raises
    ------
    StorageError
        If a column's types have no common one; the message names column, old and new type.
    """
    pa = arrow()
    new = {fold_identifier(field.name): field for field in given}
    fields = []
    for field in current:
        other = new.pop(fold_identifier(field.name), None)
        kind = field.type if other is None else wider_type(field.type, other.type)
        if kind is None:
            raise StorageError(
                f"column {field.name!r} of dataset {dataset!r} has type {field.type}, the new rows"
                f" have {other.type}: neither holds every value of the other",
                hint=f"cast the new rows to {field.type}, or use overwrite() to start afresh",
            )
        fields.append(pa.field(field.name, kind))
    return pa.schema([*fields, *new.values()])


def align(table: Any, schema: Any) -> Any:
    """Give a table the columns of a schema: in order, cast, missing ones null.

    Parameters
    ----------
    table : pyarrow.Table
        Rows whose types `merge_schemas` made wider at most.
    schema : pyarrow.Schema
        What comes out.

    Returns
    -------
    pyarrow.Table
        Columns that already fit are shared, not copied.
    """
    pa = arrow()
    if table.schema.equals(schema):
        return table
    places = {fold_identifier(name): place for place, name in enumerate(table.column_names)}
    columns = []
    for field in schema:
        place = places.get(fold_identifier(field.name))
        if place is None:
            columns.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
        else:
            columns.append(_cast(table.column(place), field.type))
    return pa.table(columns, schema=schema)


def _cast(column: Any, kind: Any) -> Any:
    pa = arrow()
    if column.type.equals(kind):
        return column
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array(
            [chunk.storage for chunk in column.chunks], type=column.type.storage_type
        )
        return _cast(column, kind)
    if pa.types.is_dictionary(kind):
        plain = column.cast(kind.value_type) if not _is_dictionary(column.type) else column
        if _is_dictionary(plain.type):
            return plain.cast(kind)
        encoded = plain.combine_chunks().dictionary_encode()
        chunks = encoded.chunks if isinstance(encoded, pa.ChunkedArray) else [encoded]
        return pa.chunked_array(chunks, type=kind)
    if _is_dictionary(column.type):
        return column.cast(column.type.value_type).cast(kind)
    return column.cast(kind)


def _is_dictionary(kind: Any) -> bool:
    return bool(arrow().types.is_dictionary(kind))


def encode_schema(schema: Any) -> bytes:
    """Write a schema as bytes; equal schemas give equal bytes."""
    return bytes(schema.serialize())


def decode_schema(body: bytes) -> Any:
    """Read a schema from bytes."""
    pa = arrow()
    return pa.ipc.read_schema(pa.py_buffer(body))
