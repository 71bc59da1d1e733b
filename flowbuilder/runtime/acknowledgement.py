"""``durability: task``: what must be on disk before bodies begin, one commit for all of it."""

from __future__ import annotations

from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING

from flowbuilder.runtime.executors.inline import unstarted

if TYPE_CHECKING:
    from flowbuilder.runtime.attempt import Attempt
    from flowbuilder.runtime.driver import Driver
    from flowbuilder.runtime.launch import Launcher
    from flowbuilder.runtime.live_run import LiveRun

__all__ = ["Acknowledgements"]


class Acknowledgements:
    """Attempts that were opened and wait for a commit, and runs with completions that nobody
    committed yet; for one driver.

    A turn opens everything that is ready. The completions it is ready because of and the starts go
    to the journal in one commit, and only then the bodies begin.
    """

    __slots__ = ("_announced", "_driver", "_owed", "_ready", "is_due")

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._owed: dict[LiveRun, None] = {}
        self._announced: dict[LiveRun, deque[Attempt]] = {}
        self._ready: dict[LiveRun, deque[Attempt]] = {}
        """Attempts whose start is on disk, and that of all before them."""
        self.is_due = False
        """Whether bodies wait only for the driver to look at its messages."""

    def owe(self, run: LiveRun) -> None:
        """Have the completions of a run committed in this turn."""
        self._owed[run] = None

    def announce(self, run: LiveRun, attempt: Attempt) -> None:
        """Have an attempt executed once its start is on disk."""
        attempt.on_kill = _report_unstarted
        found = self._announced.get(run)
        if found is None:
            found = self._announced[run] = deque()
        found.append(attempt)

    def drop(self, run: LiveRun) -> None:
        """Forget what waits of a run that ends."""
        self._owed.pop(run, None)
        self._announced.pop(run, None)
        self._ready.pop(run, None)

    def settle(self, launcher: Launcher, slice_ns: int) -> set[LiveRun]:
        """Commit what is owed and announced, then begin bodies; return the runs touched.

        Bodies for which the slice is too short wait for the next call, and `is_due` says so.
        """
        touched: set[LiveRun] = set()
        self.is_due = False
        if self._owed or self._announced:
            self._commit(touched)
        until_ns = monotonic_ns() + slice_ns
        for run in list(self._ready):
            if monotonic_ns() > until_ns:
                self.is_due = True
                break
            self._begin(run, launcher, until_ns, touched)
        return touched

    def _commit(self, touched: set[LiveRun]) -> None:
        announced, self._announced = self._announced, {}
        owed, self._owed = self._owed, {}
        is_synced = False
        for run in {**owed, **announced}:
            try:
                if run.journal is not None:
                    if is_synced:
                        run.journal.confirm()
                    else:
                        run.journal.sync()
                        is_synced = True
            except Exception as error:
                self._driver.blame(run, error)
                self._driver.request_stop(run, "storage")
                touched.add(run)
                continue
            attempts = announced.get(run)
            if attempts:
                self._ready.setdefault(run, deque()).extend(attempts)

    def _begin(
        self, run: LiveRun, launcher: Launcher, until_ns: int, touched: set[LiveRun]
    ) -> None:
        attempts = self._ready[run]
        while attempts:
            if attempts[0].stop_reason:
                attempts.popleft()  # it has reported already
                continue
            if run.is_pausing and not run.is_stopping:
                return
            if run.must_look or monotonic_ns() > until_ns:
                self.is_due = True  # behind the messages: after a cancel nothing starts
                return
            attempt = attempts.popleft()
            attempt.on_kill = None
            touched.add(run)
            try:
                launcher.execute(run, attempt)
            except Exception as error:
                self._driver.break_down(run, error)
        self._ready.pop(run, None)


def _report_unstarted(attempt: Attempt, _reason: str) -> None:
    attempt.run.require_driver().inbox.put(unstarted(attempt))
