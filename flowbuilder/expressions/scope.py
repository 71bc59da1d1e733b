"""What expressions may name, and where their values come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

__all__ = ["ROOTS", "RUN_FIELDS", "TASK_FIELDS", "Scope"]

ROOTS: Final = ("params", "tasks", "run", "env", "secrets")
"""The names every expression starts from."""

RUN_FIELDS: Final = ("id", "workflow", "started_at")
"""What ``run.`` offers."""

TASK_FIELDS: Final = ("output", "state")
"""What ``tasks.<name>.`` offers."""


class Scope(Protocol):
    """Gives the roots their values, one run at a time."""

    def root(self, name: str) -> Mapping[str, object]:
        """Give the mapping behind one of `ROOTS`.

        Parameters
        ----------
        name : str
            One of `ROOTS`.

        Returns
        -------
        mapping
            For ``tasks`` it may be lazy: ``tasks[name]`` is a mapping with the keys `TASK_FIELDS`.
            A name that is not there must raise ``KeyError``; any other `FlowBuilderError` is
            passed on.
        """
        ...
