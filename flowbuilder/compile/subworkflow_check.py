"""What is wrong with a task of type ``workflow``, seen from outside: settings, parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from flowbuilder.compile.inclusion import locate
from flowbuilder.errors import Location, Problem, WorkflowValidationError
from flowbuilder.expressions import spelling_hint
from flowbuilder.model import TaskSpec, WorkflowSpec

__all__ = [
    "included_problems",
    "output_problems",
    "parameter_problems",
    "setting_problems",
]

_DEFAULTS = TaskSpec(name="", type="")
# Field of the specification -> its name in the text. They act on attempts, and entering is not one.
_INNER_SETTINGS = {
    "retry": "retry",
    "timeout_s": "timeout",
    "executor": "executor",
    "pool": "pool",
    "resources": "resources",
    "persist": "persist",
    "encrypt": "encrypt",
    "cache": "cache",
    "effects": "effects",
    "env": "env",
}


def setting_problems(outer: WorkflowSpec, task: TaskSpec) -> Iterator[Problem]:
    """Report settings that only make sense on the inner tasks.

    Values that a text does not write at the task itself came from the workflow's ``defaults`` and
    are passed over: those are meant for tasks that do the work.
    """
    for field, written in _INNER_SETTINGS.items():
        if getattr(task, field) == getattr(_DEFAULTS, field):
            continue
        place = locate(outer, task, written)
        if place is not None and place == locate(outer, task):
            continue
        message = f"{written!r} has no effect on task {task.name!r}, which is of type workflow"
        yield Problem(
            message, place, task.name, hint="set it on the inner tasks", code="misplaced-setting"
        )


def included_problems(inner: WorkflowSpec) -> Iterator[Problem]:
    """Report settings of an included workflow that only a run of its own would honour."""
    if inner.timeout_s is not None:
        yield Problem(
            f"'timeout' of the included workflow {inner.name!r} is not supported yet",
            inner.source.locate(("timeout",)) if inner.source else None,
            hint="set it on its tasks, or on the outermost workflow",
            code="not-supported-yet",
        )


def output_problems(outer: WorkflowSpec, task: TaskSpec, inner: WorkflowSpec) -> Iterator[Problem]:
    """Report an ``output`` that names no inner task."""
    output = task.config.get("output")
    names = [each.name for each in inner.tasks]
    if output is not None and output not in names:
        yield Problem(
            f"'output' of task {task.name!r} must name an inner task, found {output!r}",
            locate(outer, task, "config", "output"),
            task.name,
            hint=spelling_hint(str(output), names),
            code="unknown-task",
        )


def parameter_problems(
    outer: WorkflowSpec, task: TaskSpec, inner: WorkflowSpec
) -> Iterator[Problem]:
    """Report parameters the inner workflow does not have, needs, or would refuse.

    Parameters
    ----------
    outer : WorkflowSpec
        The workflow ``task`` belongs to.
    task : TaskSpec
        The including task: ``config.params`` and ``inputs`` give the inner parameters by name.
    inner : WorkflowSpec
        What it includes.
    """
    given = task.config.get("params") or {}
    if not isinstance(given, Mapping):
        yield _problem(
            task,
            f"'params' of task {task.name!r} must be a mapping of names to values, found {given!r}",
            locate(outer, task, "config", "params"),
        )
        return
    known = {param.name: param for param in inner.params}
    for name in given:
        if name not in known:
            place = locate(outer, task, "config", "params", name)
            yield _unknown(task, inner, name, place, spelling_hint(name, known))
    for name in task.inputs:
        place = locate(outer, task, "inputs", name)
        if name not in known:
            yield _unknown(task, inner, name, place, spelling_hint(name, known))
        elif name in given:
            message = f"task {task.name!r} gives parameter {name!r} by 'params' and by 'inputs'"
            yield _problem(task, message, place)
    yield from _missing(outer, task, inner, given)
    yield from _mismatched(outer, task, inner, given)


def _unknown(
    task: TaskSpec, inner: WorkflowSpec, name: str, place: Location | None, hint: str
) -> Problem:
    message = f"workflow {inner.name!r} has no parameter {name!r}"
    return Problem(message, place, task.name, hint=hint, code="unknown-parameter")


def _missing(
    outer: WorkflowSpec, task: TaskSpec, inner: WorkflowSpec, given: Mapping[str, object]
) -> Iterator[Problem]:
    for param in inner.params:
        if param.is_required and param.name not in given and param.name not in task.inputs:
            message = f"task {task.name!r} must give parameter {param.name!r} of {inner.name!r}"
            yield Problem(
                message,
                locate(outer, task, "config", "params"),
                task.name,
                hint="add it under config.params or inputs",
                code="missing-parameter",
            )


def _mismatched(
    outer: WorkflowSpec, task: TaskSpec, inner: WorkflowSpec, given: Mapping[str, object]
) -> Iterator[Problem]:
    """Check the values that are known before the run against the parameters' own schemas."""
    from flowbuilder.compile.check import check_parameters

    for param in inner.params:
        value = given.get(param.name)
        if param.name not in given or not param.schema or param.is_table or "${{" in repr(value):
            continue
        try:
            check_parameters(msgspec.structs.replace(inner, params=(param,)), {param.name: value})
        except WorkflowValidationError as error:
            place = locate(outer, task, "config", "params", param.name)
            for problem in error.problems:
                yield msgspec.structs.replace(problem, location=place, task=task.name)


def _problem(task: TaskSpec, message: str, place: Location | None) -> Problem:
    return Problem(message, place, task.name, code="bad-parameter")
