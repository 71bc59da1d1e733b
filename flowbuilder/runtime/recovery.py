"""What a resume keeps and what it runs again, decided before anything starts.

A task is *settled* when its completion and its output are on disk; settled tasks never run again.
Everything else runs again only if
an unfinished task needs it. Effects that may already have happened are never repeated without the
user's word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from flowbuilder.errors import RecoveryError, StorageError
from flowbuilder.records import ArtifactStored, TaskReset
from flowbuilder.runtime.guards import find_guard
from flowbuilder.runtime.plan import ExecutionPlan
from flowbuilder.store.ports import SavedRun
from flowbuilder.vocabulary import TASK_STATE_CODES, Effects, TaskState

if TYPE_CHECKING:
    from flowbuilder.runtime.live_run import LiveRun

__all__ = ["Assume", "RecoveryPlan", "plan_recovery", "restore_run"]

Assume = Literal["done", "rerun"]

_DONE = frozenset({TaskState.SUCCEEDED, TaskState.CACHED})

_WHY = {
    TaskState.FAILED: "it failed",
    TaskState.CANCELLED: "it was cancelled",
    TaskState.SKIPPED: "it was skipped, and what it waits for runs again",
    TaskState.RUNNING: "it was running when the run stopped",
    TaskState.UNKNOWN: "its outcome is unknown",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPlan:
    """The decision, by instance.

    Parameters
    ----------
    keep : dict of int to object
        Outputs that are on disk, read back; missing where an output was not kept and nobody needs
        it.
    states : dict of int to TaskState
        Final states that stand.
    rerun : dict of int to str
        Why each instance runs again (or for the first time).
    unknown : dict of int to str
        Instances whose effects may have happened; resume must be told what to assume.
    bases : dict of int to int
        Attempts that do not count against the retry limit.
    """

    keep: dict[int, object]
    states: dict[int, TaskState]
    rerun: dict[int, str]
    unknown: dict[int, str]
    bases: dict[int, int]

    def lines(self, plan: ExecutionPlan) -> list[str]:
        """Say in words what will happen, one line per task that runs again."""
        kept = len(self.states)
        head = f"{kept} of {len(plan)} tasks are settled and stay as they are, {len(self.rerun)} will run"
        return [
            head,
            *(
                f"  {plan.tasks[instance].key}: {why}"
                for instance, why in sorted(self.rerun.items())
            ),
        ]


def plan_recovery(
    plan: ExecutionPlan,
    saved: SavedRun,
    *,
    load: Callable[[ArtifactStored], object],
    assume: Assume | None = None,
) -> RecoveryPlan:
    """Decide what to keep and what to run again.

    Parameters
    ----------
    plan : ExecutionPlan
        The plan the run started with.
    saved : SavedRun
        What the journal holds.
    load : callable
        Reads a stored output; a `StorageError` means the output counts as absent.
    assume : {"done", "rerun"}, optional
        What to do with external tasks that started and never settled; without it they are listed
        in ``unknown``.

    Raises
    ------
    RecoveryError
        If the records do not fit the plan.
    """
    if len(saved.states) != len(plan):
        raise RecoveryError(
            f"expected records of {len(plan)} tasks, found {len(saved.states)}: the workflow changed"
        )
    outputs = _readable_outputs(saved, load)
    states = list(saved.states)
    unknown: dict[int, str] = {}
    rerun = _unfinished(plan, saved, states, unknown, assume)
    _add_volatile(plan, states, outputs, rerun, unknown, assume)
    keep = {
        instance: outputs.get(instance)
        for instance, state in enumerate(states)
        if state in _DONE and instance not in rerun and (instance in outputs or assume == "done")
    }
    return RecoveryPlan(
        keep=keep,
        states={instance: state for instance, state in enumerate(states) if instance not in rerun},
        rerun=rerun,
        unknown=unknown,
        bases={
            instance: saved.attempts[instance]
            if saved.states[instance]
            in {TaskState.FAILED, TaskState.CANCELLED, TaskState.SUCCEEDED}
            else int(instance in saved.started)
            for instance in rerun
        },
    )


def _readable_outputs(
    saved: SavedRun, load: Callable[[ArtifactStored], object]
) -> dict[int, object]:
    outputs = dict(saved.outputs)
    for instance, artifact in saved.artifacts.items():
        if instance in outputs:
            continue
        try:
            # Memory-mapped, so reading it now costs little and proves that it is there and whole.
            outputs[instance] = load(artifact)
        except StorageError:
            continue
    return outputs


def _unfinished(
    plan: ExecutionPlan,
    saved: SavedRun,
    states: list[TaskState],
    unknown: dict[int, str],
    assume: Assume | None,
) -> dict[int, str]:
    rerun: dict[int, str] = {}
    for instance, state in enumerate(states):
        if state in _DONE:
            continue
        if state is TaskState.SKIPPED and not any(
            parent in rerun for parent in plan.parents_of(instance)
        ):
            continue
        started = instance in saved.started or state is TaskState.UNKNOWN
        if started and plan.tasks[instance].effects is Effects.EXTERNAL:
            if assume == "done":
                states[instance] = TaskState.SUCCEEDED
                continue
            if assume is None:
                unknown[instance] = "it had started, and whether its effect happened is not known"
        rerun[instance] = _WHY.get(
            state, "it was running when the run stopped" if started else "it has not run yet"
        )
    return rerun


def _add_volatile(
    plan: ExecutionPlan,
    states: list[TaskState],
    outputs: dict[int, object],
    rerun: dict[int, str],
    unknown: dict[int, str],
    assume: Assume | None,
) -> None:
    # Downwards, because a task that runs again needs its own parents' outputs in turn.
    for instance in range(len(plan) - 1, -1, -1):
        if instance in rerun or states[instance] not in _DONE or instance in outputs:
            continue
        needed_by = next((child for child in plan.successors_of(instance) if child in rerun), None)
        if needed_by is None:
            continue
        if plan.tasks[instance].effects is Effects.EXTERNAL:
            if assume == "done":
                continue
            if assume is None:
                unknown[instance] = (
                    "its output was not kept, and running it again repeats its effect"
                )
        rerun[instance] = f"its output was not kept, and {plan.tasks[needed_by].key} needs it"


def restore_run(run: LiveRun, recovery: RecoveryPlan, saved: SavedRun) -> None:
    """Fill a run's columns with what a recovery keeps, and record what goes back to pending."""
    for instance, state in recovery.states.items():
        run.state_codes[instance] = TASK_STATE_CODES[state]
        run.attempts[instance] = saved.attempts[instance]
        if instance in recovery.keep:
            value = recovery.keep[instance]
            run.values[instance] = value
            guard = find_guard(value.__class__)
            if guard is not None:
                run.guarded[instance] = guard
        run.settled_from[instance] = run.run_id
    for instance, why in recovery.rerun.items():
        run.attempts[instance] = saved.attempts[instance]
        run.bases[instance] = recovery.bases[instance]
        run.state_reasons[instance] = why
        if saved.states[instance] is not TaskState.PENDING:
            run.recorder.event(TaskReset(instance=instance, reason=why, time_ns=run.now_ns()))
