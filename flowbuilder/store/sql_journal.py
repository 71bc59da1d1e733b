"""A journal kept in tables: reading, catalogue and group commit over any SQL database."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from flowbuilder.errors import FlowBuilderError, RecoveryError, StorageError
from flowbuilder.records import (
    ArtifactStored,
    Event,
    LogChunk,
    RunCreated,
    RunHeader,
    VersionHeader,
)
from flowbuilder.store.adoption import adopt
from flowbuilder.store.catalogue import (
    find_run_id,
    list_summaries,
    load_saved_run,
    read_progress,
    read_snapshot,
    read_summary,
    read_version,
    run_position,
)
from flowbuilder.store.codec import decode_header, decode_row
from flowbuilder.store.findings import CheckCounts, Finding
from flowbuilder.store.forks import leak, watch_forks
from flowbuilder.store.group_commit import GroupCommit
from flowbuilder.store.journal_check import check_journal
from flowbuilder.store.live_run import LiveRun
from flowbuilder.store.ports import LiveSource, RunSummary, SavedRun, TailPage
from flowbuilder.store.reading import (
    Readers,
    header_row,
    rows_of_kind,
    rows_of_run,
    tail_rows,
)
from flowbuilder.store.retention import (
    JournalMark,
    forget_run,
    give_identity,
    note_removal,
    prune_settled,
    read_mark,
)
from flowbuilder.store.table_copy import copy_tables
from flowbuilder.store.writing import JournalWriter, SqlConnection
from flowbuilder.vocabulary import Durability, RunState

__all__ = ["SqlJournal"]

_open_journals: WeakSet[SqlJournal] = WeakSet()


class SqlJournal:
    """A `Journal` over a writer and readers of the same tables. Thread-safe.

    Parameters
    ----------
    group : GroupCommit
        The write side.
    writer : JournalWriter
        What the write side writes with.
    readers : Readers
        Where read connections come from.
    is_owner_alive : callable
        Tells whether the engine with a given id lives.
    """

    def __init__(
        self,
        group: GroupCommit,
        writer: JournalWriter,
        readers: Readers,
        is_owner_alive: Callable[[str], bool],
    ) -> None:
        self._group = group
        self._writer = writer
        self._readers = readers
        self._is_alive = is_owner_alive
        watch_forks(self)
        _open_journals.add(self)

    @property
    def is_writable(self) -> bool:
        """Whether runs can be recorded: False for journals of a newer major version."""
        return not self._group.refusal

    def open_run(
        self, version: VersionHeader, header: RunHeader, created: RunCreated, source: LiveSource
    ) -> LiveRun:
        """Begin a run. Nothing is written before the first flush.

        Raises
        ------
        StorageError
            If nothing may be written here.
        """
        self._group.check_writable()
        run = LiveRun(
            self._group,
            source,
            header.run_id,
            (created,),
            version,
            header,
            is_relaxed=header.durability == Durability.NONE,
        )
        self._group.live[header.run_id] = run
        return run

    def adopt_run(self, run_id: str, created: RunCreated, source: LiveSource) -> LiveRun:
        """Take over a run whose owner is gone or which ended unsuccessfully.

        Raises
        ------
        RecoveryError
            If its owner lives, or it succeeded.
        StorageError
            If it does not exist or cannot be written.
        """
        with self._group.exclusive():
            if run_id in self._group.live:
                raise RecoveryError(
                    f"run {run_id} is still open in this process",
                    hint="wait for it, or cancel it first",
                )
            pos, projection = adopt(self._writer, run_id, created, self._is_alive)
            run = LiveRun(self._group, source, run_id, made=projection, pos=pos)
            self._group.live[run_id] = run
        return run

    def find_run(self, ref: str) -> RunSummary:
        """Resolve a run id, a unique suffix of one, or ``latest``.

        Raises
        ------
        StorageError
            If none or several match; the message lists candidates.
        """
        self._group.flush_notified()
        with self._readers.reading() as connection:
            try:
                return read_summary(connection, find_run_id(connection, ref), self._is_alive)
            except StorageError:
                self._group.raise_unwritten()  # it may be among what is not on disk yet
                raise

    def list_runs(
        self, *, limit: int = 50, workflow: str | None = None, state: RunState | None = None
    ) -> list[RunSummary]:
        """List runs, newest first."""
        self._group.flush_notified()
        known: dict[str, bool] = {}

        def is_alive(owner: str) -> bool:
            if owner not in known:
                known[owner] = self._is_alive(owner)
            return known[owner]

        return list_summaries(self._readers, is_alive, limit=limit, workflow=workflow, state=state)

    def load_run(self, run_id: str) -> SavedRun:
        """Read back everything known of a run.

        Raises
        ------
        StorageError
            If it does not exist, or anything of it is damaged.
        """
        self._group.flush_notified()
        try:
            return load_saved_run(self._readers, run_id, self._is_alive)
        except StorageError:
            self._group.raise_unwritten()  # it may be among what is not on disk yet
            raise

    def version(self, plan_id: str) -> VersionHeader:
        """Read a stored version.

        Raises
        ------
        StorageError
            If it is missing or damaged.
        """
        self._group.flush_notified()
        with self._readers.reading() as connection:
            return read_version(connection, plan_id)

    def snapshot(self, run_id: str) -> tuple[int, bytes] | None:
        """Read a recent (sequence number, state codes) of a long run, for a view to attach with."""
        with self._readers.reading() as connection:
            return read_snapshot(connection, run_id)

    def events(self, run_id: str, *, after_seq: int = -1) -> Iterator[Event]:
        """Iterate over a run's facts in order, blocks unfolded.

        Raises
        ------
        StorageError
            At the first record that is damaged or missing.
        """
        self._group.flush_notified()
        for row in rows_of_run(self._readers, run_id, after_seq):
            for event in decode_row(row):
                if event.seq > after_seq:
                    yield event

    def logs(self, run_id: str, *, instance: int | None = None) -> Iterator[LogChunk]:
        """Iterate over what a run, or one of its tasks, printed and logged."""
        self._group.flush_notified()
        for row in rows_of_kind(self._readers, run_id, "log"):
            for event in decode_row(row):
                if isinstance(event, LogChunk) and instance in {None, event.instance}:
                    yield event

    def tail(self, after_pos: int = 0, *, limit: int = 1000) -> TailPage:
        """Read facts of all runs and processes after a position, in the order they were written.

        Parameters
        ----------
        after_pos : int
            ``next_pos`` of the page before; 0 begins at the oldest.
        limit : int
            Rows to read; a block of many attempts is one row.
        """
        with self._readers.reading() as connection:
            rows = tail_rows(connection, after_pos, limit)
        events = [event for _, row in rows for event in decode_row(row)]
        return TailPage(events, rows[-1][0] if rows else after_pos)

    def last_pos(self) -> int:
        """Give the newest position, to tail from now on."""
        with self._readers.reading() as connection:
            (pos,) = next(connection.execute("SELECT coalesce(max(pos), 0) FROM journal"))
        return int(pos) if isinstance(pos, int) else 0

    def artifacts(self, run_id: str) -> list[ArtifactStored]:
        """List the stored outputs of a run, of all attempts."""
        self._group.flush_notified()
        query = (
            "SELECT instance, attempt, name, format, path, size_bytes, digest, type_name, num_rows"
            " FROM artifacts WHERE run_id = ?"
        )
        with self._readers.reading() as connection:
            rows = list(connection.execute(query, (run_id,)))
        names = ("instance", "attempt", "name", "format", "path", "size_bytes", "digest")
        fields = (*names, "type_name", "num_rows")
        found = []
        for row in rows:
            values = dict(zip(fields, row, strict=True))
            values["format"], _, values["cipher"] = str(values["format"]).partition("+")
            found.append(ArtifactStored(run_id=run_id, **values))
        return found

    def remove_runs(self, run_ids: Sequence[str]) -> int:
        """Delete runs that are not alive, with their records and artifact rows; return how many."""
        with self._group.exclusive(), self._writer.transaction() as connection:
            removed = sum(self._remove(connection, run_id) for run_id in sorted(set(run_ids)))
            if removed:
                note_removal(connection)
            return removed

    def _remove(self, connection: SqlConnection, run_id: str) -> bool:
        if run_id in self._group.live:
            return False
        pos = run_position(connection, run_id)
        if not pos:
            return False
        # A run whose summary is damaged cannot be told to be alive, and must be removable.
        with suppress(StorageError):
            progress = read_progress(connection, run_id)
            if not progress.is_final and self._is_alive(progress.owner):
                return False
        forget_run(connection, run_id, pos)
        return True

    def mark(self) -> JournalMark:
        """Say where the journal stands, after flushing what this process announced."""
        self._group.flush_notified()
        with self._readers.reading() as connection:
            found = read_mark(connection)
        if found is not None:
            return found
        if not self.is_writable:
            return JournalMark("", self.last_pos(), 0)
        with self._group.exclusive(), self._writer.transaction() as connection:
            give_identity(connection)
        return self.mark()

    def run_ids(self) -> set[str]:
        """List all runs."""
        with self._readers.reading() as connection:
            return {str(row[0]) for row in connection.execute("SELECT run_id FROM runs")}

    def run_header(self, run_id: str) -> RunHeader:
        """Read what is known of a run before anything happened in it.

        Raises
        ------
        StorageError
            If there is no such run, or it is damaged.
        """
        with self._readers.reading() as connection:
            return decode_header(header_row(connection, run_id))

    def prune_runs(self, settled: Mapping[str, int]) -> list[str]:
        """Let go of final runs that are kept elsewhere up to the given sequence number; return
        those that are gone.
        """
        with self._group.exclusive(), self._writer.transaction() as connection:
            return prune_settled(connection, settled, self._group.live.__contains__)

    def check(self, counts: CheckCounts) -> Iterator[Finding]:
        """Read everything and say what is wrong; runs may go on meanwhile.

        Parameters
        ----------
        counts : CheckCounts
            Counts what was looked at.
        """
        self._group.flush_notified()
        return check_journal(self._readers, counts)

    def copy_to(self, target: Path) -> None:
        """Write a consistent copy as a SQLite file, while runs go on.

        Raises
        ------
        StorageError
            If it cannot be read or written.
        """
        self._group.flush_notified()
        copy_tables(self._readers, target)

    def close(self) -> None:
        """Flush everything and let go of the database.

        Raises
        ------
        StorageError
            If something could not be written.
        """
        _open_journals.discard(self)
        self._readers.close()
        self._group.close()

    def abandon(self) -> None:
        """Become unusable in a forked child; nothing inherited is touched."""
        leaked = self._group.abandon() + self._readers.abandon()
        _open_journals.discard(self)
        leak(leaked)


def _close_all() -> None:
    for journal in list(_open_journals):
        with suppress(FlowBuilderError):
            journal.close()


atexit.register(_close_all)
