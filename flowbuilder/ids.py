"""Identifiers: run ids that sort by time, and the keys that name a TaskRun inside a run."""

from __future__ import annotations

import os
import time

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
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10))
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def short_id(run_id: str) -> str:
    """Give the last eight characters, which is what people see and type."""
    return run_id[-8:]
