"""What group commit asks of a database: one batch in one transaction, and the truth about it after.

Implemented by `sqlite_writer` and `postgres_writer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from flowbuilder.errors import StorageError
from flowbuilder.store.batch import Batch

__all__ = ["InDoubtError", "JournalWriter", "OccupiedError", "SqlConnection"]


class OccupiedError(StorageError):
    """A batch holds a record whose place is taken, or one that no database can hold."""


class InDoubtError(StorageError):
    """Nobody could say whether a batch was written: ask again before writing it again."""


class SqlConnection(Protocol):
    """What reading asks of a database. Placeholders are question marks."""

    def execute(
        self, statement: str, bindings: Sequence[Any] | None = None, /
    ) -> Iterator[tuple[Any, ...]]:
        """Run one statement and iterate over its rows."""
        ...


class JournalWriter(Protocol):
    """The one connection of a process that writes. Used by one thread at a time."""

    def write(self, batch: Batch) -> None:
        """Write a batch in one transaction and return once it is on disk.

        Raises
        ------
        OccupiedError
            If one of its records cannot be written, ever; nothing of the batch is.
        InDoubtError
            If it may have been written.
        StorageError
            If it could not be written now; nothing of it is.
        """
        ...

    def write_rows(self, batch: Batch) -> None:
        """Write a batch inside the caller's transaction."""
        ...

    def transaction(self) -> AbstractContextManager[SqlConnection]:
        """Hold the only writing transaction of all processes; commit at the end, else undo."""
        ...

    def was_written(self, batch: Batch) -> bool:
        """End what an interrupt left open, and tell whether a batch is on disk.

        Raises
        ------
        StorageError
            If the database does not answer.
        """
        ...

    def has_version(self, plan_id: str) -> bool:
        """Tell whether a workflow version is stored already."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...

    def abandon(self) -> list[object]:
        """Forget the connection after a fork; return what must not be closed."""
        ...
