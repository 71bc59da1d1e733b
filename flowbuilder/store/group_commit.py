"""Group commit: whoever finds no commit in flight writes for everybody who has something to write.

See README.md in this folder for the states, the races and what an interrupt may leave behind.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from flowbuilder.errors import FlowBuilderError, InternalError, StorageError
from flowbuilder.store.batch import Batch
from flowbuilder.store.checkpoints import Checkpoints
from flowbuilder.store.flusher import Flusher
from flowbuilder.store.live_run import LiveRun
from flowbuilder.store.writing import InDoubtError, JournalWriter, OccupiedError

__all__ = ["GroupCommit"]

_log = logging.getLogger(__name__)

_MOST_RELAXED: Final = 512
"""Runs of a batch nobody waits for: thousands at once would hold memory and the interpreter."""

_PATIENCE: Final = 4
"""Intervals for which the flusher leaves the work to callers of `sync` that come anyway."""


class GroupCommit:
    """The write side of a journal: one writer, one lock, one batch at a time.

    Parameters
    ----------
    writer : JournalWriter
        Puts a batch on disk.
    refusal : str
        Why nothing may be written (a newer journal); empty if it may.
    interval_s : float
        Longest time a notified record waits for a batch, in seconds.
    """

    def __init__(
        self,
        writer: JournalWriter,
        *,
        refusal: str,
        interval_s: float,
        checkpoints: Checkpoints,
    ) -> None:
        self._lock = threading.Lock()
        self._writer = writer
        self.refusal = refusal
        """Why nothing may be written; empty if it may."""
        self._dirty: deque[LiveRun] = deque()
        self._dirty_since = 0.0
        self._synced_at = 0.0
        self._streaming: dict[LiveRun, None] = {}
        self._doubt: Batch | None = None
        self._known_plans: set[str] = set()
        self._checkpoints = checkpoints
        self._flusher = Flusher(self, checkpoints, interval_s)
        self.live: dict[str, LiveRun] = {}
        self.is_relaxed = True
        """Whether no run with something to write asked for it to be on disk soon."""

    @property
    def has_work(self) -> bool:
        """Whether a flush would find something."""
        return bool(self._dirty or self._streaming)

    @property
    def waiting_count(self) -> int:
        """Number of runs listed for the next batches."""
        return len(self._dirty)

    def wait_left_s(self, interval_s: float) -> float:
        """Say how much longer the flusher may leave the work to those who commit anyway.

        A batch takes everything that is listed, so nothing on the list is older than the list.
        While callers of `sync` come often, they are given four times as long.
        """
        if self._streaming or not self._dirty:
            return 0.0
        now = time.monotonic()
        patience = _PATIENCE * interval_s
        if now - self._synced_at > patience:
            patience = interval_s
        return self._dirty_since + patience - now

    def mark_dirty(self, run: LiveRun) -> None:
        """Put a run on the list of the next batch. Cheap, from any thread."""
        # The flag is raised before the run is listed and lowered before its source is emptied: a
        # record made in between is in this batch or marks the run again. Two threads may list a run
        # twice, which does no harm.
        if not self._dirty:
            self._dirty_since = time.monotonic()
        run.is_dirty = True
        self._dirty.append(run)
        if not run.is_relaxed:
            self.is_relaxed = False
            if self._flusher.is_resting:
                self._flusher.wake()
        if self._flusher.is_parked:
            self._flusher.wake()

    def sync(self, run: LiveRun) -> None:
        """Return once everything a run recorded before the call is on disk."""
        self.check_writable()
        run.is_dirty = True
        self._dirty.append(run)  # no need to wake the flusher: we are about to write it
        with self._lock:
            # If a leader before us took the run and could write it, there is nothing left to do.
            if run.is_dirty or run.taken:
                self._commit()
            self._synced_at = time.monotonic()
            run.raise_failure()
        if self._streaming or self._dirty or self._checkpoints.is_urgent:
            self._wake_flusher()

    def flush_notified(self) -> None:
        """Write what is listed, so that a reader in this process sees what it did before."""
        if self._dirty and not self.refusal:
            with self._lock:
                self._commit()

    def flush(self) -> bool:
        """Write for everybody, streaming runs included; return whether all went well."""
        with self._lock:
            if self.refusal:
                return True
            try:
                return self._commit(
                    with_streaming=True, most=_MOST_RELAXED if self.is_relaxed else None
                )
            except StorageError as error:  # nobody knows yet what became of an earlier batch
                _log.warning("%s", error.message)
                return False

    def close_run(self, run: LiveRun) -> None:
        """Let go of a run once everything of it is written."""
        run.is_closing = True
        if run.is_dirty:
            return  # the batch that takes it will see that it is closing
        if not self._lock.locked():
            # The usual end: `sync` has written everything, and no thread need be woken to find that
            # out. Not `acquire` and `try`: an interrupt between the two would keep the lock.
            with self._lock:
                if run.failure is None and not run.is_dirty and self._doubt is None:
                    run.take()
                    if not run.taken:
                        self._forget(run)
                        return
        self.mark_dirty(run)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep everybody of this process from writing, with everything notified so far written.

        Raises
        ------
        StorageError
            If it could not be written.
        """
        self.check_writable()
        with self._lock:
            if not self._commit():
                self.raise_unwritten()
            yield

    def raise_unwritten(self) -> None:
        """Say why something notified could not be written so far, if that is so."""
        for run in list(self._dirty):
            failure = run.failure
            if failure is not None:
                raise StorageError(failure.message, hint=failure.hint) from failure

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Keep everybody of this process from writing, with nothing half written."""
        self.check_usable()
        with self._lock:
            self._settle_doubt()
            yield

    def commits_paused(self) -> AbstractContextManager[object]:
        """Keep this process from committing for a moment."""
        return self._lock

    def check_usable(self) -> None:
        """Raise if the journal is closed or belongs to the parent process."""
        if self.refusal and self.refusal in _UNUSABLE:
            raise StorageError(self.refusal, hint="open the journal again")

    def check_writable(self) -> None:
        """Raise if nothing may be written."""
        if self.refusal:
            raise StorageError(self.refusal, hint=_UNUSABLE.get(self.refusal, ""))

    def close(self) -> None:
        """Write everything, stop the flusher and close the connection."""
        self._flusher.stop()
        with self._lock:
            if self.refusal in _UNUSABLE:
                return
            try:
                if not self.refusal:
                    self._commit(with_streaming=True)
                failures = [
                    run.failure
                    for run in self.live.values()
                    if run.failure is not None and not run.is_broken
                ]
            finally:
                self.refusal = _CLOSED
                self._writer.close()
        if failures:
            raise failures[0]

    def abandon(self) -> list[object]:
        """Become unusable after a fork; return what must not be closed."""
        self._lock = threading.Lock()
        self.refusal = _FORKED
        self._flusher.abandon()
        self._dirty.clear()
        self._streaming.clear()
        return self._writer.abandon()

    def _wake_flusher(self) -> None:
        if self._flusher.is_parked:
            self._flusher.wake()

    def _commit(self, *, with_streaming: bool = False, most: int | None = None) -> bool:
        self._settle_doubt()
        batch = self._doubt = Batch()
        self._collect(batch, with_streaming=with_streaming, most=most)
        error = self._write(batch)
        if isinstance(error, InDoubtError):
            self._list_again(batch, error)
            return False  # the batch stays in doubt
        if error is None:
            self._settle(batch)
        else:
            self._fail(batch, error)
        self._doubt = None
        self._checkpoints.note(batch.size_bytes)
        if isinstance(error, OccupiedError):
            return self._commit_singly(batch)
        return error is None

    def _collect(self, batch: Batch, *, with_streaming: bool, most: int | None) -> None:
        dirty = self._dirty
        if most is None:
            # Before the look at the list: who puts an urgent run on it later lowers the flag again.
            self.is_relaxed = all(run.is_relaxed for run in self._streaming)
            count = len(dirty)
        else:
            count = min(len(dirty), most)
        for _ in range(count):
            run = dirty[0]
            batch.join(
                run
            )  # before it leaves the list: an interrupt must find it in one of the two
            dirty.popleft()
            run.is_dirty = False
            self._take(run)
        if with_streaming:
            for run in list(self._streaming):
                batch.join(run)
                self._take(run)
        for run in batch.runs:
            self._encode(batch, run)

    def _take(self, run: LiveRun) -> None:
        # Asked before emptying the source: what it records unannounced until it stops streaming is
        # then fetched by this round or by one more.
        if run.source.is_streaming and not run.is_closing:
            self._streaming[run] = None
            if not run.is_relaxed:
                self.is_relaxed = False
        else:
            self._streaming.pop(run, None)
        run.take()

    def _encode(self, batch: Batch, run: LiveRun) -> None:
        try:
            batch.add_records(run, self._is_new_plan)
        except Exception as error:  # a bug in one run must not stop the others' records
            batch.drop(run.run_id)
            run.give_up(InternalError(f"a record of run {run.run_id} is broken: {error!r}"))

    def _is_new_plan(self, plan_id: str) -> bool:
        if plan_id in self._known_plans:
            return False
        return not self._writer.has_version(plan_id)

    def _write(self, batch: Batch) -> FlowBuilderError | None:
        if not batch.rows:
            return None
        try:
            self._writer.write(batch)
        except StorageError as error:
            return error
        return None

    def _settle(self, batch: Batch) -> None:
        for run in batch.runs:
            if run.version is not None:
                self._known_plans.add(run.version.plan_id)
            run.settle(batch.positions.get(run.run_id, 0))
            if run.is_closing and not run.is_dirty and run not in self._streaming:
                self._forget(run)

    def _fail(self, batch: Batch, error: FlowBuilderError) -> None:
        for run in batch.runs:
            run.undo()
        self._list_again(batch, error)

    def _list_again(self, batch: Batch, error: FlowBuilderError) -> None:
        for run in batch.runs:
            if run.taken:
                run.failure = error
                run.is_dirty = True
                self._dirty.append(run)

    def _commit_singly(self, batch: Batch) -> bool:
        """Find the run another process took over, and spare the others its error."""
        is_good = True
        for run in batch.runs:
            single = self._doubt = Batch()
            single.join(run)
            self._encode(single, run)
            error = self._write(single)
            if error is None:
                self._settle(single)
            elif isinstance(error, OccupiedError):
                run.give_up(StorageError(f"run {run.run_id} cannot be recorded: {error.message}"))
                is_good = False
            elif isinstance(error, InDoubtError):
                self._list_again(single, error)
                return False  # it stays in doubt; those not tried yet are listed
            else:
                self._fail(single, error)
                is_good = False
            self._doubt = None
        return is_good

    def _forget(self, run: LiveRun) -> None:
        self._streaming.pop(run, None)
        self.live.pop(run.run_id, None)

    def _settle_doubt(self) -> None:
        """Finish what an interrupt left: a batch is either on disk or undone and listed again."""
        batch = self._doubt
        if batch is None:
            return
        if self._writer.was_written(batch):
            self._settle(batch)
            self._doubt = None
            return
        for run in batch.runs:
            run.undo()
            run.is_dirty = True
            self._dirty.append(run)
        self._doubt = None


_CLOSED = "the journal is closed"
_FORKED = "the journal was opened by the process this one was forked from"
_UNUSABLE = {_CLOSED: "open it again", _FORKED: "open the journal in this process"}
