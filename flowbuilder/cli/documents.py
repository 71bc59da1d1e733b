"""What ``--json`` prints."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowbuilder.api.run import Run
    from flowbuilder.api.task_run import TaskRun
    from flowbuilder.errors import FlowBuilderError, Problem
    from flowbuilder.store.ports import RunSummary

__all__ = [
    "error_document",
    "output_document",
    "print_json",
    "problem_document",
    "run_document",
    "summary_document",
    "task_document",
]

_MOST_ITEMS = 1_000
_DEEPEST = 16


def print_json(document: object) -> None:
    """Print one JSON document on a line of its own, whatever the encoding of stdout."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    text = json.dumps(document, ensure_ascii=encoding != "utf8", allow_nan=False)
    # Only text with lone surrogates cannot be written in UTF-8; JSON can spell them in ASCII.
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(document, allow_nan=False)
    print(text)


def run_document(run: Run) -> dict[str, object]:
    """Describe a finished run."""
    return {
        "run_id": run.id,
        "state": run.state.value,
        "duration_s": run.duration_s,
        "tasks": [task_document(task) for task in run.task_runs],
        "outputs": {name: output_document(value) for name, value in run.outputs.items()},
    }


def task_document(task: TaskRun) -> dict[str, object]:
    """Describe one task of a run."""
    return {
        "name": task.name,
        "state": task.state,
        "attempt": task.attempt,
        "started_at": task.started_at,
        "duration_s": task.duration_s,
        "cached": task.cached,
        "reason": task.reason,
        "error": task.error,
    }


def summary_document(summary: RunSummary) -> dict[str, object]:
    """Describe a recorded run."""
    from flowbuilder.api.task_run import isoformat_ns

    return {
        "run_id": summary.run_id,
        "workflow": summary.workflow,
        "state": summary.state.value,
        "started_at": isoformat_ns(summary.started_wall_ns),
        "duration_s": summary.duration_s,
        "counts": summary.counts,
        "task_count": summary.task_count,
        "path": summary.path,
        "params": output_document(summary.params),
        "error": summary.error,
        "error_task": summary.error_task,
    }


def output_document(value: object, depth: int = 0) -> object:
    """Give plain data as it is, and describe everything else by type and size."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth < _DEEPEST and isinstance(value, Mapping) and len(value) <= _MOST_ITEMS:
        return {str(key): output_document(item, depth + 1) for key, item in value.items()}
    if depth < _DEEPEST and isinstance(value, list | tuple) and len(value) <= _MOST_ITEMS:
        return [output_document(item, depth + 1) for item in value]
    return _describe(value)


def _describe(value: object) -> dict[str, object]:
    kind = type(value)
    described: dict[str, object] = {"type": f"{kind.__module__}.{kind.__qualname__}"}
    if isinstance(value, bytes | bytearray):
        return {**described, "size_bytes": len(value)}
    # The attributes are code of whoever wrote the type, and that may fail in any way.
    with contextlib.suppress(Exception):
        rows, shape = getattr(value, "num_rows", None), getattr(value, "shape", None)
        if isinstance(rows, int):
            described["rows"] = rows
        elif isinstance(shape, tuple):
            described["shape"] = [int(size) for size in shape]
    with contextlib.suppress(Exception):
        names = getattr(value, "column_names", None)
        names = getattr(value, "columns", None) if names is None else names
        if names is not None:
            described["columns"] = [str(name) for name in names][:_MOST_ITEMS]
    return described


def error_document(error: FlowBuilderError) -> dict[str, object]:
    """Describe why a command could not do what was asked; the same for every command."""
    from flowbuilder.errors import WorkflowValidationError

    place = error.location
    document: dict[str, object] = {
        "error": error.message,
        "type": type(error).__name__,
        "hint": error.hint,
        "task": error.task,
        "file": place.file if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
    }
    if isinstance(error, WorkflowValidationError):
        document["problems"] = [problem_document(problem) for problem in error.problems]
    return document


def problem_document(problem: Problem) -> dict[str, object]:
    """Describe one problem of a workflow."""
    place = problem.location
    return {
        "message": problem.message,
        "file": place.file if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
        "task": problem.task,
        "field": problem.field,
        "hint": problem.hint,
        "code": problem.code,
        "severity": problem.severity,
    }
