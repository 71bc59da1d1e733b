"""The cache of one store: look an output up, or get the right to compute it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from flowbuilder.cache.differences import differences
from flowbuilder.cache.entry import CacheStats, Entry
from flowbuilder.cache.file_hashes import FileHashes
from flowbuilder.cache.index import CacheIndex
from flowbuilder.cache.kept_values import KeptValues
from flowbuilder.cache.parts import Fingerprint
from flowbuilder.cache.single_flight import Hold, SingleFlight
from flowbuilder.durations import format_duration
from flowbuilder.errors import StorageError
from flowbuilder.store.file_locks import LocksUnsupportedError, try_lock

__all__ = ["CacheRequest", "Flight", "Hit", "TaskCache"]

_LOG = logging.getLogger(__name__)
_FOLDER: Final = "cache"
_FIRST_WAIT_S: Final = 0.001
_LONGEST_WAIT_S: Final = 0.05
_CLOCK_SLACK_NS: Final = 5_000_000_000
_DAY_S: Final = 86_400


class CacheRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One question to the cache.

    Parameters
    ----------
    task : str
        ``workflow/task``: whose earlier fingerprint explains a miss.
    fingerprint : Fingerprint
        What decides the output.
    ttl_s : float or None
        Oldest output that is welcome.
    looks_up : bool
        False computes in any case, and keeps the new output.
    run_id : str
        Who asks.
    encrypt : bool
        Whether the output may lie on the disk only encrypted.
    ancestors : frozenset of str
        Runs in whose tasks the asking run lives: waiting for one of them would never end.
    """

    task: str
    fingerprint: Fingerprint
    ttl_s: float | None = None
    looks_up: bool = True
    run_id: str = ""
    encrypt: bool = False
    ancestors: frozenset[str] = frozenset()


class Hit(msgspec.Struct, frozen=True):
    """An output that was found."""

    value: object
    saved_s: float
    why: str


class Flight:
    """The right and the duty to compute an output: `store` it or not, then `release`."""

    def __init__(
        self, cache: TaskCache, request: CacheRequest, hold: Hold | None, why: str
    ) -> None:
        self.why = why
        """Why there is no output to use, in words."""
        self._cache = cache
        self._request = request
        self._hold = hold

    def store(self, value: object, cost_ns: int) -> str:
        """Keep the output.

        Parameters
        ----------
        value : object
            What the body returned, before anyone else has it.
        cost_ns : int
            What computing it took.

        Returns
        -------
        str
            Why it is not kept; empty if it is.
        """
        return self._cache.keep(self._request, value, cost_ns)

    def release(self) -> None:
        """Let others compute or find it; the second time does nothing."""
        if self._hold is not None:
            self._hold.release()


