"""Binds ``python`` tasks with constants or upstream outputs as arguments to their functions.

The rest (templates in arguments, mutable constants, lenient join rules) goes the general way
through `PythonTask.run`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

from flowbuilder.compile.expansion import CompiledWorkflow, FlatTask
from flowbuilder.runtime.program import InputSlot, Program
from flowbuilder.tasks.bound_tasks import BoundTasks
from flowbuilder.tasks.direct_call import CallShape, LateFunction, shape_call
from flowbuilder.tasks.function_import import find_imported
from flowbuilder.tasks.python import find_function_source
from flowbuilder.vocabulary import JoinRule

__all__ = ["FunctionBinding"]

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_NOTHING: Mapping[str, object] = {}
_Function = Callable[..., object]


class FunctionBinding:
    """Makes programs for ``python`` tasks; remembers each function and each way to call it.

    Parameters
    ----------
    bound : BoundTasks
        Runs what the programs call.
    functions : mapping of str to callable
        Functions that need no import.
    """

    def __init__(self, bound: BoundTasks, functions: Mapping[str, _Function]) -> None:
        self._bound = bound
        self._compiled: CompiledWorkflow = bound.compiled
        self._given = functions
        self._found: dict[tuple[str, Path], _Function | None] = {}
        self._shapes: dict[tuple[str, Path, tuple[str, ...]], CallShape] = {}
        self._call, self._send = bound.call_function, bound.send_function
        self._await, self._await_general = bound.await_function, bound.run_async
        self._run, self._remote = bound.run, bound.remote

    def bind(
        self, instance: int, flat: FlatTask, directory: Path, condition: partial[bool] | None
    ) -> Program:
        """Make the program of one task.

        Parameters
        ----------
        instance : int
            Its instance.
        flat : FlatTask
            A task of type ``python``.
        directory : Path
            The folder of its workflow.
        condition : callable or None
            Its ``when``.
        """
        config = flat.spec.config
        target = config.get("function")
        if not isinstance(target, str) or "${{" in target:
            return self._general(target, condition, is_async=False)
        function = self._find(target, directory)
        arguments = self._arguments(flat)
        if arguments is None:
            return self._general(target, condition, is_async=self._is_async(target, directory))
        names, values = arguments
        if function is None and self._is_async(target, directory):
            return self._general(target, condition, is_async=True)
        shape = self._shape(target, directory, names, function)
        if shape.order is not None:
            values = [values[index] for index in shape.order]
        if function is not None and inspect.iscoroutinefunction(function):
            awaited = cast("Callable[..., Awaitable[object]]", shape.function)
            self._bound.coroutines[instance] = (awaited, values)
            return Program(coroutine=self._await, condition=condition, code_key=target)
        return Program(
            call=self._call,
            remote=self._send if target in self._given else self._remote,
            condition=condition,
            function=shape.function,
            arguments=values,
            code_key=target,
        )

    def _general(
        self, target: object, condition: partial[bool] | None, *, is_async: bool
    ) -> Program:
        return Program(
            call=None if is_async else self._run,
            coroutine=self._await_general if is_async else None,
            remote=None if is_async else self._remote,
            condition=condition,
            code_key=f"python:{target}",
        )

    def _arguments(self, flat: FlatTask) -> tuple[tuple[str, ...], list[object]] | None:
        """Give names and values; None if they need more than looking up."""
        spec = flat.spec
        args = spec.config.get("args") or _NOTHING
        if not isinstance(args, Mapping):
            return None
        for value in args.values():
            if type(value) not in _SCALARS or (type(value) is str and "${{" in value):
                return None
        inputs = spec.inputs
        if not inputs:
            return tuple(args), list(args.values())
        if spec.join is not JoinRule.ALL_SUCCESS:
            return None
        members = self._compiled.expansion.scopes[flat.scope].members
        instances = self._compiled.instances
        values: list[object] = list(args.values())
        for selector in inputs.values():
            source = instances[members[selector.task]]
            if source < 0:
                return None
            values.append(InputSlot(source, selector.path))
        return (*args, *inputs), values

    def _find(self, target: str, directory: Path) -> _Function | None:
        key = (target, directory)
        try:
            return self._found[key]
        except KeyError:
            found = self._given.get(target) or find_imported(target, directory)
            self._found[key] = found
            return found

    def _is_async(self, target: str, directory: Path) -> bool:
        function = self._find(target, directory)
        if function is not None:
            return inspect.iscoroutinefunction(function)
        source = find_function_source(target, directory)
        return source is not None and source.is_async

    def _shape(
        self, target: str, directory: Path, names: tuple[str, ...], function: _Function | None
    ) -> CallShape:
        key = (target, directory, names)
        shape = self._shapes.get(key)
        if shape is None:
            if function is None:
                shape = CallShape(LateFunction(target, directory, names))
            else:
                shape = shape_call(function, names)
            self._shapes[key] = shape
        return shape
