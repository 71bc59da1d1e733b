"""Numbering the chosen tasks and filling the arrays of a plan."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain

import msgspec

from flowbuilder.compile.expansion import CompiledWorkflow, Expansion
from flowbuilder.compile.fingerprint import plan_identity
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
from flowbuilder.errors import InternalError
from flowbuilder.model.topology import transpose
from flowbuilder.plugins.catalogue import TaskTypes
from flowbuilder.runtime.plan import ExecutionPlan
from flowbuilder.vocabulary import ExecutorKind

__all__ = ["PlanRequest", "assemble_plan"]


class PlanRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller of the compiler asked for.

    Parameters
    ----------
    selection : Selection
        Which tasks.
    executor : ExecutorKind or None
        Where tasks run whose author left it open.
    durations : mapping of str to float
        Seconds by TaskRun key from former runs; may be empty.
    """

    selection: Selection = msgspec.field(default_factory=Selection)
    executor: ExecutorKind | None = None
    durations: Mapping[str, float] = msgspec.field(default_factory=dict)


def assemble_plan(
    expansion: Expansion,
    registry: TaskTypes,
    fingerprint: str,
    request: PlanRequest,
) -> CompiledWorkflow:
    """Run the passes over an unfolded workflow and put their results together.

    Parameters
    ----------
    expansion : Expansion
        The unfolded workflow, without cycles, constants folded.
    registry : TaskTypes
        The task types it uses.
    fingerprint : str
        Of the workflow before folding.
    request : PlanRequest
        What the caller asked for.

    Raises
    ------
    WorkflowValidationError
        If the selection does not fit the workflow.
    """
    selection = request.selection
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
