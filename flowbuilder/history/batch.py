"""Facts of many runs as one batch of Arrow tables, and how a batch is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flowbuilder.history.run_fold import OpenAttempt, RunFold, RunRows
from flowbuilder.history.source import JournalSource
from flowbuilder.history.tables import TABLES, create_statements, to_arrow
from flowbuilder.records import Event, RunCreated

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = [
    "Batch",
    "BatchFold",
    "create_tables",
    "duration_counts",
    "insert_tables",
    "merge_counts",
    "remove_runs",
    "write_batch",
]


class Batch(NamedTuple):
    """Rows to add, and the runs whose older rows they replace."""

    tables: Mapping[str, pa.Table]
    replaced: Sequence[str]
    open_runs: pa.Table


class BatchFold:
    """Folds events of any runs; each run goes on where ``stored`` left it.

    Parameters
    ----------
    source : JournalSource
        Knows what the runs were started with.
    cursor : duckdb.DuckDBPyConnection
        Reads the rows written so far.
    place : str
        Database and schema of these rows.
    """

    def __init__(self, source: JournalSource, cursor: Any, place: str) -> None:
        self._source = source
        self._cursor = cursor
        self._place = place
        self._rows = RunRows()
        self._folds: dict[str, RunFold | None] = {}
        self._stored: set[str] = set()

    def take(self, events: Iterable[Event]) -> None:
        """Take in the next events."""
        events = list(events)
        self._load(events)
        folds = self._folds
        for event in events:
            fold = folds[event.run_id]
            if fold is not None:
                fold.take(event)

    def batch(self) -> Batch:
        """Give everything as Arrow tables."""
        runs, open_runs, open_tasks = [], [], []
        for run_id, fold in self._folds.items():
            summary = self._source.summary(run_id) if fold is not None else None
            if fold is None or summary is None:
                continue  # removed meanwhile: its rows go with the next look at what is there
            runs.append(fold.row(summary.counts, summary.task_count))
            open_tasks += fold.open_rows()
            if not fold.is_final:
                open_runs.append((run_id, fold.owner))
        rows = self._rows
        tables = {
            "runs": to_arrow("runs", runs),
            "tasks": to_arrow("tasks", rows.tasks + open_tasks),
            "events": to_arrow("events", rows.events),
            "artifacts": to_arrow("artifacts", rows.artifacts),
            "metrics": to_arrow("metrics", rows.metrics),
        }
        return Batch(tables, sorted(self._stored), _pairs(open_runs, ("run_id", "owner")))

    def _load(self, events: Sequence[Event]) -> None:
        old = []
        for event in events:
            run_id = event.run_id
            if run_id not in self._folds:
                self._folds[run_id] = self._begin(run_id)
                if not (event.seq == 0 and isinstance(event, RunCreated)):
                    old.append(run_id)
        if old:
            self._restore([run_id for run_id in old if self._folds[run_id] is not None])

    def _begin(self, run_id: str) -> RunFold | None:
        header = self._source.header(run_id)
        if header is None:
            return None
        return RunFold(header, self._source.labels(header.plan_id), self._rows)

    def _restore(self, run_ids: Sequence[str]) -> None:
        if not run_ids:
            return
        for row in self._select("runs", run_ids):
            fold = self._folds[row["run_id"]]
            assert fold is not None
            self._stored.add(row["run_id"])
            _restore_run(fold, row)
        for row in self._select("tasks", run_ids, "is_open AND "):
            fold = self._folds[row["run_id"]]
            assert fold is not None
            fold.open[row["instance"], row["attempt"]] = _open_attempt(row)

    def _select(self, table: str, run_ids: Sequence[str], where: str = "") -> list[dict[str, Any]]:
        import pyarrow as pa

        found = self._cursor.sql(
            f"SELECT * FROM {self._place}.{table} WHERE {where}run_id >= $low AND run_id <= $high"
            " AND run_id IN (SELECT unnest($ids))",
            params={"low": min(run_ids), "high": max(run_ids), "ids": list(run_ids)},
        ).to_arrow_table()
        # Times as numbers: Python's datetime is slower, and narrower than what a clock may say.
        times = [
            field.with_type(pa.int64()) if pa.types.is_timestamp(field.type) else field
            for field in found.schema
        ]
        return list(found.cast(pa.schema(times)).to_pylist())


def _restore_run(fold: RunFold, row: Mapping[str, Any]) -> None:
    fold.state = row["state"]
    fold.start_us, fold.end_us = row["started_at"], row["ended_at"]
    for name in _CARRIED:
        setattr(fold, name, row[name])


_CARRIED: Final = (
    "anchor_wall_ns",
    "anchor_monotonic_ns",
    "owner",
    "host",
    "pid",
    "error",
    "error_task",
    "lives",
    "attempts",
    "task_seconds",
    "queue_seconds",
    "output_bytes",
    "log_bytes",
    "last_seq",
)


def _open_attempt(row: Mapping[str, Any]) -> OpenAttempt:
    names = ("state", "worker", "executor", "failure", "error_type", "error", "location", "reason")
    return OpenAttempt(start_us=row["started_at"], **{name: row[name] for name in names})


def _pairs(rows: Sequence[tuple[str, str]], names: tuple[str, str]) -> pa.Table:
    import pyarrow as pa

    schema = pa.schema([(name, pa.string()) for name in names])
    first, second = zip(*rows, strict=True) if rows else ((), ())
    return pa.table([pa.array(first, pa.string()), pa.array(second, pa.string())], schema=schema)


_MOST_UNMERGED: Final = 50_000
_MEASURES: Final = (("duration", "duration_s"), ("queue", "queued_s"))
_DURATIONS: Final = """
SELECT workflow, task, type, state, attempt > 1,
  '{measure}',
  CASE WHEN {column} > 1e-9 THEN floor(log2({column} * 1e9) * 16)::SMALLINT ELSE -1 END,
  {sign} * count(*), {sign} * sum(coalesce(round({column} * 1e9), 0)::HUGEINT)
