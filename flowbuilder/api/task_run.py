"""One task of one run, as people and programs read it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

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
    import polars

    return polars.DataFrame(
        [msgspec.structs.asdict(task) for task in tasks], infer_schema_length=None
    )


_MARKS = {
    "succeeded": "ok",
    "cached": "cached",
    "failed": "FAILED",
    "skipped": "skipped",
    "cancelled": "cancelled",
}


def timeline_text(tasks: list[TaskRun], *, width: int = 48, most: int = 60) -> str:
    """Draw when each task ran, one line a task, in order of start.

    Parameters
    ----------
    tasks : list of TaskRun
        Of one run.
    width : int
        Characters of the time axis.
    most : int
        Lines at most; the longest tasks are kept.
    """
    ran = [task for task in tasks if task.duration_s is not None and task.started_at is not None]
    others = [task for task in tasks if task.duration_s is None or task.started_at is None]
    shown = sorted(
        sorted(ran, key=lambda task: -(task.duration_s or 0))[:most], key=lambda task: task.offset_s
    )
    total = max((task.offset_s + (task.duration_s or 0) for task in ran), default=0.0)
    name_width = min(32, max((len(task.name) for task in (*shown, *others[:most])), default=4))
    lines = []
    for task in shown:
        duration = task.duration_s or 0.0
        first = round(task.offset_s / total * width) if total else 0
        length = max(1, round(duration / total * width)) if total else 1
        first = min(first, width - 1)
        bar = (" " * first + "█" * length)[:width].ljust(width)
        mark = _MARKS.get(task.state, task.state)
        lines.append(
            f"{_fit(task.name, name_width)}  │{bar}│ {format_duration(duration):>6}  {mark}"
        )
    for task in others[: max(0, most - len(shown))]:
        lines.append(
            f"{_fit(task.name, name_width)}  │{' ' * width}│ {'':>6}  {_MARKS.get(task.state, task.state)}"
        )
    hidden = len(tasks) - len(lines)
    if hidden:
        lines.append(f"... and {hidden} more tasks")
    lines.append(f"{'':{name_width}}  0{format_duration(total):>{width}}")
    return "\n".join(lines)


def _fit(name: str, width: int) -> str:
    return name.ljust(width) if len(name) <= width else name[: width - 1] + "…"
