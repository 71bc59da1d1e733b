"""Things to do at an instant, for one driver; what is dropped lets go of its run at once."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowbuilder.runtime.live_run import LiveRun

__all__ = ["Timer", "Timers", "to_ns"]

_MAX_S = 1e9
"""Thirty years; more would not fit the clocks of operating systems."""

_FEW = 64

Action = Callable[[], "LiveRun | None"]


def to_ns(seconds: float) -> int:
    """Convert a duration; infinite ones become very long, NaN and negative ones nothing."""
    return int(min(max(0.0, seconds), _MAX_S) * 1e9)


class Timer:
    """One entry. ``action`` is None once it was dropped or done."""

    __slots__ = ("action", "run")

    def __init__(self, run: LiveRun, action: Action) -> None:
        self.run: LiveRun | None = run
        self.action: Action | None = action


class Timers:
    """A heap of timers. Only its driver's thread uses it."""

    __slots__ = ("_dead", "_heap", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timer]] = []
        self._dead = 0
        self._sequence = itertools.count()

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    @property
    def next_ns(self) -> int | None:
        """Monotonic instant of the first one, or None."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heapq.heappop(heap)
            self._dead -= 1
        return heap[0][0] if heap else None

    def add(self, due_ns: int, run: LiveRun, action: Action) -> Timer:
        """Have ``action`` called at a monotonic instant, unless the run ends before."""
        timer = Timer(run, action)
        if run.timers is None:
            run.timers = set()
        run.timers.add(timer)
        heapq.heappush(self._heap, (due_ns, next(self._sequence), timer))
        return timer

    def drop(self, timer: Timer) -> None:
        """Forget a timer; nothing if it is done."""
        if timer.run is None:
            return
        if timer.run.timers:
            timer.run.timers.discard(timer)
        timer.run = timer.action = None
        self._dead += 1
        if self._dead > _FEW and 2 * self._dead > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._dead = 0

    def drop_all(self, run: LiveRun) -> None:
        """Forget the timers of a run."""
        for timer in list(run.timers or ()):
            self.drop(timer)

    def pop_due(self, now_ns: int) -> Action | None:
        """Take the first one whose time has come, or None."""
        due_ns = self.next_ns
        if due_ns is None or due_ns > now_ns:
            return None
        timer = heapq.heappop(self._heap)[2]
        action, run = timer.action, timer.run
        assert run is not None
        if run.timers:
            run.timers.discard(timer)
        timer.run = timer.action = None
        return action
