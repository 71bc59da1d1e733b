"""Binds ``python`` tasks with constants or upstream outputs as arguments to their functions.

The rest (templates in arguments, mutable constants, lenient join rules) goes the general way
through `PythonTask.run`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from flowbuilder.compile.expansion import FlatTask
from flowbuilder.model import TaskSpec
from flowbuilder.runtime.program import InputSlot, Program
from flowbuilder.tasks.bound_tasks import BoundTasks
from flowbuilder.tasks.direct_call import CallShape, LateFunction, shape_call
from flowbuilder.tasks.function_calls import FunctionCalls
from flowbuilder.tasks.function_import import find_imported
from flowbuilder.tasks.python import find_function_source
from flowbuilder.vocabulary import JoinRule

__all__ = ["FunctionBinding"]

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_ALL_SUCCESS = JoinRule.ALL_SUCCESS
_Function = Callable[..., object]


@dataclass(frozen=True, slots=True)
class _Way:
    """How tasks that give the same function the same arguments' names are called."""

    function: _Function
    order: tuple[int, ...] | None
    is_async: bool
    is_late: bool
    is_given: bool


class FunctionBinding:
    """Makes programs for ``python`` tasks; remembers each function and each way to call it.

    Parameters
    ----------
    bound : BoundTasks
        Runs what the general programs call.
    functions : mapping of str to callable
        Functions that need no import.
    """

    def __init__(self, bound: BoundTasks, functions: Mapping[str, _Function]) -> None:
        self._bound = bound
        self._calls = calls = FunctionCalls(bound, functions)
        self._given = functions
        self._instances = bound.compiled.instances
        scopes = bound.compiled.expansion.scopes
        self._members = [scope.members for scope in scopes]
        self._directories = [Path(scope.workflow.directory) for scope in scopes]
        self._ways: dict[tuple[int, str, tuple[str, ...]], _Way] = {}
        # Bound methods are made once, not per instance.
        self._call, self._remote = calls.call_direct, bound.remote

    def bind(self, flat: FlatTask, condition: partial[bool] | None) -> Program:
        """Make the program of one task.

        Parameters
        ----------
        flat : FlatTask
            A task of type ``python``.
        condition : callable or None
            Its ``when``.
        """
        spec = flat.spec
        target = spec.config.get("function")
        if not isinstance(target, str) or "${{" in target:
            return self._general(f"python:{target}", condition)
        args = spec.config.get("args") or {}
        if not isinstance(args, Mapping):
            return self._general(target, condition)
        names = (*args, *spec.inputs)
        key = (flat.scope, target, names)
        way = self._ways.get(key)
        if way is None:
            way = self._ways[key] = self._find_way(flat.scope, target, names)
        # A cached task is never called directly: somebody must ask first.
        values = None if spec.cache is not None else self._values(spec, args, flat.scope)
        if values is None or (way.is_async and way.is_late):
            return self._general(target, condition, is_async=way.is_async, is_given=way.is_given)
        if way.order is not None:
            values = [values[index] for index in way.order]
        if way.is_async:
            return Program(
                coroutine=self._calls.await_direct,
                condition=condition,
                function=way.function,
                arguments=values,
                code_key=target,
            )
        return Program(
            call=self._call,
            remote=self._calls.send_direct if way.is_given else self._remote,
            condition=condition,
            function=way.function,
            arguments=values,
            code_key=target,
        )

    def _general(
        self,
        code_key: str,
        condition: partial[bool] | None,
        *,
        is_async: bool = False,
        is_given: bool = False,
    ) -> Program:
        bound, calls = self._bound, self._calls
        if is_async:
            coroutine = calls.await_rendered if is_given else bound.run_async
            return Program(coroutine=coroutine, condition=condition, code_key=code_key)
        return Program(
            call=calls.call_rendered if is_given else bound.run,
            remote=calls.send_rendered if is_given else bound.remote,
            condition=condition,
            code_key=code_key,
        )

    def _values(
        self, spec: TaskSpec, args: Mapping[str, object], scope: int
    ) -> list[object] | None:
        """Give constants and slots, in the order of their names; None if they need more."""
        values: list[object] = []
        for value in args.values():
            kind = value.__class__
            if kind not in _SCALARS or (kind is str and "${{" in cast("str", value)):
                return None
            values.append(value)
        inputs = spec.inputs
        if not inputs:
            return values
        if spec.join is not _ALL_SUCCESS:
            return None
        members, instances = self._members[scope], self._instances
        for selector in inputs.values():
            source = instances[members[selector.task]]
            if source < 0:
                return None
            values.append(InputSlot(source, selector.path))
        return values

    def _find_way(self, scope: int, target: str, names: tuple[str, ...]) -> _Way:
        directory = self._directories[scope]
        given = self._given.get(target)
        function = given or find_imported(target, directory)
        if function is None:
            source = find_function_source(target, directory)
            is_async = source is not None and source.is_async
            late = LateFunction(target, directory, names)
            return _Way(late, None, is_async=is_async, is_late=True, is_given=False)
        shape: CallShape = shape_call(function, names)
        return _Way(
            shape.function,
            shape.order,
            is_async=inspect.iscoroutinefunction(function),
            is_late=False,
            is_given=given is not None,
        )
