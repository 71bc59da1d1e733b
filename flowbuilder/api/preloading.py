"""Outputs of an earlier run in place of the tasks that ``--from`` and ``--only`` leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flowbuilder.errors import RecoveryError, StorageError
from flowbuilder.ids import short_id
from flowbuilder.records import ABSENT, ArtifactStored
from flowbuilder.runtime.guards import find_guard
from flowbuilder.store.ports import SavedRun
from flowbuilder.store.small_outputs import small_output
from flowbuilder.vocabulary import TASK_STATE_CODES, TaskState

if TYPE_CHECKING:
    from flowbuilder.api.launching import LaunchPlan
    from flowbuilder.runtime.live_run import LiveRun

__all__ = ["preload"]

_MOST_RUNS = 50


def preload(live: LiveRun, launch: LaunchPlan, base_run: str | None) -> None:
    """Fill the preloaded instances of a run that has not begun.

    Raises
    ------
    RecoveryError
        If no run has all the outputs that are needed; lists what is missing.
    """
    plan = live.plan
    instances = cast("list[int]", plan.options["preloaded"])
    wanted = {instance: plan.tasks[instance].key for instance in instances}
    run_id, values = _find_outputs(launch, set(wanted.values()), base_run)
    code = TASK_STATE_CODES[TaskState.CACHED]
    now = live.now_ns()
    for instance, key in wanted.items():
        value, artifact = values[key]
        live.values[instance] = value
        guard = find_guard(value.__class__)
        if guard is not None:
            live.guarded[instance] = guard
        small = small_output(value)
        live.encoded[instance] = small
        live.state_codes[instance] = code
        live.state_reasons[instance] = f"output of run {short_id(run_id)}"
        if small is ABSENT and artifact is not None:
            artifact.instance, artifact.attempt, artifact.seq = instance, 0, -1
            live.recorder.event(artifact)
        live.recorder.row((instance, 0, code, 0, now, now, now, small))


def _find_outputs(
    launch: LaunchPlan, keys: set[str], base_run: str | None
) -> tuple[str, dict[str, tuple[object, ArtifactStored | None]]]:
    journal = launch.container.journal
    name = launch.compiled.plan.workflow
    if base_run is not None:
        summary = journal.find_run(base_run)
        found, missing = _outputs_of(launch, journal.load_run(summary.run_id), keys)
        if missing:
            raise RecoveryError(
                f"run {short_id(summary.run_id)} has no kept output of {', '.join(sorted(missing))}",
                hint="choose another run, or run these tasks first with --to",
            )
        return summary.run_id, found
    fewest = set(keys)
    for summary in journal.list_runs(limit=_MOST_RUNS, workflow=name):
        found, missing = _outputs_of(launch, journal.load_run(summary.run_id), keys)
        if not missing:
            return summary.run_id, found
        fewest = min(fewest, missing, key=len)
    raise RecoveryError(
        f"no run of {name!r} has kept the outputs that are needed; missing: {', '.join(sorted(fewest))}",
        hint="run these tasks first with --to, or set 'persist: always' on them",
    )


def _outputs_of(
    launch: LaunchPlan, saved: SavedRun, keys: set[str]
) -> tuple[dict[str, tuple[object, ArtifactStored | None]], set[str]]:
    found: dict[str, tuple[object, ArtifactStored | None]] = {}
    for instance, key in enumerate(saved.version.keys):
        if key not in keys:
            continue
        if instance in saved.outputs:
            found[key] = (saved.outputs[instance], None)
        elif instance in saved.artifacts:
            try:
                found[key] = (
                    launch.container.artifacts.load(saved.artifacts[instance]),
                    saved.artifacts[instance],
                )
            except StorageError:
                continue
    return found, keys - found.keys()
