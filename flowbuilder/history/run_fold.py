"""The fold of one run's facts into rows of the history."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from flowbuilder.records import (
    ArtifactStored,
    AttemptFailed,
    AttemptFinished,
    AttemptStarted,
    Event,
    LogChunk,
    ResourceAllocated,
    RunCreated,
    RunHeader,
    RunStateChanged,
    TaskSkipped,
    UnknownEvent,
    VersionHeader,
)
from flowbuilder.vocabulary import FINAL_RUN_STATES, RunState, TaskState

__all__ = ["OpenAttempt", "PlanLabels", "RunFold", "RunRows", "plain_json", "plain_key"]

_POSITIONS = re.compile(r"\[[^\]]*\]")
_COMMON: Final = frozenset({"run_id", "seq", "time_ns", "instance", "attempt"})
_FARTHEST_US: Final = 2**62
_METRIC_KIND: Final = "metric"


class OpenAttempt(msgspec.Struct):
    """What is known of an attempt whose end is not recorded yet."""

    state: str = "running"
    start_us: int | None = None
    worker: int = 0
    executor: str = ""
    failure: str = ""
    error_type: str = ""
    error: str = ""
    location: str = ""
    reason: str = ""


class RunRows(msgspec.Struct):
    """Rows in the order of the columns of `TABLES`; each list grows until somebody takes it."""

    tasks: list[tuple[Any, ...]] = []
    events: list[tuple[Any, ...]] = []
    artifacts: list[tuple[Any, ...]] = []
    metrics: list[tuple[Any, ...]] = []


class PlanLabels:
    """How the instances of a version are called, shared by its runs.

    Parameters
    ----------
    version : VersionHeader
        The version.
    """

    def __init__(self, version: VersionHeader) -> None:
        self.version = version
        types = types_of(version.spec_json)
        self._labels = [(plain_key(key), key, _type_of(key, types)) for key in version.keys]

    def of(self, instance: int) -> tuple[str, str, str]:
        """Give task, key and type of an instance; those the plan does not list have a number."""
        if 0 <= instance < len(self._labels):
            return self._labels[instance]
        return (f"#{instance}", f"#{instance}", "") if instance >= 0 else ("", "", "")


class RunFold:
    """What is known of a run after its newest fact.

    Parameters
    ----------
    header : RunHeader
        What it was started with.
    labels : PlanLabels
        What it executes.
    rows : RunRows
        Where the rows go.
    """

    def __init__(self, header: RunHeader, labels: PlanLabels, rows: RunRows) -> None:
        self.header = header
        self.labels = labels
        self.state = str(RunState.RUNNING)
        self.start_us: int | None = None
        self.end_us: int | None = None
        self.anchor_wall_ns = 0
        self.anchor_monotonic_ns = 0
        self.owner, self.host, self.pid = "", "", 0
        self.error, self.error_task = "", ""
        self.lives = 0
        self.attempts = 0
        self.task_seconds = 0.0
        self.queue_seconds = 0.0
        self.output_bytes = 0
        self.log_bytes = 0
        self.last_seq = -1
        self.open: dict[tuple[int, int], OpenAttempt] = {}
        self._rows = rows

    @property
    def is_final(self) -> bool:
        """Whether its end is recorded."""
        return self.state in FINAL_RUN_STATES

    def take(self, event: Event) -> None:
        """Take in the next fact; one that was taken before changes nothing."""
        if event.seq <= self.last_seq:
            return
        self.last_seq = event.seq
        handle = _HANDLERS.get(type(event))
        if handle is not None:
            handle(self, event)
        if not isinstance(event, AttemptFinished):
            self._note(event)

    def row(self, counts: Mapping[str, int], task_count: int) -> tuple[Any, ...]:
        """Give the run's row of the table ``runs``."""
        header, version = self.header, self.labels.version
        duration = None
        if self.end_us is not None and self.start_us is not None:
            duration = max(0, self.end_us - self.start_us) / 1e6
        return (
            header.run_id,
            header.workflow,
            self.state,
            self.is_final,
            self.start_us,
            self.end_us,
            duration,
            task_count,
            *(
                counts.get(state, 0)
                for state in ("succeeded", "failed", "skipped", "cancelled", "cached")
            ),
            self.attempts,
            self.task_seconds,
            self.queue_seconds,
            self.output_bytes,
            self.log_bytes,
            self.lives,
            self.error,
            self.error_task,
            plain_json(header.params),
            version.fingerprint,
            header.plan_id,
            header.code_fingerprint,
            header.parent_run_id,
            header.durability,
            version.path,
            self.owner,
            self.host,
            self.pid,
            self.last_seq,
            self.anchor_wall_ns,
            self.anchor_monotonic_ns,
        )

    def open_rows(self) -> list[tuple[Any, ...]]:
        """Give the rows of attempts that have not ended."""
        return [
            self._task_row(instance, attempt, found, is_open=True)
            for (instance, attempt), found in self.open.items()
        ]

    def to_us(self, monotonic_ns: int) -> int | None:
        """Convert an instant of the process that recorded it to Unix microseconds."""
        if not monotonic_ns:
            return None
        wall = (self.anchor_wall_ns + monotonic_ns - self.anchor_monotonic_ns) // 1000
        return wall if -_FARTHEST_US < wall < _FARTHEST_US else None

    def _begin(self, event: RunCreated) -> None:
        self._close_open()
        self.state = str(RunState.RUNNING)
        self.error, self.error_task, self.end_us = "", "", None
        self.anchor_wall_ns, self.anchor_monotonic_ns = event.wall_ns, event.monotonic_ns
        self.owner, self.host, self.pid = event.owner, event.host, event.pid
        if self.start_us is None:
            self.start_us = event.wall_ns // 1000
        self.lives += 1

    def _change_state(self, event: RunStateChanged) -> None:
        self.state = str(event.state)
        self.error, self.error_task = event.error, event.error_task
        if self.is_final:
            self.end_us = self.to_us(event.time_ns)
            self._close_open()

    def _close_open(self) -> None:
        """Nobody will record the end of what the last process left open."""
        for (instance, attempt), found in self.open.items():
            found.state = str(TaskState.UNKNOWN) if found.start_us is not None else found.state
            self._rows.tasks.append(self._task_row(instance, attempt, found, is_open=False))
            self.attempts += 1
        self.open.clear()

    def _start(self, event: AttemptStarted) -> None:
        self.open[event.instance, event.attempt] = OpenAttempt(
            start_us=self.to_us(event.time_ns), worker=event.worker, executor=event.executor
        )

    def _fail(self, event: AttemptFailed) -> None:
        found = self.open.setdefault((event.instance, event.attempt), OpenAttempt(state="failed"))
        found.failure, found.error_type = event.failure, event.error_type
        found.error, found.location = event.message, event.location

    def _skip(self, event: TaskSkipped) -> None:
        # Its end follows with the number of an attempt that was never made.
        self.open[event.instance, _SKIPPED] = OpenAttempt(state="skipped", reason=event.reason)

    def _finish(self, event: AttemptFinished) -> None:
        instance, attempt = event.instance, event.attempt
        found = _NOTHING
        if self.open:
            found = self.open.pop((instance, attempt), _NOTHING)
            if event.state == TaskState.SKIPPED:
                found = self.open.pop((instance, _SKIPPED), found)
        has_run = attempt > 0 and event.state != TaskState.SKIPPED
        start, end = event.start_ns if has_run else 0, event.end_ns
        duration = max(0, end - start) / 1e9 if start and end else None
        queued = max(0, start - event.ready_ns) / 1e9 if start and event.ready_ns else None
        self.attempts += 1
        self.task_seconds += duration or 0.0
        self.queue_seconds += queued or 0.0
        self._rows.tasks.append(
            (
                self.header.run_id,
                self.header.workflow,
                *self.labels.of(instance),
                instance,
                attempt,
                str(event.state),
                False,
                self.to_us(start),
                self.to_us(end),
                duration,
                queued,
                event.worker,
                found.executor,
                found.failure,
                found.error_type,
                found.error,
                found.location,
                found.reason,
                event.seq,
            )
        )

    def _task_row(
        self, instance: int, attempt: int, found: OpenAttempt, *, is_open: bool
    ) -> tuple[Any, ...]:
        return (
            self.header.run_id,
            self.header.workflow,
            *self.labels.of(instance),
            instance,
            attempt,
            found.state,
            is_open,
            found.start_us,
            None,
            None,
            None,
            found.worker,
            found.executor,
            found.failure,
            found.error_type,
            found.error,
            found.location,
            found.reason,
            None,
        )

    def _store(self, event: ArtifactStored) -> None:
        self.output_bytes += event.size_bytes
        self._rows.artifacts.append(
            (
                self.header.run_id,
                self.header.workflow,
                *self.labels.of(event.instance)[:2],
                event.instance,
                event.attempt,
                event.name,
                event.format,
                event.type_name,
                event.path,
                event.size_bytes,
                event.num_rows,
                event.digest,
                self.to_us(event.time_ns),
                event.seq,
            )
        )

    def _log(self, event: LogChunk) -> None:
        self.log_bytes += len(event.text.encode("utf-8", "surrogatepass"))

    def _allocate(self, event: ResourceAllocated) -> None:
        self._measure(event, event.instance, f"pool:{event.pool}", event.units)

    def _take_unknown(self, event: UnknownEvent) -> None:
        body = event.body
        name, value, instance = body.get("name"), body.get("value"), body.get("instance", -1)
        is_metric = event.original_kind == _METRIC_KIND and isinstance(name, str)
        if is_metric and isinstance(value, int | float) and isinstance(instance, int):
            self._measure(event, instance, str(name), value)

    def _measure(self, event: Event, instance: int, name: str, value: float) -> None:
        self._rows.metrics.append(
            (
                self.header.run_id,
                event.seq,
                self.to_us(event.time_ns),
                self.header.workflow,
                *self.labels.of(instance)[:2],
                instance,
                name,
                float(value),
            )
        )

    def _note(self, event: Event) -> None:
        kind, fields = _fields_of(event)
        instance, attempt = fields.get("instance", -1), fields.get("attempt")
        instance = instance if isinstance(instance, int) and abs(instance) < 2**31 else -1
        self._rows.events.append(
            (
                self.header.run_id,
                event.seq,
                self.to_us(event.time_ns),
                kind,
                self.header.workflow,
                *self.labels.of(instance)[:2],
                instance,
                attempt if isinstance(attempt, int) and abs(attempt) < 2**31 else None,
                plain_json({k: v for k, v in fields.items() if k not in _COMMON}),
            )
        )


