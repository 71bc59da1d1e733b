"""Builders for the history's tests: a store on disk, and runs that end as they are told to."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowbuilder.history.history import History
from flowbuilder.history.months import Months
from flowbuilder.history.whole_journal import WholeJournal
from flowbuilder.ids import new_run_id
from flowbuilder.records import (
    ArtifactStored,
    AttemptBlock,
    AttemptFailed,
    AttemptFinished,
    AttemptStarted,
    Event,
    LogChunk,
    ResourceAllocated,
    RetryScheduled,
    RunCreated,
    RunHeader,
    RunStateChanged,
    TaskSkipped,
    UnknownEvent,
    VersionHeader,
)
from flowbuilder.store.sqlite_journal import SqliteJournal

MAY = 1_777_900_000_000_000_000
"""An instant in May 2026."""
DAY = 86_400_000_000_000
KEYS = ("load", "clean", "part[0]", "part[1]", "写入")
SPEC = b'{"tasks":[{"name":"load","type":"read"},{"name":"clean","type":"script"},{"name":"part","type":"sql"}]}'


class ListSource:
    """A live source that gives what was put into it."""

    is_streaming = False

    def __init__(self) -> None:
        self._records: list[AttemptBlock | Event] = []
        self._lock = threading.Lock()

    def put(self, *records: AttemptBlock | Event) -> None:
        with self._lock:
            self._records.extend(records)

    def take(self) -> list[AttemptBlock | Event]:
        with self._lock:
            taken, self._records = self._records, []
        return taken


class LiveRun:
    """One run that records what it is told."""

    def __init__(self, store: Store, run_id: str, wall_ns: int) -> None:
        self.run_id = run_id
        self.source = ListSource()
        self.store = store
        self.wall_ns = wall_ns
        self.now = 1_000_000_000
        self.handle = None

    def created(self, *, resumed: bool = False) -> RunCreated:
        return RunCreated(
            time_ns=self.now,
            wall_ns=self.wall_ns + self.now,
            monotonic_ns=self.now,
            owner="engine",
            host="here",
            pid=1,
            resumed=resumed,
        )

    def tick(self, ms: int = 7) -> int:
        self.now += ms * 1_000_000
        return self.now

    def put(self, *records: AttemptBlock | Event) -> LiveRun:
        self.source.put(*records)
        return self

    def started(self, instance: int, attempt: int = 1) -> LiveRun:
        return self.put(
            AttemptStarted(
                instance=instance, attempt=attempt, time_ns=self.tick(), executor="thread"
            )
        )

    def finished(
        self, instance: int, state: str = "succeeded", attempt: int = 1, output: object = None
    ) -> LiveRun:
        ready, start, end = self.tick(), self.tick(), self.tick(13)
        return self.put(
            AttemptFinished(
                instance=instance,
                attempt=attempt,
                state=state,
                worker=2,
                ready_ns=ready,
                start_ns=start,
                end_ns=end,
                time_ns=end,
                output=output,
            )
        )

    def block(self, instances: list[int]) -> LiveRun:
        begin = self.tick()
        ends = [self.tick(3) for _ in instances]
        return self.put(
            AttemptBlock(
                instances=array("i", instances),
                ends_ns=array("q", ends),
                outputs=None,
                first_start_ns=begin,
            )
        )

    def failed(self, instance: int, attempt: int = 1, message: str = "no such column") -> LiveRun:
        self.put(
            AttemptFailed(
                instance=instance,
                attempt=attempt,
                failure="error",
                error_type="KeyError",
                message=message,
                traceback=f"Traceback\n{message}",
                location="demo.flow.yaml:3",
                time_ns=self.now,
            )
        )
        return self.finished(instance, "failed", attempt)

    def retried(self, instance: int) -> LiveRun:
        return self.put(
            RetryScheduled(
                instance=instance, attempt=1, delay_s=0.5, due_ns=self.now, time_ns=self.tick()
            )
        )

    def skipped(self, instance: int, reason: str = "its condition is false") -> LiveRun:
        self.put(TaskSkipped(instance=instance, reason=reason, time_ns=self.tick()))
        return self.finished(instance, "skipped", 0)

    def logged(self, instance: int, text: str) -> LiveRun:
        return self.put(
            LogChunk(instance=instance, attempt=1, stream="stdout", text=text, time_ns=self.tick())
        )

    def stored(self, instance: int, rows: int = 10) -> LiveRun:
        return self.put(
            ArtifactStored(
                instance=instance,
                attempt=1,
                name="output",
                format="arrow",
                path=f"artifacts/{self.run_id}/{instance}",
                size_bytes=rows * 8,
                digest="d1",
                type_name="polars.DataFrame",
                num_rows=rows,
                time_ns=self.tick(),
            )
        )

    def measured(self, name: str, value: float) -> LiveRun:
        body = {"name": name, "value": value, "instance": 0, "time_ns": self.tick()}
        return self.put(
            UnknownEvent(original_kind="metric", body=body, time_ns=self.now),
            ResourceAllocated(instance=1, pool="db", units=2, time_ns=self.now),
        )

    def ended(self, state: str = "succeeded", error: str = "") -> LiveRun:
        self.put(
            RunStateChanged(
                state=state, error=error, error_task="clean" if error else "", time_ns=self.tick()
            )
        )
        self.handle.sync()
        self.handle.close()
        self.handle = None
        return self

    def sync(self) -> LiveRun:
        self.handle.sync()
        return self


class Store:
    """A journal with its months and its history, as one process has them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.alive = {"engine"}
        folder.mkdir(exist_ok=True)
        self.journal = SqliteJournal(folder / "journal.db", is_owner_alive=self.is_alive)
        self.months = Months(folder / "months")
        self.whole = WholeJournal(self.journal, self.months)
        self.histories: list[History] = []
        self.history = self.open_history()

    def is_alive(self, owner: str) -> bool:
        return owner in self.alive

    def open_history(self, name: str = "history", *, in_memory: bool = False) -> History:
        place = self.folder / name
        place.mkdir(exist_ok=True)
        history = History(self.journal, self.months, None if in_memory else place, self.is_alive)
        self.histories.append(history)
        return history

    def run(
        self,
        *,
        workflow: str = "demo",
        run_id: str = "",
        wall_ns: int = MAY,
        plan: str = "plan",
        **params: object,
    ) -> LiveRun:
        run = LiveRun(self, run_id or new_run_id(), wall_ns)
        version = VersionHeader(
            plan_id=f"{plan}-{workflow}",
            fingerprint=f"print-{plan}-{workflow}",
            name=workflow,
            text=f"name: {workflow}\n# plan {plan}\n",
            path=f"/flows/{workflow}.flow.yaml",
            spec_json=SPEC,
            keys=KEYS,
            parents=((), (0,), (1,), (1,), (2,)),
        )
        header = RunHeader(
            run_id=run.run_id,
            plan_id=version.plan_id,
            workflow=workflow,
            params=params,
            durability="run",
        )
        run.handle = self.journal.open_run(version, header, run.created(), run.source)
        return run

    def adopt(self, run: LiveRun) -> LiveRun:
        run.tick(1000)
        run.handle = self.journal.adopt_run(run.run_id, run.created(resumed=True), run.source)
        return run

    def rows(self, query: str, *params: object) -> list[tuple[object, ...]]:
        return self.history.sql(query, list(params) or None).rows

    def close(self) -> None:
        for history in self.histories:
            history.close()
        self.journal.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store")
    yield opened
    opened.close()


TABLES = ("runs", "tasks", "events", "artifacts", "metrics")
TOTALS = (
    "SELECT workflow, task, type, state, is_retry, measure, bucket, sum(n), sum(total_ns)"
    " FROM durations GROUP BY ALL HAVING sum(n) <> 0"
)


def everything(history: History) -> dict[str, list[str]]:
    """All a history holds, whatever its order."""
    tables = {name: history.sql(f"SELECT * FROM {name}").rows for name in TABLES}
    tables["durations"] = history.sql(TOTALS).rows
    return {name: sorted(map(repr, rows)) for name, rows in tables.items()}
