"""What the history asks of a journal beyond `Journal`: where it stands, and letting go of runs that
are kept elsewhere.

A journal that lacks these methods can still be projected (`flowbuilder.history.source` finds other
ways), only more slowly, and never pruned.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple, Protocol, runtime_checkable

from flowbuilder.errors import StorageError
from flowbuilder.records import RunHeader
from flowbuilder.store.catalogue import read_progress, run_position
from flowbuilder.store.writing import SqlConnection
from flowbuilder.vocabulary import FINAL_RUN_STATES

__all__ = [
    "JournalMark",
    "RetainingJournal",
    "forget_run",
    "give_identity",
    "note_removal",
    "prune_settled",
    "read_mark",
]

_IDENTITY: Final = "identity"
_REMOVALS: Final = "removals"
_RUN_TABLES: Final = ("journal", "snapshots", "artifacts")


class JournalMark(NamedTuple):
    """Where a journal stands."""

    identity: str
    """Made once per journal: another one means another journal, even under the same name."""
    last_pos: int
    """The newest position."""
    removals: int
    """Counts the times runs were removed; unchanged means none was."""


@runtime_checkable
class RetainingJournal(Protocol):
    """A journal whose runs can move into the history's months."""

    def mark(self) -> JournalMark:
        """Say where the journal stands, after flushing what this process announced."""
        ...

    def run_ids(self) -> set[str]:
        """List all runs."""
        ...

    def run_header(self, run_id: str) -> RunHeader:
        """Read what is known of a run before anything happened in it.

        Raises
        ------
        StorageError
            If there is no such run, or it is damaged.
        """
        ...

    def prune_runs(self, settled: Mapping[str, int]) -> list[str]:
        """Let go of runs that are kept elsewhere, in one transaction.

        Parameters
        ----------
        settled : mapping of str to int
            Run -> last sequence number that is kept elsewhere. A run with other records, or one
            that is not final, stays.

        Returns
        -------
        list of str
            The runs that are gone.
        """
        ...


def read_mark(connection: SqlConnection) -> JournalMark | None:
    """Read where a journal stands; None if it has no identity yet."""
    query = "SELECT name, value FROM meta WHERE name IN (?, ?)"
    found = {str(name): value for name, value in connection.execute(query, (_IDENTITY, _REMOVALS))}
    if _IDENTITY not in found:
        return None
    (pos,) = next(connection.execute("SELECT coalesce(max(pos), 0) FROM journal"))
    assert isinstance(pos, int)
    return JournalMark(str(found[_IDENTITY]), pos, int(str(found.get(_REMOVALS, 0))))


def give_identity(connection: SqlConnection) -> None:
    """Name a journal, unless it has a name."""
    connection.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
        (_IDENTITY, os.urandom(16).hex()),
    )


def note_removal(connection: SqlConnection) -> None:
    """Count a removal of runs, in the caller's transaction."""
    connection.execute(
        "INSERT INTO meta VALUES (?, '1')"
        " ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(meta.value AS INTEGER) + 1 AS TEXT)",
        (_REMOVALS,),
    )


def forget_run(connection: SqlConnection, run_id: str, pos: int) -> None:
    """Delete everything of a run, in the caller's transaction."""
    connection.execute("DELETE FROM runs WHERE pos = ?", (pos,))
    for table in _RUN_TABLES:
        connection.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))  # noqa: S608


def prune_settled(
    connection: SqlConnection, settled: Mapping[str, int], is_live: Callable[[str], bool]
) -> list[str]:
    """Delete the runs whose newest record is still the one that is kept elsewhere, in the caller's
    transaction.
    """
    pruned = []
    for run_id, last_seq in settled.items():
        pos = run_position(connection, run_id)
        if not pos or is_live(run_id):
            continue
        with suppress(StorageError):  # damaged: whoever looks at it must be told, so it stays
            progress = read_progress(connection, run_id)
            if progress.last_seq == last_seq and progress.state in FINAL_RUN_STATES:
                forget_run(connection, run_id, pos)
                pruned.append(run_id)
    return pruned
