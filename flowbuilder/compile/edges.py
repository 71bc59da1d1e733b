"""Which task waits for which, and why: inputs, ``depends_on``, expressions, the type's text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from flowbuilder.compile.expansion import Edge, EdgeKind
from flowbuilder.errors import ExpressionError, FlowBuilderError
from flowbuilder.expressions import holds_template, read_expression, read_template
from flowbuilder.model import TaskSpec, WorkflowSpec
from flowbuilder.plugins.catalogue import TaskTypes
from flowbuilder.plugins.task_type import TaskType

__all__ = ["edges_from", "mentioned_tasks", "raw_fields", "task_edges", "tasks_in"]


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
    types = {name: _find(registry, name) for name in {task.type for task in spec.tasks}}
    mentions = [mentioned_tasks(task, types[task.type]) for task in spec.tasks]
    return edges_from(spec, types, mentions)


def edges_from(
    spec: WorkflowSpec,
    types: Mapping[str, TaskType | None],
    mentions: Iterable[Collection[str]],
) -> list[tuple[Edge, ...]]:
    """Find the dependencies of every task whose expressions have been read already.

    Parameters
    ----------
    spec : WorkflowSpec
        One workflow text.
    types : mapping of str to TaskType or None
        Every type the tasks name.
    mentions : iterable of collections of str
        Per task the tasks its expressions mention.

    Returns
    -------
    list of tuple of Edge
        As `task_edges` gives them.
    """
    indices = {task.name: index for index, task in enumerate(spec.tasks)}
    return [
        _edges_of(task, types[task.type], indices, mentioned)
        for task, mentioned in zip(spec.tasks, mentions, strict=True)
    ]


def _find(registry: TaskTypes, name: str) -> TaskType | None:
    try:
        return registry.find(name)
    except FlowBuilderError:  # a broken plugin, which the check reports
        return None


def _edges_of(
    task: TaskSpec,
    task_type: TaskType | None,
    indices: Mapping[str, int],
    mentioned: Iterable[str],
) -> tuple[Edge, ...]:
    kinds: dict[str, EdgeKind] = {}
    for selector in task.inputs.values():
        kinds[selector.task] = EdgeKind.DATA
    for name in task.depends_on:
        kinds.setdefault(name, EdgeKind.ORDER)
    for name in mentioned:
        kinds.setdefault(name, EdgeKind.IMPLIED)
    if task_type is not None and type(task_type).references is not TaskType.references:
        for name in task_type.references(task.config, indices.keys()):
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


def mentioned_tasks(task: TaskSpec, task_type: TaskType | None) -> set[str]:
    """Find the tasks that a task's expressions mention.

    Parameters
    ----------
    task : TaskSpec
        The task.
    task_type : TaskType or None
        Its type, if there is one.

    Returns
    -------
    set of str
        Names, whether or not there are such tasks. Expressions that cannot be read mention none.
    """
    mentioned: set[str] = set()
    if task.when is not None:
        mentioned |= tasks_in(_references(task.when))
    if task.config and holds_template(task.config):
        raw = raw_fields(task, task_type)
        mentioned |= tasks_in(read_template(task.config, raw=raw)[0].references)
    if task.env and holds_template(task.env):
        mentioned |= tasks_in(read_template(task.env)[0].references)
    return mentioned


def _references(condition: str) -> Collection[tuple[str, ...]]:
    try:
        return read_expression(condition).references
    except ExpressionError:
        return ()


def tasks_in(references: Iterable[tuple[str, ...]]) -> set[str]:
    """Pick the names of tasks out of an expression's references."""
    return {reference[1] for reference in references if reference[0] == "tasks"}


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
