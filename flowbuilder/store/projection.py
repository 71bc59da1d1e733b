"""The fold of a live run's records into its progress: states, counts and times.

A projection is changed only by the thread that commits. It remembers enough to undo one batch,
because a batch may not reach the disk; undoing and keeping may be repeated, because an interrupt
may strike between any two bytecodes.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from flowbuilder.records import (
    AttemptBlock,
    AttemptFinished,
    AttemptRows,
    AttemptStarted,
    Event,
    Record,
    RetryScheduled,
    RunCreated,
    RunHeader,
    RunStateChanged,
    TaskReset,
    TaskSkipped,
    VersionHeader,
)
from flowbuilder.store.block_codec import SUCCEEDED_CODE, first_of_range
from flowbuilder.store.progress import Progress
from flowbuilder.vocabulary import FINAL_RUN_STATES, TASK_STATE_CODES, TASK_STATES, TaskState

__all__ = ["SNAPSHOT_INTERVAL", "Projection"]

SNAPSHOT_INTERVAL: Final = 65_536
"""Records between two snapshots of the states."""

_MAX_ERROR_CHARS = 4096
_PENDING = TASK_STATE_CODES[TaskState.PENDING]


class Projection(msgspec.Struct, eq=False, gc=False):
    """What is known of a run after its newest record.

    Parameters
    ----------
    progress : Progress
        The row so far; its counts and last sequence number are kept apart while the run lives.
    states : bytearray
        State code per instance.
    counts : list of int
        TaskRuns per state, by state code.
    next_seq : int
        Number of the next record.
    snapshot_seq : int
        Where the newest snapshot of the states stands.
    """

    progress: Progress
    states: bytearray
    counts: list[int]
    next_seq: int = 0
    snapshot_seq: int = 0
    undo_log: list[tuple[int | array[int], bytes | bytearray]] | None = None
    """Places of `states` and what stood there; None while nothing can be undone."""
    saved: tuple[Progress, tuple[int, ...], int, int, int] | None = None

    @classmethod
    def after(cls, progress: Progress, states: bytearray) -> Projection:
        """Go on behind a recorded row and the states it stands for."""
        counts = [states.count(code) for code in range(len(TASK_STATES))]
        seq = progress.last_seq + 1
        return cls(progress, states, counts, seq, seq)

    @classmethod
    def of_new_run(cls, version: VersionHeader, header: RunHeader) -> Projection:
        """Begin with no records."""
        states = bytearray([_PENDING]) * len(version.keys)
        for instance, state in header.initial_states.items():
            states[instance] = TASK_STATE_CODES[state]
        progress = Progress(
            run_id=header.run_id,
            workflow=header.workflow,
            fingerprint=version.fingerprint,
            plan_id=header.plan_id,
            path=version.path,
            task_count=len(version.keys),
            parent_run_id=header.parent_run_id,
            durability=header.durability,
        )
        return cls.after(progress, states)

    @property
    def is_snapshot_due(self) -> bool:
        """Whether enough records came since the last snapshot."""
        return self.next_seq - self.snapshot_seq >= SNAPSHOT_INTERVAL

    def mark(self) -> None:
        """Remember the present, for `undo`."""
        self.undo_log = []
        self.saved = (
            self.progress,
            tuple(self.counts),
            self.next_seq,
            self.snapshot_seq,
            len(self.states),
        )

    def keep(self) -> None:
        """Make everything since `mark` final. May be repeated."""
        self.saved = None
        self.undo_log = None

    def undo(self) -> None:
        """Go back to `mark`. May be repeated."""
        if self.saved is None:
            return
        for place, old in reversed(self.undo_log or ()):
            if isinstance(place, int):
                self.states[place : place + len(old)] = old
            else:
                for instance, code in reversed(list(zip(place, old, strict=False))):
                    self.states[instance] = code
        self.progress, counts, self.next_seq, self.snapshot_seq, length = self.saved
        self.counts = list(counts)
        del self.states[length:]

    def fold(self, record: Record) -> None:
        """Take in the next record."""
        if isinstance(record, AttemptRows):
            for row in record.rows:
                self._put_state(row[0], row[2])
            self.next_seq += len(record)
        elif isinstance(record, AttemptBlock):
            self._fold_block(record)
            self.next_seq += len(record)
        else:
            self._fold_event(record)
            self.next_seq += 1

    def row(self) -> Progress:
        """Give the row as it is now."""
        return replace(
            self.progress,
            counts=tuple(self.counts),
            last_seq=self.next_seq - 1,
            task_count=len(self.states),
            updated_wall_ns=time.time_ns(),
        )

    def _fold_block(self, block: AttemptBlock) -> None:
        count = len(block)
        if not count:
            return
        new = bytes([SUCCEEDED_CODE]) * count if block.states is None else block.states.tobytes()
        first = first_of_range(block.instances)
        if first >= 0:
            self._grow(first + count)
            old: bytes | bytearray = bytes(self.states[first : first + count])
            if self.undo_log is not None:
                self.undo_log.append((first, old))
            self.states[first : first + count] = new
        else:
            self._grow(max(block.instances) + 1)
            old = self._replace_states(block.instances, new)
        self._count(old, new)

    def _put_state(self, instance: int, code: int) -> None:
        self._grow(instance + 1)
        states, counts = self.states, self.counts
        old = states[instance]
        if self.undo_log is not None:
            self.undo_log.append((instance, bytes((old,))))
        states[instance] = code
        counts[old] -= 1
        counts[code] += 1

    def _replace_states(self, instances: array[int], new: bytes) -> bytearray:
        # Row by row, because an instance may finish twice in one block; what it was is noted before
        # it changes.
        old = bytearray()
        if self.undo_log is not None:
            self.undo_log.append((instances, old))
        states = self.states
        note = old.append
        for instance, code in zip(instances, new, strict=True):
            note(states[instance])
            states[instance] = code
        return old

    def _count(self, old: bytes | bytearray, new: bytes) -> None:
        for code in set(old):
            self.counts[code] -= old.count(code)
        for code in set(new):
            self.counts[code] += new.count(code)

    def _grow(self, length: int) -> None:
        missing = length - len(self.states)
        if missing > 0:
            self.states.extend(bytes([_PENDING]) * missing)
            self.counts[_PENDING] += missing

    def _fold_event(self, event: Event) -> None:
        if isinstance(event, RunStateChanged):
            self._change_run_state(event)
        elif isinstance(event, RunCreated):
            self._begin_life(event)
        else:
            code = task_state_code(event)
            instance = getattr(event, "instance", -1)
            if code is not None and instance >= 0:
                self._put_state(instance, code)

    def _begin_life(self, event: RunCreated) -> None:
        self.progress = replace(
            self.progress,
            state="running",
            error="",
            error_task="",
            owner=event.owner,
            owner_host=event.host,
            owner_pid=event.pid,
            started_wall_ns=self.progress.started_wall_ns or event.wall_ns,
            ended_wall_ns=0,
            anchor_wall_ns=event.wall_ns,
            anchor_monotonic_ns=event.monotonic_ns,
        )

    def _change_run_state(self, event: RunStateChanged) -> None:
        ended = 0
        if event.state in FINAL_RUN_STATES:
            offset = self.progress.anchor_wall_ns - self.progress.anchor_monotonic_ns
            ended = event.time_ns + offset if event.time_ns else time.time_ns()
        self.progress = replace(
            self.progress,
            state=str(event.state),
            error=_storable_text(event.error),
            error_task=_storable_text(event.error_task),
            ended_wall_ns=ended,
        )


def task_state_code(event: Event) -> int | None:
    """Give the code of the state an event puts its task in; None if it leaves it alone."""
    if isinstance(event, AttemptFinished):
        return _code_of(event.state)
    for kind, state in _STATE_AFTER:
        if isinstance(event, kind):
            return TASK_STATE_CODES[state]
    return None


_STATE_AFTER: Final[Sequence[tuple[type[Event], TaskState]]] = (
    (AttemptStarted, TaskState.RUNNING),
    (RetryScheduled, TaskState.WAITING),
    (TaskSkipped, TaskState.SKIPPED),
    (TaskReset, TaskState.PENDING),
)


def _code_of(state: str) -> int:
    try:
        return TASK_STATE_CODES[TaskState(state)]
    except ValueError:
        return TASK_STATE_CODES[TaskState.UNKNOWN]


def _storable_text(text: str) -> str:
    return text[:_MAX_ERROR_CHARS].encode("utf-8", "backslashreplace").decode()
