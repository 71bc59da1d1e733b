"""What is known of every instance of a run, read back from its records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flowbuilder.records import (
    ABSENT,
    ArtifactStored,
    AttemptFailed,
    AttemptFinished,
    AttemptStarted,
    Event,
    RetryScheduled,
    RunHeader,
    TaskReset,
)
from flowbuilder.store.block_codec import (
    SUCCEEDED_CODE,
    BlockColumns,
    attempts_of,
    decode_block,
    instances_of,
    state_codes_of,
)
from flowbuilder.store.codec import BLOCK_KIND, Row, check_seal, damaged_row, decode_row
from flowbuilder.store.projection import task_state_code
from flowbuilder.vocabulary import (
    FINAL_TASK_STATES,
    TASK_STATE_CODES,
    TASK_STATES,
    FailureKind,
    TaskState,
)

__all__ = ["Replay"]

_PENDING = TASK_STATE_CODES[TaskState.PENDING]
_FAILED = TASK_STATE_CODES[TaskState.FAILED]
_FINAL_CODES = frozenset(TASK_STATE_CODES[state] for state in FINAL_TASK_STATES)
_SETTLED_CODES = frozenset({SUCCEEDED_CODE, TASK_STATE_CODES[TaskState.CACHED]})


class Replay:
    """The fold of a run's rows into states, attempts and settled outputs.

    Parameters
    ----------
    header : RunHeader
        Gives the states some instances begin with.
    task_count : int
        Instances of the plan; dynamic ones are appended as they appear.
    """

    def __init__(self, header: RunHeader, task_count: int) -> None:
        self.states = bytearray([_PENDING]) * task_count
        self.attempts = [0] * task_count
        self.outputs: dict[int, object] = {}
        self.started: set[int] = set()
        self.failures: dict[int, int] = {}
        self.lost: dict[int, int] = {}
        self.last_seq = -1
        self._artifacts: dict[int, ArtifactStored] = {}
        for instance, state in header.initial_states.items():
            self.states[instance] = TASK_STATE_CODES[state]

    def begin_with(self, states: bytes) -> None:
        """Start from a snapshot of the states; only `states` is meaningful after that."""
        self.states = bytearray(states)
        self.attempts = [0] * len(states)

    def fold(self, rows: Iterable[Row]) -> Replay:
        """Take in rows, in order.

        Raises
        ------
        StorageError
            If one is damaged.
        """
        for row in rows:
            if row.kind == BLOCK_KIND:
                check_seal(row)
                self._fold_block(_columns_of(row))
            else:
                for event in decode_row(row):
                    self._fold_event(event)
            self.last_seq = row.first_seq + row.n - 1
        return self

    def task_states(self) -> list[TaskState]:
        """Give the state of every instance."""
        return list(map(TASK_STATES.__getitem__, self.states))

    def settled_artifacts(self) -> dict[int, ArtifactStored]:
        """Give the stored outputs of instances whose last attempt ended well."""
        return {
            instance: artifact
            for instance, artifact in self._artifacts.items()
            if instance < len(self.states)
            and self.states[instance] in _SETTLED_CODES
            and artifact.attempt == self.attempts[instance]
        }

    def _fold_block(self, columns: BlockColumns) -> None:
        instances = instances_of(columns)
        attempts = attempts_of(columns)
        codes = state_codes_of(columns)
        if not instances:
            return
        self._grow(max(instances) + 1)
        if isinstance(instances, range) and columns.s is None:
            self._fold_succeeded_range(instances, attempts, codes, columns.o)
            return
        outputs = [None] * columns.n if columns.o is None else columns.o
        for finished in zip(instances, attempts, codes, outputs, strict=True):
            self._finish(*finished)

    def _fold_succeeded_range(
        self, instances: range, attempts: Sequence[int], codes: bytes, outputs: list[object] | None
    ) -> None:
        place = slice(instances.start, instances.stop)
        self.states[place] = codes
        self.attempts[place] = attempts
        if self.started:
            self.started.difference_update(instances)
        if outputs is None:
            self.outputs.update(dict.fromkeys(instances))
            return
        for instance, output in zip(instances, outputs, strict=True):
            self._keep_output(instance, output)

    def _finish(self, instance: int, attempt: int, code: int, output: object) -> None:
        self.states[instance] = code
        self.attempts[instance] = attempt
        self.started.discard(instance)
        if code == _FAILED:
            self.failures[instance] = self.failures.get(instance, 0) + 1
        self._keep_output(instance, output if code in _SETTLED_CODES else ABSENT)

    def _keep_output(self, instance: int, output: object) -> None:
        if output is ABSENT:
            self.outputs.pop(instance, None)
        else:
            self.outputs[instance] = output

    def _fold_event(self, event: Event) -> None:
        if isinstance(event, ArtifactStored):
            self._artifacts[event.instance] = event
            return
        if isinstance(event, AttemptFailed) and event.failure == FailureKind.LOST:
            self.lost[event.instance] = self.lost.get(event.instance, 0) + 1
        code = task_state_code(event)
        instance = getattr(event, "instance", -1)
        if code is None or instance < 0:
            return
        self._grow(instance + 1)
        if isinstance(event, AttemptFinished):
            self._finish(instance, event.attempt, code, event.output)
            return
        if isinstance(event, TaskReset):
            self._forget(instance)
        self.states[instance] = code
        if isinstance(event, AttemptStarted):
            self.attempts[instance] = event.attempt
            self.started.add(instance)
        elif isinstance(event, RetryScheduled):
            self.started.discard(instance)

    def _forget(self, instance: int) -> None:
        # Failures go on counting if the task was cut short, and start afresh if it was over.
        if self.states[instance] in _FINAL_CODES:
            self.failures.pop(instance, None)
            self.lost.pop(instance, None)
        self.started.discard(instance)
        self.outputs.pop(instance, None)
        self._artifacts.pop(instance, None)

    def _grow(self, length: int) -> None:
        missing = length - len(self.states)
        if missing > 0:
            self.states.extend(bytes([_PENDING]) * missing)
            self.attempts.extend([0] * missing)


def _columns_of(row: Row) -> BlockColumns:
    try:
        return decode_block(row.body)
    except ValueError as error:  # msgspec's errors are ValueErrors too
        raise damaged_row(row, str(error)) from error
