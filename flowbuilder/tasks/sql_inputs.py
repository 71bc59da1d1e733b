"""What a query reads: upstream outputs as tables of DuckDB, shared where the formats allow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.store.table_scan import TableScan
from flowbuilder.tasks.streamed_tables import sink_lazy
from flowbuilder.tasks.table_buffers import conversion_copies
from flowbuilder.tasks.tables import is_lazy, require, to_arrow

__all__ = ["offer", "read_inputs"]


def read_inputs(call: TaskCall, mentioned: Iterable[str]) -> dict[str, Any]:
    """Convert what a query mentions: ports before tasks, in any case, as SQL compares.

    Parameters
    ----------
    call : TaskCall
        The attempt; outputs the query does not mention are not even looked at.
    mentioned : iterable of str
        Names in table position.

    Returns
    -------
    dict of str to object
        Name -> Arrow table or `TableScan`.
    """
    wanted = {name.casefold() for name in mentioned}
    found: dict[str, tuple[str, object]] = {}
    for source in (call.upstream, call.inputs):
        for name in source:
            if name.casefold() in wanted:
                found[name.casefold()] = name, source[name]
    return {name: _readable(value, name, call) for name, value in found.values()}


def _readable(value: object, name: str, call: TaskCall) -> Any:
    if isinstance(value, TableScan):
        return value
    if is_lazy(value) and not call.is_confidential:
        # Not `collect`: it may be larger than memory, and the query may need little of it.
        scan = sink_lazy(value, call.temporary)
        call.note_copy(name, scan.size_bytes, "a lazy frame is computed into a file")
        return scan
    table = to_arrow(value, name)
    for reason, size_bytes in conversion_copies(value, table).items():
        call.note_copy(name, size_bytes, reason)
    return _known_types(table, name, call)


def _known_types(table: Any, name: str, call: TaskCall) -> Any:
    """Cast the two Arrow types DuckDB cannot read; both casts are exact or fail."""
    pa = require("pyarrow", "a sql task")
    for index, column in enumerate(table.schema):
        target = None
        if pa.types.is_float16(column.type):
            target = pa.float32()
        elif pa.types.is_decimal256(column.type):
            target = pa.decimal128(38, column.type.scale)
        if target is not None:
            values = table.column(index).cast(target)
            call.note_copy(name, values.nbytes, f"DuckDB cannot read {column.type}")
            table = table.set_column(index, column.with_type(target), values)
    return table


def offer(cursor: Any, name: str, table: Any, policy: str) -> None:
    """Make a table known to one connection under a name; nothing is read yet."""
    if not isinstance(table, TableScan):
        cursor.register(name, table)
        return
    files = table.files
    if policy == "restricted" or files.format != "parquet":
        # Where DuckDB may open no files, pyarrow reads them for it, filters pushed down.
        source = table.dataset() if files.columns is None else table.to_reader()
        cursor.register(name, source)
        return
    table.check()
    columns = "*" if files.columns is None else ", ".join(map(_quoted_name, files.columns))
    paths = ", ".join(map(_quoted_text, files.paths))
    hive = "true" if files.root else "false"
    cursor.execute(
        f"CREATE OR REPLACE TEMP VIEW {_quoted_name(name)} AS SELECT {columns}"  # noqa: S608
        f" FROM read_parquet([{paths}], hive_partitioning = {hive})"
    )


def _quoted_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