class TaskCache:
    """Kept outputs of one store directory. Thread-safe; several processes may use one folder.

    Parameters
    ----------
    data_dir : Path
        The store directory.
    max_bytes : int
        Size all kept outputs may reach; those cheapest to compute again for their size go first.
    max_value_bytes : int
        Largest single output.

    Raises
    ------
    StorageError
        If the place cannot be used.
    """

    def __init__(
        self, data_dir: Path, *, max_bytes: int = 8 * 2**30, max_value_bytes: int = 4 * 2**30
    ) -> None:
        import apsw

        self.folder = data_dir / _FOLDER
        self._max_bytes = max_bytes
        try:
            self._index = CacheIndex(self.folder)
        except (apsw.Error, OSError) as error:
            raise StorageError(
                f"could not open the cache in {self.folder}: {error}",
                hint="tasks run without it; check the permissions of the folder",
            ) from error
        self._values = KeptValues(self.folder, max_bytes=min(max_value_bytes, max_bytes))
        self._flights = SingleFlight(self.folder / "locks")
        self.files = FileHashes(self._index.recall_file, self._index.remember_file)
        self._has_swept = False

    # -- asking ----------------------------------------------------------------------------------

    def begin(self, request: CacheRequest) -> Hit | Flight | None:
        """Look an output up, or get the right to compute it.

        Returns
        -------
        Hit, Flight or None
            None if somebody else computes it now: ask again.
        """
        key = request.fingerprint.key
        if not request.looks_up:
            self._index.count("misses")
            return Flight(self, request, None, "look-ups were switched off for this run")
        found = self._look_up(request)
        if isinstance(found, Hit):
            return found
        if self._flights.holder(key) in request.ancestors:
            # The computation that is waited for waits for this one.
            return Flight(self, request, None, found)
        hold = self._flights.try_hold(key, request.run_id)
        if hold is None:
            return None
        try:
            # Whoever held it before may have stored the output since the first look.
            again = self._look_up(request)
            if isinstance(again, Hit):
                hold.release()
                return again
            self._index.count("misses")
        except BaseException:
            hold.release()
            raise
        return Flight(self, request, hold, found)

    def wait(self, request: CacheRequest, check: Callable[[], None]) -> Hit | Flight:
        """Ask until there is an answer, however long somebody else computes.

        Parameters
        ----------
        request : CacheRequest
            The question.
        check : callable
            Called between looks; what it raises ends the waiting.
        """
        pause_s = _FIRST_WAIT_S
        while True:
            check()
            found = self.begin(request)
            if found is not None:
                return found
            time.sleep(pause_s)
            pause_s = self.next_pause(pause_s)

    @staticmethod
    def next_pause(pause_s: float) -> float:
        """Give how long to wait before the next look."""
        return min(pause_s * 2, _LONGEST_WAIT_S)

    def peek(self, fingerprint: Fingerprint, ttl_s: float | None) -> Entry | None:
        """Give the entry that would be used, changing nothing."""
        entry, _ = self._index.find(fingerprint.key)
        return None if entry is None or _is_expired(entry, ttl_s) else entry

    def load(self, entry: Entry) -> object:
        """Read an entry's output.

        Raises
        ------
        StorageError
            If it is missing or damaged.
        """
        return self._values.load(entry)

    def explain_miss(self, request: CacheRequest) -> str:
        """Say why there is no output for a fingerprint, changing nothing."""
        entry, was_damaged = self._index.find(request.fingerprint.key)
        if entry is not None and _is_expired(entry, request.ttl_s):
            return _expired_text(entry, request.ttl_s)
        return self._explain(request, was_damaged=was_damaged)

    def _look_up(self, request: CacheRequest) -> Hit | str:
        """Give the output, or why there is none."""
        key = request.fingerprint.key
        entry, was_damaged = self._index.find(key)
        if entry is None:
            return self._explain(request, was_damaged=was_damaged)
        if _is_expired(entry, request.ttl_s):
            self._index.count("expired")
            return _expired_text(entry, request.ttl_s)
        try:
            value = self._values.load(entry)
        except StorageError as error:
            _LOG.info("a kept output of %s is not used: %s", request.task, error)
            self._index.remove([key])
            self._values.remove(entry)
            self._index.count("damaged")
            return f"its kept output could not be used: {error.message}"
        self._index.note_use(key, entry.cost_ns)
        if self._index.latest_key(request.task) != key:
            self._index.note_task(request.task, request.fingerprint)
        age_s = max(0.0, (time.time_ns() - entry.created_ns) / 1e9)
        saved_s = entry.cost_ns / 1e9
        why = (
            f"nothing it depends on changed since its output was kept {_ago(age_s)};"
            f" saved {format_duration(saved_s)}"
        )
        return Hit(value, saved_s, why)

    def _explain(self, request: CacheRequest, *, was_damaged: bool) -> str:
        if was_damaged:
            return "its kept output was damaged"
        latest = self._index.latest(request.task)
        if latest is None:
            return "never cached"
        changed = differences(latest[0], request.fingerprint)
        return changed or "its kept output was removed from the cache"

    # -- keeping ---------------------------------------------------------------------------------

    def keep(self, request: CacheRequest, value: object, cost_ns: int) -> str:
        """Store an output; give why not, or an empty text. See `Flight.store`."""
        key = request.fingerprint.key
        try:
            kept = self._values.save(key, value, encrypt=request.encrypt)
        except StorageError as error:
            return error.message
        if kept is None:
            return "it cannot be stored and read back equal, or it is too large"
        now = time.time_ns()
        entry = Entry(
            key=key,
            task=request.task,
            created_ns=now,
            used_ns=now,
            ttl_s=request.ttl_s,
            cost_ns=cost_ns,
            size_bytes=kept.size_bytes,
            hits=0,
            inline=kept.inline,
            artifact=kept.artifact,
        )
        replaced = self._index.put(entry, request.fingerprint, floor=self._floor())
        if replaced is not None:
            self._values.remove(replaced)
        self._make_room(key)
        self._sweep_sometimes()
        return ""

    def _floor(self) -> float:
        return self._index.counters().get("floor", 0) / 1e6

    def _make_room(self, newest: str) -> None:
        """Drop what is cheapest to compute again for its size and was not used for long.

        References
        ----------
        P. Cao and S. Irani, "Cost-Aware WWW Proxy Caching Algorithms" (GreedyDual-Size), 1997.
        """
        size = self._index.size_bytes()
        if size <= self._max_bytes:
            return
        gone: list[Entry] = []
        floor = 0.0
        for entry, rank in self._index.cheapest():
            if size <= self._max_bytes:
                break
            if entry.key != newest:
                gone.append(entry)
                size -= entry.size_bytes
                floor = max(floor, rank)
        self._drop(gone)
        self._index.count("evicted", len(gone))
        self._index.set_counter("floor", int(floor * 1e6))

    def _drop(self, entries: Iterable[Entry]) -> None:
        gone = list(entries)
        self._index.remove([entry.key for entry in gone])  # first, so that no row names no file
        for entry in gone:
            self._values.remove(entry)

    def _sweep_sometimes(self) -> None:
        """Once a day, delete what crashes left behind."""
        if self._has_swept:
            return
        self._has_swept = True
        now = int(time.time())
        if now - self._index.counters().get("swept_s", 0) < _DAY_S:
            return
        self._index.set_counter("swept_s", now)
        self.sweep()

    def sweep(self) -> None:
        """Delete files no entry names, and locks nobody holds."""
        paths = {entry.artifact.path for entry in self._index.entries() if entry.artifact}
        self._values.sweep(paths)
        with suppress(OSError):
            for path in (self.folder / "locks").iterdir():
                _remove_stale_lock(path)

    # -- looking after it ------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """List what is kept, the newest first."""
        return self._index.entries()

    def remove(self, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """Remove the entries ``wanted`` says yes to; give them."""
        gone = [entry for entry in self._index.entries() if wanted(entry)]
        self._drop(gone)
        return gone

    def clear(self) -> int:
        """Remove everything, counters included; give the number of entries."""
        count = len(self._index.entries())
        self._index.clear()
        self._values.clear()
        return count

    def stats(self) -> CacheStats:
        """Count."""
        counters, entries = self._index.counters(), self._index.entries()
        return CacheStats(
            entries=len(entries),
            size_bytes=sum(entry.size_bytes for entry in entries),
            max_bytes=self._max_bytes,
            hits=counters.get("hits", 0),
            misses=counters.get("misses", 0),
            stored=counters.get("stored", 0),
            expired=counters.get("expired", 0),
            evicted=counters.get("evicted", 0),
            damaged=counters.get("damaged", 0),
            saved_s=counters.get("saved_ns", 0) / 1e9,
            path=str(self.folder),
        )

    def close(self) -> None:
        """Write what is pending and let go of the files."""
        self._index.close()


def _is_expired(entry: Entry, ttl_s: float | None) -> bool:
    if ttl_s is None:
        return False
    age_ns = time.time_ns() - entry.created_ns
    # An output from the future: the clock was set back, and nobody knows how old it is.
    return age_ns > ttl_s * 1e9 or age_ns < -_CLOCK_SLACK_NS


def _expired_text(entry: Entry, ttl_s: float | None) -> str:
    over_s = (time.time_ns() - entry.created_ns) / 1e9 - (ttl_s or 0.0)
    if over_s < 0:
        return "its kept output is dated in the future"
    return f"its kept output expired {_ago(over_s)}"


def _ago(seconds: float) -> str:
    return "just now" if seconds < 1 else f"{format_duration(seconds)} ago"


def _remove_stale_lock(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return
    try:
        if try_lock(descriptor):
            named, mine = path.stat(), os.fstat(descriptor)
            if (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino):
                path.unlink()
    except (OSError, LocksUnsupportedError):
        pass
    finally:
        os.close(descriptor)
