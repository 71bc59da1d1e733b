"""Keeps the outputs held in memory below a limit: what is needed last, and was quick to compute,
goes into a file and is mapped again when somebody asks for it.

Only tables and arrays from 1 MiB on are looked at. Counting them takes half a microsecond; buffers
are looked at one by one only when the estimate passes the limit.
"""

from __future__ import annotations

import bisect
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from flowbuilder.errors import StorageError
from flowbuilder.runtime.footprints import about_bytes, buffers_of, mapped_ranges
from flowbuilder.runtime.watched_values import WatchedValue
from flowbuilder.store.janitor import temporary_folder
from flowbuilder.vocabulary import FINAL_TASK_STATES, TASK_STATE_CODES

if TYPE_CHECKING:
    from flowbuilder.runtime.live_run import LiveRun

__all__ = ["MemoryKeeper", "MemoryStats"]

_LOG = logging.getLogger(__name__)

_WATCHED_BYTES: Final = 1 << 20
_AFTER: Final = 0.75
"""Share of the limit that is left after a relief, so that not every output needs one."""
_Group = tuple[list[WatchedValue], int]
"""Values that share buffers, and what these hold together."""
_SPILLED: Final = "written to a file because memory_limit was reached"
_FINAL_CODES: Final = frozenset(TASK_STATE_CODES[state] for state in FINAL_TASK_STATES)


class MemoryStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a keeper did so far."""

    held_bytes: int
    """In memory now, as far as it was counted."""
    limit_bytes: int
    spilled: int = 0
    spilled_bytes: int = 0
    reloaded: int = 0
    reloaded_bytes: int = 0
    dropped: int = 0
    dropped_bytes: int = 0


class _Reference(weakref.ref[WatchedValue]):
    """Knows what it stood for when that is gone."""

    __slots__ = ("key",)

    key: int


def _collector(gone: deque[int]) -> Callable[[weakref.ref[WatchedValue]], None]:
    def note(reference: weakref.ref[WatchedValue]) -> None:
        assert isinstance(reference, _Reference)
        gone.append(reference.key)

    return note


class MemoryKeeper:
    """Watches the large outputs of an engine's runs. Thread-safe.

    Parameters
    ----------
    scratch : Path
        The folder it makes its own in, which `close` removes.
    engine_id : str
        Whose folder it is: what a killed engine left is removed by the next one.
    limit_bytes : int
        What outputs may hold; 0 for no limit.
    query_bytes : int
        What a query of the engine may take; only kept here.
    """

    def __init__(
        self, scratch: Path, engine_id: str, limit_bytes: int = 0, query_bytes: int = 0
    ) -> None:
        self.scratch = scratch
        self.folder = temporary_folder(scratch, engine_id)
        self.limit_bytes = limit_bytes
        self.query_bytes = query_bytes
        self.age = 0.0
        """Rank of what was spilled last: what is used now ranks above it."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self.restoring = threading.Lock()
        """Held to bring a value back: two that ask at once get the same."""
        self._kept: dict[int, _Reference] = {}
        self._weights: dict[int, float] = {}
        """What each counts for: its estimate, or its share of what was found by its buffers."""
        # Finalizers may run anywhere, inside our own lock too: they only append here.
        self._gone: deque[int] = deque()
        self._note_gone = _collector(self._gone)
        self._held_bytes = 0.0
        self._counts = dict.fromkeys(("spilled", "reloaded", "dropped"), 0)
        self._bytes = dict.fromkeys(("spilled", "reloaded", "dropped"), 0)

    def admit(
        self, run: LiveRun, instance: int, value: object, guard: Callable[[Any], object] | None
    ) -> Callable[[Any], object] | None:
        """Count an output that was just made; give the guard it needs from now on.

        Notes
        -----
        Takes half a microsecond for what is small. If the limit is passed, the calling thread
        writes files until it is not.
        """
        size_bytes = about_bytes(value)
        if size_bytes < _WATCHED_BYTES or not self.limit_bytes:
            return guard
        if run.plan.tasks[instance].encrypt:
            return guard  # it must not be in a file in clear
        kept = WatchedValue(self, run, instance, guard, size_bytes)
        kept.rank = self.age
        with self._lock:
            self._forget_gone()
            reference = _Reference(kept, self._note_gone)
            key = reference.key = id(kept)
            self._kept[key] = reference
            self._weights[key] = size_bytes
            self._held_bytes += size_bytes
        return kept

    def learn(self, kept: object, duration_ns: int) -> None:
        """Note how long a value took to compute: what was expensive stays longer."""
        if isinstance(kept, WatchedValue):
            kept.worth = duration_ns / 1e9 / kept.size_bytes
            kept.rank = self.age + kept.worth

    @property
    def is_over(self) -> bool:
        """Whether the estimate is above the limit."""
        return self._held_bytes > self.limit_bytes > 0

    def relieve(self) -> None:
        """Write files until what is left in memory is below the limit."""
        if not self.is_over or os.getpid() != self._pid:
            return
        with self._lock:
            self._forget_gone()
            groups = _groups(self._living())
            if sum(size for _, size in groups) > self.limit_bytes:
                groups = self._spill_groups(groups)
            self._weights = dict.fromkeys(self._kept, 0.0)
            for members, size_bytes in groups:
                shares = dict.fromkeys(map(id, members), size_bytes / len(members))
                self._weights.update(shares)
            self._held_bytes = sum(self._weights.values())

    def note_reload(self, size_bytes: int) -> None:
        """Count a value that was mapped again; its pages are the system's, not ours."""
        with self._lock:
            self._count("reloaded", size_bytes)

    def stats(self) -> MemoryStats:
        """Say what it did so far."""
        with self._lock:
            self._forget_gone()
            return MemoryStats(
                held_bytes=int(self._held_bytes),
                limit_bytes=self.limit_bytes,
                spilled=self._counts["spilled"],
                spilled_bytes=self._bytes["spilled"],
                reloaded=self._counts["reloaded"],
                reloaded_bytes=self._bytes["reloaded"],
                dropped=self._counts["dropped"],
                dropped_bytes=self._bytes["dropped"],
            )

    def close(self) -> None:
        """Remove its folder. What is mapped from there stays readable."""
        if os.getpid() == self._pid and self.folder.is_dir():
            import shutil

            shutil.rmtree(self.folder, ignore_errors=True)

    # -- inside the lock -------------------------------------------------------------------------

    def _forget_gone(self) -> None:
        while self._gone:
            key = self._gone.popleft()
            self._kept.pop(key, None)
            self._held_bytes -= self._weights.pop(key, 0.0)

    def _living(self) -> list[tuple[WatchedValue, list[tuple[int, int]]]]:
        """List what is in memory with its buffers, those aside that are files anyway."""
        mapped = mapped_ranges()
        starts = [start for start, _ in mapped]
        found = []
        for ref in list(self._kept.values()):
            kept = ref()
            run = None if kept is None else kept.run
            if kept is None or run is None or kept.is_spilled:
                continue
            spans = [
                span
                for span in buffers_of(run.values[kept.instance])
                if not _is_mapped(span[0], mapped, starts)
            ]
            if spans:
                found.append((kept, spans))
        return found

    def _spill_groups(self, groups: list[_Group]) -> list[_Group]:
        """Spill the least valuable groups; give those that stay in memory."""
        total = sum(size for _, size in groups)
        groups.sort(key=lambda group: max(_order(kept) for kept in group[0]))
        left: list[_Group] = []
        for place, (members, size_bytes) in enumerate(groups):
            if total <= self.limit_bytes * _AFTER:
                return left + groups[place:]
            try:
                self._spill(members)
            except (OSError, StorageError) as error:
                _LOG.warning("outputs stay in memory above the limit: %s", error)
                return left + groups[place:]
            self.age = max(self.age, min(kept.rank for kept in members))
            if all(kept.is_spilled for kept in members):
                total -= size_bytes
            else:
                left.append((members, size_bytes))
        return left

    def _spill(self, members: Iterable[WatchedValue]) -> None:
        """Take values that share buffers out of memory together, else none is freed."""
        from flowbuilder.runtime.table_transport import export_table

        held = []
        for kept in members:
            run = kept.run
            if run is None or kept.is_spilled:
                continue
            if not run.options.keeps_all and is_unneeded(run, kept.instance):
                kept.drop()
                self._count("dropped", kept.size_bytes)
                continue
            value = run.values[kept.instance]
            # All values live until the last is written: identical tables share one file.
            held.append(value)
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            ref = export_table(value, self.folder)
            if ref is not None:
                kept.spill(ref)
                run.note_copy(kept.instance, kept.instance, ref.size_bytes, _SPILLED)
                self._count("spilled", ref.size_bytes)

    def _count(self, what: str, size_bytes: int) -> None:
        self._counts[what] += 1
        self._bytes[what] += size_bytes


