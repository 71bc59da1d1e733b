"""The columns of the history: what each means, in DuckDB and in Arrow.

This module is the schema: raise `SCHEMA_VERSION` with every change, and the projection is rebuilt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["SCHEMA_VERSION", "TABLES", "arrow_schema", "create_statements", "to_arrow"]

SCHEMA_VERSION: Final = 2

_TEXT, _INT, _LONG, _REAL = "VARCHAR", "INTEGER", "BIGINT", "DOUBLE"
_TIME, _FLAG, _JSON = "TIMESTAMP", "BOOLEAN", "JSON"

TABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "runs": {
        "run_id": _TEXT,
        "workflow": _TEXT,
        "state": _TEXT,
        "is_final": _FLAG,
        "started_at": _TIME,
        "ended_at": _TIME,
        "duration_s": _REAL,
        "tasks": _INT,
        "succeeded": _INT,
        "failed": _INT,
        "skipped": _INT,
        "cancelled": _INT,
        "cached": _INT,
        "attempts": _LONG,
        "task_seconds": _REAL,
        "queue_seconds": _REAL,
        "output_bytes": _LONG,
        "log_bytes": _LONG,
        "lives": _INT,
        "error": _TEXT,
        "error_task": _TEXT,
        "params": _JSON,
        "fingerprint": _TEXT,
        "plan_id": _TEXT,
        "code_fingerprint": _TEXT,
        "parent_run_id": _TEXT,
        "durability": _TEXT,
        "path": _TEXT,
        "owner": _TEXT,
        "host": _TEXT,
        "pid": _LONG,
        "last_seq": _LONG,
        "anchor_wall_ns": _LONG,
        "anchor_monotonic_ns": _LONG,
    },
    "tasks": {
        "run_id": _TEXT,
        "workflow": _TEXT,
        "task": _TEXT,
        "key": _TEXT,
        "type": _TEXT,
        "instance": _INT,
        "attempt": _INT,
        "state": _TEXT,
        "is_open": _FLAG,
        "started_at": _TIME,
        "ended_at": _TIME,
        "duration_s": _REAL,
        "queued_s": _REAL,
        "worker": _INT,
        "executor": _TEXT,
        "failure": _TEXT,
        "error_type": _TEXT,
        "error": _TEXT,
        "location": _TEXT,
        "reason": _TEXT,
        "seq": _LONG,
    },
    "events": {
        "run_id": _TEXT,
        "seq": _LONG,
        "time": _TIME,
        "kind": _TEXT,
        "workflow": _TEXT,
        "task": _TEXT,
        "key": _TEXT,
        "instance": _INT,
        "attempt": _INT,
        "detail": _JSON,
    },
    "artifacts": {
        "run_id": _TEXT,
        "workflow": _TEXT,
        "task": _TEXT,
        "key": _TEXT,
        "instance": _INT,
        "attempt": _INT,
        "name": _TEXT,
        "format": _TEXT,
        "type_name": _TEXT,
        "path": _TEXT,
        "size_bytes": _LONG,
        "num_rows": _LONG,
        "digest": _TEXT,
        "stored_at": _TIME,
        "seq": _LONG,
    },
    "metrics": {
        "run_id": _TEXT,
        "seq": _LONG,
        "time": _TIME,
        "workflow": _TEXT,
        "task": _TEXT,
        "key": _TEXT,
        "instance": _INT,
        "name": _TEXT,
        "value": _REAL,
    },
}
"""Table -> column -> DuckDB type; ``docs/how-to/query-the-history.md`` tells what they hold."""

# How often each duration occurred: the sum of these rows is the sum over `tasks`, and negative
# counts take removed runs out again.
_DURATIONS: Final = (
    "CREATE TABLE {place}.durations (workflow VARCHAR, task VARCHAR, type VARCHAR, state VARCHAR,"
    " is_retry BOOLEAN, measure VARCHAR, bucket SMALLINT, n BIGINT, total_ns HUGEINT)"
)
# The few runs that are not over: to find their owners without a scan.
_OPEN_RUNS: Final = "CREATE TABLE {place}.open_runs (run_id VARCHAR, owner VARCHAR)"
_META: Final = "CREATE TABLE {place}.meta (name VARCHAR, value VARCHAR)"


def create_statements(place: str, *, has_meta: bool = True) -> list[str]:
    """Give the statements that create the tables in ``place`` (database and schema)."""
    statements = []
    for table, columns in TABLES.items():
        listed = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        statements.append(f"CREATE TABLE {place}.{table} ({listed})")
    extra = (_DURATIONS, _OPEN_RUNS, _META) if has_meta else (_DURATIONS, _OPEN_RUNS)
    return statements + [text.format(place=place) for text in extra]


def arrow_schema(table: str) -> pa.Schema:
    """Give the Arrow schema of a table."""
    import pyarrow as pa

    kinds = {
        _TEXT: pa.string(),
        _JSON: pa.string(),
        _INT: pa.int32(),
        _LONG: pa.int64(),
        _REAL: pa.float64(),
        _FLAG: pa.bool_(),
        _TIME: pa.timestamp("us"),
    }
    return pa.schema([(name, kinds[kind]) for name, kind in TABLES[table].items()])


def to_arrow(table: str, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Turn rows in the order of the table's columns into columns."""
    import pyarrow as pa

    schema = arrow_schema(table)
    if not rows:
        return schema.empty_table()
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
