"""From a workflow to the plan of a run: check, unfold, then one pass after the other."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path

from flowbuilder.compile.check import check_workflow
from flowbuilder.compile.edges import task_edges
from flowbuilder.compile.expand import expand_workflow
from flowbuilder.compile.expansion import CompiledWorkflow, Expansion
from flowbuilder.compile.fingerprint import plan_identity, workflow_fingerprint
from flowbuilder.compile.folding import fold_expansion
from flowbuilder.compile.inclusion import ReadWorkflow
from flowbuilder.compile.planned_tasks import plan_tasks, task_effects, task_priorities
from flowbuilder.compile.ranks import (
    critical_path,
    inherited_priorities,
    pack_ranks,
    path_lengths,
    weights_from_durations,
)
from flowbuilder.compile.selection import Selected, Selection, select
from flowbuilder.compile.static_order import static_order
from flowbuilder.compile.twins import find_twins
from flowbuilder.definition import read_file
from flowbuilder.definition.collector import paused_collector
from flowbuilder.errors import CycleError, InternalError, Problem, WorkflowValidationError
from flowbuilder.model import WorkflowSpec
from flowbuilder.model.topology import find_cycle, transpose
from flowbuilder.plugins.catalogue import TaskTypes
from flowbuilder.runtime.plan import ExecutionPlan
from flowbuilder.vocabulary import ExecutorKind

__all__ = ["compile_workflow", "read_included"]

Names = str | Iterable[str] | None
_CYCLE_CODE = "cycle"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What the caller asked for besides the selection."""

    executor: ExecutorKind | None
    durations: Mapping[str, float]


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
        _raise_problems(spec, registry, check_workflow(spec, registry))
        expansion = expand_workflow(spec, registry, read=read or read_included)
        fingerprint = workflow_fingerprint(expansion)
        expansion = fold_expansion(expansion, registry)
        request = _Request(executor=executor, durations=durations or {})
        return _assemble(expansion, registry, fingerprint, Selection.of(to, from_, only), request)


def read_included(path: Path) -> WorkflowSpec:
    """Read a workflow file that another one includes.

    Raises
    ------
    WorkflowError
        If it cannot be read, or is not a workflow; then with every problem.
    """
    return read_file(path).require()


def _raise_problems(spec: WorkflowSpec, registry: TaskTypes, problems: Sequence[Problem]) -> None:
    errors = [problem for problem in problems if problem.severity == "error"]
    if not errors:
        return
    if all(problem.code == _CYCLE_CODE for problem in errors):
        rows = [[edge.parent for edge in edges] for edges in task_edges(spec, registry)]
        cycle = find_cycle(rows)
        if cycle:
            names = [spec.tasks[index].name for index in (*cycle, cycle[0])]
            raise CycleError(names, location=errors[0].location)
    raise WorkflowValidationError(problems)


def _assemble(
    expansion: Expansion,
    registry: TaskTypes,
    fingerprint: str,
    selection: Selection,
    request: _Request,
) -> CompiledWorkflow:
    """Run the passes over the unfolded workflow and put their results together."""
    waits = [tuple(edge.parent for edge in task.edges) for task in expansion.tasks]
    chosen = select(expansion, waits, selection) if selection else _everything(len(waits))
    priorities = task_priorities(expansion)
    order = _order(waits, chosen, priorities)
    instances = _positions(order, len(waits))
    fixed = frozenset(chosen.preloaded)
    effects = task_effects(expansion, registry)
    twins = find_twins(expansion, order, effects, fixed=fixed)
    needed = [() if flat in fixed else _sorted_row(waits[flat], instances) for flat in order]
    outputs = _outputs(needed, [instances[flat] for flat in chosen.targets])
    for flat, representative in twins.items():
        needed[instances[flat]] = (instances[representative],)
    urgent = [priorities[flat] for flat in order] if any(priorities) else None
    keys = [expansion.tasks[flat].key for flat in order]
    weights = weights_from_durations(keys, request.durations) if request.durations else None
    lengths = path_lengths(needed, weights)
    options = selection.to_options()
    if request.executor not in (None, ExecutorKind.AUTO):
        options["executor"] = str(request.executor)
    plan_id = plan_identity(fingerprint, options)
    if chosen.preloaded:
        options["preloaded"] = sorted(instances[flat] for flat in chosen.preloaded)
    offsets, parents = _rows_to_arrays(needed)
    successor_offsets, successors = transpose(needed)
    plan = ExecutionPlan(
        plan_id=plan_id,
        fingerprint=fingerprint,
        workflow=expansion.root.name,
        tasks=plan_tasks(expansion, order, registry, effects, twins, override=request.executor),
        parent_offsets=offsets,
        parents=parents,
        successor_offsets=successor_offsets,
        successors=successors,
        in_degrees=array("i", [len(row) for row in needed]),
        ranks=pack_ranks(lengths, inherited_priorities(needed, urgent) if urgent else None),
        twins=_twin_array(order, twins, instances),
        outputs=outputs,
        critical_path=critical_path(needed, lengths, weights),
        durability=expansion.root.durability,
        timeout_s=expansion.root.timeout_s,
        options=options,
    )
    return CompiledWorkflow(
        plan=plan, expansion=expansion, order=tuple(order), instances=tuple(instances)
    )


def _everything(size: int) -> Selected:
    return Selected(run=tuple(range(size)), preloaded=(), targets=())


def _order(
    waits: Sequence[tuple[int, ...]], chosen: Selected, priorities: Sequence[int]
) -> list[int]:
    """Order the chosen tasks, as flat indices; what an urgent task needs is urgent too."""
    kept = sorted((*chosen.run, *chosen.preloaded))
    number = _positions(kept, len(waits))
    fixed = frozenset(chosen.preloaded)
    rows = [() if flat in fixed else _sorted_row(waits[flat], number) for flat in kept]
    order = static_order(rows)
    if order is not None and any(priorities):
        place = _positions(order, len(rows))
        numbered = [_sorted_row(rows[task], place) for task in order]
        inherited = inherited_priorities(numbered, [priorities[kept[task]] for task in order])
        order = static_order(rows, [inherited[place[task]] for task in range(len(rows))])
    if order is None:
        raise InternalError("tasks wait for each other in a workflow that passed its check")
    return [kept[task] for task in order]


def _positions(order: Sequence[int], size: int) -> list[int]:
    """Invert an order: where each index stands, or -1."""
    positions = [-1] * size
    for position, index in enumerate(order):
        positions[index] = position
    return positions


def _sorted_row(row: tuple[int, ...], positions: Sequence[int]) -> tuple[int, ...]:
    if len(row) == 1:
        return (positions[row[0]],)
    return tuple(sorted([positions[index] for index in row]))


def _outputs(needed: Sequence[tuple[int, ...]], targets: Iterable[int]) -> tuple[int, ...]:
    """Give the instances nothing waits for, and those that were asked for by name."""
    is_used = bytearray(len(needed))
    for row in needed:
        for parent in row:
            is_used[parent] = 1
    for target in targets:
        is_used[target] = 0
    return tuple(instance for instance, used in enumerate(is_used) if not used)


def _rows_to_arrays(rows: Sequence[tuple[int, ...]]) -> tuple[array[int], array[int]]:
    offsets = array("i", [0, *accumulate(len(row) for row in rows)])
    return offsets, array("i", chain.from_iterable(rows))


def _twin_array(
    order: Sequence[int], twins: Mapping[int, int], instances: Sequence[int]
) -> array[int]:
    result = array("i", [-1]) * len(order)
    for flat, representative in twins.items():
        result[instances[flat]] = instances[representative]
    return result
