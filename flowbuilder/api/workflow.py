"""A workflow in the user's hands: immutable, with everything one can do to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from flowbuilder.api.naming import check_name, function_reference
from flowbuilder.api.run_request import Names, RunRequest
from flowbuilder.api.tracing import current_trace
from flowbuilder.errors import Location, Problem, WorkflowError
from flowbuilder.model import Parameter, TaskSpec, WorkflowSpec

if TYPE_CHECKING:
    from flowbuilder.api.container import ServiceContainer
    from flowbuilder.api.launching import LaunchPlan
    from flowbuilder.api.run import Run
    from flowbuilder.compile.expansion import CompiledWorkflow
    from flowbuilder.compile.explain import PlanExplanation

__all__ = ["Workflow"]

_SETTINGS = (
    "retry",
    "cache",
    "timeout_s",
    "executor",
    "effects",
    "persist",
    "encrypt",
    "pool",
    "priority",
    "join",
    "when",
    "title",
)


class Workflow:
    """A workflow: made by `load`, `from_yaml`, ``@fb.workflow``, or task by task with `add`.
    Immutable.

    Parameters
    ----------
    name : str
        Its name.
    params : mapping, optional
        Parameter name -> JSON Schema (with ``default``), or just a default value.
    data_dir : path, optional
        Where its runs are recorded; by default found from its file or the working directory.
    """

    def __init__(
        self,
        name: str,
        *,
        params: Mapping[str, object] | None = None,
        data_dir: str | Path | None = None,
    ) -> None:
        parameters = tuple(_parameter(key, value) for key, value in (params or {}).items())
        spec = WorkflowSpec(name=check_name("workflow", name), tasks=(), params=parameters)
        self._set(spec, {}, None, data_dir)

    def _set(
        self,
        spec: WorkflowSpec,
        functions: Mapping[str, Callable[..., object]],
        origin: Location | None,
        data_dir: str | Path | None,
    ) -> None:
        self.spec = spec
        self.functions = dict(functions)
        self.origin = origin
        self._data_dir = None if data_dir is None else Path(data_dir)
        self._lock = threading.Lock()
        self._container: ServiceContainer | None = None
        self._launch_plans: dict[object, LaunchPlan] = {}

    @classmethod
    def from_spec(
        cls,
        spec: WorkflowSpec,
        *,
        functions: Mapping[str, Callable[..., object]] | None = None,
        origin: Location | None = None,
        data_dir: str | Path | None = None,
    ) -> Workflow:
        """Wrap a definition. ``functions`` are live objects for ``function:`` references, which
        then need no import.
        """
        self = cls.__new__(cls)
        self._set(spec, functions or {}, origin, data_dir)
        return self

    # -- looking ---------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the workflow."""
        return self.spec.name

    @property
    def path(self) -> Path | None:
        """The file it was loaded from, if any."""
        file = self.spec.source.file if self.spec.source is not None else ""
        return Path(file).absolute() if file and not file.startswith("<") else None

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of its tasks, in the author's order."""
        return tuple(task.name for task in self.spec.tasks)

    def validate(self) -> tuple[Problem, ...]:
        """Find everything wrong with it, without running or importing user code; empty if it is
        fine.
        """
        from flowbuilder.compile.compiler import validate_workflow

        return validate_workflow(self.spec, self.container().registry)

    def plan(
        self,
        *,
        to: Names = None,
        from_: Names = None,
        only: Names = None,
        executor: str | None = None,
    ) -> PlanExplanation:
        """Explain what a run would do: order, executors and why, dependencies, critical path, and
        what the cache would skip where that can be known without running code.

        Raises
        ------
        WorkflowValidationError
            With every problem, if it is not valid.
        """
        from flowbuilder.api.caching import forecast_for
        from flowbuilder.compile.explain import explain_plan

        compiled = self.compile(to=to, from_=from_, only=only, executor=executor)
        container = self.container()
        forecast = forecast_for(compiled, container.registry, container.data_dir)
        return explain_plan(compiled, forecast)

    def compile(
        self,
        *,
        to: Names = None,
        from_: Names = None,
        only: Names = None,
        executor: str | None = None,
    ) -> CompiledWorkflow:
        """Compile to an execution plan; the result is kept for the next time."""
        return self.launch_plan(
            RunRequest(to=to, from_=from_, only=only, executor=executor)
        ).compiled

    @property
    def fingerprint(self) -> str:
        """Hash of what it means: the same for YAML and Python, whatever the formatting and
        comments.
        """
        return self.compile().plan.fingerprint

    def to_yaml(self) -> str:
        """Write it as a workflow file. Functions of ``__main__`` become scripts if they are
        self-contained.

        Raises
        ------
        WorkflowError
            If a function must move to a module first; names what it depends on.
        """
        from flowbuilder.api.inlining import inline_main_functions
        from flowbuilder.definition import write_workflow

        return write_workflow(inline_main_functions(self.spec, self.functions))

    # -- building --------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        type: str | Callable[..., object] = "python",  # noqa: A002 - the field's name in a workflow file
        *,
        config: Mapping[str, object] | None = None,
        inputs: Mapping[str, str] | None = None,
        depends_on: str | Iterable[str] = (),
        **fields: Any,
    ) -> Workflow:
        """Give a copy with one more task.

        Parameters
        ----------
        name : str
            Task name.
        type : str or callable
            Task type, or a function for a ``python`` task.
        config : mapping
            What the task type takes; for a function its constant arguments.
        inputs : mapping
            Port (or argument) -> ``task`` or ``task.path``.
        depends_on : str or iterable of str
            Tasks to wait for.
        **fields
            Any other field of a task as it would stand in a file: ``retry``, ``timeout``,
            ``when``, ...

        Raises
        ------
        WorkflowValidationError
            If a field is not valid.
        """
        from flowbuilder.api.building import read_task

        functions = dict(self.functions)
        entry: dict[str, object] = {"name": name, **fields}
        if callable(type):
            body = getattr(type, "function", type)
            reference = function_reference(body, functions, name)
            functions[reference] = body
            entry["type"] = "python"
            entry["config"] = {"function": reference, **({"args": dict(config)} if config else {})}
        else:
            entry["type"] = type
            if config:
                entry["config"] = dict(config)
        if inputs:
            entry["inputs"] = dict(inputs)
        needs = [depends_on] if isinstance(depends_on, str) else list(depends_on)
        if needs:
            entry["depends_on"] = needs
        task: TaskSpec = read_task(entry, len(self.spec.tasks))
        declared = getattr(type, "spec", None)
        if isinstance(declared, TaskSpec):
            task = _with_settings(task, declared, fields)
        if any(other.name == task.name for other in self.spec.tasks):
            raise WorkflowError(
                f"expected a new task name, found {task.name!r} twice", task=task.name
            )
        spec = msgspec.structs.replace(self.spec, tasks=(*self.spec.tasks, task))
        return Workflow.from_spec(
            spec, functions=functions, origin=self.origin, data_dir=self._data_dir
        )

    # -- running ---------------------------------------------------------------------------------

    def run(
        self,
        *,
        to: Names = None,
        from_: Names = None,
        only: Names = None,
        executor: str | None = None,
        durability: str | None = None,
        base_run: str | None = None,
        cache: bool = True,
        echo: bool = True,
        check: bool = True,
        params: Mapping[str, object] | None = None,
        **more_params: object,
    ) -> Run:
        """Run it on this thread and wait. Ctrl-C cancels cleanly.

        Parameters
        ----------
        to, from_, only, executor, durability, base_run, cache, echo :
            See `RunRequest`.
        check : bool
            Raise if the run does not succeed; the error's ``run`` is the run.
        params : mapping
            Parameters, for names that collide with the arguments above.
        **more_params
            Parameters by name.

        Returns
        -------
        Run
            Finished.

        Raises
        ------
        WorkflowValidationError
            If the workflow or a parameter is not valid; nothing ran.
        TaskFailedError
            If a task failed; names the task, its place and the original traceback.
        KeyboardInterrupt
            After Ctrl-C, when the run is cancelled and recorded.
        """
        request = RunRequest(
            to=to,
            from_=from_,
            only=only,
            executor=executor,
            durability=durability,
            base_run=base_run,
            cache=cache,
            echo=echo,
        )
        run = self.open_run(request, {**(params or {}), **more_params})
        run.drive()
        if check:
            run.raise_for_state()
        return run

    def start(
        self,
        *,
        to: Names = None,
        from_: Names = None,
        only: Names = None,
        executor: str | None = None,
        durability: str | None = None,
        base_run: str | None = None,
        cache: bool = True,
        echo: bool = True,
        params: Mapping[str, object] | None = None,
        **more_params: object,
    ) -> Run:
        """Run it in the background and return at once; parameters as for `run`."""
        request = RunRequest(
            to=to,
            from_=from_,
            only=only,
            executor=executor,
            durability=durability,
            base_run=base_run,
            cache=cache,
            echo=echo,
        )
        run = self.open_run(request, {**(params or {}), **more_params})
        run.begin()
        return run

    async def arun(
        self,
        *,
        to: Names = None,
        from_: Names = None,
        only: Names = None,
        executor: str | None = None,
        durability: str | None = None,
        base_run: str | None = None,
        cache: bool = True,
        echo: bool = True,
        check: bool = True,
        params: Mapping[str, object] | None = None,
        **more_params: object,
    ) -> Run:
        """Run it in the background and await its end; parameters as for `run`. Cancelling the
        awaiting task cancels the run.
        """
        run = self.start(
            to=to,
            from_=from_,
            only=only,
            executor=executor,
            durability=durability,
            base_run=base_run,
            cache=cache,
            echo=echo,
            params=params,
            **more_params,
        )
        await run
        if check:
            run.raise_for_state()
        return run

    def open_run(self, request: RunRequest, params: Mapping[str, object]) -> Run:
        """Create a run that has not begun."""
        if current_trace() is not None:
            raise WorkflowError(
                f"expected task calls in a workflow function, found a run of {self.name!r}",
                hint="call tasks there; run workflows outside, or inside a task",
            )
        return self.launch_plan(request).open(params, request)

    def launch_plan(self, request: RunRequest) -> LaunchPlan:
        """Compile and bind for a request; kept for the next run with the same selection."""
        key = request.selection_key
        container = self.container()
        found = self._launch_plans.get(key)
        if found is None or found.container is not container:
            from flowbuilder.api.launching import make_launch_plan

            with self._lock:
                found = make_launch_plan(self, container, request)
                self._launch_plans[key] = found
        return found

    def container(self) -> ServiceContainer:
        """Give the services of this process for the place where its runs are recorded.

        The place is found once: a workflow without a file stays where it was first used.
        """
        found = self._container
        if found is None or not found.is_current:
            from flowbuilder.api.container import container_for

            found = self._container = container_for(self.path, self._data_dir)
        return found

    def __repr__(self) -> str:
        tasks = f"{len(self.spec.tasks)} task{'s' * (len(self.spec.tasks) != 1)}"
        params = ", ".join(parameter.name for parameter in self.spec.params)
        return f"<Workflow {self.name!r}: {tasks}{f', params {params}' if params else ''}>"


def _with_settings(task: TaskSpec, declared: TaskSpec, given: Mapping[str, object]) -> TaskSpec:
    """Let what ``@fb.task(...)`` says hold where ``add`` says nothing."""
    kept = {
        field: getattr(declared, field)
        for field in _SETTINGS
        if field.removesuffix("_s") not in given
    }
    return msgspec.structs.replace(task, **kept)


def _parameter(name: str, value: object) -> Parameter:
    check_name("parameter", name)
    if not isinstance(value, Mapping):
        return Parameter(name=name, schema={}, is_required=False, default=value)
    schema = dict(value)
    has_default = "default" in schema
    default = schema.pop("default", None)
    return Parameter(
        name=name,
        schema=schema,
        is_required=not has_default,
        default=default,
    )
