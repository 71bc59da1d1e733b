"""The facts of a run as they are written and read: the typed vocabulary of the journal.

A run is a sequence of records ordered by ``seq``. Finished attempts come in column blocks
(`AttemptBlock`), everything else as single
events. Readers never see blocks: the journal's iterator turns each row into an `AttemptFinished`.
Kinds and fields a reader
does not know are kept (`UnknownEvent`), so an older program can read a newer journal of the same
major version.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from flowbuilder.vocabulary import TaskState

__all__ = [
    "ABSENT",
    "EVENT_TYPES",
    "RUN_INSTANCE",
    "Absent",
    "ArtifactStored",
    "AttemptBlock",
    "AttemptFailed",
    "AttemptFinished",
    "AttemptRows",
    "AttemptStarted",
    "CacheChecked",
    "Event",
    "LogChunk",
    "Record",
    "RecordSource",
    "ResourceAllocated",
    "RetryScheduled",
    "Row",
    "RunCreated",
    "RunHeader",
    "RunStateChanged",
    "TaskReset",
    "TaskSkipped",
    "UnknownEvent",
    "VersionHeader",
    "WorkflowCreated",
]

RUN_INSTANCE: Final = -1
"""The instance number of facts that belong to the run, not to a task."""


class Absent:
    """The type of `ABSENT`: an output that does not ride in its completion record."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()


class Event(msgspec.Struct, kw_only=True, tag_field="kind", omit_defaults=True, gc=False):
    """One immutable fact, plain data that the garbage collector need not look at.

    ``seq`` orders a run; it and ``run_id`` are filled in by the journal.
    """

    run_id: str = ""
    seq: int = -1
    time_ns: int = 0
    """Monotonic nanoseconds of the process that recorded it (see `RunCreated.wall_ns`)."""


class WorkflowCreated(Event, kw_only=True, tag="workflow_created"):
    """A version of a workflow was seen for the first time."""

    fingerprint: str
    name: str


class RunCreated(Event, kw_only=True, tag="run_created"):
    """A run began, or was taken over by another process (resume), and is running: the anchor and
    owner from here on.
    """

    wall_ns: int
    monotonic_ns: int
    owner: str
    host: str = ""
    pid: int = 0
    resumed: bool = False
    reasons: dict[str, str] = {}
    """On resume: TaskRun key -> why it runs again."""


class RunStateChanged(Event, kw_only=True, tag="run_state"):
    """The run entered ``state``."""

    state: str
    reason: str = ""
    error: str = ""
    error_task: str = ""


class AttemptStarted(Event, kw_only=True, tag="attempt_started"):
    """An attempt runs; written only if it still ran at a flush, or before its start where
    durability asks for it.
    """

    instance: int
    attempt: int
    worker: int = 0
    executor: str = ""
    reason: str = ""


class AttemptFinished(Event, kw_only=True, tag="attempt_finished"):
    """An attempt ended. On the disk a row of an `AttemptBlock`.

    ``output`` is `ABSENT` unless it rides in the record; then the attempt is settled.
    """

    instance: int
    attempt: int
    state: str
    worker: int = 0
    ready_ns: int = 0
    start_ns: int = 0
    end_ns: int = 0
    output: object = ABSENT


class AttemptFailed(Event, kw_only=True, tag="attempt_failed"):
    """Why an attempt failed; recorded just before its `AttemptFinished`."""

    instance: int
    attempt: int
    failure: str
    error_type: str = ""
    message: str = ""
    traceback: str = ""
    location: str = ""


class RetryScheduled(Event, kw_only=True, tag="retry_scheduled"):
    """Another attempt will start at ``due_ns``."""

    instance: int
    attempt: int
    delay_s: float
    due_ns: int


class TaskSkipped(Event, kw_only=True, tag="task_skipped"):
    """Why a task will not run; recorded just before its `AttemptFinished` with state skipped."""

    instance: int
    reason: str


class CacheChecked(Event, kw_only=True, tag="cache_checked"):
    """What the cache said of an attempt; recorded just before its `AttemptFinished`."""

    instance: int
    attempt: int
    key: str = ""
    """Fingerprint; empty if the output cannot be cached."""
    is_hit: bool = False
    is_kept: bool = False
    """Whether the output is in the cache now."""
    saved_s: float = 0.0
    reason: str = ""
    """Why it ran, or did not."""


class TaskReset(Event, kw_only=True, tag="task_reset"):
    """A TaskRun goes back to pending because a resume or a retry runs it again."""

    instance: int
    reason: str


class LogChunk(Event, kw_only=True, tag="log"):
    """Text a task printed or logged."""

    instance: int
    attempt: int
    stream: str
    """``stdout``, ``stderr`` or ``log``."""
    text: str
    level: str = ""


class ArtifactStored(Event, kw_only=True, tag="artifact"):
    """An output is on disk; with its `AttemptFinished` the attempt is settled."""

    instance: int
    attempt: int
    name: str
    format: str
    """``arrow``, ``npy``, ``parquet``, ``scan``, ``msgpack``, ``bytes`` or ``pickle``."""
    path: str
    """Relative to the store directory."""
    size_bytes: int
    digest: str
    type_name: str = ""
    num_rows: int = -1
    cipher: str = ""
    """How the file is encrypted; empty if it is not."""


