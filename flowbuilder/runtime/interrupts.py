"""Ctrl-C while a driver waits: a message in its inbox instead of an exception between two
arbitrary steps.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from threading import get_ident
from types import FrameType

from flowbuilder.runtime.capture import slots

__all__ = ["InterruptGuard", "is_ours"]


def is_ours(handler: object) -> bool:
    """Whether a handler of SIGINT is Python's own or a guard, so that a body ends by it."""
    return handler is signal.default_int_handler or isinstance(
        getattr(handler, "__self__", None), InterruptGuard
    )


class InterruptGuard:
    """Swaps the SIGINT handler once a run waits; runs that never wait pay nothing.

    While a task's body runs on the driver, Ctrl-C still raises `KeyboardInterrupt` inside it. Only
    Python's own handler is replaced,
    and only on the main thread.

    Parameters
    ----------
    on_interrupt : callable
        Called from the signal handler; must only enqueue.
    """

    __slots__ = ("_is_installed", "_on_interrupt")

    def __init__(self, on_interrupt: Callable[[], None]) -> None:
        self._on_interrupt = on_interrupt
        self._is_installed = False

    def install(self) -> None:
        """Swap the handler, if that is ours to do."""
        if self._is_installed or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._is_installed = True

    def remove(self) -> None:
        """Put Python's handler back."""
        if self._is_installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._is_installed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if get_ident() in slots:
            signal.default_int_handler(number, frame)
        self._on_interrupt()
