"""Tables between libraries: any output as Arrow, and Arrow as what the next task wants.

Buffers are shared wherever both sides can (numbers, times, string views). NULL and NaN stay
different things; a pandas column of numpy floats, where NaN means missing, is the one place where
NaN becomes NULL.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from flowbuilder.errors import FlowBuilderError, PluginError

__all__ = ["from_arrow", "is_lazy", "is_table", "require", "to_arrow"]

INSTALL_HINT = 'pip install "flowbuilder[data]"'


def require(module: str, purpose: str) -> Any:
    """Import an optional library.

    Parameters
    ----------
    module : str
        Dotted name, such as ``pyarrow.csv``.
    purpose : str
        What needs it, for the message: ``a sql task``.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    PluginError
        If it is not installed; the hint is the command that installs it.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        root = module.partition(".")[0]
        hint = f"pip install {root}" if root == "pandas" else INSTALL_HINT
        raise PluginError(
            f"{purpose} needs {root}, which is not installed in this environment", hint=hint
        ) from error


def is_table(value: object) -> bool:
    """Say whether `to_arrow` would take ``value``, without importing any library."""
    if _is_a(value, "pandas", "DataFrame") or _is_a(value, "polars", "LazyFrame"):
        return True
    if hasattr(value, "__arrow_c_stream__") and not _is_a(value, "pandas", "Series"):
        return True
    if _is_a(value, "pyarrow", "Table") or _is_structured(value):
        return True
    if isinstance(value, Mapping):
        return _is_columns(value)
    return _is_rows(value)


def is_lazy(value: object) -> bool:
    """Say whether ``value`` is a polars LazyFrame, without importing polars."""
    return _is_a(value, "polars", "LazyFrame")


def to_arrow(value: object, name: str) -> Any:
    """Turn a task's output into an Arrow table, sharing buffers where the formats allow.

    Parameters
    ----------
    value : object
        Arrow table, batch or stream; polars frame; pandas frame; numpy structured array; mapping of
        equally long columns (numpy arrays or lists); list of row mappings.
    name : str
        Where it comes from, for the message.

    Returns
    -------
    pyarrow.Table
        Never to be written to: it may share memory with ``value``.

    Raises
    ------
    FlowBuilderError
        If it is not a table, or its columns differ in length or mix types.
    """
    pa = require("pyarrow", "a table")
    try:
        return _convert(pa, value, name)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise FlowBuilderError(
            f"{name!r} could not be read as a table: {_first_line(error)}",
            hint="give every column one type and one length",
        ) from error


def _convert(pa: Any, value: Any, name: str) -> Any:
    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if _is_a(value, "pandas", "DataFrame"):
        return _from_pandas(pa, value)
    if _is_a(value, "polars", "LazyFrame"):
        value = value.collect()
    if hasattr(value, "__arrow_c_stream__") and not _is_a(value, "pandas", "Series"):
        return pa.table(value)
    if _is_structured(value):
        value = {field: value[field] for field in value.dtype.names}
    if isinstance(value, Mapping) and _is_columns(value):
        return pa.table({str(key): _column(pa, column) for key, column in value.items()})
    if _is_rows(value):
        keys = dict.fromkeys(key for row in value for key in row)
        return pa.table({str(key): pa.array([row.get(key) for row in value]) for key in keys})
    raise FlowBuilderError(
        f"expected a table from {name!r}, found {type(value).__name__}",
        hint="return an Arrow, polars or pandas table, a mapping of columns, or a list of mappings",
    )


def _column(pa: Any, column: Any) -> Any:
    if _is_a(column, "numpy", "ndarray") and column.ndim > 1:
        return pa.FixedShapeTensorArray.from_numpy_ndarray(column).storage
    return pa.array(column)


def _from_pandas(pa: Any, frame: Any) -> Any:
    """Keep a named index as columns; a numbered or unnamed one says nothing."""
    if any(level is not None for level in frame.index.names):
        frame = frame.reset_index()
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def from_arrow(table: Any, output: str) -> object:
    """Give an Arrow table as another library's type.

    Parameters
    ----------
    table : pyarrow.Table
        The table.
    output : str
        ``arrow`` (as is), ``polars``, ``pandas`` (Arrow-backed columns, so that NULL, decimals,
        zones and nested values survive), or ``rows`` (list of dicts).

    Returns
    -------
    object
        The table; numbers and times share its memory.
    """
    if output == "polars":
        return require("polars", "output: polars").from_arrow(table, rechunk=False)
    if output == "pandas":
        pandas = require("pandas", "output: pandas")
        return table.to_pandas(types_mapper=pandas.ArrowDtype)
    if output == "rows":
        return table.to_pylist()
    return table


def _is_a(value: object, package: str, name: str) -> bool:
    """Compare with a class of a library that may not even be imported."""
    if package not in sys.modules:
        return False
    return any(
        base.__name__ == name and base.__module__.partition(".")[0] == package
        for base in type(value).__mro__
    )


def _is_structured(value: Any) -> bool:
    return _is_a(value, "numpy", "ndarray") and value.dtype.names is not None


def _is_columns(value: Mapping[Any, Any]) -> bool:
    return bool(value) and all(
        _is_a(column, "numpy", "ndarray")
        or _is_a(column, "pandas", "Series")
        or hasattr(column, "__arrow_c_array__")
        or (isinstance(column, Sequence) and not isinstance(column, str | bytes))
        for column in value.values()
    )


def _is_rows(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(row, Mapping) for row in value)
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
