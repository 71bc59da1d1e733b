"""Who may open the history file now: one that writes, or several that read.

DuckDB refuses a file that another process has open for writing. So every process takes this lock
first, and holds it only while it projects or asks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from flowbuilder.store.file_locks import try_lock, unlock

__all__ = ["Access"]

_PAUSE_S: Final = 0.002


class Access:
    """The lock of one projection.

    Parameters
    ----------
    path : Path
        The lock file; made if missing, never removed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def exclusive(self, wait_s: float = 0.0) -> Iterator[bool]:
        """Try to be the only one; tell whether it worked.

        Raises
        ------
        OSError
            If the lock file cannot be made, or its file system has no locks
            (`LocksUnsupportedError`).
        """
        with self._held(wait_s, is_shared=False) as is_held:
            yield is_held

    @contextmanager
    def shared(self, wait_s: float) -> Iterator[bool]:
        """Try to be one of several readers; tell whether it worked."""
        with self._held(wait_s, is_shared=True) as is_held:
            yield is_held

    @contextmanager
    def _held(self, wait_s: float, *, is_shared: bool) -> Iterator[bool]:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            is_held = self._wait(descriptor, wait_s, is_shared=is_shared)
            yield is_held
            if is_held:
                unlock(descriptor)
        finally:
            os.close(descriptor)

    def _wait(self, descriptor: int, wait_s: float, *, is_shared: bool) -> bool:
        deadline = time.monotonic() + wait_s
        while not try_lock(descriptor, is_shared=is_shared):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE_S)
        return True
