"""Outputs of an earlier run in place of the tasks that ``--from`` and ``--only`` leave out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from flowbuilder.errors import RecoveryError, StorageError
from flowbuilder.ids import short_id
from flowbuilder.records import ABSENT, ArtifactStored, TaskSkipped
from flowbuilder.runtime.guards import find_guard
from flowbuilder.store.ports import SavedRun
from flowbuilder.store.small_outputs import small_output
from flowbuilder.vocabulary import TASK_STATE_CODES, TaskState

if TYPE_CHECKING:
    from flowbuilder.api.launching import LaunchPlan
    from flowbuilder.runtime.live_run import LiveRun

__all__ = ["EarlierOutputs", "find_outputs"]

_MOST_RUNS = 50

_Found = dict[str, tuple[object, ArtifactStored | None]]


@dataclass(frozen=True, slots=True)
class EarlierOutputs:
    """Outputs of one earlier run that stand in for tasks left out.

    Parameters
    ----------
    run_id : str
        The run they come from.
    values : mapping of int to (object, ArtifactStored or None)
        By instance: the output, and its file if it has one.
    """

    run_id: str
    values: Mapping[int, tuple[object, ArtifactStored | None]]

    def fill(self, live: LiveRun) -> None:
        """Enter them into a run that has not begun, as cached."""
        live.allocate()
        code, now = TASK_STATE_CODES[TaskState.CACHED], live.now_ns()
        reason = f"output of run {short_id(self.run_id)}"
        for instance, (value, artifact) in self.values.items():
            live.values[instance] = value
            guard = find_guard(value.__class__)
            if guard is not None:
                live.guarded[instance] = guard
            is_sealed = live.plan.tasks[instance].encrypt
            small = live.encoded[instance] = ABSENT if is_sealed else small_output(value)
            live.state_codes[instance] = code
            live.set_sparse("state_reasons", instance, reason)
            if small is ABSENT and artifact is not None:
                artifact.instance, artifact.attempt, artifact.seq = instance, 0, -1
                live.recorder.event(artifact)
            live.recorder.event(TaskSkipped(instance=instance, reason=reason, time_ns=now))
            live.recorder.row((instance, 0, code, 0, now, now, now, small))


def find_outputs(
    launch: LaunchPlan, base_run: str | None, instances: Iterable[int] | None = None
) -> EarlierOutputs:
    """Find the outputs a selection needs from an earlier run.

    Parameters
    ----------
    launch : LaunchPlan
        The selection.
    base_run : str or None
        Which run; None takes the newest of the workflow that has them all.
    instances : iterable of int, optional
        Only these of the tasks left out.

    Raises
    ------
    RecoveryError
        If no run has all the outputs that are needed; lists what is missing.
    """
    plan = launch.compiled.plan
    wanted = cast("Iterable[int]", plan.options["preloaded"]) if instances is None else instances
    keys = {instance: plan.tasks[instance].key for instance in wanted}
    run_id, found = _search(launch, set(keys.values()), base_run)
    return EarlierOutputs(run_id, {instance: found[key] for instance, key in keys.items()})


def _search(launch: LaunchPlan, keys: set[str], base_run: str | None) -> tuple[str, _Found]:
    journal = launch.container.journal
    name = launch.compiled.plan.workflow
    if base_run is not None:
        summary = journal.find_run(base_run)
        found, missing = _outputs_of(launch, journal.load_run(summary.run_id), keys)
        if missing:
            raise RecoveryError(
                f"run {short_id(summary.run_id)} of {summary.workflow!r} has no kept output of"
                f" {', '.join(sorted(missing))}",
                hint="choose another run, or run these tasks first with --to",
            )
        return summary.run_id, found
    fewest = set(keys)
    for summary in journal.list_runs(limit=_MOST_RUNS, workflow=name):
        try:
            saved = journal.load_run(summary.run_id)
        except StorageError:
            continue
        found, missing = _outputs_of(launch, saved, keys)
        if not missing:
            return summary.run_id, found
        fewest = min(fewest, missing, key=len)
    raise RecoveryError(
        f"none of the newest {_MOST_RUNS} runs of {name!r} has kept all outputs that are needed;"
        f" missing: {', '.join(sorted(fewest))}",
        hint="run these tasks first with --to, or set 'persist: always' on them",
    )


def _outputs_of(launch: LaunchPlan, saved: SavedRun, keys: set[str]) -> tuple[_Found, set[str]]:
    found: _Found = {}
    for instance, key in enumerate(saved.version.keys):
        if key not in keys:
            continue
        if instance in saved.outputs:
            found[key] = (saved.outputs[instance], None)
        elif instance in saved.artifacts:
            artifact = saved.artifacts[instance]
            try:
                found[key] = (launch.container.artifacts.load(artifact), artifact)
            except StorageError:
                continue
    return found, keys - found.keys()
