"""Functions called with positional values only, which costs least in a run of small tasks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flowbuilder.tasks.function_import import import_function
from flowbuilder.tasks.python import finish

__all__ = ["CallShape", "LateFunction", "shape_call"]

_Function = Callable[..., object]


@dataclass(frozen=True, slots=True)
class CallShape:
    """How named arguments become positional.

    Parameters
    ----------
    function : callable
        Takes the values in the given order.
    order : tuple of int or None
        Position in the caller's names of each value; None if it is that very order.
    """

    function: _Function
    order: tuple[int, ...] | None = None


class LateFunction:
    """A function imported at its first call, so that a failing import fails the task.

    Parameters
    ----------
    target : str
        ``module:qualname``.
    directory : Path
        The workflow's folder.
    names : tuple of str
        Parameters the positional values belong to.
    """

    __slots__ = ("_directory", "_function", "_names", "_target")

    def __init__(self, target: str, directory: Path, names: tuple[str, ...]) -> None:
        self._target = target
        self._directory = directory
        self._names = names
        self._function: _Function | None = None

    def __call__(self, *values: object) -> object:
        """Import if need be, and call."""
        function = self._function
        if function is None:
            function = self._function = import_function(self._target, self._directory)
        return finish(function(**dict(zip(self._names, values, strict=True))))


def shape_call(function: _Function, names: tuple[str, ...]) -> CallShape:
    """Find how to call a function without keywords.

    Parameters
    ----------
    function : callable
        Any callable; one without a readable signature is called with keywords after all.
    names : tuple of str
        Its arguments, in the caller's order.

    Returns
    -------
    CallShape
        ``shape.function(*values)`` does what ``function(**dict(zip(names, values)))`` does.
    """
    if not names:
        return CallShape(function)
    positional = _positional_parameters(function)[: len(names)]
    if set(positional) != set(names):
        return CallShape(_by_keyword(function, names))
    if positional == names:
        return CallShape(function)
    return CallShape(function, tuple(names.index(name) for name in positional))


def _positional_parameters(function: _Function) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    if any(item.kind is item.POSITIONAL_ONLY for item in parameters):
        return ()
    return tuple(item.name for item in parameters if item.kind is item.POSITIONAL_OR_KEYWORD)


def _by_keyword(function: _Function, names: tuple[str, ...]) -> _Function:
    def call(*values: object) -> object:
        return function(**dict(zip(names, values, strict=True)))

    return call