class ResourceAllocated(Event, kw_only=True, tag="resource_allocated"):
    """A task holds units of a pool."""

    instance: int
    pool: str
    units: int


class UnknownEvent(Event, kw_only=True, tag="unknown"):
    """A fact of a kind this version does not know, kept whole."""

    original_kind: str
    body: dict[str, object]


EVENT_TYPES: Final[tuple[type[Event], ...]] = (
    WorkflowCreated,
    RunCreated,
    RunStateChanged,
    AttemptStarted,
    AttemptFinished,
    AttemptFailed,
    RetryScheduled,
    TaskSkipped,
    CacheChecked,
    TaskReset,
    LogChunk,
    ArtifactStored,
    ResourceAllocated,
)


class AttemptBlock:
    """Finished attempts as columns, in the order they finished: what the engine hands to the
    journal.

    A *chained* block describes a static inline segment: attempt 1, succeeded, worker 0, and every
    row starts when the one before
    ends, so only ``first_start_ns`` and ``ends_ns`` are kept.

    Parameters
    ----------
    instances : array of 'i', shape (n,)
        Instance numbers.
    ends_ns : array of 'q', shape (n,)
        Monotonic nanoseconds.
    outputs : sequence of object, length n, or None
        Per row a scalar, a `msgspec.Raw` holding msgpack, or `ABSENT`; None means every output is
        None.
    first_start_ns : int
        Start of the first row of a chained block.
    attempts, states, workers, readies_ns, starts_ns : arrays, shape (n,), or None
        Type codes 'i', 'B', 'h', 'q', 'q'; None in a chained block.
    """

    __slots__ = (
        "attempts",
        "ends_ns",
        "first_start_ns",
        "instances",
        "outputs",
        "readies_ns",
        "starts_ns",
        "states",
        "workers",
    )

    def __init__(
        self,
        *,
        instances: array[int],
        ends_ns: array[int],
        outputs: Sequence[object] | None,
        first_start_ns: int = 0,
        attempts: array[int] | None = None,
        states: array[int] | None = None,
        workers: array[int] | None = None,
        readies_ns: array[int] | None = None,
        starts_ns: array[int] | None = None,
    ) -> None:
        self.instances = instances
        self.ends_ns = ends_ns
        self.outputs = outputs
        self.first_start_ns = first_start_ns
        self.attempts = attempts
        self.states = states
        self.workers = workers
        self.readies_ns = readies_ns
        self.starts_ns = starts_ns

    @property
    def is_chained(self) -> bool:
        """Whether only ends are stored."""
        return self.states is None

    def __len__(self) -> int:
        return len(self.instances)


Row = tuple[int, int, int, int, int, int, int, object]
"""instance, attempt, state code, worker, ready, start, end (ns), small output."""


class AttemptRows(msgspec.Struct, gc=False):
    """A few finished attempts, row by row, in the order they finished: columns pay off later."""

    rows: list[Row]
    """Outputs as in `AttemptBlock`."""

    def __len__(self) -> int:
        return len(self.rows)

    def to_block(self) -> AttemptBlock:
        """Give the same as columns."""
        instances, attempts, states, workers, readies, starts, ends, outputs = zip(
            *self.rows, strict=True
        )
        return AttemptBlock(
            instances=array("i", instances),
            attempts=array("i", attempts),
            states=array("B", states),
            workers=array("h", workers),
            readies_ns=array("q", readies),
            starts_ns=array("q", starts),
            ends_ns=array("q", ends),
            outputs=None if all(output is None for output in outputs) else outputs,
        )


Record = AttemptBlock | AttemptRows | Event
"""What a live run hands to the journal."""


class RecordSource(Protocol):
    """Where the journal fetches a live run's new facts."""

    def take(self) -> list[Record]:
        """Return everything recorded since the last call, oldest first, and forget it.

        Called by one thread at a time, while other threads go on recording.
        """
        ...


class VersionHeader(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow version and one compiled shape of it, stored once per store.

    ``plan_id`` differs from ``fingerprint`` when only a part of the workflow was selected.
    """

    plan_id: str
    fingerprint: str
    name: str
    text: str
    """The workflow file as it was, or its canonical YAML if it was written in Python."""
    path: str
    """Absolute path of the file, or empty."""
    spec_json: bytes
    """Canonical JSON of the normalised workflow."""
    keys: tuple[str, ...]
    """TaskRun key of every instance."""
    parents: tuple[tuple[int, ...], ...]
    """Per instance the instances it waits for."""
    options: dict[str, object] = {}
    """How the plan was selected (``to``, ``from``, ``only``), to compile it again on resume."""


class RunHeader(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a run before anything happened in it."""

    run_id: str
    plan_id: str
    workflow: str
    params: dict[str, object]
    durability: str
    code_fingerprint: str = ""
    parent_run_id: str = ""
    initial_states: dict[int, TaskState] = {}
