"""The journal as the history sees it, whichever implementation it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from zlib import crc32

from flowbuilder.errors import StorageError
from flowbuilder.history.run_fold import PlanLabels
from flowbuilder.records import Event, RunHeader, VersionHeader
from flowbuilder.store.ports import Journal, RunSummary, TailPage
from flowbuilder.store.retention import JournalMark, RetainingJournal

__all__ = ["JournalSource"]

_ALL: Final = 2**31
_MOST_PLANS: Final = 256
_PAGE_ROWS: Final = 64
_PAGE_EVENTS: Final = 20_000


class JournalSource:
    """Reads a journal through its port.

    Parameters
    ----------
    journal : Journal
        Those that are a `RetainingJournal` answer faster, and tell when runs were removed.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._plans: dict[str, PlanLabels] = {}
        self._page_rows = _PAGE_ROWS

    def mark(self) -> JournalMark:
        """Say where the journal stands; where it does not count removals, any other set of runs
        looks like one.
        """
        if isinstance(self.journal, RetainingJournal):
            return self.journal.mark()
        runs = "".join(sorted(self.run_ids()))  # flushes what this process announced
        return JournalMark("", self.journal.last_pos(), crc32(runs.encode()))

    def pages(self, after_pos: int) -> Iterator[TailPage]:
        """Iterate over facts in the order they were written, in pages of some 20,000."""
        while True:
            page = self.journal.tail(after_pos, limit=self._page_rows)
            if page.next_pos == after_pos:
                return
            yield page
            after_pos = page.next_pos
            if len(page.events) > _PAGE_EVENTS:
                self._page_rows = max(1, self._page_rows // 2)
            elif len(page.events) < _PAGE_EVENTS // 2:
                self._page_rows = min(_PAGE_EVENTS, self._page_rows * 2)

    def has_more(self, after_pos: int) -> bool:
        """Whether anything was written after a position."""
        return self.journal.tail(after_pos, limit=1).next_pos != after_pos

    def run_ids(self) -> set[str]:
        """List all runs."""
        if isinstance(self.journal, RetainingJournal):
            return self.journal.run_ids()
        return {summary.run_id for summary in self.journal.list_runs(limit=_ALL)}

    def summaries(self) -> list[RunSummary]:
        """Describe all runs, oldest first."""
        return self.journal.list_runs(limit=_ALL)[::-1]

    def summary(self, run_id: str) -> RunSummary | None:
        """Describe a run; None if it was removed meanwhile.

        Raises
        ------
        StorageError
            If it is damaged.
        """
        try:
            return self.journal.find_run(run_id)
        except StorageError:
            if run_id in self.run_ids():
                raise
            return None

    def header(self, run_id: str) -> RunHeader | None:
        """Read a run's header; None if it was removed meanwhile.

        Raises
        ------
        StorageError
            If it is damaged.
        """
        try:
            if isinstance(self.journal, RetainingJournal):
                return self.journal.run_header(run_id)
            return self.journal.load_run(run_id).header
        except StorageError:
            if run_id in self.run_ids():
                raise
            return None

    def events(self, run_id: str) -> Iterator[Event]:
        """Iterate over a run's facts in order."""
        return self.journal.events(run_id)

    def version(self, plan_id: str) -> VersionHeader:
        """Read a version."""
        return self.labels(plan_id).version

    def labels(self, plan_id: str) -> PlanLabels:
        """Give the labels of a version's instances; the newest few hundred are remembered."""
        found = self._plans.get(plan_id)
        if found is None:
            while len(self._plans) >= _MOST_PLANS:
                self._plans.pop(next(iter(self._plans)))
            found = self._plans[plan_id] = PlanLabels(self.journal.version(plan_id))
        return found
