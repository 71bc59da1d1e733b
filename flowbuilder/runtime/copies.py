"""Which hand-overs of a run copied data, how much, and why.

Nothing is counted where nothing is copied: a run that only passes references has no ledger, and
tasks in static segments cannot make one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from flowbuilder.runtime.program import RunScope

__all__ = ["Copy", "TracedRun"]


class Copy(msgspec.Struct, frozen=True, gc=False):
    """One copy of data on its way from a task's output to a task.

    Parameters
    ----------
    source : int
        Instance whose output was copied; -1 if the copy holds parts of several.
    target : int
        Instance it was copied for; ``source`` itself where the output was copied when it was made,
        or moved between memory and disk.
    size_bytes : int
        Bytes written anew; zero for a hand-over that had to be noted and copied nothing.
    reason : str
        Why it could not be avoided.
    """

    source: int
    target: int
    size_bytes: int
    reason: str


class TracedRun:
    """A run as a worker process's call sees it, which remembers whose output each argument is.

    Parameters
    ----------
    run : RunScope
        The live run.
    """

    def __init__(self, run: RunScope) -> None:
        self._run = run
        self._given: dict[int, tuple[object, int]] = {}

    def output(self, instance: int) -> object:
        """Give an output as a consumer may have it."""
        value = self._run.output(instance)
        # Beside the value, because an id counts only while its object lives.
        self._given[id(value)] = value, instance
        return value

    @property
    def sources(self) -> list[int]:
        """The instances whose outputs were asked for."""
        return sorted({instance for _, instance in self._given.values()})

    def source_of(self, value: object) -> int:
        """Say whose output a value is; -1 if it is a part of one, or of none."""
        return self._given.get(id(value), (None, -1))[1]

    def __getattr__(self, name: str) -> object:
        return getattr(self._run, name)
