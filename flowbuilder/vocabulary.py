"""The words of the field, once: states, reasons and choices, as enumerations used everywhere.

The position of a `TaskState` in `TASK_STATES` is its code in journal blocks: append, never reorder.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "FINAL_RUN_STATES",
    "FINAL_TASK_STATES",
    "TASK_STATES",
    "TASK_STATE_CODES",
    "Backoff",
    "Durability",
    "Effects",
    "ExecutorKind",
    "FailureKind",
    "JoinRule",
    "Persist",
    "RunState",
    "TaskState",
    "WaitReason",
]


class TaskState(StrEnum):
    """State of one TaskRun."""

    PENDING = "pending"
    READY = "ready"
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    CACHED = "cached"
    UNKNOWN = "unknown"


TASK_STATES: tuple[TaskState, ...] = tuple(TaskState)
TASK_STATE_CODES: dict[TaskState, int] = {state: code for code, state in enumerate(TASK_STATES)}
FINAL_TASK_STATES = frozenset(
    {
        TaskState.SUCCEEDED,
        TaskState.FAILED,
        TaskState.SKIPPED,
        TaskState.CANCELLED,
        TaskState.CACHED,
        TaskState.UNKNOWN,
    }
)


class RunState(StrEnum):
    """State of a Run. ``interrupted`` is derived: a run that is not final and whose owner is
    gone.
    """

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


FINAL_RUN_STATES = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})


class WaitReason(StrEnum):
    """Why a TaskRun whose parents are done does not run yet."""

    RETRY = "retry"
    POOL = "pool"
    APPROVAL = "approval"


class FailureKind(StrEnum):
    """What made an attempt fail."""

    ERROR = "error"
    TIMEOUT = "timeout"
    LOST = "lost"
    CONTRACT = "contract"


class ExecutorKind(StrEnum):
    """Where a task runs; ``auto`` lets the engine choose and say why."""

    AUTO = "auto"
    INLINE = "inline"
    THREAD = "thread"
    ASYNC = "async"
    PROCESS = "process"
    NATIVE = "native"
    DASK = "dask"


class JoinRule(StrEnum):
    """When a task may start, judged once all its parents are final."""

    ALL_SUCCESS = "all_success"
    ALL_DONE = "all_done"
    ALL_FAILED = "all_failed"
    ONE_SUCCESS = "one_success"
    ONE_FAILED = "one_failed"
    NONE_FAILED = "none_failed"
    NONE_SKIPPED = "none_skipped"


class Effects(StrEnum):
    """What running a task twice does to the world outside the run."""

    NONE = "none"
    IDEMPOTENT = "idempotent"
    EXTERNAL = "external"


class Persist(StrEnum):
    """Whether a large output is written to disk."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Durability(StrEnum):
    """What is on disk before an end is acknowledged."""

    RUN = "run"
    TASK = "task"
    NONE = "none"


class Backoff(StrEnum):
    """How the delay between attempts grows."""

    FIXED = "fixed"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
