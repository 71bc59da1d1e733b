"""The thread that writes what nobody waits for; without work it sleeps without a timer."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from flowbuilder.store.checkpoints import Checkpoints

if TYPE_CHECKING:
    from flowbuilder.store.group_commit import GroupCommit

__all__ = ["Flusher"]

_THREAD_NAME: Final = "flowbuilder-flusher"
_IDLE_S: Final = 0.25
_MAX_BACKOFF_S: Final = 1.0
_SHARE: Final = 9
"""Between two batches of runs with ``durability: none`` passes so many times what one takes."""
_MOST_WAITING: Final = 16_384
"""Runs that may wait for that; beyond, writing keeps pace with recording."""

_log = logging.getLogger(__name__)


class Flusher:
    """Writes a batch every few milliseconds while runs are dirty or streaming, else parks.

    Parameters
    ----------
    group : GroupCommit
        What to flush.
    checkpoints : Checkpoints
        What to do in quiet moments.
    interval_s : float
        Shortest time between two batches, and longest wait of a notified record, in seconds.
    """

    def __init__(self, group: GroupCommit, checkpoints: Checkpoints, interval_s: float) -> None:
        self._group = group
        self._checkpoints = checkpoints
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_parked = True
        """Whether `wake` is needed. Raised before the last look for work: none is missed."""
        self.is_resting = False
        """Whether `wake` is needed by runs that want to be written soon."""

    def wake(self) -> None:
        """Make the thread look for work; starts it the first time."""
        if self._thread is None:
            self._start()
        self._wake.set()

    def stop(self) -> None:
        """End the thread and wait for it."""
        with self._lock:
            self._stop.set()
            self._wake.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._checkpoints.close()

    def abandon(self) -> None:
        """Forget the thread, which does not exist in a forked child."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._stop.set()
        self._thread = None

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                thread = threading.Thread(
                    target=self._loop, name="flowbuilder-flusher", daemon=True
                )
                try:
                    thread.start()
                except (
                    RuntimeError
                ):  # the interpreter is ending: closing the journal writes the rest
                    return
                self._thread = thread

    def _loop(self) -> None:
        self.is_parked = False
        pause_s = self._interval_s
        backoff_s = 0.0
        while not self._stop.is_set():
            if not self._group.has_work:
                self._park()
                pause_s = self._interval_s
                if self._stop.is_set():
                    return
            # A batch window: whoever waits commits at once and takes our work with it.
            self._stop.wait(pause_s)
            pause_s = self._group.wait_left_s(self._interval_s)
            if pause_s > 0:
                continue
            began = time.monotonic()
            if self._flush():
                took_s = time.monotonic() - began
                pause_s = max(0.0, self._interval_s - took_s)
                backoff_s = 0.0
                if self._group.is_relaxed and self._group.waiting_count < _MOST_WAITING:
                    self._rest(_SHARE * took_s)
            else:
                backoff_s = min(_MAX_BACKOFF_S, max(2 * backoff_s, self._interval_s))
                pause_s = backoff_s
            if self._checkpoints.is_urgent:
                self._checkpoints.run(self._group.commits_paused())

    def _rest(self, pause_s: float) -> None:
        """Leave the interpreter to the runs, of which nobody waits for the disk."""
        self.is_resting = True
        self._wake.clear()
        # Looked at behind both: an urgent run is seen here or sees the flag and wakes.
        if self._group.is_relaxed and not self._stop.is_set():
            self._wake.wait(pause_s)
        self.is_resting = False

    def _park(self) -> None:
        self.is_parked = True
        if not self._group.has_work and not self._stop.is_set():
            due = self._checkpoints
            if due.is_urgent or (due.is_pending and not self._wake.wait(_IDLE_S)):
                due.run(self._group.commits_paused())
            self._wake.wait()
        self._wake.clear()
        self.is_parked = False

    def _flush(self) -> bool:
        try:
            return self._group.flush()
        except Exception:
            _log.exception("the journal's flusher failed and will try again")
            return False
