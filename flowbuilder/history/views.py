"""The names a question may use: the tables as people see them, and ready answers about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flowbuilder.history.database import BASE
from flowbuilder.history.tables import TABLES, create_statements

__all__ = ["FRESH", "VIEW_NAMES", "create_views", "empty_fresh"]

FRESH: Final = "memory.fresh"
"""Schema of rows that are newer than the file, while others keep it from being written."""

_HIDDEN: Final = {"runs": ("anchor_wall_ns", "anchor_monotonic_ns")}
_INTERRUPTED = "CASE WHEN is_final OR owner NOT IN ({owners}) THEN state ELSE 'interrupted' END"
_TOTALS: Final = (
    ("duration_s", "duration_s"),
    ("task_seconds", "task_seconds"),
    ("queue_seconds", "queue_seconds"),
    ("attempts", "attempts"),
    ("output_bytes", "output_bytes"),
    ("log_bytes", "log_bytes"),
)

_READY: Final[dict[str, str]] = {
    "failure_rate": """
SELECT workflow, count(*) AS runs, count(*) FILTER (state = 'succeeded') AS succeeded,
  count(*) FILTER (state = 'failed') AS failed, count(*) FILTER (state = 'cancelled') AS cancelled,
  count(*) FILTER (state = 'failed') / nullif(count(*) FILTER (state IN ('succeeded', 'failed')), 0)
    AS failure_rate, max(started_at) AS last_started_at
FROM runs GROUP BY workflow ORDER BY failure_rate DESC NULLS LAST, workflow""",
    "failure_rate_by_day": """
SELECT workflow, started_at::DATE AS day, count(*) AS runs,
  count(*) FILTER (state = 'failed') AS failed,
  count(*) FILTER (state = 'failed') / nullif(count(*) FILTER (state IN ('succeeded', 'failed')), 0)
    AS failure_rate
FROM runs GROUP BY ALL ORDER BY day DESC, workflow""",
    "task_durations": """
SELECT workflow, task, * EXCLUDE (workflow, task) FROM (
  {percentiles}) ORDER BY total_s DESC, workflow, task""",
    "queue_time": """
SELECT workflow, task, * EXCLUDE (workflow, task) FROM (
  {queue}) ORDER BY p95_s DESC, workflow, task""",
    "slowest": """
SELECT run_id, workflow, key, attempt, state, started_at, duration_s
FROM tasks WHERE duration_s IS NOT NULL ORDER BY duration_s DESC LIMIT 100""",
    "flaky": """
SELECT workflow, task, sum(n)::BIGINT AS attempts,
  coalesce(sum(n) FILTER (state = 'failed'), 0)::BIGINT AS failed,
  coalesce(sum(n) FILTER (state = 'succeeded' AND is_retry), 0)::BIGINT AS recovered,
  recovered / nullif(coalesce(sum(n) FILTER (state = 'succeeded'), 0), 0) AS flakiness
FROM durations WHERE measure = 'duration' GROUP BY workflow, task HAVING recovered > 0
ORDER BY flakiness DESC, workflow, task""",
    "cost": """
SELECT workflow, sum(n)::BIGINT AS attempts, (sum(total_ns) / 1e9)::DOUBLE AS task_seconds,
  (coalesce(sum(total_ns) FILTER (state = 'failed'), 0) / 1e9)::DOUBLE AS failed_seconds,
  (coalesce(sum(total_ns) FILTER (is_retry), 0) / 1e9)::DOUBLE AS retried_seconds
FROM durations WHERE measure = 'duration' GROUP BY workflow ORDER BY task_seconds DESC, workflow""",
    "cache_hit_rate": """
SELECT workflow, task, coalesce(sum(n) FILTER (state = 'cached'), 0)::BIGINT AS cached,
  coalesce(sum(n) FILTER (state IN ('succeeded', 'failed')), 0)::BIGINT AS executed,
  cached / nullif(cached + executed, 0) AS hit_rate
