"""Choosing rows of a table, also of the view types Arrow has no kernels for."""

from __future__ import annotations

from typing import Any

from flowbuilder.datasets.evolution import align
from flowbuilder.datasets.libraries import arrow

__all__ = ["filter_rows", "plain_schema", "take_rows"]


def plain_schema(schema: Any) -> Any:
    """Give a schema without views: what every kernel of Arrow understands."""
    pa = arrow()
    return pa.schema([pa.field(field.name, _plain_type(field.type)) for field in schema])


def _plain_type(kind: Any) -> Any:
    pa = arrow()
    types = pa.types
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, _plain_type(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    if types.is_list(kind):
        return pa.list_(pa.field("element", _plain_type(kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(pa.field("element", _plain_type(kind.value_type)))
    return kind


def take_rows(table: Any, numbers: Any) -> Any:
    """Give rows by number, in the order of the numbers."""
    return align(align(table, plain_schema(table.schema)).take(numbers), table.schema)


def filter_rows(table: Any, mask: Any) -> Any:
    """Give the rows a mask is true for."""
    return align(align(table, plain_schema(table.schema)).filter(mask), table.schema)
