"""Continuing a run: the same run id, only what is not settled, and the user is told beforehand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from flowbuilder.api.launching import LaunchPlan, make_launch_plan
from flowbuilder.api.run import Run
from flowbuilder.api.run_request import RunRequest
from flowbuilder.api.workflow import Workflow
from flowbuilder.errors import FlowBuilderError, RecoveryError, WorkflowValidationError
from flowbuilder.ids import short_id
from flowbuilder.runtime.bound_plan import BoundPlan
from flowbuilder.runtime.live_run import NOT_SET, LiveRun
from flowbuilder.runtime.recovery import Assume, RecoveryPlan, plan_recovery, restore_run
from flowbuilder.store.ports import SavedRun
from flowbuilder.vocabulary import RunState, TaskState

if TYPE_CHECKING:
    from flowbuilder.api.container import ServiceContainer

__all__ = ["PreparedResume", "prepare_resume", "prepare_retry"]

_DONE = frozenset({TaskState.SUCCEEDED, TaskState.CACHED})


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

    def open(self, *, echo: bool = True, cache: bool = True) -> Run:
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
        request = RunRequest(durability=self.saved.summary.durability, cache=cache, echo=echo)
        earlier = None
        if self.recovery.refill:
            from flowbuilder.api.preloading import find_outputs

            earlier = find_outputs(self.launch, None, self.recovery.refill)

        def restore(live: LiveRun) -> None:
            restore_run(live, self.recovery, self.saved)
            if earlier is not None:
                earlier.fill(live)

        live = self.launch.container.engine.reopen(
            self.launch.bound,
            self.saved.header,
            self.params,
            self.launch.options(request),
            reasons=self.recovery.reasons(plan),
            restore=restore,
        )
        return Run(live, self.launch)

    def announce(self) -> None:
        """Tell the user on stderr what will happen, before it does."""
        sys.stderr.write("\n".join(self.lines) + "\n")


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
        If it is alive, or the recorded version cannot be compiled again to the same plan.
    """
    journal = container.journal
    summary = journal.find_run(ref)
    if summary.state in {RunState.PENDING, RunState.RUNNING, RunState.PAUSED}:
        # Taking it over is refused too, later and atomically; this spares a plan of what is moot.
        ref = short_id(summary.run_id)
        raise RecoveryError(
            f"run {ref} is {summary.state.value}: pid {summary.owner_pid} on {summary.owner_host}"
            " executes it",
            hint=f"wait for its end, or end it with: flowbuilder cancel {ref}",
        )
    saved = journal.load_run(summary.run_id)
    launch = _recompile(container, saved, functions or {})
    recovery = plan_recovery(
        launch.compiled.plan, saved, load=container.artifacts.load, assume=_checked_assume(assume)
    )
    return PreparedResume(launch, saved, recovery, _params(launch, saved, params or {}))


def prepare_retry(
    live: LiveRun,
    launch: LaunchPlan,
    *,
    assume: str | None = None,
    functions: Mapping[str, Callable[..., object]] | None = None,
) -> PreparedResume:
    """Plan the continuation of a run of this process that has ended.

    Parameters
    ----------
    live : LiveRun
        The run; what it still holds in memory need not be read back, nor have been stored.
    launch : LaunchPlan
        What it started from.
    assume : {"done", "rerun"}, optional
        What to do with external tasks whose outcome is unknown.
    functions : mapping, optional
        ``module:name`` -> function, instead of what these names stand for now.

    Raises
    ------
    RecoveryError
        If it has not ended yet.
    """
    if live.finished is None:
        raise RecoveryError(
            f"run {short_id(live.run_id)} has not ended yet", hint="wait for it, or cancel it"
        )
    saved = launch.container.journal.load_run(live.run_id)
    for instance, state in enumerate(saved.states):
        if state in _DONE and live.values[instance] is not NOT_SET:
            saved.outputs[instance] = live.value(instance)
    launch = _rebind(launch, functions or {})
    recovery = plan_recovery(
        launch.compiled.plan,
        saved,
        load=launch.container.artifacts.load,
        assume=_checked_assume(assume),
    )
    return PreparedResume(launch, saved, recovery, live.params)


def _rebind(launch: LaunchPlan, given: Mapping[str, Callable[..., object]]) -> LaunchPlan:
    """Look functions up again: the user may have corrected them in another cell."""
    from flowbuilder.tasks.binding import bind_programs

    old = launch.workflow.functions
    functions = {**old, **{name: _current(name, body) for name, body in old.items()}}
    for name, body in given.items():
        if name not in functions:
            names = ", ".join(sorted(functions)) or "none"
            raise FlowBuilderError(
                f"expected the name of a function of this workflow, found {name!r}",
                hint=f"its functions: {names}",
            )
        functions[name] = getattr(body, "function", body)
    programs = bind_programs(launch.compiled, launch.container.registry, functions=functions)
    workflow = Workflow.from_spec(
        launch.workflow.spec,
        functions=functions,
        origin=launch.workflow.origin,
        data_dir=launch.container.data_dir,
    )
    bound = BoundPlan(launch.compiled.plan, programs)
    return replace(launch, workflow=workflow, bound=bound)


def _current(reference: str, old: Callable[..., object]) -> Callable[..., object]:
    """Give what ``module:qualname`` stands for now; the old function if that is something else."""
    module, _, qualname = reference.partition(":")
    found: object = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    found = getattr(found, "function", found)
    # The name may have been given to something else since, such as the task's output.
    same = f"{getattr(found, '__module__', '')}:{getattr(found, '__qualname__', '')}" == reference
    return cast("Callable[..., object]", found) if same and callable(found) else old


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
            f"run {ref} was started with another version: a file it includes, or a task type,"
            " changed",
            hint="start a new run instead",
        )
    return launch


def _params(
    launch: LaunchPlan, saved: SavedRun, given: Mapping[str, object]
) -> Mapping[str, object]:
    recorded = {
        name: value for name, value in saved.header.params.items() if not _is_description(value)
    }
    try:
        return launch.check_params({**recorded, **given})
    except WorkflowValidationError as error:
        raise RecoveryError(
            f"the parameters of run {short_id(saved.summary.run_id)} cannot be restored: {error}",
            hint="give tables and secrets again, with -p name=@file, -p name=value or as arguments",
        ) from error


def _is_description(value: object) -> bool:
    """Whether a recorded parameter, or a part of it, only describes what was given."""
    if isinstance(value, dict):
        return "$object" in value or any(map(_is_description, value.values()))
    return isinstance(value, list) and any(map(_is_description, value))


def _checked_assume(value: str | None) -> Assume | None:
    if value not in {None, "done", "rerun"}:
        raise FlowBuilderError(f"expected assume to be 'done' or 'rerun', found {value!r}")
    return cast("Assume | None", value)
