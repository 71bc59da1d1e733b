"""What a person reads when a run is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowbuilder.durations import format_duration

if TYPE_CHECKING:
    from flowbuilder.api.run import Run

__all__ = ["print_summary"]

_FEW = 40


def print_summary(run: Run) -> None:
    """Print state, counts and the timeline of a run."""
    counts = ", ".join(f"{number} {state.value}" for state, number in run.counts.items())
    tasks = run.task_runs
    if len(tasks) <= _FEW:
        print(run.timeline())
    for task in tasks:
        if task.reason and task.state in {"skipped", "cached"} and len(tasks) <= _FEW:
            print(f"  {task.name} was {task.state}: {task.reason}")
    print(
        f"{run.workflow} {run.state.value} in {format_duration(run.duration_s)}: {counts}  (run {run.short_id})"
    )
    for name, value in run.outputs.items():
        print(f"  {name} = {_preview(value)}")


def _preview(value: object) -> str:
    from flowbuilder.cli.documents import output_document

    shown = output_document(value)
    if (
        isinstance(shown, dict)
        and set(shown) <= {"type", "rows", "shape", "columns"}
        and "type" in shown
    ):
        size = shown.get("rows", shown.get("shape", ""))
        columns = shown.get("columns")
        width = f", {len(columns)} columns" if isinstance(columns, list) else ""
        return f"{shown['type']}" + (
            f" of {size} rows{width}" if isinstance(size, int) else f" {size}{width}"
        )
    text = repr(shown)
    return text if len(text) <= 100 else text[:97] + "..."
