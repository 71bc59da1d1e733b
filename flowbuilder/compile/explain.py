"""Say what a plan will do and why, as a database explains a query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from flowbuilder.compile.expansion import CompiledWorkflow, Edge, FlatTask, Role
from flowbuilder.durations import format_duration
from flowbuilder.runtime.plan import ExecutionPlan, PlannedTask, RetryPolicy
from flowbuilder.vocabulary import Effects, JoinRule, Persist

__all__ = ["Need", "PlanExplanation", "PlannedStep", "explain_plan"]


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """A task another one waits for, and why: ``data``, ``order``, ``implied`` or ``twin``."""

    task: str
    kind: str


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One task of the plan, in words."""

    task: str
    type: str
    executor: str
    reason: str
    needs: tuple[Need, ...] = ()
    settings: tuple[str, ...] = ()
    """What differs from the defaults, such as ``timeout 30.0s``."""
    twin_of: str = ""
    is_preloaded: bool = False
    is_cacheable: bool = False
    """Whether a cache could spare it: it has no effects."""
    cache: str = ""
    """What the cache would do with it, if it is cached and that was asked."""
    is_critical: bool = False


class PlanExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """A plan in words and numbers."""

    workflow: str
    fingerprint: str
    plan_id: str
    task_count: int
    edge_count: int
    depth: int
    """Tasks on the longest chain."""
    width: int
    """Most tasks that are equally deep: what could run at once."""
    critical_path: tuple[str, ...]
    outputs: tuple[str, ...]
    selection: dict[str, object]
    steps: tuple[PlannedStep, ...]
    not_selected: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Write it as one JSON document."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    def to_text(self, *, limit: int = 100) -> str:
        """Write it as aligned plain text for a terminal of about 100 columns.

        Parameters
        ----------
        limit : int
            Most tasks shown one by one; of larger plans the first ones are shown and all are
            counted.
        """
        from flowbuilder.compile.explanation_text import write_explanation

        return write_explanation(self, limit=limit)


def explain_plan(
    compiled: CompiledWorkflow, cache: Mapping[str, str] | None = None
) -> PlanExplanation:
    """Explain a plan: order, executors, dependencies, critical path, and what a cache would skip.

    Parameters
    ----------
    compiled : CompiledWorkflow
        The plan with what it was made from.
    cache : mapping of str to str, optional
        Key of a cached task -> what the cache would do with it.
    """
    plan, expansion = compiled.plan, compiled.expansion
    preloaded = frozenset(_preloaded(plan))
    critical = frozenset(plan.critical_path)
    keys = [task.key for task in plan.tasks]
    steps = tuple(
        _step(
            compiled,
            instance,
            needs=_needs(compiled, instance, keys, is_preloaded=instance in preloaded),
            is_preloaded=instance in preloaded,
            is_critical=instance in critical,
            cache=(cache or {}).get(keys[instance], ""),
        )
        for instance in range(len(plan))
    )
    depth, width = _shape(plan)
    return PlanExplanation(
        workflow=plan.workflow,
        fingerprint=plan.fingerprint,
        plan_id=plan.plan_id,
        task_count=len(plan),
        edge_count=len(plan.parents),
        depth=depth,
        width=width,
        critical_path=tuple(keys[instance] for instance in plan.critical_path),
        outputs=tuple(keys[instance] for instance in plan.outputs),
        selection={word: value for word, value in plan.options.items() if word != "preloaded"},
        steps=steps,
        not_selected=tuple(
            task.key
            for task, instance in zip(expansion.tasks, compiled.instances, strict=True)
            if instance < 0 and task.role is not Role.ENTER
        ),
    )


def _preloaded(plan: ExecutionPlan) -> Sequence[int]:
    found = plan.options.get("preloaded", ())
    assert isinstance(found, Sequence)
    return found


def _step(
    compiled: CompiledWorkflow,
    instance: int,
    *,
    needs: tuple[Need, ...],
    is_preloaded: bool,
    is_critical: bool,
    cache: str,
) -> PlannedStep:
    plan = compiled.plan
    task = plan.tasks[instance]
    twin = plan.twins[instance]
    is_work = compiled.expansion.tasks[compiled.order[instance]].role is Role.TASK
    return PlannedStep(
        task=task.key,
        type=task.type,
        executor=str(task.executor),
        reason="its output comes from an earlier run" if is_preloaded else task.executor_reason,
        needs=needs,
        settings=tuple(_settings(task, is_work=is_work)),
        twin_of=plan.tasks[twin].key if twin >= 0 else "",
        is_preloaded=is_preloaded,
        is_cacheable=is_work and task.effects is Effects.NONE and twin < 0 and not is_preloaded,
        is_critical=is_critical,
        cache="" if twin >= 0 or is_preloaded else cache,
    )


def _needs(
    compiled: CompiledWorkflow, instance: int, keys: Sequence[str], *, is_preloaded: bool
) -> tuple[Need, ...]:
    if is_preloaded:
        return ()
    twin = compiled.plan.twins[instance]
    if twin >= 0:
        return (Need(task=keys[twin], kind="twin"),)
    flat: FlatTask = compiled.expansion.tasks[compiled.order[instance]]
    edges: list[Edge] = sorted(flat.edges, key=lambda edge: compiled.instances[edge.parent])
    return tuple(
        Need(task=keys[compiled.instances[edge.parent]], kind=str(edge.kind)) for edge in edges
    )


def _settings(task: PlannedTask, *, is_work: bool) -> list[str]:
    """List what differs from the defaults, in words."""
    found = []
    if task.has_condition:
        found.append("when")
    if task.join is not JoinRule.ALL_SUCCESS:
        found.append(f"join {task.join}")
    if task.retry.max_attempts > 1:
        found.append(_retry(task.retry))
    if task.timeout_s is not None:
        found.append(f"timeout {format_duration(task.timeout_s)}")
    if is_work and task.effects is not Effects.IDEMPOTENT:
        found.append("no effects" if task.effects is Effects.NONE else f"effects {task.effects}")
    found += _keeping(task)
    if task.cpu != 1:
        found.append(f"cpu {task.cpu}")
    if task.pool is not None:
        found.append(f"pool {task.pool}")
    if task.priority:
        found.append(f"priority {task.priority}")
    return found


def _keeping(task: PlannedTask) -> list[str]:
    kept = [] if task.persist is Persist.AUTO else [f"persist {task.persist}"]
    return [*kept, "encrypted"] if task.encrypt else kept


def _retry(retry: RetryPolicy) -> str:
    delay = format_duration(retry.delay_s)
    return f"up to {retry.max_attempts} attempts, {retry.backoff} from {delay}"


def _shape(plan: ExecutionPlan) -> tuple[int, int]:
    """Measure the longest chain, and the most tasks at one distance from the start."""
    levels = [0] * len(plan)
    for instance in range(len(plan)):
        row = plan.parents_of(instance)
        levels[instance] = 1 + max((levels[parent] for parent in row), default=0)
    return max(levels, default=0), max(Counter(levels).values(), default=0)
