"""Tasks from plain values, read by the same rules as a workflow file."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from flowbuilder.definition import read_tree
from flowbuilder.errors import WorkflowValidationError
from flowbuilder.model import TaskSpec

__all__ = ["read_task"]


def read_task(entry: Mapping[str, object], position: int) -> TaskSpec:
    """Read one task as it would stand in a file.

    Parameters
    ----------
    entry : mapping
        Fields of the task.
    position : int
        Its place in the list of tasks.

    Raises
    ------
    WorkflowValidationError
        With every problem.
    """
    reading = read_tree({"name": "workflow", "tasks": [entry]})
    if reading.spec is None or any(problem.severity == "error" for problem in reading.problems):
        raise WorkflowValidationError(reading.problems)
    return msgspec.structs.replace(reading.spec.tasks[0], path=("tasks", position))
