"""``@fb.workflow``: a function whose task calls are a workflow."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, overload

from flowbuilder.api.naming import check_name
from flowbuilder.api.placeholders import ParameterRef, Placeholder
from flowbuilder.api.task_function import location_of
from flowbuilder.api.tracing import Trace
from flowbuilder.api.workflow import Workflow
from flowbuilder.durations import parse_duration
from flowbuilder.errors import FlowBuilderError, Location, WorkflowError
from flowbuilder.model import Parameter, WorkflowSpec
from flowbuilder.vocabulary import Durability

__all__ = ["WorkflowFunction", "workflow"]

_ANNOTATIONS = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
}


class WorkflowFunction(Workflow):
    """A workflow made of a function's task calls.

    The function is traced once, when something about the workflow is first asked: defining it
    costs nothing, and its tasks may be defined below it.
    """

    def __init__(self, function: Callable[..., object], settings: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self._settings = dict(settings)
        self._trace_lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        # Only what is not there yet comes here: the parts of a workflow before it is traced.
        if not name.startswith("__") and "_trace_lock" in self.__dict__:
            with self._trace_lock:
                if "spec" not in self.__dict__:
                    spec, functions = trace_workflow(self.function, self._settings)
                    self._set(spec, functions, location_of(self.function), None)
            if name in self.__dict__:
                return self.__dict__[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __call__(self, *_args: object, **_kwargs: object) -> NoReturn:
        """Refuse: a workflow is run, started or awaited, not called."""
        name = getattr(self.function, "__name__", "workflow")
        raise WorkflowError(
            f"expected {name}.run(...), found a direct call", hint="use .run(), .start() or .arun()"
        )


@overload
def workflow(function: Callable[..., object], /) -> WorkflowFunction: ...
@overload
def workflow(
    *,
    name: str = ...,
    version: str = ...,
    description: str = ...,
    durability: str = ...,
    timeout: float | str | None = ...,
) -> Callable[[Callable[..., object]], WorkflowFunction]: ...
def workflow(
    function: Callable[..., object] | None = None,
    /,
    *,
    name: str = "",
    version: str = "",
    description: str = "",
    durability: str = "run",
    timeout: float | str | None = None,
) -> WorkflowFunction | Callable[[Callable[..., object]], WorkflowFunction]:
    """Make a function a workflow: ``@fb.workflow`` or ``@fb.workflow(durability="task")``.

    The function is called once with placeholders for its parameters; the task calls it makes are
    the workflow.

    Parameters
    ----------
    name : str
        Workflow name; the function's name by default.
    version, description : str
        For people.
    durability : str
        ``run``, ``task`` or ``none``.
    timeout : float or str
        Limit for the whole run.

    Returns
    -------
    WorkflowFunction
        With ``run``, ``start``, ``arun``, ``plan``, ``to_yaml`` and the other methods of
        `Workflow`.

    Raises
    ------
    WorkflowError
        If a setting is not valid.
    """
    if durability not in set(Durability):
        known = ", ".join(Durability)
        raise WorkflowError(f"expected a durability out of {known}, found {durability!r}")
    try:
        timeout_s = None if timeout is None else parse_duration(timeout)
    except ValueError as error:
        raise WorkflowError(f"timeout: {error}") from error
    settings = {
        "name": name,
        "version": version,
        "description": description,
        "durability": Durability(durability),
        "timeout_s": timeout_s,
    }
    if function is None:
        return lambda body: WorkflowFunction(body, settings)
    return WorkflowFunction(function, settings)


def trace_workflow(
    function: Callable[..., object], settings: Mapping[str, Any]
) -> tuple[WorkflowSpec, Mapping[str, Callable[..., object]]]:
    """Call a function with placeholders and take the task calls it makes for a workflow.

    Parameters
    ----------
    function : callable
        What ``@fb.workflow`` decorates.
    settings : mapping
        The decorator's arguments.

    Returns
    -------
    spec : WorkflowSpec
        The workflow.
    functions : mapping
        ``module:qualname`` -> function, for its tasks.

    Raises
    ------
    WorkflowError
        If the function does something a workflow cannot record; names the line.
    """
    where = location_of(function)
    name = getattr(function, "__name__", "workflow")
    _check_kind(function, name, where)
    trace = Trace()
    try:
        parameters = tuple(
            _parameter(item) for item in inspect.signature(function).parameters.values()
        )
        placeholders = {item.name: ParameterRef(f"params.{item.name}") for item in parameters}
        with trace.active():
            function(**placeholders)
    except FlowBuilderError as error:
        error.location = error.location or _line_in(function, error) or where
        raise
    except Exception as error:
        raise WorkflowError(
            f"workflow function {name!r} raised {type(error).__name__} while it was recorded:"
            f" {error}",
            location=_line_in(function, error) or where,
            hint="only task calls belong there; what needs values belongs into a task",
        ) from error
    spec = WorkflowSpec(
        name=check_name("workflow", settings["name"] or name, where),
        version=settings["version"],
        description=settings["description"] or (inspect.getdoc(function) or "").partition("\n")[0],
        params=parameters,
        tasks=tuple(trace.tasks),
        durability=settings["durability"],
        timeout_s=settings["timeout_s"],
    )
    return spec, trace.functions


def _check_kind(function: Callable[..., object], name: str, where: Location | None) -> None:
    for kind, found in (
        ("async def", inspect.iscoroutinefunction(function)),
        ("a generator", inspect.isgeneratorfunction(function)),
        ("an async generator", inspect.isasyncgenfunction(function)),
    ):
        if found:
            raise WorkflowError(
                f"expected workflow function {name!r} to be a plain def, found {kind}",
                location=where,
                hint="its tasks may be async; the function itself only wires them",
            )


def _line_in(function: Callable[..., object], error: BaseException) -> Location | None:
    code, found = getattr(function, "__code__", None), None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is code:
            found = Location(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        trace = trace.tb_next
    return found


def _parameter(item: inspect.Parameter) -> Parameter:
    if item.kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        raise WorkflowError(
            f"expected named parameters in a workflow function, found {item}",
            hint="name each parameter",
        )
    annotation = item.annotation
    if isinstance(annotation, str):
        by_name = {cls.__name__: kind for cls, kind in _ANNOTATIONS.items()}
        kind = by_name.get(annotation) or (
            "table" if annotation.endswith(("DataFrame", "Table")) else None
        )
    else:
        origin = getattr(annotation, "__origin__", annotation)
        is_table = getattr(origin, "__name__", "") in {"DataFrame", "LazyFrame", "Table"}
        kind = (
            "table" if is_table else _ANNOTATIONS.get(origin) if isinstance(origin, type) else None
        )
    has_default = item.default is not inspect.Parameter.empty
    schema: dict[str, object] = {} if kind is None else {"type": kind}
    if has_default and isinstance(item.default, Placeholder):
        raise WorkflowError(f"expected a constant default for {item.name!r}, found a placeholder")
    return Parameter(
        name=check_name("parameter", item.name),
        schema=schema,
        is_required=not has_default,
        default=item.default if has_default else None,
    )
