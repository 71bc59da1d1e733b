"""``@fb.task``: functions as tasks.

Calling a task inside a workflow function records it; calling it anywhere else just runs it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any, Generic, ParamSpec, TypeVar, overload

import msgspec

from flowbuilder.api.naming import check_choice, check_name, function_reference
from flowbuilder.api.placeholders import OutputRef
from flowbuilder.api.tracing import Trace, current_trace, to_config, to_selector
from flowbuilder.durations import parse_duration
from flowbuilder.errors import Location, WorkflowError, WorkflowValidationError
from flowbuilder.model import Cache, Retry, Selector, TaskSpec
from flowbuilder.vocabulary import Effects, ExecutorKind, JoinRule, Persist

__all__ = ["Task", "location_of", "task"]

P = ParamSpec("P")
R = TypeVar("R")


class Task(Generic[P, R]):
    """A function that is a task in workflow functions and itself everywhere else.

    Parameters
    ----------
    function : callable
        The body; may be ``async def``.
    spec : TaskSpec
        Name and settings, without inputs.
    """

    def __init__(self, function: Callable[P, R], spec: TaskSpec) -> None:
        functools.update_wrapper(self, function)
        self.function = self.__flowbuilder_function__ = function
        self.spec = spec
        self._signature = inspect.signature(function)
        self._after: tuple[object, ...] = ()
        self.__flowbuilder_function__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Record the call inside a workflow function; run the function anywhere else."""
        trace = current_trace()
        if trace is None:
            return self.function(*args, **kwargs)
        return self._record(trace, args, kwargs)  # type: ignore[return-value]

    def named(self, name: str) -> Task[P, R]:
        """Give a copy under another name: ``clean.named("clean_planes")(planes)``."""
        checked = check_name("task", name)
        return self._copy(msgspec.structs.replace(self.spec, name=checked), self._after)

    def after(self, *outputs: object) -> Task[P, R]:
        """Give a copy that also waits for other tasks without using their outputs:
        ``notify.after(report)()``.
        """
        return self._copy(self.spec, (*self._after, *outputs))

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind to an object, so that a decorated method is still a method."""
        return self if instance is None else MethodType(self, instance)

    def _copy(self, spec: TaskSpec, after: tuple[object, ...]) -> Task[P, R]:
        copy = Task(self.function, spec)
        copy._after = after
        return copy

    def _record(
        self, trace: Trace, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> OutputRef:
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise WorkflowError(
                f"task {self.spec.name!r} cannot be called like this: {error}"
            ) from error
        arguments, inputs = self._split(bound)
        reference = function_reference(self.function, trace.functions, self.spec.name)
        config: dict[str, object] = {"function": reference}
        if arguments:
            config["args"] = arguments
        name = trace.free_name(self.spec.name)
        trace.tasks.append(
            msgspec.structs.replace(
                self.spec,
                name=name,
                config=config,
                inputs=inputs,
                depends_on=tuple(to_selector(output).task for output in self._after),
                when=trace.condition_for(self.spec.when),
                path=("tasks", len(trace.tasks)),
            )
        )
        trace.functions[reference] = self.function
        trace.lines.append(_caller_line())
        return OutputRef(name)

    def _split(
        self, bound: inspect.BoundArguments
    ) -> tuple[dict[str, object], dict[str, Selector]]:
        arguments: dict[str, object] = {}
        inputs: dict[str, Selector] = {}
        for name, value in bound.arguments.items():
            kind = self._signature.parameters[name].kind
            if kind is inspect.Parameter.POSITIONAL_ONLY:
                raise WorkflowError(
                    f"task {self.spec.name!r} takes {name!r} by position only, but tasks get their"
                    " arguments by name",
                    hint="remove the '/' from its parameters",
                )
            if kind is inspect.Parameter.VAR_POSITIONAL:
                raise WorkflowError(
                    f"task {self.spec.name!r} takes *{name}, which a workflow cannot record",
                    hint="take a list, or name the parameters",
                )
            items = value.items() if kind is inspect.Parameter.VAR_KEYWORD else [(name, value)]
            for key, item in items:
                if isinstance(item, OutputRef):
                    inputs[key] = to_selector(item)
                else:
                    arguments[key] = to_config(item)
        return arguments, inputs

    def __repr__(self) -> str:
        where = f"{self.function.__module__}:{self.function.__qualname__}"
        return f"<task {self.spec.name!r} from {where}>"


def _caller_line() -> int:
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("flowbuilder.api"):
        frame = frame.f_back
    return frame.f_lineno if frame is not None else 0


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str = ...,
    retries: int = ...,
    retry: Retry | Mapping[str, Any] | None = ...,
    timeout: float | str | None = ...,
    executor: str = ...,
    effects: str | None = ...,
    persist: str = ...,
    encrypt: bool = ...,
    pool: str | None = ...,
    priority: int = ...,
    join: str = ...,
    when: str | None = ...,
    cache: bool | Cache | Mapping[str, Any] = ...,
    title: str = ...,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str = "",
    retries: int = 0,
    retry: Retry | Mapping[str, Any] | None = None,
    timeout: float | str | None = None,
    executor: str = "auto",
    effects: str | None = None,
    persist: str = "auto",
    encrypt: bool = False,
    pool: str | None = None,
    priority: int = 0,
    join: str = "all_success",
    when: str | None = None,
    cache: bool | Cache | Mapping[str, Any] = False,
    title: str = "",
) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a task: ``@fb.task`` or ``@fb.task(retries=2, timeout="30s")``.

    Parameters
    ----------
    name : str
        Task name; the function's name by default.
    retries : int
        Further attempts after the first; ``retries=n`` means ``max_attempts=n+1``.
    retry : Retry or mapping
        The whole policy, instead of ``retries``.
    timeout : float or str
        Seconds, or text such as ``"5m"``.
    executor, effects, persist, pool, priority, join, when, title :
        As in a workflow file.
    encrypt : bool
        Keep the output on disk only encrypted, and record nothing of it nor of what is printed.
    cache : bool, Cache or mapping
        Whether an earlier output for the same input is used again; a mapping as in a workflow
        file: ``{"ttl": "1h", "files": ["data.csv"]}``.

    Raises
    ------
    WorkflowError
        If a setting is not valid.
    """

    def decorate(body: Callable[P, R]) -> Task[P, R]:
        where = location_of(body)
        _check_callable(body, where)
        try:
            spec = TaskSpec(
                name=check_name("task", name or body.__name__),
                type="python",
                retry=_retry(retries, retry),
                timeout_s=None if timeout is None else parse_duration(timeout),
                executor=check_choice(ExecutorKind, "executor", executor),
                effects=None if effects is None else check_choice(Effects, "effects", effects),
                persist=check_choice(Persist, "persist", persist),
                encrypt=_flag("encrypt", encrypt),
                cache=_cache(cache),
                pool=pool,
                priority=priority,
                join=check_choice(JoinRule, "join", join),
                when=when,
                title=title,
            )
        except ValueError as error:
            raise WorkflowError(
                f"task {body.__name__!r}: {error}", location=where, task=body.__name__
            ) from error
        except WorkflowError as error:
            error.location = error.location or where
            raise
        return Task(body, spec)

    return decorate if function is None else decorate(function)


