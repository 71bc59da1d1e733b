"""Collects what is wrong with a workflow; places are looked up only when there is a problem."""

from __future__ import annotations

from collections.abc import Iterable

from flowbuilder.errors import Location, Problem
from flowbuilder.expressions import spelling_hint
from flowbuilder.model import SourcePath, TaskSpec, WorkflowSpec

__all__ = ["ProblemList", "base_path", "field_text", "task_path"]

_MOST_HINTS = 40
"""Suggestions compare with many names; a workflow with more mistakes gets the others without."""


def base_path(spec: WorkflowSpec) -> SourcePath:
    """Tell where in the source the workflow stands: at the root, or inline in a config."""
    for task in spec.tasks:
        if len(task.path) >= 2:
            return task.path[:-2]
    return ()


def task_path(task: TaskSpec, index: int) -> SourcePath:
    """Tell where a task stands, also if it was not read from a text."""
    return task.path or ("tasks", index)


def field_text(path: SourcePath) -> str:
    """Write a path as people do: ``tasks[2].retry.delay``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


class ProblemList:
    """The problems of one workflow, in the order they are found.

    Parameters
    ----------
    spec : WorkflowSpec
        The workflow; its source, if it has one, gives the places.
    """

    def __init__(self, spec: WorkflowSpec) -> None:
        self._source = spec.source
        self._found: list[Problem] = []
        self._hints_left = _MOST_HINTS

    def add(
        self,
        message: str,
        path: SourcePath,
        *,
        task: str | None = None,
        hint: str = "",
        code: str = "invalid",
        severity: str = "error",
        line: int | None = None,
    ) -> None:
        """Note a problem.

        Parameters
        ----------
        message : str
            What was expected and what was found.
        path : tuple
            The field, from the root of the source.
        task : str, optional
            Name of the task it belongs to.
        hint, code, severity : str
            See `Problem`.
        line : int, optional
            1-based line inside the text at ``path``.
        """
        self._found.append(
            Problem(
                message,
                self._place(path, line),
                task,
                field=field_text(path),
                hint=hint,
                code=code,
                severity=severity,
            )
        )

    def spelling(self, name: str, known: Iterable[str]) -> str:
        """Suggest what ``name`` should have been; nothing once too many names were wrong."""
        if self._hints_left <= 0:
            return ""
        self._hints_left -= 1
        return spelling_hint(name, known)

    def sorted(self) -> tuple[Problem, ...]:
        """Give the problems in the order of the text; those without a place keep theirs."""
        return tuple(sorted(self._found, key=_order))

    def _place(self, path: SourcePath, line: int | None) -> Location | None:
        if self._source is None:
            return None
        if line is not None:
            return self._source.locate_line(path, line)
        return self._source.locate(path)


def _order(problem: Problem) -> tuple[int, int]:
    place = problem.location
    return (place.line, place.column) if place else (0, 0)
