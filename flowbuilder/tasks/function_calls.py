"""What the programs of ``python`` tasks call, where the function is known while binding."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

from flowbuilder.expressions import follow
from flowbuilder.runtime.program import AttemptContext, InputSlot, RemoteCall
from flowbuilder.tasks.bound_tasks import BoundTasks
from flowbuilder.tasks.python import finish, keyword_arguments

__all__ = ["FunctionCalls"]

_Function = Callable[..., object]


class FunctionCalls:
    """Calls functions *directly*, with constants and whole outputs, or with rendered arguments.

    Parameters
    ----------
    bound : BoundTasks
        The binding they belong to.
    functions : mapping of str to callable
        Functions that need no import, by ``module:qualname``.
    """

    def __init__(self, bound: BoundTasks, functions: Mapping[str, _Function]) -> None:
        self.functions = functions
        self._bound = bound

    def call_direct(self, context: AttemptContext) -> object:
        """Call a function directly."""
        program = self._bound.programs[context.instance]
        assert program.function is not None
        return finish(program.function(*_values(context, program.arguments)))

    async def await_direct(self, context: AttemptContext) -> object:
        """Await an ``async def`` directly."""
        program = self._bound.programs[context.instance]
        function = cast("Callable[..., Awaitable[object]]", program.function)
        return await function(*_values(context, program.arguments))

    def send_direct(self, context: AttemptContext) -> RemoteCall:
        """Describe a direct call for a worker process."""
        program = self._bound.programs[context.instance]
        assert program.function is not None
        values = tuple(_values(context, program.arguments))
        return RemoteCall(program.function, values, directory=self._directory(context))

    def call_rendered(self, context: AttemptContext) -> object:
        """Call a given function with rendered arguments."""
        function, arguments = self._rendered(context)
        return finish(function(**arguments))

    async def await_rendered(self, context: AttemptContext) -> object:
        """Await a given ``async def`` with rendered arguments."""
        function, arguments = self._rendered(context)
        return await cast("Awaitable[object]", function(**arguments))

    def send_rendered(self, context: AttemptContext) -> RemoteCall:
        """Describe a call of a given function with rendered arguments for a worker process."""
        function, arguments = self._rendered(context)
        return RemoteCall(function, kwargs=arguments, directory=self._directory(context))

    def _rendered(self, context: AttemptContext) -> tuple[_Function, dict[str, object]]:
        call = self._bound.prepare(context.instance).call(context)
        return self.functions[str(call.config["function"])], keyword_arguments(call)

    def _directory(self, context: AttemptContext) -> str:
        return str(self._bound.prepare(context.instance).directory)


def _values(context: AttemptContext, arguments: Sequence[object]) -> list[object]:
    output = context.run.output
    return [
        follow(output(item.instance), item.path) if isinstance(item, InputSlot) else item
        for item in arguments
    ]
