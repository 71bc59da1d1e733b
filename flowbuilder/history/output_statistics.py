"""Statistics of an output's columns, to tell two outputs apart without looking at every row."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

__all__ = ["ColumnStatistics", "column_statistics", "plain"]

_MOST_SHOWN: Final = 200


class ColumnStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a column holds; ``min``, ``max``, ``mean``, ``std`` are None where they mean nothing."""

    type: str
    rows: int
    nulls: int
    distinct: int | None = None
    min: object = None
    max: object = None
    mean: float | None = None
    std: float | None = None


def column_statistics(value: object) -> dict[str, ColumnStatistics] | None:
    """Describe every column of a table; None for what is none.

    Parameters
    ----------
    value : object
        An Arrow table, polars or pandas frame, or a numpy array of one or two dimensions.
    """
    table = _to_arrow(value)
    if table is None:
        return None
    return {
        name: _describe(column)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def _to_arrow(value: Any) -> Any:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        return None
    if isinstance(value, pa.Table):
        return value
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    try:
        if library == "pandas" and kind.__name__ == "DataFrame":
            return pa.Table.from_pandas(value)
        if hasattr(value, "__arrow_c_stream__"):
            return pa.table(value)
        if library == "numpy" and kind.__name__ == "ndarray":
            return _of_array(pa, value)
    except (pa.ArrowException, TypeError, ValueError):
        pass  # columns of arbitrary objects: nothing that could be compared
    return None


def _of_array(pa: Any, array: Any) -> Any:
    if array.dtype.names is not None:
        return pa.table({name: array[name] for name in array.dtype.names})
    if array.ndim == 1:
        return pa.table({"value": array})
    if array.ndim == 2 and array.shape[1] <= 1000:
        return pa.table({str(place): array[:, place] for place in range(array.shape[1])})
    return None


def _describe(column: Any) -> ColumnStatistics:
    import pyarrow as pa
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    for view, plain_type in ((pa.string_view(), pa.string()), (pa.binary_view(), pa.binary())):
        if column.type == view:  # few kernels know them
            column = column.cast(plain_type)
    kind = column.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    found: dict[str, Any] = {}
    if len(column) - column.null_count:
        found["distinct"] = _try(lambda: pc.count_distinct(column).as_py())
        ends = _try(lambda: pc.min_max(column).as_py())
        if ends is not None:
            found["min"], found["max"] = plain(ends["min"]), plain(ends["max"])
        if is_number:
            found["mean"] = _number(_try(lambda: pc.mean(column).as_py()))
            found["std"] = _number(_try(lambda: pc.stddev(column).as_py()))
    return ColumnStatistics(type=str(kind), rows=len(column), nulls=column.null_count, **found)


def _try(compute: Any) -> Any:
    import pyarrow as pa

    try:
        return compute()
    except (pa.ArrowException, OverflowError, ValueError):
        return None  # nested types have no order


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def plain(value: object) -> object:
    """Give a value as JSON can hold it."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value[:_MOST_SHOWN]
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if isoformat is not None else str(value)[:_MOST_SHOWN]
