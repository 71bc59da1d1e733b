"""The meaning of a workflow: everything wrong with it at once, without running user code."""

from __future__ import annotations

from pathlib import Path

from flowbuilder.compile.dependency_check import check_cycles, check_parents
from flowbuilder.compile.edges import edges_from, raw_fields, tasks_in
from flowbuilder.compile.expansion import Edge
from flowbuilder.compile.expression_check import ExpressionCheck
from flowbuilder.compile.parameter_check import check_parameter_schemas, check_parameters
from flowbuilder.compile.problem_list import ProblemList, task_path
from flowbuilder.compile.task_check import TypeCheck
from flowbuilder.errors import Problem
from flowbuilder.expressions import holds_template
from flowbuilder.model import SourcePath, TaskSpec, WorkflowSpec
from flowbuilder.model.names import fold_name
from flowbuilder.plugins.catalogue import TaskTypes
from flowbuilder.plugins.task_type import TaskType

__all__ = ["check_parameters", "check_with_edges", "check_workflow"]

_NOWHERE: frozenset[SourcePath] = frozenset()


def check_workflow(spec: WorkflowSpec, registry: TaskTypes) -> tuple[Problem, ...]:
    """Find every semantic problem of one workflow text.

    Parameters
    ----------
    spec : WorkflowSpec
        The workflow. What its sub-workflows contain is checked where they are unfolded.
    registry : TaskTypes
        Task types.

    Returns
    -------
    tuple of Problem
        Errors and warnings in the order of the text; empty if all is well.

    Notes
    -----
    About 10 us per task; places are looked up only for problems.
    """
    return check_with_edges(spec, registry)[0]


def check_with_edges(
    spec: WorkflowSpec, registry: TaskTypes
) -> tuple[tuple[Problem, ...], list[tuple[Edge, ...]]]:
    """Check a workflow and hand out the dependencies found on the way.

    Parameters
    ----------
    spec : WorkflowSpec
        The workflow, as for `check_workflow`.
    registry : TaskTypes
        Task types.

    Returns
    -------
    problems : tuple of Problem
        As `check_workflow` gives them.
    edges : list of tuple of Edge
        As `task_edges` gives them.
    """
    problems = ProblemList(spec)
    known = {task.name: index for index, task in enumerate(spec.tasks)}
    expressions = ExpressionCheck(spec, problems)
    check_parameter_schemas(spec, problems)
    _check_twins(spec, problems)
    directory = Path(spec.directory or ".")
    types: dict[str, TypeCheck] = {}
    mentions: list[set[str]] = []
    for index, task in enumerate(spec.tasks):
        check_parents(task, index, known, problems)
        type_check = types.get(task.type)
        if type_check is None:
            type_check = types[task.type] = TypeCheck(task.type, registry, directory)
        open_paths, mentioned = _check_expressions(task, index, type_check.task_type, expressions)
        mentions.append(mentioned)
        type_check.check(task, index, open_paths, problems)
    found_types = {name: type_check.task_type for name, type_check in types.items()}
    edges = edges_from(spec, found_types, mentions)
    check_cycles(spec, [[edge.parent for edge in of_task] for of_task in edges], problems)
    return problems.sorted(), edges


def _check_expressions(
    task: TaskSpec, index: int, task_type: TaskType | None, expressions: ExpressionCheck
) -> tuple[frozenset[SourcePath], set[str]]:
    """Check what is evaluated; return where in the config it stands and the tasks it mentions."""
    open_paths, mentioned = _NOWHERE, set[str]()
    path = task_path(task, index)
    if task.when is not None:
        mentioned |= tasks_in(expressions.check_condition(task, task.when, (*path, "when")))
    if task.env and holds_template(task.env):
        _, references = expressions.check_template(task, task.env, (*path, "env"))
        mentioned |= tasks_in(references)
    if task.config and holds_template(task.config):
        raw, place = raw_fields(task, task_type), (*path, "config")
        open_paths, references = expressions.check_template(task, task.config, place, raw)
        mentioned |= tasks_in(references)
    return open_paths, mentioned


def _check_twins(spec: WorkflowSpec, problems: ProblemList) -> None:
    """Note names that are the same once case and compatibility forms are folded."""
    first: dict[str, str] = {}
    for index, task in enumerate(spec.tasks):
        folded = fold_name(task.name)
        other = first.get(folded)
        if other is None:
            first[folded] = task.name
        else:
            message = f"two tasks are called {task.name!r}"
            if other != task.name:
                message = f"tasks {other!r} and {task.name!r} have names that are too similar"
            problems.add(
                message,
                (*task_path(task, index), "name"),
                task=task.name,
                hint="rename one of them",
                code="duplicate-name",
            )
