"""What comes out of a query: an Arrow table, or a file that is written as the rows come."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.store.table_scan import TableScan
from flowbuilder.tasks.streamed_tables import write_batches
from flowbuilder.tasks.tables import require

__all__ = ["scan_of", "table_of"]

_BATCH_ROWS = 122_880
_OUTPUT = "DuckDB copies its results into Arrow"


def table_of(make: Callable[[], Any], call: TaskCall) -> Any:
    """Read the rows; 128-bit integers (sums, in DuckDB) become 64-bit ones if all fit.

    Returns
    -------
    pyarrow.Table or None
        None if the statement returns no rows.
    """
    pa = require("pyarrow", "a sql task")
    relation = make()
    if relation is None:
        return None
    types = [str(kind) for kind in relation.types]
    table = relation.to_arrow_table()
    call.note_copy("", table.get_total_buffer_size(), _OUTPUT)
    for index, kind in enumerate(types):
        if kind == "HUGEINT":
            with contextlib.suppress(pa.ArrowInvalid):
                values = table.column(index).cast(pa.int64())
                call.note_copy("", values.nbytes, "128-bit integers become 64-bit ones")
                table = table.set_column(index, table.schema.field(index).name, values)
    return table


def scan_of(make: Callable[[], Any], call: TaskCall) -> TableScan:
    """Write the rows to a file as they come.

    Notes
    -----
    DuckDB computes ahead only what fits into its memory limit. If 128-bit integers turn out not to
    fit into 64 bits, the query runs once more and they stay decimals.
    """
    pa = require("pyarrow", "a sql task")
    try:
        scan = _write(pa, make(), call, is_narrow=True)
    except pa.ArrowInvalid:
        scan = _write(pa, make(), call, is_narrow=False)
    call.note_copy("", scan.size_bytes, "the result is written to a file")
    return scan


def _write(pa: Any, relation: Any, call: TaskCall, *, is_narrow: bool) -> TableScan:
    types = [str(kind) for kind in relation.types]
    reader = relation.to_arrow_reader(_BATCH_ROWS)
    schema = reader.schema
    if is_narrow:
        for index, kind in enumerate(types):
            if kind == "HUGEINT":
                schema = schema.set(index, schema.field(index).with_type(pa.int64()))
    try:
        return write_batches(schema, _cast(reader, schema, call), call.temporary)
    finally:
        reader.close()  # an open one blocks its connection


def _cast(reader: Any, schema: Any, call: TaskCall) -> Iterator[Any]:
    for batch in reader:
        call.cancel.raise_if_cancelled()
        yield batch if batch.schema == schema else batch.cast(schema)
