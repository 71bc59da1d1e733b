"""Identifiers: run ids that sort by time, and the keys that name a TaskRun inside a run."""

from __future__ import annotations

import os
import time
from collections import deque

__all__ = ["new_run_id", "short_id"]


def new_run_id() -> str:
    """Make a UUIDv7: 48 bits of Unix milliseconds, then random bits.

    Returns
    -------
    str
        Canonical lower-case text, 36 characters; sorts by creation time to the millisecond.

    References
    ----------
    RFC 9562, section 5.7.
    """
    value = (time.time_ns() // 1_000_000 << 80) | _random_80_bits()
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_entropy: deque[bytes] = deque()
"""Random bytes fetched in bulk: each system call would hand the GIL to another thread."""


def _random_80_bits() -> int:
    while True:
        try:
            return int.from_bytes(_entropy.popleft())
        except IndexError:
            block = os.urandom(2560)
            _entropy.extend(block[start : start + 10] for start in range(0, len(block), 10))


if hasattr(os, "register_at_fork"):
    # A child that kept the rest would make the parent's ids.
    os.register_at_fork(after_in_child=_entropy.clear)


def short_id(run_id: str) -> str:
    """Give the last eight characters, which is what people see and type."""
    return run_id[-8:]