_SKIPPED: Final = -1
_NOTHING: Final = OpenAttempt()
_HANDLERS: Final[Mapping[type[Event], Callable[[RunFold, Any], None]]] = {
    RunCreated: RunFold._begin,  # noqa: SLF001 - the table of its own methods
    RunStateChanged: RunFold._change_state,  # noqa: SLF001
    AttemptStarted: RunFold._start,  # noqa: SLF001
    AttemptFailed: RunFold._fail,  # noqa: SLF001
    AttemptFinished: RunFold._finish,  # noqa: SLF001
    TaskSkipped: RunFold._skip,  # noqa: SLF001
    ArtifactStored: RunFold._store,  # noqa: SLF001
    LogChunk: RunFold._log,  # noqa: SLF001
    ResourceAllocated: RunFold._allocate,  # noqa: SLF001
    UnknownEvent: RunFold._take_unknown,  # noqa: SLF001
}


def _fields_of(event: Event) -> tuple[str, dict[str, object]]:
    if isinstance(event, UnknownEvent):
        return event.original_kind, event.body
    return str(event.__struct_config__.tag), msgspec.structs.asdict(event)


def plain_key(key: str) -> str:
    """Give a TaskRun's key without map positions: what the parts of one map have in common."""
    return _POSITIONS.sub("", key) if "[" in key else key


def plain_json(value: object) -> str:
    """Write a value as JSON; what JSON cannot hold is replaced by text."""
    try:
        return msgspec.json.encode(value, enc_hook=_shown).decode()
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError, OverflowError):
        return msgspec.json.encode(_plain(value)).decode()


def _plain(value: object, depth: int = 0) -> object:
    if depth < 64 and isinstance(value, Mapping):
        return {_text(str(key)): _plain(item, depth + 1) for key, item in value.items()}
    if depth < 64 and isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    return _text(_shown(value))


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode()


def _shown(value: object) -> str:
    return repr(value)[:1000]


def _type_of(key: str, types: Mapping[str, str]) -> str:
    return types.get(key) or types.get(plain_key(key), "")


def types_of(spec_json: bytes) -> dict[str, str]:
    """Read the type of every task from a version's specification."""
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
