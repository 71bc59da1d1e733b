"""Plans from a line of text: ``plan_of("a -> b, a -> c, b -> d, c -> d")``."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import msgspec

from flowbuilder.model.topology import topological_order
from flowbuilder.runtime.bound_plan import BoundPlan
from flowbuilder.runtime.plan import ExecutionPlan, PlannedTask
from flowbuilder.runtime.program import InputSlot, Program

__all__ = ["bind", "edges_of", "plan_from_parents", "plan_of"]


def edges_of(text: str) -> tuple[list[str], list[list[int]]]:
    """Read ``a -> b -> c, d`` into names in a topological order and, per name, the positions of
    its parents.
    """
    names: list[str] = []
    parents: list[list[int]] = []
    for chain in text.split(","):
        previous = -1
        for name in (part.strip() for part in chain.split("->")):
            if name not in names:
                names.append(name)
                parents.append([])
            here = names.index(name)
            if previous >= 0:
                parents[here].append(previous)
            previous = here
    order = topological_order(parents)
    assert order is not None, "the edges form a cycle"
    places = {old: new for new, old in enumerate(order)}
    return [names[old] for old in order], [
        [places[parent] for parent in parents[old]] for old in order
    ]


def plan_from_parents(
    names: Sequence[str],
    parents: Sequence[Sequence[int]],
    tasks: Mapping[str, Mapping[str, object]] | None = None,
) -> ExecutionPlan:
    """Build a plan; parents must come before their children. ``tasks`` holds `PlannedTask` fields
    by name.
    """
    successors: list[list[int]] = [[] for _ in names]
    for child, those in enumerate(parents):
        for parent in those:
            successors[parent].append(child)
    ranks = [0] * len(names)
    for instance in reversed(range(len(names))):
        ranks[instance] = 1 + max((ranks[child] for child in successors[instance]), default=0)
    planned = tuple(
        msgspec.convert(
            {"key": name, "type": "test", "executor": "inline", **(tasks or {}).get(name, {})},
            PlannedTask,
        )
        for name in names
    )
    return ExecutionPlan(
        plan_id="plan-" + "-".join(names)[:40],
        fingerprint="fingerprint",
        workflow="test",
        tasks=planned,
        parent_offsets=_offsets(parents),
        parents=array("i", [parent for those in parents for parent in sorted(those)]),
        successor_offsets=_offsets(successors),
        successors=array("i", [child for those in successors for child in sorted(those)]),
        in_degrees=array("i", [len(those) for those in parents]),
        ranks=array("q", ranks),
        twins=array("i", [-1] * len(names)),
        outputs=tuple(instance for instance, those in enumerate(successors) if not those),
    )


def plan_of(text: str, **tasks: Mapping[str, object]) -> ExecutionPlan:
    """Build a plan from text; keywords hold `PlannedTask` fields by task name."""
    names, parents = edges_of(text)
    return plan_from_parents(names, parents, tasks)


def bind(
    plan: ExecutionPlan, bodies: Mapping[str, Callable[..., object] | Program] | None = None
) -> BoundPlan:
    """Join a plan with bodies by task name; a missing one returns None. Functions get their
    parents' outputs, in order.
    """
    programs = []
    for instance, task in enumerate(plan.tasks):
        body = (bodies or {}).get(task.key)
        if isinstance(body, Program):
            programs.append(body)
            continue
        slots = tuple(InputSlot(parent) for parent in plan.parents_of(instance))
        function = body or _nothing
        programs.append(Program(function=function, arguments=slots, code_key=function.__qualname__))
    return BoundPlan(plan, programs)


def _offsets(rows: Sequence[Sequence[int]]) -> array[int]:
    return array("i", [0, *accumulate(map(len, rows))])


def _nothing(*_inputs: object) -> None:
    """Do nothing."""
