"""Values as `Ordinal`: what Python compares exactly as SQL does.

Only types whose order has no room for interpretation take part; for the others there is no index,
no pruning and no minimum, which costs time and never an answer.
"""

from __future__ import annotations

from typing import Any, Final

from flowbuilder.datasets.arrow_types import is_text
from flowbuilder.datasets.libraries import arrow
from flowbuilder.datasets.manifest import Ordinal

__all__ = ["MAX_TEXT", "is_sortable", "ordinal_array", "ordinal_to_scalar", "sort_class"]

MAX_TEXT: Final = 256
"""Longer texts are not kept as a column's minimum or maximum."""


def sort_class(kind: Any) -> str:
    """Say how values of a type are compared.

    Returns
    -------
    str
        ``integer``, ``float``, ``text``, ``date`` or ``timestamp``; empty if they are not
        (decimals, because their scale may grow).
    """
    types = arrow().types
    if types.is_dictionary(kind):
        return "text" if is_text(kind.value_type) else ""
    if types.is_integer(kind):
        return "integer"
    if types.is_float32(kind) or types.is_float64(kind):
        return "float"
    if is_text(kind):
        return "text"
    if types.is_date32(kind):
        return "date"
    return "timestamp" if types.is_timestamp(kind) else ""


def is_sortable(kind: Any) -> bool:
    """Whether values of a type have an `Ordinal`."""
    return bool(sort_class(kind))


def ordinal_array(column: Any) -> Any:
    """Give an array whose ``as_py`` values are ordinals.

    Parameters
    ----------
    column : pyarrow.Array or pyarrow.ChunkedArray
        Of a sortable type.

    Returns
    -------
    pyarrow.Array or pyarrow.ChunkedArray
        Shares memory with ``column`` except for dictionaries.
    """
    pa = arrow()
    kind = column.type
    if pa.types.is_dictionary(kind):
        return column.cast(pa.large_string())
    if pa.types.is_date32(kind):
        return column.view(pa.int32()) if isinstance(column, pa.Array) else column.cast(pa.int32())
    if pa.types.is_timestamp(kind):
        return column.view(pa.int64()) if isinstance(column, pa.Array) else column.cast(pa.int64())
    return column


def ordinal_to_scalar(value: Ordinal, kind: Any) -> object:
    """Give the Python value an ordinal stands for, as pyarrow would."""
    pa = arrow()
    group = sort_class(kind)
    if group == "date":
        return pa.scalar(value, pa.int32()).cast(pa.date32()).as_py()
    if group == "timestamp":
        return pa.scalar(value, pa.int64()).cast(kind).as_py()
    return value
