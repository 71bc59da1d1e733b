"""Problems found in a workflow, collected by path and placed in the text at the end."""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec

from flowbuilder.errors import Location, Problem
from flowbuilder.model.names import name_problem
from flowbuilder.model.spec import Source, SourcePath

__all__ = ["INVALID", "Invalid", "Report", "describe", "dotted", "nearest"]

_MOST_PROBLEMS = 1_000
_PLAIN_KEY = re.compile(r"[^\W\d][\w-]*")


class Invalid:
    """The value of a field that could not be read."""

    __slots__ = ()


INVALID = Invalid()


class _Entry(msgspec.Struct, frozen=True):
    path: SourcePath
    problem: Problem
    is_about_key: bool


class Report:
    """Collects problems; the first thousand, for a file may be wrong a million times.

    Parameters
    ----------
    root : object
        The plain values, to name tasks.
    source : Source or None
        To find places.
    prefix : tuple
        Path of ``root`` in the source.
    """

    def __init__(self, root: object, source: Source | None, prefix: SourcePath = ()) -> None:
        self._root = root
        self.source = source
        self.prefix = prefix
        self._entries: list[_Entry] = []
        self.is_broken = False
        """Whether a part of the workflow is missing that everything else hangs on."""
        self.has_odd_numbers = False

    def add(
        self,
        path: SourcePath,
        message: str,
        *,
        code: str,
        hint: str = "",
        severity: str = "error",
        at_key: bool = False,
    ) -> Invalid:
        """Add one problem.

        Parameters
        ----------
        path : tuple
            Where in ``root``.
        message, code, hint, severity : str
            As in `Problem`.
        at_key : bool
            Point at the key instead of the value.

        Returns
        -------
        Invalid
            `INVALID`, so a parser can return what this returns.
        """
        if len(self._entries) < _MOST_PROBLEMS:
            problem = Problem(message, hint=hint, code=code, severity=severity)
            self._entries.append(_Entry(path, problem, at_key))
        return INVALID

    def wrong_type(self, path: SourcePath, expected: str, value: object, hint: str = "") -> Invalid:
        """Add ``expected ... for 'field', found ...``."""
        message = f"expected {expected}{_of(path)}, found {describe(value)}"
        return self.add(path, message, code="wrong-type", hint=hint)

    def wrong_value(self, path: SourcePath, message: str, hint: str = "") -> Invalid:
        """Add a problem with a value of the right type."""
        names = [step for step in path if isinstance(step, str)]
        where = f"{names[-1][:60]!r}: " if names else ""
        return self.add(path, f"{where}{message}", code="wrong-value", hint=hint)

    def place(self, path: SourcePath) -> Location | None:
        """Find a path of ``root`` in the text."""
        return self.source.locate((*self.prefix, *path)) if self.source else None

    def written(self, path: SourcePath) -> str | None:
        """Give a number as it is written, if that may differ from how Python shows it."""
        written = getattr(self.source, "written", None)
        if not self.has_odd_numbers or written is None:
            return None
        found: str | None = written((*self.prefix, *path))
        return found

    def problems(self) -> list[Problem]:
        """Give every problem with its place."""
        return [self._placed(entry) for entry in self._entries]

    def _placed(self, entry: _Entry) -> Problem:
        path = (*self.prefix, *entry.path)
        location = None
        if self.source is not None:
            locate_key = getattr(self.source, "locate_key", self.source.locate)
            location = locate_key(path) if entry.is_about_key else self.source.locate(path)
        found = entry.problem
        return Problem(
            found.message,
            location=location,
            task=self.task_name(entry.path),
            field=dotted(path),
            hint=found.hint,
            code=found.code,
            severity=found.severity,
        )

    def task_name(self, path: SourcePath) -> str | None:
        """Name the task a path belongs to, if it has a valid name."""
        if len(path) < 2 or path[0] != "tasks" or not isinstance(self._root, dict):
            return None
        tasks, index = self._root.get("tasks"), path[1]
        if not isinstance(tasks, list | tuple) or not isinstance(index, int):
            return None
        task = tasks[index]
        name = task.get("name") if isinstance(task, dict) else None
        return name if isinstance(name, str) and name_problem(name) is None else None


def describe(value: object) -> str:
    """Name a value in an error: its kind, and the value itself if it is short. Safe to print."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return repr(value) if len(value) <= 60 else f"{value[:57]!r}..."
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    return f"a Python {type(value).__name__}"


def dotted(path: SourcePath) -> str:
    """Write a path for people: ``tasks[2].retry.delay``."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif _PLAIN_KEY.fullmatch(step):
            parts.append(f".{step}" if parts else step)
        else:
            parts.append(f"[{step[:60]!r}]")
    return "".join(parts)


def nearest(word: object, known: Collection[str]) -> str:
    """Suggest what was meant.

    Parameters
    ----------
    word : object
        What was written.
    known : collection of str
        What could have been.

    Returns
    -------
    str
        ``did you mean 'x'?``, or all of the known words if none is near.
    """
    from difflib import get_close_matches

    text = str(word)[:128].replace("-", "_").lower()
    found = get_close_matches(text, known, 1, 0.6)
    if found:
        return f"did you mean {found[0]!r}?"
    return "known are: " + ", ".join(known) if known else ""


def _of(path: SourcePath) -> str:
    names = [step for step in path if isinstance(step, str)]
    return f" for {names[-1][:60]!r}" if names else ""
