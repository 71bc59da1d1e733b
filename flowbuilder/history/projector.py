"""Bringing the projected tables up to the journal and the months."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from flowbuilder._version import __version__
from flowbuilder.history.batch import (
    BatchFold,
    create_tables,
    insert_tables,
    merge_counts,
    remove_runs,
    write_batch,
)
from flowbuilder.history.database import BASE, load_duckdb
from flowbuilder.history.source import JournalSource
from flowbuilder.history.tables import SCHEMA_VERSION
from flowbuilder.store.retention import JournalMark

__all__ = ["Kept", "OutdatedError", "Projector", "Standing", "read_standing"]

_CHUNK_S: Final = 0.3
"""How long others are kept out at a time."""
_MADE_BY: Final = f"{SCHEMA_VERSION} {__version__}"


class Kept(Protocol):
    """Runs that are kept outside the journal."""

    def mark(self) -> str:
        """Say which months there are; a change of anything in them changes it."""
        ...

    def last_seqs(self) -> Mapping[str, int]:
        """Give every run with its newest record."""
        ...

    def tables(self, run_ids: Sequence[str]) -> Any:
        """Iterate over the projected rows of runs, as mappings of table name to Arrow table."""
        ...


class Standing(NamedTuple):
    """Where the tables stand."""

    meta: Mapping[str, str]
    """Empty if there are no tables."""
    owners: frozenset[str]
    """Who executes the runs that are not over."""


class OutdatedError(Exception):
    """The tables were made by another version, or from another journal: delete and replay."""


class Projector:
    """Applies what is new, a chunk at a time; each chunk is one transaction with its position.

    Parameters
    ----------
    source : JournalSource
        The journal.
    kept : Kept
        The months.
    """

    def __init__(self, source: JournalSource, kept: Kept) -> None:
        self._source = source
        self._kept = kept

    def advance(self, cursor: Any, mark: JournalMark) -> bool:
        """Apply facts for a moment; tell whether nothing up to ``mark`` is left.

        Raises
        ------
        OutdatedError
            If the tables cannot go on from where they are.
        StorageError
            If the journal is damaged.
        """
        found = self._begin(cursor, mark)
        pos, deadline = int(found["pos"]), time.monotonic() + _CHUNK_S
        for page in self._source.pages(pos):
            pos = page.next_pos
            fold = BatchFold(self._source, cursor, BASE)
            fold.take(page.events)
            batch = fold.batch()
            with _Transaction(cursor):
                write_batch(cursor, BASE, batch)
                merge_counts(cursor, BASE)
                _set(cursor, "pos", pos)
            if time.monotonic() > deadline:
                return 0 <= mark.last_pos <= pos and self._settle(cursor, found, mark)
        return self._settle(cursor, found, mark)

    def is_current(self, found: Standing, mark: JournalMark) -> bool:
        """Whether tables that stand there hold everything up to ``mark``."""
        if not self.can_continue(found, mark):
            return False
        pos = int(found.meta["pos"])
        return 0 <= mark.last_pos <= pos or not self._source.has_more(pos)

    def can_continue(self, found: Standing, mark: JournalMark) -> bool:
        """Whether what the tables hold is right, if not all there is."""
        return (
            found.meta.get("made_by") == _MADE_BY
            and found.meta["identity"] == mark.identity
            and not self._has_moved(found.meta, mark)
        )

    def _begin(self, cursor: Any, mark: JournalMark) -> Mapping[str, str]:
        found = read_standing(cursor).meta
        if not found:
            with _Transaction(cursor):
                create_tables(cursor, BASE)
                start = {"made_by": _MADE_BY, "identity": mark.identity, "pos": "0"}
                for name, value in {
                    **start,
                    "removals": "-2",
                    "months": "-",
                    "merged": "0",
                }.items():
                    cursor.execute(
                        f"INSERT INTO {BASE}.meta VALUES (?, ?)",
                        [name, value],
                    ).fetchall()
            found = read_standing(cursor).meta
        if found["made_by"] != _MADE_BY or found["identity"] != mark.identity:
            raise OutdatedError
        return found

    def _has_moved(self, found: Mapping[str, str], mark: JournalMark) -> bool:
        return int(found["removals"]) != mark.removals or found["months"] != self._kept.mark()

    def _settle(self, cursor: Any, found: Mapping[str, str], mark: JournalMark) -> bool:
        """Let removed runs go, and take in those that only the months have."""
        if not self._has_moved(found, mark):
            return True
        months = self._kept.mark()  # before they are read: a change meanwhile is seen next time
        kept = self._kept.last_seqs()
        alive = self._source.run_ids()
        query = f"SELECT run_id, last_seq FROM {BASE}.runs"
        stored = dict(cursor.execute(query).fetchall())
        wanted = {run for run, seq in kept.items() if run not in alive and stored.get(run) != seq}
        gone = {run for run in stored if run not in alive and run not in kept}
        with _Transaction(cursor):
            remove_runs(cursor, BASE, sorted(gone | (wanted & stored.keys())))
            if wanted:
                for tables in self._kept.tables(sorted(wanted)):
                    insert_tables(cursor, BASE, tables)
            merge_counts(cursor, BASE)
            _set(cursor, "removals", mark.removals)
            _set(cursor, "months", months)
        return True


class _Transaction:
    """Commits at the end of the block, rolls back if it fails."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __enter__(self) -> None:
        self._cursor.execute("BEGIN").fetchall()

    def __exit__(self, kind: object, *_: object) -> None:
        self._cursor.execute("COMMIT" if kind is None else "ROLLBACK").fetchall()


def read_standing(cursor: Any) -> Standing:
    """Read where the tables stand, in one query, because it precedes every question."""
    query = f"SELECT name, value FROM {BASE}.meta UNION ALL SELECT '', owner FROM {BASE}.open_runs"
    try:
        rows = cursor.execute(query).fetchall()
    except load_duckdb().CatalogException:
        return Standing({}, frozenset())
    meta = {name: value for name, value in rows if name}
    return Standing(meta, frozenset(value for name, value in rows if not name))


def _set(cursor: Any, name: str, value: object) -> None:
    cursor.execute(
        f"UPDATE {BASE}.meta SET value = ? WHERE name = ?",
        [str(value), name],
    ).fetchall()
