"""A task type from a decorated function: the twenty-line way to extend FlowBuilder."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from flowbuilder.cache.subject import Subject
from flowbuilder.errors import PluginError
from flowbuilder.plugins.signature_schema import schema_of_signature
from flowbuilder.plugins.task_type import TaskCall, TaskType
from flowbuilder.vocabulary import Effects, ExecutorKind

__all__ = ["PROJECT_MODULE_PREFIX", "FunctionTaskType", "declared_types", "task_type", "type_of"]

PROJECT_MODULE_PREFIX = "flowbuilder_project_plugin_"
"""Begins the module names of project plugin files, whose types belong to one registry only."""

_ATTRIBUTE = "__flowbuilder_task_type__"
_Function = TypeVar("_Function", bound=Callable[..., object])
_lock = threading.Lock()
_declared: Mapping[str, TaskType] = MappingProxyType({})


class FunctionTaskType(TaskType):
    """A task type whose body is a function.

    Parameters
    ----------
    name : str
        What ``type:`` says.
    function : callable
        Gets the `TaskCall` if its first parameter is named ``call``, and every config field by
        name. May be ``async def``.
    summary : str
        One line for palettes; the first line of the docstring by default.
    schema : mapping, optional
        JSON Schema of the config; by default read from the annotations.
    effects : Effects or str
        What running it twice does to the outside world.
    executor : ExecutorKind or str
        Where it runs unless the author says otherwise.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., object],
        *,
        summary: str = "",
        schema: Mapping[str, object] | None = None,
        effects: Effects | str = Effects.EXTERNAL,
        executor: ExecutorKind | str = ExecutorKind.AUTO,
    ) -> None:
        self.function = function
        self._takes_call = _takes_call(function)
        self._effects = Effects(effects)
        # The class variables of the contract, per instance: one instance is one type.
        self.name = name  # type: ignore[misc]
        self.summary = summary or _first_line(function)  # type: ignore[misc]
        self.schema = schema or schema_of_signature(function, skip=["call"])  # type: ignore[misc]
        self.executor = ExecutorKind(executor)  # type: ignore[misc]
        self.is_async = inspect.iscoroutinefunction(function)  # type: ignore[misc]

    def effects(self, config: Mapping[str, object]) -> Effects:
        """Say what was declared."""
        del config
        return self._effects

    def run(self, call: TaskCall) -> object:
        """Call the function."""
        if self._takes_call:
            return self.function(call, **call.config)
        return self.function(**call.config)

    async def run_async(self, call: TaskCall) -> object:
        """Await the function."""
        result = self.run(call)
        return await result if inspect.isawaitable(result) else result

    def cache_subject(self, call: TaskCall) -> Subject:
        """Name the function's code and everything it can see of the attempt."""
        if not self._takes_call:
            return Subject(function=self.function, arguments=call.config)
        return Subject(
            function=self.function,
            arguments={**call.config, "env": dict(call.env)},
            inputs={**call.upstream, **call.inputs},
            params=call.params,
        )


def task_type(
    name: str,
    *,
    schema: Mapping[str, object] | None = None,
    effects: Effects | str = Effects.EXTERNAL,
    executor: ExecutorKind | str = ExecutorKind.AUTO,
    summary: str = "",
) -> Callable[[_Function], _Function]:
    """Make a function a task type.

    Parameters
    ----------
    name : str
        What ``type:`` says.
    schema : mapping, optional
        JSON Schema of the config; by default read from the function's annotations.
    effects : Effects or str
        What running it twice does to the outside world; ``external`` unless declared, because that
        is the safe guess.
    executor : ExecutorKind or str
        Where it runs unless the author says otherwise.
    summary : str
        One line for palettes; the first line of the docstring by default.

    Returns
    -------
    callable
        A decorator that returns the function unchanged.

    Raises
    ------
    PluginError
        If the name is not one.

    Examples
    --------
    >>> @task_type("shout", effects="none")
    ... def shout(call, *, text: str, times: int = 1):
    ...     return text.upper() * times
    """
    if not isinstance(name, str) or not name.strip():
        raise PluginError(
            f"expected the name of a task type, found {name!r}",
            hint="write @fb.task_type('name')",
        )

    def decorate(function: _Function) -> _Function:
        """Attach the type to the function."""
        declared = FunctionTaskType(
            name, function, schema=schema, effects=effects, executor=executor, summary=summary
        )
        setattr(function, _ATTRIBUTE, declared)
        if not function.__module__.startswith(PROJECT_MODULE_PREFIX):
            _declare(declared)
        return function

    return decorate


def declared_types() -> Mapping[str, TaskType]:
    """Give the types declared in this process by cells, scripts and modules; a frozen snapshot."""
    return _declared


def type_of(value: object) -> TaskType | None:
    """Find the task type a decorated function stands for."""
    found = getattr(value, _ATTRIBUTE, None)
    return found if isinstance(found, TaskType) else None


def _declare(declared: TaskType) -> None:
    # Copy-on-write: readers take the snapshot without the lock. Running a cell again replaces its
    # type.
    global _declared  # noqa: PLW0603
    with _lock:
        _declared = MappingProxyType({**_declared, declared.name: declared})


def _takes_call(function: Callable[..., object]) -> bool:
    first = next(iter(inspect.signature(function).parameters.values()), None)
    return first is not None and first.name == "call" and first.kind is not first.KEYWORD_ONLY


def _first_line(function: Callable[..., object]) -> str:
    lines = (inspect.getdoc(function) or "").strip().splitlines()
    return lines[0] if lines else ""
