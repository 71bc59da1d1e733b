"""One live run as the journal holds it: where its records come from, how far they are written."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from flowbuilder.errors import FlowBuilderError, InternalError, StorageError
from flowbuilder.records import Record, RunHeader, VersionHeader
from flowbuilder.store.ports import LiveSource
from flowbuilder.store.projection import Projection

if TYPE_CHECKING:
    from flowbuilder.store.group_commit import GroupCommit

__all__ = ["LiveRun"]


_log = logging.getLogger(__name__)


class LiveRun(msgspec.Struct, eq=False, gc=False):
    """The journal's hold on one live run. All state but the flags is changed under the commit lock.

    The garbage collector does not look at it, for there may be many thousands: it is part of one
    cycle, with its source, which ends with the run.

    Parameters
    ----------
    group : GroupCommit
        Who writes for this journal.
    source : LiveSource
        Where new records come from.
    run_id : str
        Full run id.
    taken : list or tuple of Record
        Fetched from the source, not yet on disk.
    version, header : VersionHeader, RunHeader or None
        What a new run has to store before its first record; None for an adopted run.
    pos : int
        Position of an adopted run's header row; 0 for a new run until that is on disk.
    is_relaxed : bool
        Whether nobody waits for its records to be on disk.
    made : Projection, optional
        The progress of an adopted run; that of a new one is made at its first flush.
    """

    group: GroupCommit
    source: LiveSource
    run_id: str
    taken: list[Record] | tuple[Record, ...] = ()
    version: VersionHeader | None = None
    header: RunHeader | None = None
    pos: int = 0
    is_relaxed: bool = False
    made: Projection | None = None
    is_dirty: bool = False
    is_closing: bool = False
    is_broken: bool = False
    failure: FlowBuilderError | None = None

    @property
    def projection(self) -> Projection:
        """The run's progress, made on first use."""
        if self.made is None:
            assert self.version is not None
            assert self.header is not None
            self.made = Projection.of_new_run(self.version, self.header)
        return self.made

    def notify(self) -> None:
        """Say that the source has something.

        Raises
        ------
        StorageError
            If an earlier flush failed; once per failure. The records are kept and tried again.
        """
        if self.is_dirty and self.failure is None:
            return
        self.group.mark_dirty(self)
        if self.failure is not None:
            self.raise_failure()

    def sync(self) -> None:
        """Return once everything recorded before the call is on disk.

        Raises
        ------
        StorageError
            If it could not be written; earlier records are safe, these are kept and tried again.
        """
        self.group.sync(self)

    def confirm(self) -> None:
        """Make sure that what was notified before another run's `sync` is on disk after it.

        Raises
        ------
        StorageError
            If a commit of this run's records failed.
        """
        if self.taken:
            self.sync()  # its batch failed and was listed again
        self.raise_failure()

    def close(self) -> None:
        """Write what is left without waiting, and forget the source."""
        self.group.close_run(self)

    def mark(self) -> None:
        """Remember the present projection, making it if this is the run's first batch."""
        try:
            self.projection.mark()
        except Exception as error:
            self.give_up(InternalError(f"the plan of run {self.run_id} is broken: {error!r}"))

    def undo(self) -> None:
        """Take back what the batch did to the projection. May be repeated."""
        if not self.is_broken:
            self.projection.undo()

    def take(self) -> None:
        """Fetch what the source has. Only under the commit lock."""
        if self.is_broken:
            return
        try:
            if isinstance(self.taken, tuple):
                self.taken = list(self.taken)
            # One expression: an interrupt between fetching and keeping would lose the records.
            self.taken.extend(self.source.take())
        except Exception as error:
            self.give_up(InternalError(f"the records of run {self.run_id} are broken: {error!r}"))

    def settle(self, pos: int) -> None:
        """Note that everything taken is on disk, the header at ``pos``. May be repeated."""
        if self.is_broken:
            return
        self.pos = pos
        self.taken = ()
        self.projection.keep()
        self.version = None
        self.header = None
        self.failure = None

    def give_up(self, error: FlowBuilderError) -> None:
        """Drop what can never be written, and say so at the next call."""
        _log.error("run %s is not recorded any more: %s", self.run_id, error)
        self.undo()
        self.is_broken = True
        self.taken = ()
        self.failure = error

    def raise_failure(self) -> None:
        """Raise what went wrong, if anything did, and forget it unless it is final."""
        failure = self.failure
        if failure is None:
            return
        if not self.is_broken:
            self.failure = None
        if isinstance(failure, StorageError):
            raise StorageError(failure.message, hint=failure.hint) from failure
        raise failure
