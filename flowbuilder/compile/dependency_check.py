"""Dependencies by name: parents that exist, ports that can be variables, no circles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from keyword import iskeyword

from flowbuilder.compile.problem_list import ProblemList, task_path
from flowbuilder.errors import CycleError
from flowbuilder.model import SourcePath, TaskSpec, WorkflowSpec
from flowbuilder.model.topology import cycles

__all__ = ["check_cycles", "check_parents"]


def check_parents(
    task: TaskSpec, index: int, known: Mapping[str, int], problems: ProblemList
) -> None:
    """Check ``depends_on`` and ``inputs`` of one task.

    Parameters
    ----------
    task : TaskSpec
        The task.
    index : int
        Its position in the workflow.
    known : mapping of str to int
        Every task's position by name.
    problems : ProblemList
        Where to note what is wrong.
    """
    for position, name in enumerate(task.depends_on):
        if name not in known or name == task.name:
            path = (*task_path(task, index), "depends_on", position)
            _note_parent(task, name, path, known, problems)
    for port, selector in task.inputs.items():
        if selector.task not in known or selector.task == task.name:
            path = (*task_path(task, index), "inputs", port)
            _note_parent(task, selector.task, path, known, problems)
        if not port.isidentifier() or iskeyword(port):
            problems.add(
                f"input port {port!r} of task {task.name!r} must be an identifier",
                (*task_path(task, index), "inputs", port),
                task=task.name,
                hint="use letters, digits and '_', not a Python keyword",
                code="bad-port",
            )


def _note_parent(
    task: TaskSpec,
    name: str,
    path: SourcePath,
    known: Mapping[str, int],
    problems: ProblemList,
) -> None:
    if name == task.name:
        message = f"task {name!r} waits for itself"
        problems.add(message, path, task=name, hint="remove it", code="self-dependency")
        return
    problems.add(
        f"task {task.name!r} waits for {name!r}, but there is no such task",
        path,
        task=task.name,
        hint=problems.spelling(name, known),
        code="unknown-task",
    )


def check_cycles(
    spec: WorkflowSpec, parents: Sequence[Sequence[int]], problems: ProblemList
) -> None:
    """Note one circle for every group of tasks that wait for each other.

    Parameters
    ----------
    spec : WorkflowSpec
        The workflow.
    parents : sequence of sequences of int
        Per task the tasks it waits for.
    problems : ProblemList
        Where to note what is wrong.
    """
    for cycle in cycles(parents):
        names = [spec.tasks[index].name for index in cycle]
        error = CycleError([*names, names[0]])
        path = task_path(spec.tasks[cycle[0]], cycle[0])
        problems.add(error.message, path, task=names[0], hint=error.hint, code="cycle")
