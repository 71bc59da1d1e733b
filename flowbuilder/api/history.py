"""Runs as the journal tells them, whichever process executed them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from flowbuilder.api.task_run import TaskRun, isoformat_ns, table_of, timeline_text
from flowbuilder.clock import Anchor
from flowbuilder.durations import format_duration
from flowbuilder.errors import FlowBuilderError
from flowbuilder.ids import short_id
from flowbuilder.records import (
    ABSENT,
    AttemptFailed,
    AttemptFinished,
    AttemptStarted,
    CacheChecked,
    Event,
    LogChunk,
    RetryScheduled,
    RunCreated,
    TaskReset,
    TaskSkipped,
)
from flowbuilder.store.ports import Journal, RunSummary, SavedRun
from flowbuilder.vocabulary import RunState, TaskState

if TYPE_CHECKING:
    from flowbuilder.api.container import ServiceContainer
    from flowbuilder.api.run import Run

__all__ = ["PastRun", "read_task_runs"]


class _Entry(msgspec.Struct):
    """What the events say of one instance so far."""

    state: str = "pending"
    attempt: int = 0
    worker: int = 0
    ready_ns: int = 0
    start_ns: int = 0
    end_ns: int = 0
    reason: str = ""
    error: str = ""
    executor: str = ""


def read_task_runs(journal: Journal, summary: RunSummary) -> list[TaskRun]:
    """Rebuild the task runs of a recorded run from its events.

    Times are relative to the anchor of the process that executed each attempt, so runs resumed
    elsewhere come out right.
    """
    version = journal.version(summary.plan_id)
    entries = [_Entry() for _ in version.keys]
    anchor = first = Anchor(wall_ns=summary.started_wall_ns, monotonic_ns=0)
    walls: dict[int, Anchor] = {}
    is_first = True
    for event in journal.events(summary.run_id):
        if isinstance(event, RunCreated):
            anchor = Anchor(wall_ns=event.wall_ns, monotonic_ns=event.monotonic_ns)
            first, is_first = (anchor, False) if is_first else (first, False)
            continue
        instance = getattr(event, "instance", -1)
        if 0 <= instance < len(entries):
            _apply(entries[instance], event)
            walls[instance] = anchor
    is_over = summary.state in {RunState.INTERRUPTED, RunState.CANCELLED, RunState.FAILED}
    types = _types_of(version.spec_json)
    return [
        _task_run(
            key, types.get(key, ""), entry, walls.get(instance, anchor), first, is_over=is_over
        )
        for instance, (key, entry) in enumerate(zip(version.keys, entries, strict=True))
    ]


def _apply(entry: _Entry, event: Event) -> None:
    if isinstance(event, AttemptFinished):
        entry.state, entry.attempt, entry.worker = event.state, event.attempt, event.worker
        entry.ready_ns, entry.start_ns, entry.end_ns = event.ready_ns, event.start_ns, event.end_ns
        if event.state == TaskState.SUCCEEDED:
            entry.error = ""
    elif isinstance(event, AttemptStarted):
        entry.state, entry.attempt, entry.start_ns, entry.end_ns = (
            "running",
            event.attempt,
            event.time_ns,
            0,
        )
        entry.executor = event.executor
    elif isinstance(event, AttemptFailed):
        entry.error = f"{event.error_type}: {event.message}"
    elif isinstance(event, RetryScheduled):
        entry.state = "waiting"
    elif isinstance(event, TaskSkipped | CacheChecked):
        entry.reason = event.reason
    elif isinstance(event, TaskReset):
        entry.state, entry.reason, entry.error = "pending", event.reason, ""
        entry.start_ns = entry.end_ns = 0


def _types_of(spec_json: bytes) -> dict[str, str]:
    try:
        tree = msgspec.json.decode(spec_json)
    except msgspec.DecodeError:
        return {}
    tasks = tree.get("tasks") if isinstance(tree, dict) else None
    return {
        str(task.get("key") or task.get("name")): str(task.get("type", ""))
        for task in (tasks or ())
        if isinstance(task, dict)
    }


def _task_run(
    key: str, type_name: str, entry: _Entry, anchor: Anchor, first: Anchor, *, is_over: bool
) -> TaskRun:
    has_run = entry.start_ns > 0 and entry.state != TaskState.SKIPPED and entry.attempt > 0
    state = "unknown" if entry.state == "running" and is_over else entry.state
    start_wall = anchor.to_wall_ns(entry.start_ns)
    return TaskRun(
        name=key,
        type=type_name,
        state=state,
        attempt=entry.attempt,
        started_at=isoformat_ns(start_wall) if has_run else None,
        duration_s=max(0, entry.end_ns - entry.start_ns) / 1e9
        if has_run and entry.end_ns
        else None,
        cached=entry.state == TaskState.CACHED,
        reason=entry.reason,
        error=entry.error,
        executor=entry.executor,
        worker=entry.worker,
        offset_s=max(0, start_wall - first.wall_ns) / 1e9 if has_run else 0.0,
        queued_s=max(0, entry.start_ns - entry.ready_ns) / 1e9
        if has_run and entry.ready_ns
        else 0.0,
    )


class PastRun:
    """A recorded run, live elsewhere or over. Reads the journal anew at each question."""

    def __init__(self, container: ServiceContainer, run_id: str) -> None:
        self._container = container
        self.id = run_id

    @property
    def summary(self) -> RunSummary:
        """State, times, counts, error."""
        return self._container.journal.find_run(self.id)

    @property
    def short_id(self) -> str:
        """The last eight characters."""
        return short_id(self.id)

    @property
    def state(self) -> RunState:
        """State now; ``interrupted`` if the process that executed it is gone."""
        return self.summary.state

    @property
    def task_runs(self) -> list[TaskRun]:
        """All its tasks."""
        return read_task_runs(self._container.journal, self.summary)

    @property
    def tasks(self) -> Any:
        """All its tasks as a polars frame."""
        return table_of(self.task_runs)

    def __getitem__(self, task: str) -> object:
        """Read a task's output back.

        Raises
        ------
        FlowBuilderError
            If there is no such task, or its output was not kept.
        """
        saved = self._saved()
        if task not in saved.version.keys:
            raise FlowBuilderError(f"expected a task of run {self.short_id}, found {task!r}")
        instance = saved.version.keys.index(task)
        if instance in saved.outputs:
            value = saved.outputs[instance]
            if value is not ABSENT:
                return value
        if instance in saved.artifacts:
            return self._container.artifacts.load(saved.artifacts[instance])
        raise FlowBuilderError(
            f"the output of task {task!r} of run {self.short_id} was not kept",
            task=task,
            hint="set 'persist: always' on the task to keep it",
        )

    def _saved(self) -> SavedRun:
        return self._container.journal.load_run(self.id)

    def events(self, *, after_seq: int = -1) -> Iterator[Event]:
        """Iterate over everything recorded, oldest first."""
        return self._container.journal.events(self.id, after_seq=after_seq)

    def logs(self, task: str | None = None) -> str:
        """Give what tasks printed and logged."""
        keys = self._container.journal.version(self.summary.plan_id).keys
        if task is not None and task not in keys:
            raise FlowBuilderError(f"expected a task of run {self.short_id}, found {task!r}")
        return "".join(
            event.text
            for event in self.events()
            if isinstance(event, LogChunk)
            and (task is None or (event.instance >= 0 and keys[event.instance] == task))
        )

    def timeline(self) -> str:
        """Draw when each task ran, as text."""
        return timeline_text(self.task_runs)

    def resume(self, *, assume: str | None = None, check: bool = True, **params: object) -> Run:
        """Continue it here: only what is not settled runs. See `flowbuilder.resume`."""
        from flowbuilder.api.resuming import prepare_resume

        prepared = prepare_resume(self._container, self.id, assume=assume, params=params)
        run = prepared.open()
        prepared.announce()
        run.drive()
        if check:
            run.raise_for_state()
        return run

    def __repr__(self) -> str:
        summary = self.summary
        counts = ", ".join(
            f"{number} {state}" for state, number in summary.counts.items() if number
        )
        took = format_duration(summary.duration_s)
        head = f"PastRun {self.short_id} of {summary.workflow!r}"
        return f"<{head}: {summary.state.value} in {took}; {counts}>"
