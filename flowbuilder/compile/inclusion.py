"""What a task of type ``workflow`` includes: a workflow from its file or its inline tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from flowbuilder.definition import read_tree
from flowbuilder.errors import FlowBuilderError, Location, Problem, WorkflowValidationError
from flowbuilder.model import Parameter, TaskSpec, WorkflowSpec

__all__ = ["Inclusion", "ReadWorkflow", "include", "locate"]

ReadWorkflow = Callable[[Path], WorkflowSpec]
"""Reads a workflow file; raises `FlowBuilderError` if it cannot."""


class Inclusion(msgspec.Struct, frozen=True):
    """An inner workflow, or the problems that prevent it.

    Parameters
    ----------
    workflow : WorkflowSpec or None
        None if there are problems.
    file : Path or None
        Resolved path of the file; None for inline tasks.
    problems : tuple of Problem
        Placed in the inner text, or at the outer task where there is none.
    """

    workflow: WorkflowSpec | None = None
    file: Path | None = None
    problems: tuple[Problem, ...] = ()


def locate(workflow: WorkflowSpec, task: TaskSpec, *path: str | int) -> Location | None:
    """Find a field of a task, if the workflow has a text."""
    return workflow.source.locate((*task.path, *path)) if workflow.source else None


def include(outer: WorkflowSpec, task: TaskSpec, read: ReadWorkflow) -> Inclusion:
    """Find what ``task`` includes.

    Parameters
    ----------
    outer : WorkflowSpec
        The workflow ``task`` belongs to; relative paths start at its folder.
    task : TaskSpec
        A task of type ``workflow``: ``config`` has either ``file`` or ``tasks``.
    read : callable
        Reads a file; raises `FlowBuilderError` if it cannot.
    """
    file, tasks = task.config.get("file"), task.config.get("tasks")
    if (file is None) == (tasks is None):
        found = "both" if tasks is not None else "neither"
        message = f"task {task.name!r} needs either 'file' or 'tasks' in its config, found {found}"
        return _refused(message, task, locate(outer, task, "config"))
    if tasks is not None:
        return _include_inline(outer, task, tasks)
    if not isinstance(file, str) or not file or "${{" in file:
        message = f"'file' of task {task.name!r} must be the fixed path of a file, found {file!r}"
        return _refused(message, task, locate(outer, task, "config", "file"))
    return _include_file(outer, task, file, read)


def _include_file(outer: WorkflowSpec, task: TaskSpec, file: str, read: ReadWorkflow) -> Inclusion:
    place = locate(outer, task, "config", "file")
    try:
        path = (Path(outer.directory) / file).resolve()
        return Inclusion(read(path), path)
    except WorkflowValidationError as error:
        placed = [replace(each, location=each.location or place) for each in error.problems]
        return Inclusion(problems=tuple(placed))
    except FlowBuilderError as error:
        message = f"task {task.name!r} cannot include {file!r}: {error.message}"
        return _refused(message, task, error.location or place, error.hint)
    except (OSError, ValueError, RuntimeError) as error:  # a path no file system takes
        return _refused(f"task {task.name!r} cannot include {file!r}: {error}", task, place)


def _include_inline(outer: WorkflowSpec, task: TaskSpec, tasks: object) -> Inclusion:
    """Read inline tasks where they stand.

    The given values are the declaration: an inline workflow knows exactly these parameters.
    """
    reading = read_tree(
        {"tasks": tasks},
        directory=outer.directory,
        source=outer.source,
        path=(*task.path, "config"),
        name=task.name,
    )
    if reading.spec is None:
        return Inclusion(problems=reading.problems)
    given = task.config.get("params")
    names = [*(given if isinstance(given, Mapping) else ()), *task.inputs]
    params = tuple(Parameter(name=name) for name in dict.fromkeys(names))
    inner = replace(reading.spec, params=params)
    return Inclusion(inner, problems=reading.problems)


def _refused(message: str, task: TaskSpec, place: Location | None, hint: str = "") -> Inclusion:
    problem = Problem(message, place, task.name, hint=hint, code="bad-inclusion")
    return Inclusion(problems=(problem,))
