"""Tables of any library, recognised by their shape, so that none has to be imported."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["column_names", "is_table", "table_facts"]


def is_table(value: object) -> bool:
    """Tell whether ``value`` is an in-memory table: named columns and a number of rows.

    Parameters
    ----------
    value : object
        Anything; nothing of it is read but its type.

    Returns
    -------
    bool
        True for frames and tables of pandas, polars and Arrow and whatever looks like them. Lazy
        frames and readers, whose rows are not there yet, are not tables.
    """
    kind = type(value)
    if issubclass(kind, Mapping):
        return False
    has_names = hasattr(kind, "column_names") or hasattr(kind, "columns")
    return has_names and (hasattr(kind, "num_rows") or hasattr(kind, "__len__"))


def column_names(table: object) -> list[str]:
    """List the columns of a table.

    Parameters
    ----------
    table : object
        Something `is_table` accepts.

    Returns
    -------
    list of str
        In the table's order.
    """
    # Arrow has both: there `columns` holds the data.
    names = getattr(table, "column_names", None)
    if names is None:
        names = table.columns  # type: ignore[attr-defined]
    return [str(name) for name in names]


def table_facts(table: object) -> dict[str, object]:
    """Describe a table in plain data.

    Parameters
    ----------
    table : object
        Something `is_table` accepts.

    Returns
    -------
    dict
        ``num_rows``, ``columns`` (names) and ``size_bytes`` (0 if the table cannot tell).
    """
    return {
        "num_rows": _row_count(table),
        "columns": column_names(table),
        "size_bytes": _size_bytes(table),
    }


def _row_count(table: object) -> int:
    rows = getattr(table, "num_rows", None)
    return int(rows) if isinstance(rows, int) else len(table)  # type: ignore[arg-type]


def _size_bytes(table: object) -> int:
    try:
        if hasattr(table, "nbytes"):
            return int(table.nbytes)
        if hasattr(table, "estimated_size"):
            return int(table.estimated_size())
        if hasattr(table, "memory_usage"):
            return int(table.memory_usage(deep=False).sum())
    except (TypeError, ValueError, AttributeError, NotImplementedError):
        return 0
    return 0
