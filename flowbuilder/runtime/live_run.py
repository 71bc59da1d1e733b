"""A run while it lives: plan arrays beside result columns. It is passive; a driver moves it,
anyone may read it.
"""

from __future__ import annotations

import bisect
import os
import threading
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec

from flowbuilder.clock import Anchor
from flowbuilder.errors import FlowBuilderError, InternalError, TaskFailedError
from flowbuilder.records import ABSENT, RunHeader
from flowbuilder.runtime.bound_plan import BoundPlan
from flowbuilder.runtime.capture import slots
from flowbuilder.runtime.copies import Copy
from flowbuilder.runtime.frontier import Frontier
from flowbuilder.runtime.guards import find_guard
from flowbuilder.runtime.memory_keeper import MemoryKeeper
from flowbuilder.runtime.plan import ExecutionPlan
from flowbuilder.runtime.program import NOT_SET, InputSlot, Program
from flowbuilder.runtime.recorder import NO_RECORDER, Recorder
from flowbuilder.runtime.watched_values import WatchedValue
from flowbuilder.store.small_outputs import small_output
from flowbuilder.vocabulary import (
    TASK_STATE_CODES,
    TASK_STATES,
    Durability,
    ExecutorKind,
    FailureKind,
    RunState,
    TaskState,
    WaitReason,
)

if TYPE_CHECKING:
    from flowbuilder.runtime.attempt import Attempt
    from flowbuilder.runtime.driver import Driver
    from flowbuilder.runtime.timers import Timer
    from flowbuilder.store.ports import JournalRun

__all__ = ["EMPTY", "NOT_SET", "LiveRun", "RunOptions", "TaskFailure", "Timing"]

_lists_lock = threading.Lock()
"""Held to make a list that most runs never need, or to append to it."""


Item = TypeVar("Item")


def _renew_lock() -> None:
    global _lists_lock  # noqa: PLW0603 - whoever held it does not exist in a forked child
    _lists_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)

_ONE = array("i", (1,))
PENDING = TASK_STATE_CODES[TaskState.PENDING]
SUCCEEDED = TASK_STATE_CODES[TaskState.SUCCEEDED]


def _first_of(segment: tuple[int, int, int]) -> int:
    return segment[0]


Timing = tuple[int, int, int, str, str]
"""When the last attempt was ready and when it started (ns), its worker, its executor and why."""


