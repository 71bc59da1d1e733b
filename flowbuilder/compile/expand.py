"""Unfold sub-workflows: one flat list of tasks, whatever the nesting of the texts."""

from __future__ import annotations

from flowbuilder.compile.edges import task_edges
from flowbuilder.compile.expansion import Edge, Expansion, FlatTask, Scope
from flowbuilder.compile.inclusion import ReadWorkflow
from flowbuilder.compile.unfolding import SUBWORKFLOW_TYPE, Place, Unfolding
from flowbuilder.errors import Problem, WorkflowValidationError
from flowbuilder.model import WorkflowSpec
from flowbuilder.plugins.catalogue import TaskTypes

__all__ = ["MAX_TASKS", "expand_workflow", "inner_problems"]

MAX_TASKS = 1_000_000


def expand_workflow(
    spec: WorkflowSpec,
    registry: TaskTypes,
    *,
    read: ReadWorkflow,
    edges: list[tuple[Edge, ...]] | None = None,
    max_tasks: int = MAX_TASKS,
) -> Expansion:
    """Unfold every task of type ``workflow``, at any depth.

    Parameters
    ----------
    spec : WorkflowSpec
        The outermost workflow; expected to be free of errors itself.
    registry : TaskTypes
        Task types, for the dependencies hidden in configs.
    read : callable
        Reads an included file; raises `FlowBuilderError` if it cannot. Called once per file.
    edges : list of tuple of Edge, optional
        What `task_edges` gave for ``spec``, if the caller has asked already.
    max_tasks : int
        Largest unfolded size, because texts that include each other twice grow exponentially.

    Returns
    -------
    Expansion
        Flat tasks in the order of the texts; an enter task stands before and the leave task after
        what is inside them.

    Raises
    ------
    WorkflowValidationError
        With all problems of the included workflows and of the tasks that include them.
    """
    if not _has_subworkflows(spec) and len(spec.tasks) <= max_tasks:
        return _flat(spec, task_edges(spec, registry) if edges is None else edges)
    unfolding = Unfolding(registry, read, max_tasks)
    if edges is not None:
        unfolding.know_edges(spec, edges)
    unfolding.unfold(Place.of_root(spec))
    problems = unfolding.distinct_problems()
    if any(problem.severity == "error" for problem in problems):
        raise WorkflowValidationError(problems)
    return Expansion(
        root=spec,
        tasks=tuple(task for task in unfolding.tasks if task is not None),
        scopes=tuple(scope for scope in unfolding.scopes if scope is not None),
    )


def inner_problems(
    spec: WorkflowSpec, registry: TaskTypes, *, read: ReadWorkflow, max_tasks: int = MAX_TASKS
) -> tuple[Problem, ...]:
    """Find what is wrong with the sub-workflows of a workflow, even if it has errors itself.

    Parameters
    ----------
    spec : WorkflowSpec
        The outermost workflow; its own problems are `check_workflow`'s.
    registry : TaskTypes
        Task types.
    read : callable
        Reads an included file, as for `expand_workflow`.
    max_tasks : int
        Largest unfolded size.

    Returns
    -------
    tuple of Problem
        Errors and warnings, of every depth.
    """
    if not _has_subworkflows(spec):
        return ()
    unfolding = Unfolding(registry, read, max_tasks)
    try:
        unfolding.unfold(Place.of_root(spec))
    except WorkflowValidationError as error:  # too large to go on
        return tuple(dict.fromkeys(error.problems))
    return unfolding.distinct_problems()


def _has_subworkflows(spec: WorkflowSpec) -> bool:
    return any(task.type == SUBWORKFLOW_TYPE for task in spec.tasks)


def _flat(spec: WorkflowSpec, edges: list[tuple[Edge, ...]]) -> Expansion:
    """Wrap a workflow without sub-workflows: flat indices are the author's."""
    tasks = tuple(
        FlatTask(key=task.name, spec=task, scope=0, edges=of_task)
        for task, of_task in zip(spec.tasks, edges, strict=True)
    )
    members = {task.name: index for index, task in enumerate(spec.tasks)}
    root = Scope(index=0, parent=-1, prefix="", workflow=spec, enter=-1, members=members)
    return Expansion(root=spec, tasks=tasks, scopes=(root,))
