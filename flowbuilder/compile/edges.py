"""Which task waits for which, and why: inputs, ``depends_on``, expressions, the type's text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from flowbuilder.compile.expansion import Edge, EdgeKind
from flowbuilder.errors import ExpressionError, FlowBuilderError
from flowbuilder.expressions import holds_template, read_expression, read_template
from flowbuilder.model import TaskSpec, WorkflowSpec
from flowbuilder.plugins.catalogue import TaskTypes
from flowbuilder.plugins.task_type import TaskType

__all__ = ["has_own_references", "raw_fields", "task_edges"]


def task_edges(spec: WorkflowSpec, registry: TaskTypes) -> list[tuple[Edge, ...]]:
    """Find the dependencies of every task.

    Parameters
    ----------
    spec : WorkflowSpec
        One workflow text; sub-workflows count as one task.
    registry : TaskTypes
        Task types, which may find mentions of tasks in their config.

    Returns
    -------
    list of tuple of Edge
        Per task in the author's order its edges by ascending parent, one per parent with the
        strongest kind. Parents are indices into ``spec.tasks``. Unknown names, broken expressions
        and a task's mention of itself are left out; the check reports them.

    Notes
    -----
    About 3 us per task without expressions.
    """
    indices = {task.name: index for index, task in enumerate(spec.tasks)}
    types = {name: _find(registry, name) for name in {task.type for task in spec.tasks}}
    return [_edges_of(task, types[task.type], indices) for task in spec.tasks]


def _find(registry: TaskTypes, name: str) -> TaskType | None:
    try:
        return registry.find(name)
    except FlowBuilderError:  # a broken plugin, which the check reports
        return None


def _edges_of(
    task: TaskSpec, task_type: TaskType | None, indices: Mapping[str, int]
) -> tuple[Edge, ...]:
    kinds: dict[str, EdgeKind] = {}
    for selector in task.inputs.values():
        kinds[selector.task] = EdgeKind.DATA
    for name in task.depends_on:
        kinds.setdefault(name, EdgeKind.ORDER)
    for name in _implied(task, task_type, indices):
        kinds.setdefault(name, EdgeKind.IMPLIED)
    if not kinds:
        return ()
    kinds.pop(task.name, None)
    edges = [Edge(indices[name], kind) for name, kind in kinds.items() if name in indices]
    if len(edges) > 1:
        edges.sort(key=_parent)
    return tuple(edges)


def _parent(edge: Edge) -> int:
    return edge.parent


def _implied(
    task: TaskSpec, task_type: TaskType | None, indices: Mapping[str, int]
) -> Iterator[str]:
    if task.when is not None:
        yield from _tasks_in(_references(task.when))
    if task.config:
        if holds_template(task.config):
            raw = raw_fields(task, task_type)
            yield from _tasks_in(read_template(task.config, raw=raw)[0].references)
        if task_type is not None and has_own_references(task_type):
            yield from task_type.references(task.config, indices.keys())
    if task.env and holds_template(task.env):
        yield from _tasks_in(read_template(task.env)[0].references)


def _references(condition: str) -> Collection[tuple[str, ...]]:
    try:
        return read_expression(condition).references
    except ExpressionError:
        return ()


def _tasks_in(references: Iterable[tuple[str, ...]]) -> Iterator[str]:
    return (reference[1] for reference in references if reference[0] == "tasks")


def raw_fields(task: TaskSpec, task_type: TaskType | None) -> Collection[str]:
    """List the config fields in which ``${{ }}`` means nothing here.

    Parameters
    ----------
    task : TaskSpec
        The task.
    task_type : TaskType or None
        Its type, if there is one.

    Returns
    -------
    collection of str
        What the type says; the inner tasks of a sub-workflow have their own names and are skipped,
        too.
    """
    declared = task_type.raw_fields if task_type is not None else frozenset()
    return declared | {"tasks"} if task.type == "workflow" else declared


def has_own_references(task_type: TaskType) -> bool:
    """Tell whether a type looks for mentions of tasks at all; most do not."""
    return type(task_type).references is not TaskType.references