def _check_callable(body: object, where: Location | None) -> None:
    if isinstance(body, Task):
        raise WorkflowError(
            f"expected a function, found task {body.spec.name!r}",
            location=where,
            hint=f"for a second task of it: {body.spec.name}.named('other_name')",
        )
    if isinstance(body, type) or not callable(body) or not hasattr(body, "__qualname__"):
        raise WorkflowError(
            f"expected a function defined with def, found {body!r}",
            location=where,
            hint="wrap it: def my_task(...): return ...",
        )


def _flag(setting: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise WorkflowError(f"expected {setting} to be True or False, found {value!r}")


def _retry(retries: int, retry: Retry | Mapping[str, Any] | None) -> Retry:
    if isinstance(retry, Retry):
        return retry
    if retry is None:
        if retries < 0:
            raise ValueError(f"expected retries of 0 or more, found {retries}")
        return Retry(max_attempts=retries + 1)
    fields = {
        ({"delay": "delay_s", "max_delay": "max_delay_s"}.get(key, key)): value
        for key, value in retry.items()
    }
    for key in ("delay_s", "max_delay_s"):
        if key in fields:
            fields[key] = parse_duration(fields[key])
    try:
        return msgspec.convert(fields, Retry)
    except msgspec.ValidationError as error:
        raise ValueError(f"retry: {error}") from error


def _cache(given: bool | Cache | Mapping[str, Any]) -> Cache | None:
    if isinstance(given, bool):
        return Cache() if given else None
    if isinstance(given, Cache):
        return given
    from flowbuilder.api.building import read_task

    # By the rules of a file, so that both mean the same.
    try:
        spec = read_task({"name": "task", "type": "python", "cache": given}, 0)
    except WorkflowValidationError as error:
        problem = error.problems[0]
        raise WorkflowError(f"cache: {problem.message}", hint=problem.hint) from error
    return spec.cache


def location_of(function: Callable[..., object]) -> Location | None:
    """Say where a function is defined, if Python knows."""
    code = getattr(function, "__code__", None)
    return None if code is None else Location(code.co_filename, code.co_firstlineno)
