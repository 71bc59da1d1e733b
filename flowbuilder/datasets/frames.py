"""Tables a query names that are no datasets: handed over, or variables of whoever asks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final

from flowbuilder.datasets.evolution import align, storable_schema
from flowbuilder.datasets.intake import open_rows
from flowbuilder.datasets.libraries import arrow
from flowbuilder.datasets.names import fold_identifier

__all__ = ["caller_scope", "find_frame", "readable_table"]

_FRAMES: Final = frozenset(
    {
        ("pyarrow", "Table"),
        ("pyarrow", "RecordBatch"),
        ("polars", "DataFrame"),
        ("polars", "LazyFrame"),
        ("pandas", "DataFrame"),
    }
)


def caller_scope(depth: int) -> list[Mapping[str, object]]:
    """Give the variables of a calling function: its own, then those of its module.

    Parameters
    ----------
    depth : int
        How many calls up, 1 for the caller of this function's caller.
    """
    frame: FrameType | None = sys._getframe(depth + 1)  # noqa: SLF001 - the interpreter's way in
    if frame is None:
        return []
    return [frame.f_locals, frame.f_globals]


def find_frame(scope: list[Mapping[str, object]], name: str) -> object | None:
    """Find a table by the name of a variable: spelled exactly, else without ASCII case.

    Only tables count (Arrow, polars, pandas); a list or a dict of that name does not.
    """
    for variables in scope:
        if name in variables and _is_frame(variables[name]):
            return variables[name]
    folded = fold_identifier(name)
    for variables in scope:
        for other, value in list(variables.items()):
            if fold_identifier(other) == folded and _is_frame(value):
                return value
    return None


def _is_frame(value: object) -> bool:
    return any(
        (base.__module__.partition(".")[0], base.__name__) in _FRAMES
        for base in type(value).__mro__
        if base.__module__.partition(".")[0] in sys.modules
    )


def readable_table(value: object, name: str) -> Any:
    """Give a table as DuckDB reads it, sharing memory except for the few types it cannot."""
    rows = open_rows(value, name=name)
    table = arrow().concat_tables([rows.schema.empty_table(), *rows.tables])
    if any(_is_foreign(field.type) for field in table.schema):
        return align(table, storable_schema(table.schema))
    return table


def _is_foreign(kind: Any) -> bool:
    types = arrow().types
    return bool(types.is_float16(kind) or types.is_decimal256(kind))
