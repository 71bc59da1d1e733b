"""Continuing a run: the same run id, only what is not settled, and the user is told beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from flowbuilder.api.launching import LaunchPlan, make_launch_plan
from flowbuilder.api.run import Run
from flowbuilder.api.workflow import RunRequest, Workflow
from flowbuilder.errors import FlowBuilderError, RecoveryError, WorkflowValidationError
from flowbuilder.ids import short_id
from flowbuilder.runtime.live_run import LiveRun
from flowbuilder.runtime.recovery import Assume, RecoveryPlan, plan_recovery, restore_run
from flowbuilder.store.ports import SavedRun
from flowbuilder.vocabulary import RunState

if TYPE_CHECKING:
    from flowbuilder.api.container import ServiceContainer

__all__ = ["PreparedResume", "open_retry", "prepare_resume"]


class PreparedResume:
    """A resume that was planned but not started: read `lines`, then `open` it.

    Parameters
    ----------
    launch : LaunchPlan
        The version the run started with, compiled again.
    saved : SavedRun
        What the journal holds.
    recovery : RecoveryPlan
        What will be kept and run.
    params : mapping
        Parameters of the run.
    """

    def __init__(
        self,
        launch: LaunchPlan,
        saved: SavedRun,
        recovery: RecoveryPlan,
        params: Mapping[str, object],
    ) -> None:
        self.launch = launch
        self.saved = saved
        self.recovery = recovery
        self.params = params

    @property
    def lines(self) -> list[str]:
        """What will happen and why, in words."""
        return self.recovery.lines(self.launch.compiled.plan)

    def open(self, *, echo: bool = True) -> Run:
        """Take the run over; nothing executes yet.

        Raises
        ------
        RecoveryError
            If it is alive elsewhere, if nothing is left to run, or if external tasks have an
            unknown outcome.
        """
        plan = self.launch.compiled.plan
        ref = short_id(self.saved.summary.run_id)
        if self.recovery.unknown:
            listed = "; ".join(
                f"{plan.tasks[instance].key}: {why}"
                for instance, why in self.recovery.unknown.items()
            )
            raise RecoveryError(
                f"run {ref} has tasks with effects outside whose outcome is unknown: {listed}",
                hint="say what to assume: --assume done, or --assume rerun",
            )
        if not self.recovery.rerun and self.saved.summary.state is RunState.SUCCEEDED:
            raise RecoveryError(
                f"run {ref} succeeded, nothing is left to run", hint="start a new run instead"
            )
        request = RunRequest(durability=self.saved.summary.durability, echo=echo)
        reasons = {plan.tasks[instance].key: why for instance, why in self.recovery.rerun.items()}
        live = self.launch.container.engine.reopen(
            self.launch.bound,
            self.saved.header,
            self.params,
            self.launch.options(request),
            reasons=reasons,
            restore=partial(restore_run, recovery=self.recovery, saved=self.saved),
        )
        return Run(live, self.launch)


def prepare_resume(
    container: ServiceContainer,
    ref: str,
    *,
    assume: str | None = None,
    params: Mapping[str, object] | None = None,
    functions: Mapping[str, Callable[..., object]] | None = None,
) -> PreparedResume:
    """Plan the resume of a recorded run.

    Parameters
    ----------
    container : ServiceContainer
        Services of the store that holds it.
    ref : str
        Run id, a unique suffix, or ``latest``.
    assume : {"done", "rerun"}, optional
        What to do with external tasks whose outcome is unknown.
    params : mapping, optional
        Values the journal could not keep (tables).
    functions : mapping, optional
        Live functions of a workflow written in Python.

    Raises
    ------
    RecoveryError
        If the recorded version cannot be compiled again to the same plan.
    """
    journal = container.journal
    saved = journal.load_run(journal.find_run(ref).run_id)
    launch = _recompile(container, saved, functions or {})
    recovery = plan_recovery(
        launch.compiled.plan, saved, load=container.artifacts.load, assume=_checked_assume(assume)
    )
    return PreparedResume(launch, saved, recovery, _params(launch, saved, params or {}))


def open_retry(live: LiveRun, launch: LaunchPlan, assume: str | None) -> Run:
    """Continue a run of this process that has ended."""
    if live.finished is None:
        raise RecoveryError(
            f"run {short_id(live.run_id)} has not ended yet", hint="wait for it, or cancel it"
        )
    saved = launch.container.journal.load_run(live.run_id)
    # What is still in memory need not be read back, and need not have been stored.
    saved.outputs = {
        **{
            instance: value
            for instance, value in enumerate(live.values)
            if live.state(instance) in {"succeeded", "cached"}
        },
    }
    recovery = plan_recovery(
        launch.compiled.plan,
        saved,
        load=launch.container.artifacts.load,
        assume=_checked_assume(assume),
    )
    return PreparedResume(launch, saved, recovery, live.params).open(echo=live.options.echo)


def _recompile(
    container: ServiceContainer, saved: SavedRun, functions: Mapping[str, Callable[..., object]]
) -> LaunchPlan:
    from flowbuilder.definition import read_workflow

    version, ref = saved.version, short_id(saved.summary.run_id)
    options = version.options
    directory = str(options.get("directory") or (Path(version.path).parent if version.path else ""))
    reading = read_workflow(version.text, file=version.path or "<recorded>", directory=directory)
    if reading.spec is None:
        raise RecoveryError(
            f"the recorded text of run {ref} is no longer valid: {reading.problems[0]}"
        )
    workflow = Workflow.from_spec(reading.spec, functions=functions, data_dir=container.data_dir)
    request = RunRequest(
        to=cast("list[str] | None", options.get("to")),
        from_=cast("list[str] | None", options.get("from")),
        only=cast("list[str] | None", options.get("only")),
        executor=cast("str | None", options.get("executor")),
    )
    try:
        launch = make_launch_plan(workflow, container, request)
    except WorkflowValidationError as error:
        raise RecoveryError(
            f"the recorded workflow of run {ref} is no longer valid: {error}"
        ) from error
    if launch.compiled.plan.plan_id != version.plan_id:
        raise RecoveryError(
            f"run {ref} was started with another version: a file it includes, or a task type, changed",
            hint="start a new run instead",
        )
    return launch


def _params(
    launch: LaunchPlan, saved: SavedRun, given: Mapping[str, object]
) -> Mapping[str, object]:
    recorded = {
        name: value
        for name, value in saved.header.params.items()
        if not (isinstance(value, dict) and "$object" in value)
    }
    try:
        return launch.check_params({**recorded, **given})
    except WorkflowValidationError as error:
        raise RecoveryError(
            f"the parameters of run {short_id(saved.summary.run_id)} cannot be restored: {error}",
            hint="give the tables again, with -p name=@file or as arguments",
        ) from error


def _checked_assume(value: str | None) -> Assume | None:
    if value not in {None, "done", "rerun"}:
        raise FlowBuilderError(f"expected assume to be 'done' or 'rerun', found {value!r}")
    return cast("Assume | None", value)
