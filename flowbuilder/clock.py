"""Time: a monotonic clock for durations, anchored to the wall for display.

All recorded instants are CLOCK_MONOTONIC nanoseconds of one process; the anchor stored with a run
turns them into dates.
"""

from __future__ import annotations

import time
from typing import Protocol

import msgspec

__all__ = ["Anchor", "Clock", "SystemClock"]


class Anchor(msgspec.Struct, frozen=True, gc=False):
    """One instant read on both clocks.

    Parameters
    ----------
    wall_ns : int
        Unix time in nanoseconds.
    monotonic_ns : int
        The monotonic clock of the same process at the same instant.
    """

    wall_ns: int
    monotonic_ns: int

    def to_wall_ns(self, monotonic_ns: int) -> int:
        """Convert an instant of this process to Unix nanoseconds."""
        return self.wall_ns + (monotonic_ns - self.monotonic_ns)


class Clock(Protocol):
    """What the engine needs to know about time; tests pass a fake."""

    def monotonic_ns(self) -> int:
        """Read the monotonic clock, in nanoseconds."""
        ...

    def anchor(self) -> Anchor:
        """Read both clocks at once."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic_ns = staticmethod(time.monotonic_ns)

    def anchor(self) -> Anchor:
        """Read both clocks at once."""
        return Anchor(wall_ns=time.time_ns(), monotonic_ns=time.monotonic_ns())
