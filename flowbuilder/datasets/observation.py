"""What queries ask for, counted in memory and added to the catalogue now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from flowbuilder.datasets.filters import ColumnFilter
from flowbuilder.datasets.index_catalogue import IndexCatalogue, Observation
from flowbuilder.datasets.manifest import Ordinal
from flowbuilder.datasets.names import fold_identifier
from flowbuilder.datasets.querying import Reading
from flowbuilder.errors import StorageError

__all__ = ["Observer"]

_MAX_KEYS: Final = 256
_ALL_UNTIL: Final = 64
_EVERY: Final = 8
_WRITE_AFTER: Final = 64
_WRITE_AFTER_S: Final = 5.0
_UNKNOWN_SHARE: Final = 0.1


class _Sum(msgspec.Struct):
    queries: float = 0.0
    scans: float = 0.0
    scan_s: float = 0.0
    share: float = 0.0


class Observer:
    """Counts filters by dataset and column. Thread-safe.

    The first 64 queries are counted all, later ones every eighth with eight times the weight, so
    that a loop of queries pays next to nothing.

    Parameters
    ----------
    catalogue : IndexCatalogue
        Where counts are kept.
    take_used : callable
        Gives how often each index was used since the last call.
    """

    def __init__(self, catalogue: IndexCatalogue, take_used: Callable[[], dict[int, int]]) -> None:
        self._catalogue, self._take_used = catalogue, take_used
        self._sums: dict[tuple[int, str, str], _Sum] = {}
        self._lock = threading.Lock()
        self._seen = self._pending = 0
        self._written = time.monotonic()

    def observe(self, readings: Sequence[Reading], elapsed_s: float) -> bool:
        """Count a query; say whether counts were just written, a moment to think of indexes."""
        asked = [reading for reading in readings if reading.filters]
        if not asked:
            return False
        self._seen += 1
        weight = 1
        if self._seen > _ALL_UNTIL:
            if self._seen % _EVERY:
                return False
            weight = _EVERY
        with self._lock:
            for reading in asked:
                for each in reading.filters:
                    self._add(reading, each, elapsed_s, weight)
            self._pending += 1
            is_due = (
                self._pending >= _WRITE_AFTER or time.monotonic() - self._written > _WRITE_AFTER_S
            )
        if is_due:
            self.write()
        return is_due

    def _add(self, reading: Reading, asked: ColumnFilter, elapsed_s: float, weight: int) -> None:
        kind = "point" if asked.is_point else "range"
        key = (reading.snapshot.manifest.dataset_id, asked.column, kind)
        if key not in self._sums and len(self._sums) >= _MAX_KEYS:
            return
        total = self._sums.setdefault(key, _Sum())
        total.queries += weight
        total.share += weight * _share(reading, asked)
        if not reading.index and reading.scanned_rows:
            total.scans += weight
            total.scan_s += weight * elapsed_s

    def write(self) -> None:
        """Add the counts to the catalogue. What cannot be written now is kept for later."""
        with self._lock:
            sums, self._sums = self._sums, {}
            self._pending, self._written = 0, time.monotonic()
        used = self._take_used()
        found = [
            Observation(
                dataset_id=key[0],
                column=key[1],
                kind=key[2],
                queries=total.queries,
                scans=total.scans,
                scan_s=total.scan_s,
                share=total.share,
            )
            for key, total in sums.items()
        ]
        if found or used:
            # A place that cannot be written learns nothing; its queries are answered all the same.
            with suppress(StorageError):
                self._catalogue.observe(found, used, time.time_ns())


def _share(reading: Reading, asked: ColumnFilter) -> float:
    """Estimate which part of the rows a filter lets through, from the column's ends."""
    if asked.is_point:
        return 0.0
    lows, highs = [], []
    for file in reading.snapshot.manifest.files:
        for name, facts in file.body.columns.items():
            if fold_identifier(name) == fold_identifier(asked.column):
                lows += [facts.low] if isinstance(facts.low, int | float) else []
                highs += [facts.high] if isinstance(facts.high, int | float) else []
    if not lows or not highs or max(highs) <= min(lows):
        return _UNKNOWN_SHARE
    least, most = min(lows), max(highs)
    return sum(
        max(0.0, _number(span.high, most) - _number(span.low, least)) for span in asked.ranges
    ) / (most - least)


def _number(end: Ordinal | None, otherwise: float) -> float:
    return otherwise if end is None or isinstance(end, str) else float(end)
