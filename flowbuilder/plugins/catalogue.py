"""The task types that exist, as planning sees them: enough to look one up by name, without loading
what is not trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from flowbuilder.plugins.task_type import TaskType

__all__ = ["TaskTypes"]


class TaskTypes(Protocol):
    """Finds task types by name. Thread-safe; the registry implements it, tests use a small fake."""

    def find(self, name: str) -> TaskType | None:
        """Give the task type ``name``, loading its module on first use; None if there is none."""
        ...

    def names(self) -> Sequence[str]:
        """List every name a workflow may use, those not loaded yet included, sorted."""
        ...

    def unloaded(self, name: str) -> Mapping[str, object] | None:
        """Describe a type that exists in a plugin file which is not trusted, and therefore not
        loaded.

        Returns
        -------
        mapping or None
            The JSON Schema that lies beside the file, ``{}`` if none does, None if no such type
            exists.
        """
        ...
