"""Indexes that follow the queries: observed, advised, built beside the work, taken away again."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from flowbuilder.datasets.advice import Recommendation, recommend
from flowbuilder.datasets.index_builder import Budget, BuildReport, IndexBuilder
from flowbuilder.datasets.index_catalogue import IndexCatalogue, IndexRow
from flowbuilder.datasets.index_lookup import IndexLookup
from flowbuilder.datasets.observation import Observer
from flowbuilder.datasets.parts import StoreParts
from flowbuilder.datasets.querying import Reading
from flowbuilder.errors import FlowBuilderError, StorageError

__all__ = ["AdaptiveIndex", "IndexInfo", "IndexingHandle"]

_UNUSED_DAYS: Final = 30.0
_DAY_NS: Final = 86_400 * 10**9
_MIN_QUERIES: Final = 20
_PAYBACK: Final = 1.0
"""An index is built unasked once the scans it would have saved took this many times its cost."""


class IndexInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An index there is.

    Parameters
    ----------
    dataset, column, kind : str
        What it serves; see `Recommendation`.
    pieces, size_bytes : int
        How many data files it covers, and the space it takes.
    used : int
        How many queries it has served.
    """

    dataset: str
    column: str
    kind: str
    pieces: int
    size_bytes: int
    used: int