FROM durations WHERE measure = 'duration' GROUP BY workflow, task
HAVING cached + executed > 0 ORDER BY hit_rate DESC, workflow, task""",
}

_PERCENTILES: Final = """
  SELECT workflow, task, any_value(of)::BIGINT AS attempts,
    any_value(total) / any_value(of) AS mean_s,
    {quantiles}, any_value(total) AS total_s FROM (
    SELECT workflow, task, CASE WHEN bucket < 0 THEN 0.0 ELSE pow(2, (bucket + 0.5) / 16) / 1e9 END
        AS value, sum(counted) OVER (of_task ORDER BY bucket) AS upto,
      sum(counted) OVER of_task AS of, (sum(ns) OVER of_task / 1e9)::DOUBLE AS total
    FROM (SELECT workflow, task, bucket, sum(n) AS counted, sum(total_ns) AS ns FROM durations
      WHERE measure = '{measure}' AND {chosen} GROUP BY ALL HAVING counted > 0)
    WINDOW of_task AS (PARTITION BY workflow, task)) GROUP BY workflow, task"""
_QUANTILES: Final = ", ".join(
    f"min(value) FILTER (upto >= {share} * of) AS p{name}_s"
    for name, share in (("50", 0.5), ("95", 0.95), ("99", 0.99))
)

VIEW_NAMES: Final = (*TABLES, *_READY)


def create_views(connection: Any, *, has_fresh: bool, dead_owners: Sequence[str]) -> None:
    """Define every name.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        The instance that answers questions.
    has_fresh : bool
        Whether rows of `FRESH` go before those of the file.
    dead_owners : sequence of str
        Processes that are gone: their unfinished runs are interrupted.
    """
    for name, query in _definitions(has_fresh, dead_owners).items():
        connection.execute(f"CREATE OR REPLACE VIEW memory.main.{name} AS {query}").fetchall()


def empty_fresh(connection: Any) -> None:
    """Make the tables of `FRESH` anew."""
    connection.execute(f"DROP SCHEMA IF EXISTS {FRESH} CASCADE").fetchall()
    connection.execute(f"CREATE SCHEMA {FRESH}").fetchall()
    for statement in create_statements(FRESH, has_meta=False):
        connection.execute(statement).fetchall()


def _definitions(has_fresh: bool, dead_owners: Sequence[str]) -> dict[str, str]:
    found = {table: _rows_of(table, has_fresh) for table in (*TABLES, "durations")}
    if dead_owners:
        owners = ", ".join("'" + owner.replace("'", "''") + "'" for owner in dead_owners)
        state = _INTERRUPTED.format(owners=owners)
        found["runs"] = f"SELECT * REPLACE ({state} AS state) FROM ({found['runs']})"
    found["events"] = _with_attempts(found["events"])
    found["metrics"] = _with_totals(found["metrics"])
    percentiles = _PERCENTILES.format(
        quantiles=_QUANTILES, measure="duration", chosen="state = 'succeeded'"
    )
    queue = _PERCENTILES.format(
        quantiles=_QUANTILES, measure="queue", chosen="state IN ('succeeded', 'failed')"
    )
    for name, query in _READY.items():
        found[name] = query.format(percentiles=percentiles, queue=queue)
    return found


def _rows_of(table: str, has_fresh: bool) -> str:
    hidden = _HIDDEN.get(table)
    columns = f"* EXCLUDE ({', '.join(hidden)})" if hidden else "*"
    if not has_fresh:
        return f"SELECT {columns} FROM {BASE}.{table}"
    newer = f"run_id IN (SELECT run_id FROM {FRESH}.runs)"
    stays = {"runs": f"NOT ({newer})", "tasks": f"NOT (is_open AND {newer})"}.get(table, "true")
    return (
        f"SELECT {columns} FROM {BASE}.{table} WHERE {stays}"
        f" UNION ALL SELECT {columns} FROM {FRESH}.{table}"
    )


def _with_attempts(query: str) -> str:
    """Finished attempts are events too, but stored only once."""
    return (
        f"{query} UNION ALL SELECT run_id, seq, ended_at, 'attempt_finished', workflow, task, key,"
        " instance, attempt, json_object('state', state, 'worker', worker, 'duration_s',"
        " duration_s) FROM memory.main.tasks WHERE seq IS NOT NULL"
    )


def _with_totals(query: str) -> str:
    """Each number of a run as a whole is a metric of it."""
    totals = " UNION ALL ".join(
        "SELECT run_id, last_seq, coalesce(ended_at, started_at), workflow, '', '', -1,"
        f" '{name}', {column}::DOUBLE FROM memory.main.runs WHERE {column} IS NOT NULL"
        for name, column in _TOTALS
    )
    return f"{query} UNION ALL {totals}"
