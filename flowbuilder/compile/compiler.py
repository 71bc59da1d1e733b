"""From a workflow to the plan of a run: check, unfold, then one pass after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from flowbuilder.compile.assembly import PlanRequest, assemble_plan
from flowbuilder.compile.check import check_with_edges, check_workflow
from flowbuilder.compile.expand import expand_workflow, inner_problems
from flowbuilder.compile.expansion import CompiledWorkflow, Edge
from flowbuilder.compile.fingerprint import workflow_fingerprint
from flowbuilder.compile.folding import fold_expansion
from flowbuilder.compile.inclusion import ReadWorkflow
from flowbuilder.compile.selection import Selection
from flowbuilder.definition import read_file
from flowbuilder.definition.collector import paused_collector
from flowbuilder.errors import CycleError, Problem, WorkflowValidationError
from flowbuilder.model import WorkflowSpec
from flowbuilder.model.topology import find_cycle
from flowbuilder.plugins.catalogue import TaskTypes
from flowbuilder.vocabulary import ExecutorKind

__all__ = ["compile_workflow", "read_included", "validate_workflow"]

Names = str | Iterable[str] | None
_CYCLE_CODE = "cycle"


def compile_workflow(
    spec: WorkflowSpec,
    registry: TaskTypes,
    *,
    to: Names = None,
    from_: Names = None,
    only: Names = None,
    executor: ExecutorKind | None = None,
    durations: Mapping[str, float] | None = None,
    read: ReadWorkflow | None = None,
) -> CompiledWorkflow:
    """Compile a workflow.

    Parameters
    ----------
    spec : WorkflowSpec
        What the author wrote.
    registry : TaskTypes
        The task types it may use.
    to : str or iterable of str, optional
        Plan only these tasks and what they wait for.
    from_ : str or iterable of str, optional
        Plan only these tasks and what waits for them. Outputs they need from other tasks come from
        an earlier run: those instances are in the plan without parents, and
        ``plan.options["preloaded"]`` lists them.
    only : str or iterable of str, optional
        Plan exactly these tasks; preloaded instances as for ``from_``.
    executor : ExecutorKind, optional
        Where tasks run whose author left it open.
    durations : mapping of str to float, optional
        Seconds by TaskRun key from former runs, for the critical path; without them every task
        counts the same.
    read : callable, optional
        Reads included workflow files; by default `read_included`.

    Returns
    -------
    CompiledWorkflow
        The plan, and what its programs are bound from.

    Raises
    ------
    WorkflowValidationError
        With every problem found in the workflow, in what it includes, and in the selection.
    CycleError
        If tasks wait for each other and nothing else is wrong.

    Notes
    -----
    Pure but for reading included files: no user code is imported or run. Linear in tasks plus
    edges.
    """
    with paused_collector():
        read = read or read_included
        problems, edges = check_with_edges(spec, registry)
        if _has_errors(problems):
            problems += inner_problems(spec, registry, read=read)
            raise _failure(spec, edges, problems)
        expansion = expand_workflow(spec, registry, read=read, edges=edges)
        fingerprint = workflow_fingerprint(expansion)
        expansion = fold_expansion(expansion, registry)
        request = PlanRequest(
            selection=Selection.of(to, from_, only), executor=executor, durations=durations or {}
        )
        return assemble_plan(expansion, registry, fingerprint, request)


def validate_workflow(
    spec: WorkflowSpec, registry: TaskTypes, *, read: ReadWorkflow | None = None
) -> tuple[Problem, ...]:
    """Find everything wrong with a workflow and with what it includes, without compiling it.

    Parameters
    ----------
    spec : WorkflowSpec
        What the author wrote.
    registry : TaskTypes
        The task types it may use.
    read : callable, optional
        Reads included workflow files; by default `read_included`.

    Returns
    -------
    tuple of Problem
        Errors and warnings; empty if all is well.
    """
    with paused_collector():
        own = check_workflow(spec, registry)
        return own + inner_problems(spec, registry, read=read or read_included)


def read_included(path: Path) -> WorkflowSpec:
    """Read a workflow file that another one includes.

    Raises
    ------
    WorkflowError
        If it cannot be read, or is not a workflow; then with every problem.
    """
    return read_file(path).require()


def _has_errors(problems: Iterable[Problem]) -> bool:
    return any(problem.severity == "error" for problem in problems)


def _failure(
    spec: WorkflowSpec, edges: Sequence[tuple[Edge, ...]], problems: Sequence[Problem]
) -> CycleError | WorkflowValidationError:
    """Choose the error: a cycle has one of its own if nothing else is wrong."""
    errors = [problem for problem in problems if problem.severity == "error"]
    if all(problem.code == _CYCLE_CODE for problem in errors):
        cycle = find_cycle([[edge.parent for edge in of_task] for of_task in edges])
        if cycle:
            names = [spec.tasks[index].name for index in (*cycle, cycle[0])]
            return CycleError(names, location=errors[0].location)
    return WorkflowValidationError(problems)
