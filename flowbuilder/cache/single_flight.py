"""One computation of a key at a time, across threads and processes.

A lock file per key: the kernel drops the lock however its holder ends, and a waiter takes over.
The file is removed by its holder; whoever then gets the lock of a removed file tries again, so that
no two hold the lock of one name.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

from flowbuilder.store.file_locks import LocksUnsupportedError, try_lock, unlock
from flowbuilder.store.forks import watch_forks

__all__ = ["Hold", "SingleFlight"]

_LOG = logging.getLogger(__name__)


class Hold:
    """The right to compute a key, until released."""

    __slots__ = ("__weakref__", "_descriptor", "_flights", "key", "run_id")

    def __init__(self, flights: SingleFlight, key: str, run_id: str, descriptor: int) -> None:
        self.key = key
        self.run_id = run_id
        self._flights = flights
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it back; the second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -2
        if descriptor != -2:
            self._flights.let_go(self.key, descriptor)

    def abandon(self) -> None:
        """Close the lock file in a forked child; its parent's lock stays."""
        descriptor, self._descriptor = self._descriptor, -2
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


class SingleFlight:
    """Hands out one `Hold` per key. Thread-safe.

    Parameters
    ----------
    folder : Path
        Where lock files are made; None where nothing can be written, then only threads of this
        process exclude each other.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._holders: dict[str, str] = {}
        """Key -> run that computes it in this process."""

    def try_hold(self, key: str, run_id: str = "") -> Hold | None:
        """Take the right to compute a key; None if somebody has it."""
        with self._lock:
            if key in self._holders:
                return None
            self._holders[key] = run_id
        try:
            descriptor = self._lock_file(key)
        except BaseException:
            self._forget(key)
            raise
        if descriptor is None:
            self._forget(key)
            return None
        hold = Hold(self, key, run_id, descriptor)
        watch_forks(hold)
        return hold

    def holder(self, key: str) -> str | None:
        """Give the run that computes a key in this process; None if none does."""
        with self._lock:
            return self._holders.get(key)

    def let_go(self, key: str, descriptor: int) -> None:
        """Release the lock of a key and remove its file."""
        if descriptor >= 0:
            # Removed before it is unlocked: who waits for this very file finds it gone, and looks
            # again.
            with suppress(OSError):
                self._path(key).unlink()
            with suppress(OSError):
                unlock(descriptor)
            with suppress(OSError):
                os.close(descriptor)
        self._forget(key)

    def _forget(self, key: str) -> None:
        with self._lock:
            self._holders.pop(key, None)

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}.lock"

    def _lock_file(self, key: str) -> int | None:
        """Lock the file; None if another process has it, -1 if there are no locks here."""
        if self._folder is None:
            return -1
        path = self._path(key)
        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            except FileNotFoundError:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                continue
            except OSError as error:
                _LOG.debug("no lock for a cached task: %s", error)
                return -1
            try:
                if not try_lock(descriptor):
                    os.close(descriptor)
                    return None
            except LocksUnsupportedError:
                os.close(descriptor)
                return -1
            if _is_file(descriptor, path):
                return descriptor
            os.close(descriptor)


def _is_file(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        named = path.stat()
    except OSError:
        return False
    mine = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino)
