"""Where a task will run, as far as the plan can tell, and why."""

from __future__ import annotations

from flowbuilder.model import TaskSpec
from flowbuilder.plugins.task_type import TaskType
from flowbuilder.vocabulary import ExecutorKind

__all__ = ["AUTO_REASON", "choose_planned_executor"]

AUTO_REASON = "inline if short or alone, else a thread"
_TIMEOUT_REASON = "a thread: with a timeout never inline"


def choose_planned_executor(
    spec: TaskSpec, task_type: TaskType | None, override: ExecutorKind | None
) -> tuple[ExecutorKind, str]:
    """Decide where a task runs, or say how the engine will decide.

    The author's word counts most, then the caller's, then the task type's. Types that wait on the
    I/O loop have no code another executor could run, so a caller's word does not move them.

    Parameters
    ----------
    spec : TaskSpec
        The task.
    task_type : TaskType or None
        Its type; None if it is not loaded.
    override : ExecutorKind or None
        What the caller asked for, for tasks whose author left the choice open.

    Returns
    -------
    executor : ExecutorKind
        ``auto`` if only measurements can decide.
    reason : str
        Half a sentence for people.
    """
    if spec.executor is not ExecutorKind.AUTO:
        return spec.executor, "set in the workflow"
    if task_type is not None and task_type.is_async:
        return ExecutorKind.ASYNC, f"{spec.type} waits without holding a thread"
    if override is not None and override is not ExecutorKind.AUTO:
        if override is ExecutorKind.INLINE and spec.timeout_s is not None:
            return ExecutorKind.AUTO, _TIMEOUT_REASON
        return override, "asked for by the caller"
    if task_type is not None and task_type.executor is not ExecutorKind.AUTO:
        return task_type.executor, f"{spec.type} tasks run there"
    return ExecutorKind.AUTO, AUTO_REASON if spec.timeout_s is None else _TIMEOUT_REASON
