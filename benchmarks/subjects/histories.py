"""Stores of everything that ran: FlowBuilder's history, and the same rows in plain tables.

The rows are made by SQL: ten tasks a run, one run a second, 40 workflows, durations over five
orders of magnitude.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["DuckTables", "FlowBuilderHistory", "Prepared", "SqliteRows", "run_id_of"]

TASKS_PER_RUN = 10
_RUN_ID = (
    "format('{{:08x}}-{{:04x}}-7000-8000-{{:012x}}',"
    " ((1770000000000 + {run} * 1000) >> 16)::BIGINT,"
    " ((1770000000000 + {run} * 1000) & 65535)::BIGINT, {run})"
)
_WORKFLOW = "'workflow_' || ({run} % 40)"
# Four draws added up: most attempts of a task take about as long, the extremes differ 50-fold.
_SPREAD = "(" + " + ".join(f"(hash(i) >> {bits}) % 1000" for bits in (10, 20, 30, 40)) + ")"
_DURATION = f"exp(i % {TASKS_PER_RUN} + {_SPREAD} / 1000.0) / 1000"
_QUEUED = f"exp({_SPREAD} / 1000.0) / 10000"
_STATE = (
    "CASE WHEN hash(i) % 50 = 0 THEN 'failed' WHEN hash(i) % 50 < 5 THEN 'cached'"
    " ELSE 'succeeded' END"
)


class Prepared(NamedTuple):
    """What a store can answer."""

    dashboards: Mapping[str, Callable[[], object]]
    one_run: Callable[[str], int]


def run_id_of(run: int) -> str:
    """Give the id of a run, as the SQL above makes it."""
    milliseconds = 1770000000000 + run * 1000
    return f"{milliseconds >> 16:08x}-{milliseconds & 65535:04x}-7000-8000-{run:012x}"


def task_rows() -> dict[str, str]:
    """Give an SQL expression per column of ``tasks``, over ``range(count) t(i)``."""
    run = f"(i // {TASKS_PER_RUN})"
    begin = f"make_timestamp(1770000000000000 + {run} * 1000000 + (i % {TASKS_PER_RUN}) * 1000)"
    task = f"'task_' || (i % {TASKS_PER_RUN})"
    return {
        "run_id": _RUN_ID.format(run=run),
        "workflow": _WORKFLOW.format(run=run),
        "task": task,
        "key": task,
        "type": "'script'",
        "instance": f"i % {TASKS_PER_RUN}",
        "attempt": "1 + (hash(i) % 20 = 0)::INTEGER",
        "state": _STATE,
        "is_open": "false",
        "started_at": begin,
        "ended_at": f"{begin} + to_microseconds(({_DURATION} * 1e6)::BIGINT)",
        "duration_s": _DURATION,
        "queued_s": _QUEUED,
        "worker": "i % 4",
        "seq": f"i % {TASKS_PER_RUN} + 1",
    }


def run_rows() -> dict[str, str]:
    """Give an SQL expression per column of ``runs``, over ``range(count) t(i)``."""
    begin = "make_timestamp(1770000000000000 + i * 1000000)"
    return {
        "run_id": _RUN_ID.format(run="i"),
        "workflow": _WORKFLOW.format(run="i"),
        "state": "CASE WHEN hash(i) % 20 = 0 THEN 'failed' ELSE 'succeeded' END",
        "is_final": "true",
        "started_at": begin,
        "ended_at": f"{begin} + INTERVAL 5 SECOND",
        "duration_s": "5.0::DOUBLE",
        "tasks": str(TASKS_PER_RUN),
        "params": """'{"n":' || i || '}'""",
        "last_seq": str(TASKS_PER_RUN + 1),
    }


def _filled(table: str, columns: Mapping[str, str], count: int) -> str:
    names = ", ".join(columns)
    values = ", ".join(columns.values())
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM range({count}) t(i)"


class FlowBuilderHistory:
    """The history with its ready views; a question includes making sure that it is up to date."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp())
        self._close: list[Callable[[], None]] = []

    def prepare_history(self, tasks: int) -> Prepared:
        from flowbuilder.history.batch import duration_counts
        from flowbuilder.history.database import FileDatabase
        from flowbuilder.history.history import History
        from flowbuilder.history.months import Months
        from flowbuilder.store.sqlite_journal import SqliteJournal

        journal = SqliteJournal(self._folder / "journal.db", is_owner_alive=lambda _: False)
        history = History(journal, Months(self._folder / "months"), self._folder, lambda _: False)
        self._close = [history.close, journal.close]
        history.sql("SELECT 1")
        file = FileDatabase(self._folder / "history.duckdb")
        with file.writing() as cursor:
            place = "base.main"
            for statement in (
                _filled(f"{place}.runs", run_rows(), tasks // TASKS_PER_RUN),
                _filled(f"{place}.tasks", task_rows(), tasks),
                f"INSERT INTO {place}.durations {duration_counts(f'{place}.tasks')}",
            ):
                cursor.execute(statement).fetchall()
        file.close()
        views = ("failure_rate", "failure_rate_by_day", "task_durations", "queue_time")
        more = ("slowest", "flaky", "cost", "cache_hit_rate")
        return Prepared(
            {name: lambda name=name: history.sql(f"FROM {name}") for name in (*views, *more)},
            lambda run_id: len(history.sql("SELECT * FROM tasks WHERE run_id = ?", [run_id])),
        )

    def close(self) -> None:
        for close in self._close:
            close()
        shutil.rmtree(self._folder, ignore_errors=True)


_OF_STATE = "sum((state = '{}')::INTEGER)"
_BY_TASK = "SELECT workflow, task, count(*), {} FROM tasks {}GROUP BY 1, 2"
_SHARES = "[0.5, 0.95, 0.99]"
_FAILED = _OF_STATE.format("failed")
_DASHBOARD = {
    "failure_rate": f"SELECT workflow, count(*), {_FAILED} FROM runs GROUP BY 1",
    "failure_rate_by_day": f"SELECT workflow, started_at::DATE, count(*), {_FAILED} FROM runs"
    " GROUP BY 1, 2",
    "task_durations": _BY_TASK.format(
        f"quantile_cont(duration_s, {_SHARES})", "WHERE state = 'succeeded' "
    ),
    "queue_time": _BY_TASK.format(f"quantile_cont(queued_s, {_SHARES})", ""),
    "slowest": "SELECT * FROM tasks ORDER BY duration_s DESC LIMIT 100",
    "flaky": _BY_TASK.format(f"{_FAILED}, sum((attempt > 1 AND state = 'succeeded')::INTEGER)", ""),
    "cost": "SELECT workflow, count(*), sum(duration_s) FROM tasks GROUP BY 1",
    "cache_hit_rate": _BY_TASK.format(_OF_STATE.format("cached"), ""),
}


class DuckTables:
    """The same rows in two DuckDB tables of an open connection, asked by hand, exactly."""

    def __init__(self) -> None:
        import duckdb

        self._folder = Path(tempfile.mkdtemp())
        self._connection = duckdb.connect(str(self._folder / "plain.duckdb"))

    def prepare_history(self, tasks: int) -> Prepared:
        for table, columns, count in (
            ("runs", run_rows(), tasks // TASKS_PER_RUN),
            ("tasks", task_rows(), tasks),
        ):
            selected = ", ".join(f"{value} AS {name}" for name, value in columns.items())
            statement = f"CREATE TABLE {table} AS SELECT {selected} FROM range({count}) t(i)"
            self._connection.execute(statement).fetchall()
        self._connection.execute("CHECKPOINT").fetchall()
        one_run = "SELECT * FROM tasks WHERE run_id = ?"
        return Prepared(
            {name: lambda query=query: self._ask(query) for name, query in _DASHBOARD.items()},
            lambda run_id: self._ask(one_run, [run_id]).num_rows,
        )

    def _ask(self, query: str, params: list[object] | None = None) -> object:
        cursor = self._connection.cursor()
        try:
            return cursor.sql(query, params=params).to_arrow_table()
        finally:
            cursor.close()

    def close(self) -> None:
        self._connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class SqliteRows:
    """The same rows in SQLite, a row per attempt, with an index on the run."""

    def __init__(self) -> None:
        import apsw

        self._folder = Path(tempfile.mkdtemp())
        self._connection = apsw.Connection(str(self._folder / "rows.db"))

    def prepare_history(self, tasks: int) -> Prepared:
        import duckdb

        source = duckdb.connect()
        for table, columns, count in (
            ("runs", run_rows(), tasks // TASKS_PER_RUN),
            ("tasks", task_rows(), tasks),
        ):
            names = ", ".join(columns)
            self._connection.execute(f"CREATE TABLE {table} ({names})")
            values = ", ".join(
                f"epoch({value})" if name.endswith("_at") else value
                for name, value in columns.items()
            )
            rows = source.execute(f"SELECT {values} FROM range({count}) t(i)").fetchall()
            marks = ", ".join("?" * len(columns))
            with self._connection:
                self._connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        self._connection.execute("CREATE INDEX tasks_run ON tasks (run_id)")
        source.close()
        # It has no percentiles, and its own words for types and days.
        asked = {
            name: query.replace("::INTEGER", "").replace("started_at::DATE", "started_at / 86400")
            for name, query in _DASHBOARD.items()
            if "quantile" not in query
        }
        one_run = "SELECT * FROM tasks WHERE run_id = ?"
        return Prepared(
            {name: lambda query=query: self._ask(query) for name, query in asked.items()},
            lambda run_id: len(self._ask(one_run, (run_id,))),
        )

    def _ask(self, query: str, params: tuple[object, ...] = ()) -> list[object]:
        return list(self._connection.execute(query, params))

    def close(self) -> None:
        self._connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)