def is_unneeded(run: LiveRun, instance: int) -> bool:
    """Whether no task of a run can still ask for an output, and it is not one of the run's own."""
    if instance in run.plan.outputs:
        return False
    codes, twins = run.state_codes, run.plan.twins
    readers = [*run.plan.successors_of(instance)]
    readers += [twin for twin, first in enumerate(twins) if first == instance]
    return all(codes[reader] in _FINAL_CODES for reader in readers)


def _order(kept: WatchedValue) -> tuple[bool, float]:
    run = kept.run
    return (run is not None and not is_unneeded(run, kept.instance), kept.rank)


def _is_mapped(address: int, ranges: list[tuple[int, int]], starts: list[int]) -> bool:
    place = bisect.bisect_right(starts, address) - 1
    return place >= 0 and address < ranges[place][1]


def _groups(
    held: list[tuple[WatchedValue, list[tuple[int, int]]]],
) -> list[_Group]:
    """Put together what shares a buffer, with the bytes each group holds."""
    first: dict[int, int] = {}
    leaders = list(range(len(held)))

    def leader(place: int) -> int:
        while leaders[place] != place:
            leaders[place] = leaders[leaders[place]]
            place = leaders[place]
        return place

    sizes: dict[int, int] = {}
    for place, (_, spans) in enumerate(held):
        for address, size in spans:
            other = first.setdefault(address, place)
            leaders[leader(place)] = leader(other)
            sizes[address] = max(size, sizes.get(address, 0))
    members: dict[int, list[WatchedValue]] = {}
    weights: dict[int, int] = {}
    for place, (kept, _) in enumerate(held):
        members.setdefault(leader(place), []).append(kept)
    for address, size in sizes.items():
        top = leader(first[address])
        weights[top] = weights.get(top, 0) + size
    return [(members[top], weights[top]) for top in members]
