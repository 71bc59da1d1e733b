"""Whether what the author says of a task's cache can be meant."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flowbuilder.compile.problem_list import ProblemList
from flowbuilder.model import Cache, SourcePath, TaskSpec
from flowbuilder.plugins.task_type import TaskType
from flowbuilder.vocabulary import Effects

__all__ = ["cache_problem", "check_cache"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_cache(
    task: TaskSpec, task_type: TaskType, path: SourcePath, problems: ProblemList
) -> None:
    """Note what is wrong with a task's ``cache``.

    Parameters
    ----------
    task : TaskSpec
        A task that has one.
    task_type : TaskType
        Its type.
    path : tuple
        Where the field stands.
    problems : ProblemList
        Where to note it.
    """
    assert task.cache is not None
    message, hint = cache_problem(task, task_type)
    if message:
        problems.add(message, path, task=task.name, hint=hint, code="cache-conflict")
    for message, field in _field_problems(task.cache):
        problems.add(
            f"'cache' of task {task.name!r}: {message}",
            (*path, field),
            task=task.name,
            code="bad-cache",
        )


def cache_problem(task: TaskSpec, task_type: TaskType) -> tuple[str, str]:
    """Say why the outputs of a task cannot be used again, and what to do; empty if they can."""
    assert task.cache is not None
    name = repr(task.name)
    try:
        effects = task.effects or task_type.effects(task.config)
        refusal = task_type.cache_refusal(task.config, task.cache)
    except Exception as error:  # a plugin met `${{ }}` where it expected a value
        return f"whether task {name} can be cached is not known: {error}", "remove 'cache'"
    if effects is Effects.EXTERNAL:
        return (
            f"task {name} has effects outside, which using an earlier output would leave out",
            "remove 'cache'; or, if leaving it out is right, write 'effects: idempotent'",
        )
    if refusal:
        return f"task {name} cannot be cached: {refusal[0]}", refusal[1]
    return "", ""


def _field_problems(cache: Cache) -> Iterator[tuple[str, str]]:
    for variable in cache.env:
        if not _VARIABLE.fullmatch(variable):
            yield f"expected the name of an environment variable, found {variable!r}", "env"
    for file in cache.files or ():
        if "${{" in file:
            yield f"expected a path, found the template {file!r}", "files"
        elif "\0" in file:
            yield f"expected a path, found {file!r}", "files"