class TaskFailure(msgspec.Struct, frozen=True):
    """Why an instance failed, in the words of its last attempt."""

    kind: FailureKind
    error: BaseException | None
    error_type: str
    message: str
    traceback: str
    location: str
    attempt: int


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one run differs from what its plan says."""

    durability: Durability = Durability.RUN
    executor: ExecutorKind = ExecutorKind.AUTO
    policy: str = "local"
    redact: Callable[[str], str] | None = None
    """Removes secret values from text the engine writes."""
    echo: bool = True
    """Whether captured output also goes where it would have gone."""
    max_log_bytes: int = 16 << 20
    uses_cache: bool = True
    """Whether kept outputs of earlier runs may be used."""
    keeps_all: bool = True
    """Whether somebody may ask for any output afterwards, so that none is ever dropped."""


EMPTY: Final[Mapping[Any, Any]] = MappingProxyType({})
"""Stands in for columns that most runs never write to."""

Sparse = Literal[
    "bases", "blocked", "failures", "log_bytes", "lost", "settled_from", "state_reasons", "stored"
]


class LiveRun(msgspec.Struct, eq=False, weakref=True, kw_only=True):
    """One execution of a plan. Implements `RunScope`.

    The columns are the state: whatever else is kept (the frontier, counters) can be recomputed
    from them, because an interrupt may strike between any two bytecodes.
    """

    bound: BoundPlan
    plan: ExecutionPlan
    programs: Sequence[Program]
    header: RunHeader
    run_id: str
    params: Mapping[str, object]
    options: RunOptions
    anchor: Anchor
    keeper: MemoryKeeper
    start_ns: int
    recorder: Recorder
    frontier: Frontier

    # Columns by instance; see `allocate`.
    state_codes: bytearray
    values: list[object]
    attempts: array[int]
    end_ns: array[int]
    timings: dict[int, Timing] = EMPTY  # type: ignore[assignment]
    segments: list[tuple[int, int, int]] | tuple[tuple[int, int, int], ...] = ()
    """Static segments: first instance, count, start; the rest of their times follows from
    ``end_ns``."""
    encoded: dict[int, object] = EMPTY  # type: ignore[assignment]
    guarded: dict[int, Callable[[object], object]] = EMPTY  # type: ignore[assignment]
    waiting: dict[int, WaitReason] = EMPTY  # type: ignore[assignment]
    in_flight: dict[int, Attempt] = EMPTY  # type: ignore[assignment]

    # Columns few instances have an entry in; written by `set_sparse`.
    failures: Mapping[int, TaskFailure] = EMPTY
    lost: Mapping[int, int] = EMPTY
    bases: Mapping[int, int] = EMPTY
    """Attempts of an earlier life of the run that do not count against the retry limit."""
    state_reasons: Mapping[int, str] = EMPTY
    stored: Mapping[int, object] = EMPTY
    settled_from: Mapping[int, str] = EMPTY
    log_bytes: Mapping[tuple[int, int], int] = EMPTY
    blocked: Mapping[str, list[tuple[int, int]]] = EMPTY
    """Pool -> heap of (-rank, instance) that wait for units of it."""

    pending_saves: int = 0
    copies: list[Copy] | tuple[()] = ()
    """What hand-overs copied; most runs copy nothing."""
    timers: set[Timer] | None = None
    early: list[Callable[[Driver], LiveRun]] | tuple[()] = ()
    """Requests made before a driver took charge; it carries them out first."""
    is_claimed: bool = False
    """Whether somebody drives it or will; a run is driven once."""
    is_stopping: bool = False
    is_pausing: bool = False
    must_look: bool = False
    """Whether loops over tasks must stop to look: at a request in the driver's inbox, a stop or a
    pause. Set after what it announces."""
    cancel_reason: str = ""
    error: FlowBuilderError | None = None
    error_task: str = ""
    finished: RunState | None = None
    driver: Driver | None = None
    journal: JournalRun | None = None
    on_finish: list[Callable[[], None]] | tuple[()] = ()

    @classmethod
    def of(
        cls,
        bound: BoundPlan,
        header: RunHeader,
        params: Mapping[str, object],
        options: RunOptions,
        *,
        anchor: Anchor,
        keeper: MemoryKeeper,
    ) -> LiveRun:
        """Make a run that has not begun."""
        return cls(
            bound=bound,
            plan=bound.plan,
            programs=bound.programs,
            header=header,
            run_id=header.run_id,
            params=params,
            options=options,
            anchor=anchor,
            keeper=keeper,
            start_ns=anchor.monotonic_ns,
            recorder=Recorder(),
            frontier=bound.blank_frontier,
            state_codes=bound.blank_codes,
            values=bound.blank_values,
            attempts=bound.blank_attempts,
            end_ns=bound.blank_ends,
        )

    def allocate(self) -> None:
        """Make the columns of its own, before anything is written to them. May be repeated.

        Thousands of runs may wait for their beginning, and need none until then.
        """
        if self.values is not self.bound.blank_values:
            return
        self.state_codes = self.state_codes[:]
        self.attempts = self.attempts[:]
        self.end_ns = self.end_ns[:]
        self.timings = {}
        self.encoded = {}
        self.guarded = {}
        self.waiting = {}
        self.in_flight = {}
        codes = self.state_codes
        self.frontier = Frontier(self.plan, codes, self.in_flight, self.waiting, len(codes))
        self.values = self.values[:]

    def set_sparse(self, column: Sparse, key: object, value: object) -> None:
        """Write to a column that may not be there yet."""
        with _lists_lock:
            if getattr(self, column) is EMPTY:
                setattr(self, column, {})
        getattr(self, column)[key] = value

    def let_go(self) -> None:
        """Drop what only a live run needs; its driver calls this at the end."""
        self.frontier = self.bound.blank_frontier
        self.in_flight = self.waiting = self.encoded = EMPTY  # type: ignore[assignment]
        if not self.guarded:
            self.guarded = EMPTY  # type: ignore[assignment]
        self.segments = tuple(self.segments)
        if self.attempts == self.bound.single_attempts:
            self.attempts = self.bound.single_attempts
        if self.journal is not None:
            # It has the recorder and takes what is left; what comes now comes too late.
            self.recorder = NO_RECORDER
            self.journal = None

    # -- RunScope --------------------------------------------------------------------------------

    @property
    def workflow(self) -> str:
        """Name of the workflow."""
        return self.plan.workflow

    @property
    def started_ns(self) -> int:
        """Unix nanoseconds of the start."""
        return self.anchor.wall_ns

    @property
    def scratch(self) -> Path:
        """Folder for spilled output of this run."""
        return self.keeper.scratch / self.run_id

    @property
    def temporary(self) -> Path:
        """Folder for files that are of no use after this process."""
        return self.keeper.folder

    @property
    def query_bytes(self) -> int:
        """Memory a query may take; 0 for no limit."""
        return self.keeper.query_bytes

    @property
    def policy(self) -> str:
        """``local`` or ``restricted``."""
        return self.options.policy

    @property
    def redact(self) -> Callable[[str], str] | None:
        """Takes secret values out of text."""
        return self.options.redact

    @property
    def uses_cache(self) -> bool:
        """Whether kept outputs of earlier runs may be used."""
        return self.options.uses_cache

    def output(self, instance: int) -> object:
        """Give an output as a consumer may have it."""
        value = self.value(instance)
        guard = self.guarded.get(instance)
        return value if guard is None else guard(value)

    def value(self, instance: int) -> object:
        """Give the very object a task returned.

        Raises
        ------
        FlowBuilderError
            If the task did not succeed, or its output was not kept.
        """
        value = self.values[instance]
        if isinstance(value, WatchedValue):
            return value.restore()
        if value is NOT_SET:
            key, state = self.plan.tasks[instance].key, self.state(instance)
            if instance in self.failures:
                raise TaskFailedError(
                    f"expected the output of task {key!r}, but it failed", task=key
                )
            raise FlowBuilderError(
                f"expected the output of task {key!r}, but the task is {state}", task=key
            )
        return value

    def state(self, instance: int) -> str:
        """Give the state of an instance as text."""
        return TASK_STATES[self.state_codes[instance]].value

    # -- outputs ---------------------------------------------------------------------------------

    def keep_output(self, instance: int, value: object) -> None:
        """Store an output that is not a plain scalar: freeze what rides in the record now, note
        how it must be shared.
        """
        guard = find_guard(value.__class__)
        small = self.encoded[instance] = ABSENT if guard is not None else small_output(value)
        if small is ABSENT:
            guard = self.keeper.admit(self, instance, value, guard)
            if guard is not None:
                self.guarded[instance] = guard
        self.values[instance] = value
        if self.keeper.is_over:
            self._relieve_memory()

    def _relieve_memory(self) -> None:
        """Have files written until outputs fit into memory: before anything else starts, unless
        other runs would wait for it.
        """
        driver = self.driver
        if driver is not None and driver.is_shared:
            keeper = self.keeper
            driver.services.threads.call(lambda _worker: keeper.relieve())
        else:
            self.keeper.relieve()

    def note_copy(self, source: int, target: int, size_bytes: int, reason: str) -> None:
        """Remember that data was copied. Thread-safe."""
        if isinstance(self.copies, tuple):
            with _lists_lock:
                if isinstance(self.copies, tuple):
                    self.copies = []
        self.copies.append(Copy(source, target, size_bytes, reason))

    def finish_segment(self, first: int, count: int, start_ns: int, ends_ns: list[int]) -> None:
        """Enter a static segment's results into the columns."""
        if not count:
            return
        if count == 1:
            self.state_codes[first] = SUCCEEDED
            self.attempts[first] = 1
            self.end_ns[first] = ends_ns[0]
        else:
            last = first + count
            self.state_codes[first:last] = bytes((SUCCEEDED,)) * count
            self.attempts[first:last] = _ONE * count
            self.end_ns[first:last] = array("q", ends_ns)
        if isinstance(self.segments, tuple):
            self.segments = []
        self.segments.append((first, count, start_ns))
        self.frontier.remaining -= count

    def times_of(self, instance: int) -> tuple[int, int, int, int]:
        """Give ready, start and end of the last attempt (monotonic ns, 0 where not reached) and
        the worker.
        """
        end = self.end_ns[instance]
        if instance in self.timings:
            ready, start, worker, _, _ = self.timings[instance]
            return ready, start, end, worker
        where = bisect.bisect_right(self.segments, instance, key=_first_of) - 1
        if where >= 0:
            first, count, start_ns = self.segments[where]
            if instance < first + count:
                start = self.end_ns[instance - 1] if instance > first else start_ns
                return start, start, end, 0
        return 0, 0, end, 0

    def executor_of(self, instance: int) -> tuple[str, str]:
        """Give where the last attempt ran or runs, and why there; empty if there was none."""
        attempt = self.in_flight.get(instance)
        if attempt is not None:
            return attempt.executor.value, attempt.why
        timing = self.timings.get(instance)
        if timing is not None:
            return timing[3:]
        return ("inline", "") if self.end_ns[instance] else ("", "")

    def arguments_of(self, arguments: object) -> list[object]:
        """Resolve bound arguments: input slots become outputs, everything else is itself."""
        return [
            self.select(argument) if argument.__class__ is InputSlot else argument
            for argument in arguments  # type: ignore[attr-defined]
        ]

    def select(self, slot: InputSlot) -> object:
        """Take an upstream output, or a part of it."""
        value = self.output(slot.instance)
        for step in slot.path:
            try:
                value = value[step]  # type: ignore[index]
            except (KeyError, IndexError, TypeError) as error:
                key = self.plan.tasks[slot.instance].key
                where = ".".join(map(str, slot.path))
                raise FlowBuilderError(
                    f"expected {where!r} in the output of task {key!r}, "
                    f"found a {type(value).__name__} without {step!r}",
                    task=key,
                ) from error
        return value

    # -- text ------------------------------------------------------------------------------------

    def write(self, instance: int, attempt: int, stream: str, text: str, level: str = "") -> None:
        """Record text a task printed, secrets removed, up to a limit per attempt. Thread-safe.

        What tasks with encrypted outputs print is not recorded: it may be the output.
        """
        if not text or self.is_final or self._is_confidential(instance):
            return
        self.note(instance, attempt, stream, text, level)

    def _is_confidential(self, instance: int) -> bool:
        tasks = self.plan.tasks
        if instance >= 0:
            return tasks[instance].encrypt
        # Text of threads that belong to one of several tasks, nobody knows which.
        return any(tasks[other].encrypt for other in list(self.in_flight))

    def handles_encrypted(self, instance: int) -> bool:
        """Whether an instance makes or reads an encrypted output: what is said of it in words may
        repeat a part of that.
        """
        tasks = self.plan.tasks
        return tasks[instance].encrypt or any(
            tasks[parent].encrypt for parent in self.plan.parents_of(instance)
        )

    def note(self, instance: int, attempt: int, stream: str, text: str, level: str = "") -> None:
        """Record text of the engine's own about a task."""
        if self.options.redact is not None:
            text = self.options.redact(text)
        slot = (instance, attempt)
        used = self.log_bytes.get(slot, 0)
        limit = self.options.max_log_bytes
        if used >= limit:
            return
        self.set_sparse("log_bytes", slot, used + len(text))
        if used + len(text) >= limit:
            text = text[: limit - used] + f"\n... output over {limit} characters is not recorded\n"
        self.recorder.log(
            instance, attempt, stream, text, self.now_ns(), level, self.options.redact
        )

    @staticmethod
    def now_ns() -> int:
        """Read the monotonic clock."""
        return time.monotonic_ns()

    # -- reading ---------------------------------------------------------------------------------

    @property
    def run_state(self) -> RunState:
        """State of the run now."""
        if self.finished is not None:
            return self.finished
        if self.driver is None:
            return RunState.PENDING
        if self.is_pausing and not self.in_flight:
            return RunState.PAUSED
        return RunState.RUNNING

    def task_state(self, instance: int) -> TaskState:
        """State of an instance now, including ones that are derived: ready, waiting, running."""
        state = TASK_STATES[self.state_codes[instance]]
        if state is not TaskState.PENDING:
            return state
        if instance in self.waiting:
            return TaskState.WAITING
        return TaskState.READY if self.frontier.is_ready(instance) else state

    def counts(self) -> dict[TaskState, int]:
        """Count the instances in each state."""
        codes = bytes(self.state_codes)
        found = {state: codes.count(code) for code, state in enumerate(TASK_STATES)}
        return {state: number for state, number in found.items() if number}

    def instance_of(self, key: str) -> int:
        """Find an instance by its key.

        Raises
        ------
        FlowBuilderError
            If there is none; names the nearest.
        """
        import difflib

        keys = [task.key for task in self.plan.tasks]
        try:
            return keys.index(key)
        except ValueError:
            near = difflib.get_close_matches(key, keys, 1)
            raise FlowBuilderError(
                f"expected the key of a task of this run, found {key!r}",
                hint=f"did you mean {near[0]!r}?" if near else "",
            ) from None

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until the run is final; return whether it is.

        Inside a task, the units of pools the task holds are lent to others meanwhile.

        Raises
        ------
        FlowBuilderError
            If one of its own tasks waits for it.
        """
        if self.is_final:
            return True
        slot = slots.get(threading.get_ident())
        if slot is not None and slot.run is self:
            raise FlowBuilderError("a task cannot wait for the end of the run it belongs to")
        done = threading.Event()
        self.at_end(done.set)
        take_back = slot.units() if slot is not None and slot.units is not None else None
        try:
            return done.wait(timeout_s)
        finally:
            self.not_at_end(done.set)
            if take_back is not None:
                take_back()

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self.finished is not None

    def at_end(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when the run has ended, on the driver's thread or at once."""
        with _lists_lock:
            if isinstance(self.on_finish, tuple):
                self.on_finish = []
        self.on_finish.append(callback)
        # The end may have come before the callback was there; whoever takes it out calls it.
        if self.is_final and _take_out(self.on_finish, callback):
            callback()

    def not_at_end(self, callback: Callable[[], None]) -> None:
        """Take a callback out again, if it is still there."""
        _take_out(self.on_finish, callback)

    def ask_early(self, request: Callable[[Driver], LiveRun]) -> bool:
        """Leave a request for the driver that will take charge; return False if there is one by
        now that has not seen it.
        """
        with _lists_lock:
            if isinstance(self.early, tuple):
                self.early = []
        self.early.append(request)
        return self.driver is None or not _take_out(self.early, request)

    def require_driver(self) -> Driver:
        """Give the driver of a run that has begun."""
        if self.driver is None:
            raise InternalError("the run has no driver")
        return self.driver


def _take_out(items: list[Item] | tuple[()], item: Item) -> bool:
    """Whether an item was still in a list that others empty; if so it is out now."""
    if isinstance(items, tuple):
        return False
    try:
        items.remove(item)
    except ValueError:
        return False
    return True
