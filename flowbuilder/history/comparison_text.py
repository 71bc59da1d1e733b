"""A comparison of two runs as text for people: only what differs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from flowbuilder.durations import format_duration
from flowbuilder.history.run_fold import plain_json
from flowbuilder.ids import short_id

if TYPE_CHECKING:
    from flowbuilder.history.output_statistics import ColumnStatistics
    from flowbuilder.history.run_comparison import Change, RunComparison, RunSide, TaskComparison

__all__ = ["comparison_text"]

_WIDEST: Final = 60
_FASTER, _SLOWER = 1 / 1.5, 1.5
_LEAST_S: Final = 0.001


def comparison_text(found: RunComparison) -> str:
    """Write a comparison, one difference a line."""
    return "\n".join(_lines(found))


def _lines(found: RunComparison) -> Iterator[str]:
    yield f"a  {_side(found.a)}"
    yield f"b  {_side(found.b)}"
    if found.is_same_plan:
        yield "the same workflow, the same plan"
    elif found.code:
        yield "workflow:"
        yield from map(_change, found.code)
    else:
        yield "the workflows differ in their selection or format"
    if found.a.code_fingerprint != found.b.code_fingerprint:
        yield "the code of functions differs"
    if found.params:
        yield "parameters:"
        yield from map(_change, found.params)
    tasks = [line for task in found.tasks for line in _task(task)]
    if tasks:
        yield "tasks:"
        yield from tasks
    else:
        yield "tasks: the same states, similar durations, no output known to differ"


def _side(side: RunSide) -> str:
    took = format_duration(side.duration_s)
    return f"{short_id(side.run_id)}  {side.workflow}  {side.state} in {took}"


def _change(change: Change) -> str:
    return f"  {change.name}: {_shown(change.a)} -> {_shown(change.b)}"


def _shown(value: object) -> str:
    if value is None:
        return "(none)"
    text = plain_json(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _task(task: TaskComparison) -> Iterator[str]:
    notes = list(_notes(task))
    if notes:
        yield f"  {task.key}: {'; '.join(notes)}"
    for name, (left, right) in task.output.columns.items():
        yield f"    column {name}: {', '.join(_column(left, right))}"


def _notes(task: TaskComparison) -> Iterator[str]:
    (state_a, state_b), output = task.state, task.output
    if not state_a or not state_b:
        yield f"only in {'a' if state_a else 'b'}"
        return
    if state_a != state_b:
        yield f"{state_a} -> {state_b}"
    for error in filter(None, task.error):
        yield _shown(error)
        break
    left, right = task.duration_s
    if left is not None and right is not None and max(left, right) > _LEAST_S:
        ratio = right / left if left else float("inf")
        if not _FASTER < ratio < _SLOWER:
            yield f"{format_duration(left)} -> {format_duration(right)}"
    if task.attempts[0] != task.attempts[1]:
        yield f"attempts {task.attempts[0]} -> {task.attempts[1]}"
    if output.rows[0] != output.rows[1]:
        yield f"rows {_shown(output.rows[0])} -> {_shown(output.rows[1])}"
    elif output.is_equal is False:
        yield "another output"
    if output.note:
        yield output.note


def _column(left: ColumnStatistics | None, right: ColumnStatistics | None) -> Iterator[str]:
    if left is None or right is None:
        side = right if left is None else left
        assert side is not None
        yield f"only in {'b' if left is None else 'a'} ({side.type})"
        return
    for name in ("type", "nulls", "distinct", "min", "max", "mean", "std"):
        before, after = getattr(left, name), getattr(right, name)
        if before != after:
            yield f"{name} {_number(before)} -> {_number(after)}"


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _shown(value)