class IndexingHandle:
    """Building in the background. Wait for it, or cancel it; the pieces it finished stay."""

    def __init__(self) -> None:
        self._is_cancelled = threading.Event()
        self._is_done = threading.Event()
        self.reports: list[BuildReport] = []
        self.error: FlowBuilderError | None = None

    def cancel(self) -> None:
        """Ask it to end soon; at most one sort of a data file later it does."""
        self._is_cancelled.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it has ended; say whether it has."""
        return self._is_done.wait(timeout_s)

    @property
    def is_cancelled(self) -> bool:
        """Whether it was asked to end."""
        return self._is_cancelled.is_set()

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self._is_done.is_set()

    def finish(self) -> None:
        """Say that it has ended."""
        self._is_done.set()


class AdaptiveIndex:
    """The index of a store: lookups, observations, advice, builds.

    Parameters
    ----------
    parts : StoreParts
        The store.
    budget : Budget or None
        What building unasked may take, each time; None builds nothing unasked.
    """

    def __init__(self, parts: StoreParts, budget: Budget | None) -> None:
        self._parts, self._budget = parts, budget
        self.catalogue = IndexCatalogue(parts.catalogue)
        self.lookup = IndexLookup(parts.folder, self.catalogue)
        self._builder = IndexBuilder(parts, self.catalogue, self.lookup.forget)
        self._observer = Observer(self.catalogue, self._take_used)
        self._lock = threading.Lock()
        self._work: IndexingHandle | None = None
        self._thread: threading.Thread | None = None

    def _take_used(self) -> dict[int, int]:
        used, self.lookup.used = self.lookup.used, {}
        return used

    def observed(self, readings: Sequence[Reading], elapsed_s: float) -> None:
        """Learn from a query, and build what it shows to pay."""
        if self._observer.observe(readings, elapsed_s) and self._budget is not None:
            self._start_if_due()

    def changed(self) -> None:
        """Extend indexes to new files, beside whatever comes next."""
        if self._budget is not None and self.catalogue.indexes():
            self.start(self._budget, is_new_allowed=False)

    def _start_if_due(self) -> None:
        budget = self._budget
        if budget is not None and any(_is_due(each) for each in self.recommendations()):
            self.start(budget)

    def recommendations(self) -> list[Recommendation]:
        """Price what was observed; see `recommend`."""
        self._observer.write()
        return recommend(self._parts, self._parts.catalogue, self.catalogue)

    def build(self, dataset: str, column: str, kind: str, budget: Budget) -> BuildReport:
        """Build one index now, on this thread."""
        if kind not in {"sorted", "lookup"}:
            raise StorageError(
                f"expected an index of kind 'sorted' or 'lookup', found {kind!r}",
                hint="'sorted' serves ranges and single values, 'lookup' is smaller",
            )
        row = self._parts.catalogue.get(dataset)
        return self._builder.build(row, column, kind, budget=budget, is_cancelled=_never)

    def start(self, budget: Budget, *, is_new_allowed: bool = True) -> IndexingHandle:
        """Build in the background what exists in part and, if allowed, what is advised.

        Returns
        -------
        IndexingHandle
            That of the work under way, if there is some.
        """
        with self._lock:
            if self._work is not None and not self._work.is_done:
                return self._work
            work = self._work = IndexingHandle()
            self._thread = threading.Thread(
                target=self._run,
                args=(work, budget),
                kwargs={"is_new_allowed": is_new_allowed},
                name="flowbuilder-indexing",
                daemon=True,
            )
            self._thread.start()
        return work

    def _run(self, work: IndexingHandle, budget: Budget, *, is_new_allowed: bool) -> None:
        try:
            with self._builder.alone() as is_alone:
                if is_alone:
                    self._build_all(work, budget, is_new_allowed=is_new_allowed)
        except FlowBuilderError as error:
            work.error = error
        except OSError as error:
            work.error = StorageError(f"could not build an index: {error}")
        finally:
            work.finish()

    def _build_all(self, work: IndexingHandle, budget: Budget, *, is_new_allowed: bool) -> None:
        self.tidy()
        wanted = [
            (row, index.column, index.kind)
            for row in self._parts.catalogue.all()
            for index in self.catalogue.indexes(row.dataset_id)
        ]
        if is_new_allowed:
            seen: set[tuple[str, tuple[str, ...]]] = set()
            for advice in self.recommendations():
                fits = self._size() + advice.size_bytes <= budget.size_bytes
                if fits and (advice.dataset, advice.columns) not in seen:
                    seen.add((advice.dataset, advice.columns))
                    row = self._parts.catalogue.get(advice.dataset)
                    wanted.append((row, advice.columns[0], advice.kind))
        begin = time.perf_counter()
        for row, column, kind in wanted:
            left = budget.seconds - (time.perf_counter() - begin)
            if work.is_cancelled or left <= 0:
                return
            report = self._builder.build(
                row,
                column,
                kind,
                budget=Budget(seconds=left, size_bytes=budget.size_bytes),
                is_cancelled=lambda: work.is_cancelled,
                is_polite=True,
            )
            work.reports.append(report)

    def _size(self) -> int:
        return sum(piece.size_bytes for piece in self.catalogue.pieces().values())

    def tidy(self, *, unused_days: float = _UNUSED_DAYS) -> list[IndexRow]:
        """Take away what belongs to files that are gone, and indexes not used for so long."""
        before = time.time_ns() - int(unused_days * _DAY_NS)
        return self._builder.tidy(unused_before_ns=before)

    def indexes(self) -> list[IndexInfo]:
        """List the indexes there are."""
        self._observer.write()
        names = {row.dataset_id: row.name for row in self._parts.catalogue.all()}
        pieces = self.catalogue.pieces()
        found = []
        for index in self.catalogue.indexes():
            own = [piece for key, piece in pieces.items() if key[0] == index.index_id]
            if index.dataset_id in names:
                found.append(
                    IndexInfo(
                        dataset=names[index.dataset_id],
                        column=index.column,
                        kind=index.kind,
                        pieces=len(own),
                        size_bytes=sum(piece.size_bytes for piece in own),
                        used=index.used,
                    )
                )
        return found

    def drop(self, dataset: str, column: str) -> int:
        """Take away the indexes on a column; return how many."""
        row = self._parts.catalogue.get(dataset)
        found = [each for each in self.catalogue.indexes(row.dataset_id) if each.column == column]
        for index in found:
            self._builder.remove(index)
        return len(found)

    def close(self) -> None:
        """End the background work and write what was counted."""
        with self._lock:
            work, thread = self._work, self._thread
        if work is not None and thread is not None and thread.is_alive():
            work.cancel()
            if thread is not threading.current_thread():
                thread.join()
        self._observer.write()
        self.lookup.close()


def _is_due(advice: Recommendation) -> bool:
    return advice.queries >= _MIN_QUERIES and advice.expected_gain >= _PAYBACK * advice.cost_s


def _never() -> bool:
    return False
