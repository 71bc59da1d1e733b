"""A one-way flag that code which waits or owns a process can react to at once."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from flowbuilder.errors import RunCancelledError

__all__ = ["CancelToken"]

_LOG = logging.getLogger(__name__)


_lock = threading.Lock()
"""Held for a few instructions, never while a callback runs; so one serves all tokens."""


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603 - whoever held it does not exist in a forked child
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class CancelToken:
    """Tells an attempt to stop. Thread-safe; once cancelled, for ever.

    The event and the list are made only when somebody waits, because most attempts never do.
    """

    __slots__ = ("_callbacks", "_event", "reason")

    def __init__(self) -> None:
        self.reason = ""
        self._event: threading.Event | None = None
        self._callbacks: list[Callable[[], None]] | tuple[()] = ()

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked to stop; ``reason`` says why (``cancelled`` or ``timeout``)."""
        return bool(self.reason)

    @property
    def has_listeners(self) -> bool:
        """Whether somebody will notice: a callback is registered, or a thread waits."""
        return bool(self._callbacks) or self._event is not None

    def cancel(self, reason: str = "cancelled") -> None:
        """Ask to stop. Callbacks run on the calling thread, each once; later calls do nothing."""
        with _lock:
            if self.reason:
                return
            self.reason = reason
            callbacks, self._callbacks = self._callbacks, ()
            if self._event is not None:
                self._event.set()
        for callback in callbacks:
            try:
                callback()
            except Exception:
                # Whoever cancels has others to stop.
                _LOG.exception("a callback of a cancelled task failed")

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when cancelled; at once if it already happened. It must be quick and
        must not raise.
        """
        with _lock:
            if not self.reason:
                self._callbacks = [*self._callbacks, callback]
                return
        callback()

    def forget_callbacks(self) -> None:
        """Let go of the callbacks of an attempt that ended; they may hold its run in memory."""
        self._callbacks = ()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Sleep until cancelled or ``timeout_s`` passed; return whether it was cancelled."""
        with _lock:
            if self.reason:
                return True
            if self._event is None:
                self._event = threading.Event()
        return self._event.wait(timeout_s)

    def raise_if_cancelled(self) -> None:
        """Raise `RunCancelledError` if somebody asked to stop."""
        if self.reason:
            raise RunCancelledError(f"the task was asked to stop: {self.reason}")
