"""Ctrl-C while a driver works: a message in its inbox instead of an exception between two
arbitrary steps.
"""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Callable
from threading import get_ident
from types import FrameType
from typing import Any

from flowbuilder.runtime.capture import Slot, slots

__all__ = ["InterruptGuard"]

_PATIENCE_S = 0.02
_MOST_PENDING = 2
"""So many may wait for a driver that does not look; the next one raises after all."""

# The functions of ``signal`` turn numbers and handlers into enumerations first, which takes longer
# than a short run.
_signal: Any = __import__("_signal")


class InterruptGuard:
    """Swaps the SIGINT handler while a run is driven on the main thread (0.3 us).

    While a task's body runs on the driver, Ctrl-C still raises `KeyboardInterrupt` inside it. Only
    Python's own handler is replaced, or the guard of the run this one is nested in.

    Parameters
    ----------
    on_interrupt : callable
        Called from the signal handler; must only enqueue.
    """

    __slots__ = (
        "_handler",
        "_is_coming",
        "_lock",
        "_on_interrupt",
        "_outer",
        "_previous",
        "pending",
    )

    def __init__(self, on_interrupt: Callable[[], None]) -> None:
        self._on_interrupt = on_interrupt
        self._lock = threading.Lock()
        self._handler: Callable[..., None] = self._handle
        self._previous: object = None
        self._outer: Slot | None = None
        self._is_coming = False
        self.pending = 0
        """Interrupts that were enqueued; whoever handles them sets it to 0."""

    def install(self) -> None:
        """Swap the handler, if that is ours to do."""
        if get_ident() != threading.main_thread().ident:
            return
        previous = _signal.getsignal(signal.SIGINT)
        if _is_ours(previous):
            self._outer = slots.get(get_ident())
            _signal.signal(signal.SIGINT, self._handler)
            self._previous = previous

    def remove(self) -> None:
        """Put the handler back that was there, unless a task installed another."""
        if self._previous is None:
            self._let_go()
            return
        with self._lock:
            previous, self._previous = self._previous, None
        deadline = time.monotonic() + _PATIENCE_S
        while self._is_coming and time.monotonic() < deadline:
            time.sleep(0)  # it would hit the caller, who did not press Ctrl-C
        if _signal.getsignal(signal.SIGINT) is self._handler:
            _signal.signal(signal.SIGINT, previous)
        self._let_go()

    def _let_go(self) -> None:
        # It holds itself, and with itself the run.
        self._on_interrupt = self._handler = _nothing

    def send(self) -> bool:
        """Interrupt the guarded thread from another one; return whether that is possible."""
        with self._lock:
            if self._previous is None or not _is_ours(_signal.getsignal(signal.SIGINT)):
                return False
            self._is_coming = True
            if hasattr(signal, "pthread_kill"):
                # Unlike interrupt_main it wakes a thread that sleeps in the kernel.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            else:
                _thread.interrupt_main()
            return True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._is_coming = False
        is_in_body = slots.get(get_ident()) is not self._outer
        if is_in_body or self.pending >= _MOST_PENDING:
            signal.default_int_handler(number, frame)
        self.pending += 1
        self._on_interrupt()


def _nothing(*_: object) -> None:
    """Do nothing."""


def _is_ours(handler: object) -> bool:
    """Whether a handler of SIGINT is Python's own or a guard's, so that a body ends by it."""
    return handler is signal.default_int_handler or isinstance(
        getattr(handler, "__self__", None), InterruptGuard
    )