FROM {rows} WHERE NOT is_open AND {where} GROUP BY ALL
"""


def duration_counts(rows: str, *, sign: int = 1, where: str = "true") -> str:
    """Give the query that counts how often each duration occurs in ``rows``.

    Parameters
    ----------
    rows : str
        A table with the columns of ``tasks``. Those that never started count with bucket -1.
    sign : int
        -1 to take them out again.
    where : str
        Which rows.
    """
    return " UNION ALL ".join(
        _DURATIONS.format(measure=measure, column=column, rows=rows, sign=sign, where=where)
        for measure, column in _MEASURES
    )


def create_tables(cursor: Any, place: str, *, has_meta: bool = True) -> None:
    """Create the empty tables."""
    for statement in create_statements(place, has_meta=has_meta):
        cursor.execute(statement).fetchall()


def write_batch(cursor: Any, place: str, batch: Batch, *, seen: str = "") -> None:
    """Write a batch, in the caller's transaction.

    Parameters
    ----------
    cursor : duckdb.DuckDBPyConnection
        Where.
    place : str
        Database and schema of the tables.
    batch : Batch
        What.
    seen : str
        Database and schema of other tables whose rows the batch replaces; these stay as they are.
    """
    if batch.replaced and not seen:
        _delete(cursor, place, batch.replaced, ("runs", "open_runs"))
        _delete(cursor, place, batch.replaced, ("tasks",), "is_open AND ")
    insert_tables(cursor, place, batch.tables)
    _insert(cursor, f"{place}.open_runs", batch.open_runs)


def insert_tables(cursor: Any, place: str, tables: Mapping[str, pa.Table]) -> None:
    """Add rows, and count them in ``durations``."""
    for name in TABLES:
        table = tables.get(name)
        if table is not None and table.num_rows:
            extra = (
                (f"INSERT INTO {place}.durations {duration_counts('batch_rows')}",)
                if name == "tasks"
                else ()
            )
            _insert(cursor, f"{place}.{name}", table, *extra)


def merge_counts(cursor: Any, place: str) -> None:
    """Merge the rows of ``durations`` once they are far more than they need be, in the caller's
    transaction.
    """
    (rows,) = cursor.execute(f"SELECT count(*) FROM {place}.durations").fetchone()
    query = f"SELECT value::BIGINT FROM {place}.meta WHERE name = 'merged'"
    (merged,) = cursor.execute(query).fetchone()
    if rows <= 2 * merged + _MOST_UNMERGED:
        return
    merging = (
        "SELECT * EXCLUDE (n, total_ns), sum(n)::BIGINT AS n, sum(total_ns)::HUGEINT AS total_ns"
        f" FROM {place}.durations GROUP BY ALL HAVING sum(n) <> 0 OR sum(total_ns) <> 0"
    )
    for statement in (
        f"CREATE TEMP TABLE merged AS {merging}",
        f"DELETE FROM {place}.durations",
        f"INSERT INTO {place}.durations SELECT * FROM merged",
        f"UPDATE {place}.meta SET value = (SELECT count(*) FROM merged) WHERE name = 'merged'",
        "DROP TABLE merged",
    ):
        cursor.execute(statement).fetchall()


def _insert(cursor: Any, target: str, rows: pa.Table, *more: str) -> None:
    if not rows.num_rows:
        return
    cursor.register("batch_rows", rows)
    try:
        for statement in (f"INSERT INTO {target} SELECT * FROM batch_rows", *more):
            cursor.execute(statement).fetchall()
    finally:
        cursor.unregister("batch_rows")


def remove_runs(cursor: Any, place: str, run_ids: Sequence[str]) -> None:
    """Delete everything of runs, in the caller's transaction."""
    if not run_ids:
        return
    where = "run_id IN (SELECT run_id FROM batch_ids)"
    counted = duration_counts(f"{place}.tasks", sign=-1, where=where)
    _with_ids(cursor, run_ids, [f"INSERT INTO {place}.durations {counted}"])
    _delete(cursor, place, run_ids, (*TABLES, "open_runs"))


def _delete(
    cursor: Any, place: str, run_ids: Sequence[str], tables: Sequence[str], where: str = ""
) -> None:
    # The range lets zone maps skip what is older; ids begin with their time.
    between = f"run_id >= {_quoted(min(run_ids))} AND run_id <= {_quoted(max(run_ids))}"
    chosen = f"{where}{between} AND run_id IN (SELECT run_id FROM batch_ids)"
    statements = [f"DELETE FROM {place}.{table} WHERE {chosen}" for table in tables]
    _with_ids(cursor, run_ids, statements)


def _with_ids(cursor: Any, run_ids: Sequence[str], statements: Sequence[str]) -> None:
    import pyarrow as pa

    cursor.register("batch_ids", pa.table({"run_id": pa.array(run_ids, pa.string())}))
    try:
        for statement in statements:
            cursor.execute(statement).fetchall()
    finally:
        cursor.unregister("batch_ids")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
