"""One task of one run, as people and programs read it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from flowbuilder.api.display_text import cell_width, fit_cells
from flowbuilder.durations import format_duration

__all__ = ["TaskRun", "isoformat_ns", "table_of", "timeline_text"]


class TaskRun(msgspec.Struct, frozen=True, kw_only=True):
    """State and history of one TaskRun; ``started_at`` is ISO 8601 in UTC or None, durations are
    in seconds.
    """

    name: str
    type: str
    state: str
    attempt: int
    started_at: str | None
    duration_s: float | None
    cached: bool
    reason: str
    error: str
    executor: str = ""
    worker: int = 0
    offset_s: float = 0.0
    """Start relative to the start of the run."""
    queued_s: float = 0.0
    """From ready to started."""


def isoformat_ns(wall_ns: int) -> str:
    """Write Unix nanoseconds as ISO 8601 in UTC, to the microsecond."""
    return datetime.fromtimestamp(wall_ns / 1e9, UTC).isoformat(timespec="microseconds")


def table_of(tasks: list[TaskRun]) -> object:
    """Build a polars frame of task runs.

    Raises
    ------
    ModuleNotFoundError
        If polars is not installed.
    """
    import polars as pl

    return pl.DataFrame([msgspec.structs.asdict(task) for task in tasks], infer_schema_length=None)


_MARKS = {"succeeded": "ok", "failed": "FAILED"}


def timeline_text(
    tasks: list[TaskRun], *, columns: int = 80, most: int = 60, bar: str = "█"
) -> str:
    """Draw when each task ran, one line a task, in order of start.

    Parameters
    ----------
    tasks : list of TaskRun
        Of one run.
    columns : int
        Screen cells to fill; below 40 it is as if there were 40.
    most : int
        Lines at most; the longest tasks are kept.
    bar : str
        One character to draw with.
    """
    ran = [task for task in tasks if task.duration_s is not None and task.started_at is not None]
    others = [task for task in tasks if task.duration_s is None or task.started_at is None]
    longest = sorted(ran, key=lambda task: -(task.duration_s or 0))[:most]
    shown = sorted(longest, key=lambda task: task.offset_s)
    shown += others[: max(0, most - len(shown))]
    total = max((task.offset_s + (task.duration_s or 0) for task in ran), default=0.0)
    notes = [_note(task) for task in shown]
    note_width = max((len(note) for note in notes), default=0)
    name_width = max((cell_width(task.name) for task in shown), default=4)
    name_width = min(name_width, 32, max(8, columns // 3))
    width = min(48, max(8, columns - name_width - note_width - 13))
    lines = [
        f"{fit_cells(task.name, name_width)}  │{_bar(task, total, width, bar)}│"
        f" {_took(task):>6}  {note}"
        for task, note in zip(shown, notes, strict=True)
    ]
    if len(tasks) > len(shown):
        lines.append(f"... and {len(tasks) - len(shown)} more tasks")
    if ran:
        lines.append(f"{'':{name_width}}  0{format_duration(total):>{width}}")
    return "\n".join(line.rstrip() for line in lines)


def _bar(task: TaskRun, total: float, width: int, mark: str) -> str:
    if task.duration_s is None or task.started_at is None:
        return " " * width
    first = round(task.offset_s / total * width) if total else 0
    length = max(1, round(task.duration_s / total * width)) if total else 1
    return (" " * min(first, width - 1) + mark * length)[:width].ljust(width)


def _took(task: TaskRun) -> str:
    return "" if task.duration_s is None else format_duration(task.duration_s)


def _note(task: TaskRun) -> str:
    if task.state == "succeeded" and task.started_at is None:
        return "kept from before"
    state = _MARKS.get(task.state, task.state)
    return f"{state}, attempt {task.attempt}" if task.attempt > 1 else state
