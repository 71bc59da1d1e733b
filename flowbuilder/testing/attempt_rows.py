"""Finished attempts as rows, however a run hands them over."""

from __future__ import annotations

from flowbuilder.records import AttemptBlock, AttemptRows, Record, Row
from flowbuilder.vocabulary import TASK_STATE_CODES, TaskState

__all__ = ["rows_of"]

_SUCCEEDED = TASK_STATE_CODES[TaskState.SUCCEEDED]


def rows_of(record: Record) -> list[Row]:
    """Give the attempts of a record row by row; none if it is not about finished attempts."""
    if isinstance(record, AttemptRows):
        return list(record.rows)
    if not isinstance(record, AttemptBlock):
        return []
    return [_row_of(record, place) for place in range(len(record))]


def _row_of(block: AttemptBlock, place: int) -> Row:
    instance, end = block.instances[place], block.ends_ns[place]
    output = None if block.outputs is None else block.outputs[place]
    if block.is_chained:
        start = block.ends_ns[place - 1] if place else block.first_start_ns
        return (instance, 1, _SUCCEEDED, 0, start, start, end, output)
    assert block.attempts is not None
    assert block.states is not None
    assert block.workers is not None
    assert block.readies_ns is not None
    assert block.starts_ns is not None
    return (
        instance,
        block.attempts[place],
        block.states[place],
        block.workers[place],
        block.readies_ns[place],
        block.starts_ns[place],
        end,
        output,
    )
