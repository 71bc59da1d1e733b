"""What the scheduler must know of each task: from the author, the task type and the passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from flowbuilder.compile.executor_choice import choose_planned_executor
from flowbuilder.compile.expansion import Expansion, FlatTask, Role
from flowbuilder.model import Retry, TaskSpec
from flowbuilder.plugins.catalogue import TaskTypes
from flowbuilder.plugins.task_type import TaskType
from flowbuilder.runtime.plan import PlannedTask, RetryPolicy
from flowbuilder.vocabulary import Effects, ExecutorKind, JoinRule

__all__ = ["plan_tasks", "task_effects", "task_priorities"]

_NO_RETRY = RetryPolicy()
_DEFAULT_RETRY = Retry()


def task_effects(expansion: Expansion, registry: TaskTypes) -> list[Effects]:
    """Say per flat task what running it twice does: the author's word, else the task type's.

    Entering and leaving a sub-workflow has none. A type that is not loaded, or that cannot judge a
    config whose values are only known at run time, counts as external.
    """
    find: Callable[[str], TaskType | None] = cache(registry.find)
    return [
        Effects.NONE if task.role is not Role.TASK else _effects(task.spec, find(task.spec.type))
        for task in expansion.tasks
    ]


def _effects(spec: TaskSpec, task_type: TaskType | None) -> Effects:
    if spec.effects is not None:
        return spec.effects
    if task_type is None:
        return Effects.EXTERNAL
    try:
        return task_type.effects(spec.config)
    except Exception:  # a plugin met `${{ }}` where it expected a value
        return Effects.EXTERNAL


def task_priorities(expansion: Expansion) -> list[int]:
    """Give the author's priority per flat task; a sub-workflow's adds to what is inside it."""
    within = [0] * len(expansion.scopes)
    priorities = []
    for task in expansion.tasks:  # an enter task stands before everything inside it
        priority = within[task.scope] + task.spec.priority
        priorities.append(priority)
        if task.role is Role.ENTER:
            within[task.inner_scope] = priority
    return priorities


def plan_tasks(
    expansion: Expansion,
    order: Sequence[int],
    registry: TaskTypes,
    effects: Sequence[Effects],
    twins: Mapping[int, int],
    *,
    override: ExecutorKind | None = None,
) -> tuple[PlannedTask, ...]:
    """Describe the tasks for the scheduler.

    Parameters
    ----------
    expansion : Expansion
        The unfolded workflow.
    order : sequence of int
        Flat index per instance.
    registry : TaskTypes
        Task types, for their executors.
    effects : sequence of Effects
        Per flat task.
    twins : mapping of int to int
        Flat index -> flat index of its representative.
    override : ExecutorKind, optional
        The caller's wish for tasks whose author left the executor open.

    Returns
    -------
    tuple of PlannedTask
        Per instance.
    """
    find: Callable[[str], TaskType | None] = cache(registry.find)
    planned = []
    sealed = _sealed_tasks(expansion)
    for index in order:
        task = expansion.tasks[index]
        if index in twins:
            representative = expansion.tasks[twins[index]].key
            reason = f"shares the output of {representative}"
            planned.append(_light(task, reason, encrypt=task.spec.encrypt))
        elif task.role is Role.TASK:
            planned.append(_plan(task, find(task.spec.type), effects[index], override))
        elif task.role is Role.ENTER:
            reason = "binds the parameters of the sub-workflow"
            has_condition = task.spec.when is not None
            planned.append(
                _light(
                    task,
                    reason,
                    join=task.spec.join,
                    has_condition=has_condition,
                    encrypt=index in sealed,
                )
            )
        else:
            reason = "collects the outputs of the sub-workflow"
            planned.append(_light(task, reason, encrypt=index in sealed))
    return tuple(planned)


def _sealed_tasks(expansion: Expansion) -> set[int]:
    """Find the flat tasks whose outputs are encrypted: by the author's word, and the borders of
    sub-workflows that pass such outputs on.
    """
    sealed: set[int] = set()
    for index, task in enumerate(expansion.tasks):  # parents stand before their children
        is_border = task.role is not Role.TASK
        if task.spec.encrypt or (is_border and any(edge.parent in sealed for edge in task.edges)):
            sealed.add(index)
    return sealed


def _plan(
    task: FlatTask, task_type: TaskType | None, effects: Effects, override: ExecutorKind | None
) -> PlannedTask:
    spec = task.spec
    executor, reason = choose_planned_executor(spec, task_type, override)
    return PlannedTask(
        key=task.key,
        type=spec.type,
        executor=executor,
        executor_reason=reason,
        join=spec.join,
        retry=_NO_RETRY if spec.retry == _DEFAULT_RETRY else _policy(spec.retry),
        timeout_s=spec.timeout_s,
        effects=effects,
        persist=spec.persist,
        encrypt=spec.encrypt,
        cpu=spec.resources.cpu,
        memory_bytes=spec.resources.memory_bytes,
        pool=spec.pool,
        priority=spec.priority,
        has_condition=spec.when is not None,
    )


def _policy(retry: Retry) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=retry.max_attempts,
        backoff=retry.backoff,
        delay_s=retry.delay_s,
        max_delay_s=retry.max_delay_s,
        jitter=retry.jitter,
        on=retry.on,
    )


def _light(
    task: FlatTask,
    reason: str,
    *,
    join: JoinRule = JoinRule.ALL_SUCCESS,
    has_condition: bool = False,
    encrypt: bool = False,
) -> PlannedTask:
    """Plan a task without code of its own: nothing to retry, to time out or to send away."""
    return PlannedTask(
        key=task.key,
        type=task.spec.type,
        executor=ExecutorKind.INLINE,
        executor_reason=reason,
        join=join,
        effects=Effects.NONE,
        encrypt=encrypt,
        has_condition=has_condition,
    )
