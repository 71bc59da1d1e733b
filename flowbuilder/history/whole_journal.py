"""The journal and the closed months as one `Journal`: a run that was pruned is read as before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowbuilder.errors import RecoveryError, StorageError
from flowbuilder.history.month_files import Manifest
from flowbuilder.history.months import Months
from flowbuilder.history.pruning import remove_from_months
from flowbuilder.history.rollup import month_of
from flowbuilder.ids import short_id
from flowbuilder.records import (
    ArtifactStored,
    Event,
    LogChunk,
    RunCreated,
    RunHeader,
    VersionHeader,
)
from flowbuilder.store.codec import encode_record
from flowbuilder.store.ports import (
    Journal,
    JournalRun,
    LiveSource,
    RunSummary,
    SavedRun,
    TailPage,
)
from flowbuilder.store.replay import Replay
from flowbuilder.vocabulary import RunState

__all__ = ["WholeJournal"]


class WholeJournal:
    """Asks the journal first, then the months. Runs in both are the journal's.

    Parameters
    ----------
    journal : Journal
        Where runs are written.
    months : Months
        Where they are kept once they were pruned.
    """

    def __init__(self, journal: Journal, months: Months) -> None:
        self.recent = journal
        self.months = months

    def open_run(
        self, version: VersionHeader, header: RunHeader, created: RunCreated, source: LiveSource
    ) -> JournalRun:
        """Begin a run in the journal."""
        return self.recent.open_run(version, header, created, source)

    def adopt_run(self, run_id: str, created: RunCreated, source: LiveSource) -> JournalRun:
        """Take over a run of the journal.

        Raises
        ------
        RecoveryError
            If its owner lives, or it is only kept in a month.
        """
        self.refuse_kept(run_id)
        return self.recent.adopt_run(run_id, created, source)

    def refuse_kept(self, run_id: str) -> None:
        """Make sure that a run can still be written to.

        Raises
        ------
        RecoveryError
            If it was pruned from the journal.
        """
        month = self._month_of(run_id)
        if month and not self._is_recent(run_id):
            raise RecoveryError(
                f"run {short_id(run_id)} was moved to closed month {month}: it can be read, not"
                " continued",
                hint="start the workflow anew",
            )

    def find_run(self, ref: str) -> RunSummary:
        """Resolve a run id, a unique suffix of one, or ``latest``.

        Raises
        ------
        StorageError
            If none or several match; the message lists candidates.
        """
        wanted = ref.strip().lower()
        matches = self._kept_matches(wanted)
        try:
            found = self.recent.find_run(ref)
        except StorageError:
            if len(matches) == 1:
                return self.months.summary(matches[0])
            if len(matches) > 1:
                raise _several(ref, matches) from None
            raise
        others = [run_id for run_id in matches if run_id != found.run_id]
        if others and wanted not in {"latest", found.run_id}:
            raise _several(ref, [found.run_id, *others])
        return found

    def list_runs(
        self, *, limit: int = 50, workflow: str | None = None, state: RunState | None = None
    ) -> list[RunSummary]:
        """List runs, newest first."""
        found = self.recent.list_runs(limit=limit, workflow=workflow, state=state)
        manifests = self._manifests()
        if not manifests:
            return found
        oldest = month_of(found[-1].started_wall_ns) if len(found) == limit else ""
        seen = {run.run_id for run in found}
        kept: list[RunSummary] = []
        for manifest in reversed(manifests):
            if len(kept) >= limit or manifest.month < oldest:
                break
            ids = [run for run in self.months.run_ids_of(manifest.month) if run not in seen]
            kept += [
                run
                for run in self.months.summaries(ids)
                if workflow in {None, run.workflow} and state in {None, run.state}
            ]
        if not kept:
            return found
        both = sorted([*found, *kept], key=lambda run: run.started_wall_ns, reverse=True)
        return both[:limit]

    def load_run(self, run_id: str) -> SavedRun:
        """Read back everything known of a run."""
        if not self._is_kept_only(run_id):
            return self.recent.load_run(run_id)
        summary = self.months.summary(run_id)
        header = self.months.header(run_id)
        version = self.version(header.plan_id)
        rows = (encode_record(run_id, event.seq, event) for event in self.months.events(run_id))
        replay = Replay(header, len(version.keys)).fold(rows)
        return SavedRun(
            summary=summary,
            version=version,
            header=header,
            states=replay.task_states(),
            attempts=replay.attempts,
            outputs=replay.outputs,
            artifacts=replay.settled_artifacts(),
            started=replay.started,
            failures=replay.failures,
            lost=replay.lost,
        )

    def version(self, plan_id: str) -> VersionHeader:
        """Read a stored version."""
        try:
            return self.recent.version(plan_id)
        except StorageError:
            found = self.months.version(plan_id) if self._manifests() else None
            if found is None:
                raise
            return found

    def events(self, run_id: str, *, after_seq: int = -1) -> Iterator[Event]:
        """Iterate over a run's facts in order."""
        if self._is_kept_only(run_id):
            return (event for event in self.months.events(run_id) if event.seq > after_seq)
        return self.recent.events(run_id, after_seq=after_seq)

    def logs(self, run_id: str, *, instance: int | None = None) -> Iterator[LogChunk]:
        """Iterate over what a run, or one of its tasks, printed and logged."""
        if not self._is_kept_only(run_id):
            return self.recent.logs(run_id, instance=instance)
        return (
            event
            for event in self.months.events(run_id)
            if isinstance(event, LogChunk) and instance in {None, event.instance}
        )

    def tail(self, after_pos: int = 0, *, limit: int = 1000) -> TailPage:
        """Read facts of the journal after a position."""
        return self.recent.tail(after_pos, limit=limit)

    def last_pos(self) -> int:
        """Give the newest position of the journal."""
        return self.recent.last_pos()

    def snapshot(self, run_id: str) -> tuple[int, bytes] | None:
        """Read a recent (sequence number, state codes) of a long run of the journal."""
        return self.recent.snapshot(run_id)

    def artifacts(self, run_id: str) -> list[ArtifactStored]:
        """List the stored outputs of a run, of all attempts."""
        return [event for event in self.events(run_id) if isinstance(event, ArtifactStored)]

    def remove_runs(self, run_ids: Sequence[str]) -> int:
        """Delete finished runs wherever they are; return how many were deleted."""
        if not self._manifests():
            return self.recent.remove_runs(run_ids)
        known = {run for run in run_ids if self._month_of(run) or self._is_recent(run)}
        self.recent.remove_runs(run_ids)
        # What the journal refused to remove is alive, and stays where else it is.
        gone = sorted(run for run in known if not self._is_recent(run))
        remove_from_months(self.months, gone)
        return len(gone)

    def close(self) -> None:
        """Flush everything and let go of the files."""
        self.recent.close()

    def _manifests(self) -> list[Manifest]:
        return self.months.manifests()

    def _month_of(self, run_id: str) -> str:
        return self.months.month_of(run_id) if self._manifests() else ""

    def _is_recent(self, run_id: str) -> bool:
        try:
            return self.recent.find_run(run_id).run_id == run_id
        except StorageError:
            return False

    def _is_kept_only(self, run_id: str) -> bool:
        return bool(self._month_of(run_id)) and not self._is_recent(run_id)

    def _kept_matches(self, wanted: str) -> list[str]:
        if not self._manifests():
            return []
        if wanted == "latest":
            return self.months.run_ids()[-1:]
        if not wanted:
            return []
        if self.months.month_of(wanted):
            return [wanted]
        return [run_id for run_id in self.months.run_ids() if run_id.endswith(wanted)]


def _several(ref: str, matches: Sequence[str]) -> StorageError:
    shown = ", ".join(matches[:5]) + (", ..." if len(matches) > 5 else "")
    return StorageError(
        f"expected one run, found several that end in {ref[:64]!r}: {shown}",
        hint="give more characters",
    )
