"""Names that come from Python: checked as in a workflow file, and unique for functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar

from flowbuilder.errors import Location, WorkflowError
from flowbuilder.model.names import name_problem, suggest_name

__all__ = ["check_choice", "check_name", "function_reference"]

Choice = TypeVar("Choice", bound=StrEnum)


def check_name(kind: str, name: object, location: Location | None = None) -> str:
    """Give a name back if it may stand in a workflow file.

    Parameters
    ----------
    kind : str
        What it names, for the message: ``task``, ``workflow``, ``parameter``.
    name : object
        The name.
    location : Location, optional
        Where it was given.

    Raises
    ------
    WorkflowError
        If it may not; suggests one that may.
    """
    if not isinstance(name, str):
        raise WorkflowError(f"expected a {kind} name, found {name!r}", location=location)
    problem = name_problem(name)
    if problem is not None:
        near = suggest_name(name)
        raise WorkflowError(
            f"expected a {kind} name, found {name[:80]!r}: {problem}",
            location=location,
            hint=f"for example {near!r}" if near else "",
        )
    return name


def check_choice(kind: type[Choice], what: str, value: str) -> Choice:
    """Turn text into one of a field's choices.

    Raises
    ------
    ValueError
        If it is none of them; lists them.
    """
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(kind)
        raise ValueError(f"expected {what} to be one of {known}, found {value!r}") from None


def function_reference(
    function: Callable[..., object], functions: Mapping[str, Callable[..., object]], task: str
) -> str:
    """Find the ``module:qualname`` under which a workflow knows a function.

    Parameters
    ----------
    function : callable
        The function.
    functions : mapping
        The functions the workflow knows already.
    task : str
        The task it is for, which names a lambda.

    Notes
    -----
    What cannot be imported by name (local functions, lambdas, a second function of the same name)
    is filed under ``__main__``, like the functions of a notebook, with a number if need be.
    """
    qualname = function.__qualname__
    reference = f"{function.__module__}:{qualname}"
    if "<" not in reference and functions.get(reference, function) is function:
        return reference
    plain = task if "<lambda>" in qualname else qualname.replace(".<locals>", "")
    reference, count = f"__main__:{plain}", 1
    while functions.get(reference, function) is not function:
        count += 1
        reference = f"__main__:{plain}_{count}"
    return reference
