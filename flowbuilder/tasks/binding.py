"""Joins a compiled workflow with code: one `Program` per instance.

Binding is cheap and lazy: a program is a few references, templates and ports are prepared at a
task's first attempt, and modules are imported when their first task runs. Programs hold nothing of
a run, so one binding serves many.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from flowbuilder.compile.expansion import CompiledWorkflow, FlatTask, Role
from flowbuilder.errors import PluginError
from flowbuilder.plugins.catalogue import TaskTypes
from flowbuilder.plugins.task_type import TaskType
from flowbuilder.runtime.program import Program
from flowbuilder.tasks.bound_tasks import BoundTasks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowbuilder.tasks.cache_site import CacheSite
    from flowbuilder.tasks.cached_tasks import CachedTasks
    from flowbuilder.tasks.function_binding import FunctionBinding

__all__ = ["bind_programs"]

_MANY = 10_000


def bind_programs(
    compiled: CompiledWorkflow,
    registry: TaskTypes,
    *,
    functions: Mapping[str, Callable[..., object]] | None = None,
    cache: CacheSite | None = None,
) -> list[Program]:
    """Make the programs of a compiled workflow.

    Parameters
    ----------
    compiled : CompiledWorkflow
        Plan and workflow.
    registry : TaskTypes
        Task types by name.
    functions : mapping, optional
        ``module:qualname`` -> function, for functions that need no import, such as
        ``__main__:clean`` of a notebook.
    cache : CacheSite, optional
        Where outputs of cached tasks are kept; without it they are computed every time.

    Returns
    -------
    list of Program
        Per instance.

    Raises
    ------
    PluginError
        If a task type is unknown, broken, or not trusted.

    Notes
    -----
    About 2 us an instance.
    """
    binder = _Binder(compiled, registry, functions or {}, cache)
    with _without_collector(len(compiled.order) > _MANY):
        tasks = compiled.expansion.tasks
        binder.bound.programs.extend(
            binder.bind(instance, tasks[index]) for instance, index in enumerate(compiled.order)
        )
    return binder.bound.programs


class _Binder:
    """Work in progress: what instances of one binding share."""

    def __init__(
        self,
        compiled: CompiledWorkflow,
        registry: TaskTypes,
        functions: Mapping[str, Callable[..., object]],
        cache: CacheSite | None,
    ) -> None:
        self._registry = registry
        self._types: dict[str, TaskType] = {}
        self.bound = BoundTasks(compiled, self._types)
        self._functions = functions
        self._function_binding: FunctionBinding | None = None
        self._cache = cache
        self._cached_tasks: CachedTasks | None = None
        # Bound methods are made once, not per instance.
        self._run, self._remote = self.bound.run, self.bound.remote
        self._await = self.bound.run_async

    def bind(self, instance: int, flat: FlatTask) -> Program:
        """Make one program."""
        program = self._bind_plain(instance, flat)
        if flat.spec.cache is None or self._cache is None or flat.role is not Role.TASK:
            return program
        if self._cached_tasks is None:
            from flowbuilder.tasks.cached_tasks import CachedTasks

            self._cached_tasks = CachedTasks(self.bound, self._cache, self._functions)
        return self._cached_tasks.wrap(program)

    def _bind_plain(self, instance: int, flat: FlatTask) -> Program:
        spec = flat.spec
        task_type = self._types.get(spec.type) or self._find_type(spec.type)
        if flat.role is not Role.TASK:
            return self._bind_border(instance, flat)
        # Built-in names cannot be taken by other types.
        if spec.type == "python":
            condition = None if spec.when is None else self._condition(instance, flat)
            return self._python.bind(flat, condition)
        if spec.type == "sleep":
            return Program(
                delay=self.bound.delay,
                condition=self._condition(instance, flat),
                code_key="sleep",
            )
        is_async = task_type.is_async
        return Program(
            call=None if is_async else self._run,
            coroutine=self._await if is_async else None,
            remote=self._remote if not is_async and task_type.can_leave(spec.config) else None,
            condition=self._condition(instance, flat),
            code_key=_code_key(flat),
            owns_output=task_type.writes_own_output,
            uses_cpu=not task_type.only_waits,
        )

    @property
    def _python(self) -> FunctionBinding:
        """Binds python tasks; only then are the modules it needs imported."""
        if self._function_binding is None:
            from flowbuilder.tasks.function_binding import FunctionBinding

            self._function_binding = FunctionBinding(self.bound, self._functions)
        return self._function_binding

    def _bind_border(self, instance: int, flat: FlatTask) -> Program:
        if flat.role is Role.ENTER:
            return Program(
                call=self.bound.enter,
                condition=self._condition(instance, flat),
                code_key="workflow:enter",
            )
        return Program(call=self.bound.leave, code_key="workflow:leave")

    def _condition(self, instance: int, flat: FlatTask) -> partial[bool] | None:
        return None if flat.spec.when is None else partial(self.bound.condition, instance)

    def _find_type(self, name: str) -> TaskType:
        found = self._registry.find(name)
        if found is None:
            if self._registry.unloaded(name) is not None:
                raise PluginError(
                    f"task type {name!r} belongs to a project that is not trusted",
                    hint="read its plugins folder, then run 'flowbuilder trust DIR'",
                )
            raise PluginError(f"task type {name!r} does not exist")
        self._types[name] = found
        return found


def _code_key(flat: FlatTask) -> str:
    """Tasks that run the same code share their measured durations."""
    code = flat.spec.config.get("code")
    if isinstance(code, str):
        return f"{flat.spec.type}:{hash(code):x}"
    return f"{flat.spec.type}:{flat.key}"


@contextmanager
def _without_collector(is_large: bool) -> Iterator[None]:
    """Pause the garbage collector, which would traverse the new objects again and again."""
    if not is_large or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
