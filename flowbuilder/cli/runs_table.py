"""Recorded runs for people: the list, and one run with its tasks."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime

from flowbuilder.api.display_text import cell_width, fit_cells, one_line
from flowbuilder.api.task_run import TaskRun, timeline_text
from flowbuilder.cli.screen import columns_of
from flowbuilder.durations import format_duration
from flowbuilder.ids import short_id
from flowbuilder.store.ports import RunSummary
from flowbuilder.vocabulary import RunState

__all__ = ["print_run", "print_runs"]

_HEADS = ("RUN", "WORKFLOW", "STATE", "STARTED", "TOOK", "TASKS")
_MOST_NAME = 40


def print_runs(summaries: Sequence[RunSummary]) -> None:
    """Print runs as a table; the last column gives way on a narrow terminal."""
    rows = [_HEADS, *(_row(summary) for summary in summaries)]
    widths = [max(cell_width(row[column]) for row in rows) for column in range(len(_HEADS))]
    widths[1] = min(widths[1], _MOST_NAME)
    room = max(8, columns_of(sys.stdout) - sum(widths[:-1]) - 2 * (len(_HEADS) - 1))
    widths[-1] = min(widths[-1], room)
    for row in rows:
        cells = (fit_cells(cell, width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _row(summary: RunSummary) -> tuple[str, ...]:
    counts = ", ".join(f"{number} {state}" for state, number in summary.counts.items() if number)
    return (
        short_id(summary.run_id),
        one_line(summary.workflow),
        summary.state.value,
        _local_time(summary.started_wall_ns),
        format_duration(summary.duration_s),
        counts or f"{summary.task_count} pending",
    )


def _local_time(wall_ns: int) -> str:
    return datetime.fromtimestamp(wall_ns / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def print_run(summary: RunSummary, tasks: Sequence[TaskRun]) -> None:
    """Print one run: what it was, when its tasks ran, what was said about them."""
    path = f"  ({one_line(summary.path)})" if summary.path else ""
    print(f"run       {summary.run_id}")
    print(f"workflow  {one_line(summary.workflow)}{path}")
    print(f"state     {summary.state.value} after {format_duration(summary.duration_s)}")
    print(f"started   {_local_time(summary.started_wall_ns)}")
    if summary.state is RunState.INTERRUPTED:
        ref = short_id(summary.run_id)
        print(
            f"          its process (pid {summary.owner_pid} on {one_line(summary.owner_host)})"
            f" is gone; continue with: flowbuilder run --resume {ref}"
        )
    if summary.params:
        params = json.dumps(summary.params, ensure_ascii=False, default=str)
        print(f"params    {one_line(params)}")
    if summary.error:
        print(f"error     {one_line(summary.error)}")
    print()
    print(timeline_text(list(tasks), columns=columns_of(sys.stdout)))
    for task in tasks:
        if task.reason or task.error:
            print(f"  {task.name}: {one_line(task.error or task.reason)}")
