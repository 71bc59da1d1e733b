"""What a person reads when a run is over."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from flowbuilder.api.display_text import one_line, visible_text
from flowbuilder.api.task_run import timeline_text
from flowbuilder.cli.screen import can_show, columns_of
from flowbuilder.durations import format_duration
from flowbuilder.errors import TaskFailedError

if TYPE_CHECKING:
    from flowbuilder.api.run import Run

__all__ = ["print_failure", "print_interrupt", "print_summary"]

_FEW_TASKS = 40
_FEW_OUTPUTS = 10
_FEW_FAILURES = 10
_PREVIEW = 100


def print_summary(run: Run) -> None:
    """Print the timeline, state, counts and outputs of a run."""
    tasks = run.task_runs
    if len(tasks) <= _FEW_TASKS:
        bar = "█" if can_show("█│…", sys.stdout) else "#"
        text = timeline_text(tasks, columns=columns_of(sys.stdout), bar=bar)
        print(text if bar == "█" else text.replace("│", "|").replace("…", "~"))
        for task in tasks:
            if task.reason and task.state in {"skipped", "cached"}:
                print(f"  {task.name} was {task.state}: {one_line(task.reason)}")
    counts = ", ".join(f"{number} {state.value}" for state, number in run.counts.items())
    took = format_duration(run.duration_s)
    print(f"{one_line(run.workflow)} {run.state.value} in {took}: {counts}  (run {run.short_id})")
    outputs = [(name, value) for name, value in run.outputs.items() if value is not None]
    for name, value in outputs[:_FEW_OUTPUTS]:
        print(f"  {name} = {_preview(value)}")
    if len(outputs) > _FEW_OUTPUTS:
        print(f"  ... and {len(outputs) - _FEW_OUTPUTS} more outputs (--json prints all)")


def print_failure(run: Run, error: BaseException) -> None:
    """Print on stderr why a run failed: the first failure in full, the others in a line each, and
    what to do next.
    """
    sys.stdout.flush()
    lines = [""]
    trace = error.traceback if isinstance(error, TaskFailedError) else ""
    if trace.startswith("Traceback"):
        lines.append(visible_text(trace.rstrip("\n")))
    lines.append(f"flowbuilder: {visible_text(str(error))}")
    first = error.task if isinstance(error, TaskFailedError) else None
    failed = [task for task in run.task_runs if task.state == "failed" and task.name != first]
    lines += [
        f"  also failed: {task.name}: {one_line(task.error)[:_PREVIEW]}"
        for task in failed[:_FEW_FAILURES]
    ]
    if len(failed) > _FEW_FAILURES:
        lines.append(f"  also failed: {len(failed) - _FEW_FAILURES} more tasks")
    lines.append(f"  logs:   flowbuilder logs {run.short_id}{f' {first}' if first else ''}")
    lines.append(f"  resume: flowbuilder run --resume {run.short_id}")
    print("\n".join(lines), file=sys.stderr)


def print_interrupt(run: Run) -> None:
    """Print on stderr how to go on with a run that was stopped."""
    sys.stdout.flush()
    print(f"  resume: flowbuilder run --resume {run.short_id}", file=sys.stderr)


def _preview(value: object) -> str:
    from flowbuilder.cli.documents import output_document

    shown = output_document(value)
    if (
        isinstance(shown, dict)
        and set(shown) <= {"type", "rows", "shape", "columns"}
        and "type" in shown
    ):
        return one_line(_described(shown))
    if isinstance(value, str) and "\n" in value.strip():
        first, *rest = value.strip().splitlines()
        line = one_line(first)[: _PREVIEW - 20]
        return f"{line} ... ({len(rest) + 1} lines)"
    # repr escapes control characters of text, but not the marks that reorder it.
    text = one_line(repr(shown))
    return text if len(text) <= _PREVIEW else text[: _PREVIEW - 3] + "..."


def _described(shown: dict[str, object]) -> str:
    size = shown.get("rows", shown.get("shape", ""))
    columns = shown.get("columns")
    width = f", {len(columns)} columns" if isinstance(columns, list) else ""
    if isinstance(size, int):
        return f"{shown['type']} of {size} rows{width}"
    return f"{shown['type']} {size}{width}".rstrip()
