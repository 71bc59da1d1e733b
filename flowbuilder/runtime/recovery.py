"""What a resume keeps and what it runs again, decided before anything starts.

A task is *settled* when its completion and its output are on disk; settled tasks never run again.
Everything else runs again only if an unfinished task needs it. Effects that may already have
happened are never repeated without the user's word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from flowbuilder.errors import RecoveryError, StorageError
from flowbuilder.records import ArtifactStored, TaskReset, TaskSkipped
from flowbuilder.runtime.guards import find_guard
from flowbuilder.runtime.plan import ExecutionPlan
from flowbuilder.store.ports import SavedRun
from flowbuilder.vocabulary import TASK_STATE_CODES, Effects, Persist, TaskState

if TYPE_CHECKING:
    from flowbuilder.runtime.live_run import LiveRun

__all__ = ["Assume", "RecoveryPlan", "plan_recovery", "restore_run"]

Assume = Literal["done", "rerun"]

_DONE = frozenset({TaskState.SUCCEEDED, TaskState.CACHED})
_ENDED = _DONE | {TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED}
_MOST_LINES = 30
_NEW = "it has not run yet"
_ASSUMED = "assumed done when the run was resumed"

_WHY = {
    TaskState.FAILED: "it failed",
    TaskState.CANCELLED: "it was cancelled",
    TaskState.SKIPPED: "it was skipped, and what it waits for runs again",
    TaskState.RUNNING: "it was running when the run stopped",
    TaskState.WAITING: "it was waiting for another attempt when the run stopped",
    TaskState.UNKNOWN: "its outcome is unknown",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPlan:
    """The decision, by instance.

    Parameters
    ----------
    keep : dict of int to object
        Outputs that are at hand; missing where an output was not kept and nobody needs it.
    states : dict of int to TaskState
        Final states that stand.
    rerun : dict of int to str
        Why each instance runs again (or for the first time).
    refill : tuple of int
        Instances left out of the selection whose outputs must be taken from an earlier run again.
    unknown : dict of int to str
        Instances whose effects may have happened; resume must be told what to assume.
    assumed : tuple of int
        Instances that count as done on the user's word; their output is None.
    bases : dict of int to int
        Attempts that do not count against the retry limit, of instances that had attempts.
    """

    keep: dict[int, object]
    states: dict[int, TaskState]
    rerun: dict[int, str]
    refill: tuple[int, ...]
    unknown: dict[int, str]
    assumed: tuple[int, ...]
    bases: dict[int, int]

    def lines(self, plan: ExecutionPlan) -> list[str]:
        """Say in words what will happen: a summary, then one line per task that runs again."""
        verb = "is" if len(self.states) == 1 else "are"
        again = {instance: why for instance, why in self.rerun.items() if why != _NEW}
        kept = f"{len(self.states)} of {len(plan)} tasks {verb} settled and will not run again"
        found = [f"{kept}, {len(self.rerun)} will run"]
        found += [
            f"  {plan.tasks[instance].key}: {why}"
            for instance, why in sorted(again.items())[:_MOST_LINES]
        ]
        if len(again) > _MOST_LINES:
            found.append(f"  and {len(again) - _MOST_LINES} more that ran before")
        fresh = [plan.tasks[at].key for at, why in sorted(self.rerun.items()) if why == _NEW]
        if fresh:
            shown = ", ".join(fresh[:_MOST_LINES])
            rest = f" and {len(fresh) - _MOST_LINES} more" if len(fresh) > _MOST_LINES else ""
            found.append(f"  for the first time: {shown}{rest}")
        found += [f"  {plan.tasks[instance].key}: {_ASSUMED}" for instance in self.assumed]
        return found

    def reasons(self, plan: ExecutionPlan) -> dict[str, str]:
        """Give why tasks run again by key; those that never ran are left out."""
        return {
            plan.tasks[instance].key: why for instance, why in self.rerun.items() if why != _NEW
        }


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
            f"expected records of {len(plan)} tasks, found {len(saved.states)}: the workflow"
            " changed",
            hint="start a new run instead",
        )
    draft = _Draft(plan, saved, _readable_outputs(plan, saved, load), assume)
    for instance in range(len(plan)):
        draft.judge_unfinished(instance)
    # Downwards, because a task that runs again needs its own parents' outputs in turn.
    for instance in reversed(range(len(plan))):
        draft.judge_volatile(instance)
    return draft.decide()


@dataclass(slots=True)
class _Draft:
    """A decision in the making."""

    plan: ExecutionPlan
    saved: SavedRun
    outputs: dict[int, object]
    assume: Assume | None
    states: list[TaskState] = field(init=False)
    preloaded: frozenset[int] = field(init=False)
    rerun: dict[int, str] = field(default_factory=dict)
    refill: set[int] = field(default_factory=set)
    unknown: dict[int, str] = field(default_factory=dict)
    assumed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.states = list(self.saved.states)
        self.preloaded = frozenset(cast("list[int]", self.plan.options.get("preloaded") or ()))

    def judge_unfinished(self, instance: int) -> None:
        """Decide about an instance without a lasting completion; parents come before children."""
        state = self.states[instance]
        if state in _DONE:
            return
        if instance in self.preloaded:
            self.refill.add(instance)
            return
        if state is TaskState.SKIPPED and not any(
            parent in self.rerun for parent in self.plan.parents_of(instance)
        ):
            return
        started = instance in self.saved.started or state is TaskState.UNKNOWN
        if started and self.plan.tasks[instance].effects is Effects.EXTERNAL:
            if self.assume == "done":
                self.states[instance] = TaskState.SUCCEEDED
                self.assumed.add(instance)
                return
            if self.assume is None:
                self.unknown[instance] = (
                    "it had started, and whether its effect happened is not known"
                )
        self.rerun[instance] = _WHY.get(state, _WHY[TaskState.RUNNING] if started else _NEW)

    def judge_volatile(self, instance: int) -> None:
        """Decide about a finished instance whose output is gone; children come before parents."""
        if (
            instance in self.rerun
            or instance in self.outputs
            or instance in self.assumed
            or self.states[instance] not in _DONE
        ):
            return
        successors = self.plan.successors_of(instance)
        needed_by = next((child for child in successors if child in self.rerun), None)
        task = self.plan.tasks[instance]
        if needed_by is None:
            # Its process ended between the completion and the file, or the disk refused the file.
            if task.persist is Persist.ALWAYS and task.effects is not Effects.EXTERNAL:
                self.rerun[instance] = "its output is to be kept and was not stored"
            return
        if instance in self.preloaded:
            self.refill.add(instance)
            return
        if self.plan.tasks[instance].effects is Effects.EXTERNAL:
            if self.assume == "done":
                self.assumed.add(instance)
                return
            if self.assume is None:
                self.unknown[instance] = (
                    "its output was not kept, and running it again repeats its effect"
                )
        needer = self.plan.tasks[needed_by].key
        self.rerun[instance] = f"its output was not kept, and {needer} needs it"

    def decide(self) -> RecoveryPlan:
        """Give the result."""
        saved = self.saved
        states = {
            instance: state
            for instance, state in enumerate(self.states)
            if instance not in self.rerun and instance not in self.refill
        }
        keep = {
            instance: self.outputs[instance]
            for instance, state in states.items()
            if state in _DONE and instance in self.outputs
        }
        keep.update(dict.fromkeys(self.assumed))
        return RecoveryPlan(
            keep=keep,
            states=states,
            rerun=dict(sorted(self.rerun.items())),
            refill=tuple(sorted(self.refill)),
            unknown=dict(sorted(self.unknown.items())),
            assumed=tuple(sorted(self.assumed)),
            bases={
                # What was over starts afresh; what was cut short keeps its failures counted.
                instance: saved.attempts[instance]
                - (0 if saved.states[instance] in _ENDED else saved.failures.get(instance, 0))
                for instance in self.rerun
                if saved.attempts[instance]
            },
        )


def _readable_outputs(
    plan: ExecutionPlan, saved: SavedRun, load: Callable[[ArtifactStored], object]
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
    for instance, twin in enumerate(plan.twins):
        # One file serves all twins.
        if twin in outputs and instance not in outputs and saved.states[instance] in _DONE:
            outputs[instance] = outputs[twin]
    return outputs


def restore_run(run: LiveRun, recovery: RecoveryPlan, saved: SavedRun) -> None:
    """Fill a run's columns with what a recovery keeps, and record what it changes."""
    for instance, state in recovery.states.items():
        run.state_codes[instance] = TASK_STATE_CODES[state]
        run.attempts[instance] = saved.attempts[instance]
        if instance in recovery.keep:
            value = recovery.keep[instance]
            run.values[instance] = value
            guard = find_guard(value.__class__)
            if guard is not None:
                run.guarded[instance] = guard
        run.set_sparse("settled_from", instance, run.run_id)
    for instance in recovery.assumed:
        if saved.states[instance] not in _DONE:
            _record_assumption(run, instance)
    for instance, why in recovery.rerun.items():
        run.attempts[instance] = saved.attempts[instance]
        if saved.attempts[instance]:
            run.set_sparse("bases", instance, recovery.bases[instance])
            if saved.states[instance] not in _ENDED:
                run.set_sparse("lost", instance, saved.lost.get(instance, 0))
        run.set_sparse("state_reasons", instance, why)
        _record_reset(run, instance, saved, why)
    for instance in recovery.refill:
        _record_reset(run, instance, saved, "its output is taken from an earlier run again")


def _record_assumption(run: LiveRun, instance: int) -> None:
    now, code = run.now_ns(), TASK_STATE_CODES[TaskState.SUCCEEDED]
    run.set_sparse("state_reasons", instance, _ASSUMED)
    run.recorder.event(TaskSkipped(instance=instance, reason=_ASSUMED, time_ns=now))
    run.recorder.row((instance, run.attempts[instance], code, 0, now, now, now, None))


def _record_reset(run: LiveRun, instance: int, saved: SavedRun, why: str) -> None:
    if saved.states[instance] is not TaskState.PENDING:
        run.recorder.event(TaskReset(instance=instance, reason=why, time_ns=run.now_ns()))
