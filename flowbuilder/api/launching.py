"""From a compiled workflow to runs: what is shared by all runs of one selection, and the opening
of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from flowbuilder.api.redaction import make_redactor
from flowbuilder.api.run import Run
from flowbuilder.api.run_request import RunRequest, parse_durability, parse_executor
from flowbuilder.errors import Location, TaskFailedError, WorkflowValidationError
from flowbuilder.ids import new_run_id
from flowbuilder.records import RunHeader, VersionHeader
from flowbuilder.runtime.bound_plan import BoundPlan
from flowbuilder.runtime.live_run import LiveRun, RunOptions
from flowbuilder.vocabulary import ExecutorKind

if TYPE_CHECKING:
    from flowbuilder.api.container import ServiceContainer
    from flowbuilder.api.workflow import Workflow
    from flowbuilder.compile.expansion import CompiledWorkflow

__all__ = ["LaunchPlan", "make_launch_plan", "storable_params"]


class LaunchPlan(msgspec.Struct, frozen=True, eq=False):
    """One selection of one workflow, compiled and bound; every run of it starts from here."""

    workflow: Workflow
    container: ServiceContainer
    compiled: CompiledWorkflow
    bound: BoundPlan
    version: VersionHeader
    known_options: dict[object, RunOptions] = msgspec.field(default_factory=dict)

    def open(self, params: Mapping[str, object], request: RunRequest) -> Run:
        """Create a run.

        Raises
        ------
        WorkflowValidationError
            If parameters are missing, unknown or do not match their schemas.
        """
        checked = self.check_params(params)
        options = self.options(request)
        header = self.header(checked, options)
        earlier = None
        if self.compiled.plan.options.get("preloaded"):
            from flowbuilder.api.preloading import find_outputs

            # Before the run exists: if there are none, there is no run.
            earlier = find_outputs(self, request.base_run)
        self.container.open_endpoint()
        live = self.container.engine.open(self.bound, self.version, header, checked, options)
        if earlier is not None:
            earlier.fill(live)
        return Run(live, self)

    def check_params(self, params: Mapping[str, object]) -> Mapping[str, object]:
        """Check parameters against their schemas and fill in defaults."""
        spec = self.workflow.spec
        if not spec.params and not params:
            return params
        from flowbuilder.compile.check import check_parameters

        return check_parameters(spec, params)

    def options(self, request: RunRequest) -> RunOptions:
        """Combine the request, the settings and the workflow into the options of a run."""
        # Runs in great number share one object; only secrets may change from run to run.
        key = (
            request.durability,
            request.executor,
            request.cache,
            request.echo,
            request.keeps_all,
        )
        options = self.known_options.get(key)
        if options is None or self.workflow.spec.secrets:
            options = self.known_options[key] = self._make_options(request)
        return options

    def _make_options(self, request: RunRequest) -> RunOptions:
        spec, settings = self.workflow.spec, self.container.settings
        default = settings.durability or spec.durability
        wanted = parse_executor(request.executor) or settings.executor
        return RunOptions(
            durability=parse_durability(request.durability, default),
            executor=wanted or ExecutorKind.AUTO,
            policy=str(settings.policy),
            redact=make_redactor(spec.secrets) if spec.secrets else None,
            echo=request.echo,
            max_log_bytes=settings.max_log_bytes,
            uses_cache=request.cache,
            keeps_all=request.keeps_all,
        )

    def header(self, params: Mapping[str, object], options: RunOptions) -> RunHeader:
        """Describe a new run for the journal."""
        parent = self.container.parent_run_id()
        return RunHeader(
            run_id=new_run_id(),
            plan_id=self.compiled.plan.plan_id,
            workflow=self.compiled.plan.workflow,
            params=storable_params(params, options) if params else {},
            durability=options.durability.value,
            parent_run_id=parent,
        )

    def locate_failure(self, live: LiveRun, error: TaskFailedError) -> Location | None:
        """Find the place in the user's text for a failed task: the line its code failed at, else
        the task itself.
        """
        for instance, failure in live.failures.items():
            if live.plan.tasks[instance].key == error.task:
                found = parse_location(failure.location)
                own = self.locate_task(instance)
                if own is not None and (found is None or found.file != own.file):
                    return own
                return found
        return None

    def locate_task(self, instance: int) -> Location | None:
        """Find where the author wrote the task of an instance."""
        expansion = self.compiled.expansion
        flat = expansion.tasks[self.compiled.order[instance]]
        source = expansion.scopes[flat.scope].workflow.source
        if source is None:
            return self.workflow.origin
        return source.locate(flat.spec.path)


def make_launch_plan(
    workflow: Workflow, container: ServiceContainer, request: RunRequest
) -> LaunchPlan:
    """Validate, compile and bind a workflow for a selection.

    Raises
    ------
    WorkflowValidationError
        With every problem.
    """
    from flowbuilder.compile import compile_workflow
    from flowbuilder.tasks.binding import bind_programs

    if not workflow.spec.tasks:
        from flowbuilder.errors import Problem

        raise WorkflowValidationError(
            [
                Problem(
                    "expected at least one task, found none",
                    location=workflow.origin,
                    code="no-tasks",
                )
            ]
        )
    compiled = compile_workflow(
        workflow.spec,
        container.registry,
        to=request.to,
        from_=request.from_,
        only=request.only,
        executor=parse_executor(request.executor),
    )
    programs = bind_programs(
        compiled,
        container.registry,
        functions=workflow.functions,
        cache=container.cache_site,
    )
    if not container.is_in_memory and any(task.encrypt for task in compiled.plan.tasks):
        from flowbuilder.store.sealing import require_sealing

        # Now, not when the first output is ready and cannot be kept.
        require_sealing()
    return LaunchPlan(
        workflow,
        container,
        compiled,
        BoundPlan(compiled.plan, programs),
        _version(workflow, compiled),
    )


def _version(workflow: Workflow, compiled: CompiledWorkflow) -> VersionHeader:
    from flowbuilder.compile.fingerprint import canonical_json
    from flowbuilder.definition import write_workflow

    plan, spec = compiled.plan, workflow.spec
    offsets, parents = plan.parent_offsets, plan.parents
    return VersionHeader(
        plan_id=plan.plan_id,
        fingerprint=plan.fingerprint,
        name=plan.workflow,
        text=spec.source.text if spec.source is not None else write_workflow(spec),
        path=str(workflow.path or ""),
        spec_json=canonical_json(compiled.expansion),
        keys=tuple(task.key for task in plan.tasks),
        parents=tuple(tuple(parents[offsets[i] : offsets[i + 1]]) for i in range(len(plan))),
        options={**plan.options, "directory": spec.directory},
    )


def storable_params(params: Mapping[str, object], options: RunOptions) -> dict[str, object]:
    """Give parameters as the journal keeps them: plain data with secrets removed; tables and other
    objects by description.
    """
    from flowbuilder.store.small_outputs import is_exact

    redact = options.redact

    def storable(value: object) -> object:
        if isinstance(value, str):
            if redact is None or redact(value) == value:
                return value
            # Not as if this were the value: a resume must ask for it again.
            return {"$object": "text with a secret", "text": redact(value)}
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: storable(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [storable(item) for item in value]
        if is_exact(value):
            return value
        rows = getattr(value, "shape", None) or [getattr(value, "num_rows", None)]
        return {"$object": f"{type(value).__module__}.{type(value).__qualname__}", "rows": rows[0]}

    return {name: storable(value) for name, value in params.items()}


def parse_location(text: str) -> Location | None:
    """Read ``file:line:column`` back; None if it is not one."""
    parts = text.rsplit(":", 2)
    if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
        return Location(parts[0], int(parts[1]), int(parts[2]))
    return None
