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
    time_hex, random_hex = f"{time.time_ns() // 1_000_000:012x}", _random_digits()
    # Version 7 in four bits and variant 10 in two.
    variant = "89ab"[int(random_hex[3], 16) & 3]
    return (
        f"{time_hex[:8]}-{time_hex[8:]}-7{random_hex[:3]}-{variant}{random_hex[4:7]}"
        f"-{random_hex[7:19]}"
    )


_entropy: deque[str] = deque()
"""Random digits fetched in bulk: each system call would hand the GIL to another thread."""

_DIGITS = 20


def _random_digits() -> str:
    while True:
        try:
            return _entropy.popleft()
        except IndexError:
            block = os.urandom(256 * _DIGITS // 2).hex()
            _entropy.extend(block[at : at + _DIGITS] for at in range(0, len(block), _DIGITS))


if hasattr(os, "register_at_fork"):
    # A child that kept the rest would make the parent's ids.
    os.register_at_fork(after_in_child=_entropy.clear)


def short_id(run_id: str) -> str:
    """Give the last eight characters, which is what people see and type."""
    return run_id[-8:]
