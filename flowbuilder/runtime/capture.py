"""Who printed this? One routing proxy stands in for stdout and stderr while runs are live and
files text under the right attempt.

A thread that runs a task says so in a slot (a dictionary entry, 0.05 us); asynchronous tasks use a
context variable. Text from threads a task started itself belongs to the task if only one is live,
else to the run. What was there before (a terminal, the Jupyter kernel's stream) still gets the text
unless the run asked for silence.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from threading import get_ident
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from flowbuilder.records import RUN_INSTANCE

if TYPE_CHECKING:
    from flowbuilder.runtime.live_run import LiveRun

__all__ = ["OWN_THREADS", "OutputRouter", "Slot", "process_router", "slots", "task_slot"]


OWN_THREADS = "flowbuilder-"
"""Names of threads that are FlowBuilder's begin so; what they print is never a task's."""


class Slot(msgspec.Struct, eq=False):
    """The attempt a thread (or asynchronous task) is running."""

    run: LiveRun
    instance: int = RUN_INSTANCE
    attempt: int = 0
    text: list[str] | None = None
    """Collects stdout for those who want it back."""
    units: Callable[[], Callable[[], None]] | None = None
    """Lends the attempt's admitted units to a run nested in it; returns how to take them back."""

    def captured_text(self) -> str:
        """Give what was printed to stdout since the attempt began."""
        return "".join(self.text or ())


slots: dict[int, Slot | None] = {}
"""Thread id -> slot."""

task_slot: contextvars.ContextVar[Slot | None] = contextvars.ContextVar(
    "flowbuilder_task_slot", default=None
)


_echoing: set[int] = set()
"""Threads that pass text on: what they write meanwhile, through another proxy below, is recorded
already."""


class _Stream:
    """Stands in for ``sys.stdout`` or ``sys.stderr``; everything but writing is the wrapped
    stream's business.
    """

    def __init__(self, name: str, wrapped: TextIO, router: OutputRouter) -> None:
        self._name = name
        self.wrapped = wrapped
        self._router = router

    def write(self, text: str) -> int:
        slot = self._router.find_slot()
        if slot is None or get_ident() in _echoing:
            return self.wrapped.write(text)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if slot.text is not None and self._name == "stdout":
            slot.text.append(text)
        slot.run.write(slot.instance, slot.attempt, self._name, text)
        if slot.run.options.echo:
            with _passing_on():
                self.wrapped.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)


@contextlib.contextmanager
def _passing_on() -> Iterator[None]:
    """Let text through that is recorded already; a terminal that is gone fails no task."""
    thread = get_ident()
    _echoing.add(thread)
    try:
        yield
    except (OSError, ValueError):
        pass
    finally:
        _echoing.discard(thread)


class _Handler(logging.Handler):
    """Files log records of user code under the attempt that made them."""

    def __init__(self, router: OutputRouter) -> None:
        super().__init__()
        self._router = router
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        slot = self._router.find_slot()
        if slot is None or record.name.startswith("flowbuilder."):
            self._pass_on(record)
            return
        try:
            text = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        slot.run.write(slot.instance, slot.attempt, "log", text, record.levelname.lower())
        if slot.run.options.echo:
            self._pass_on(record)

    def _pass_on(self, record: logging.LogRecord) -> None:
        """Do what `logging` does where nobody configured it, which being there prevents."""
        last = logging.lastResort
        if last is None or record.levelno < last.level or self._is_handled(record.name):
            return
        with _passing_on():
            last.handle(record)

    def _is_handled(self, name: str) -> bool:
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False


class OutputRouter:
    """Installs the proxies while at least one run is live.

    One serves all engines of a process: two would wrap each other's proxies.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[LiveRun, None] = {}
        self._is_installed = False
        self._streams: dict[str, tuple[TextIO, _Stream]] = {}
        self._handler: _Handler | None = None

    def enter(self, run: LiveRun) -> None:
        """Note that a run begins."""
        # In this order: whoever removes lowers the flag, then looks at the runs.
        self._runs[run] = None
        if not self._is_installed:
            with self._lock:
                if not self._is_installed:
                    self._install()
                    self._is_installed = True

    def leave(self, run: LiveRun) -> None:
        """Note that a run ended; the last one puts everything back."""
        self._runs.pop(run, None)
        if self._runs:
            return
        with self._lock:
            if self._is_installed:
                self._is_installed = False
                if self._runs:
                    self._is_installed = True  # one began meanwhile
                else:
                    self._remove()

    def find_slot(self) -> Slot | None:
        """Find who is running on this thread; text from unknown threads goes to the only live
        attempt, or its run.
        """
        slot = slots.get(get_ident())
        if slot is not None:
            return slot
        slot = task_slot.get()
        if slot is not None:
            return slot
        if not self._runs or _is_known(get_ident()):
            return None
        return self._only_live()

    def _only_live(self) -> Slot | None:
        runs = list(self._runs)
        if len(runs) != 1:
            return None
        run = runs[0]
        live = list(run.in_flight.values())
        if len(live) == 1:
            return Slot(run, live[0].instance, live[0].number)
        if not live:
            # Tasks of static segments are not in flight.
            for slot in list(slots.values()):
                if slot is not None and slot.run is run:
                    return slot
        return Slot(run)

    def forget_inherited(self) -> None:
        """Begin anew in a forked child; what is installed lets everything through."""
        self._lock = threading.Lock()
        self._runs.clear()
        self._is_installed = False
        self._remove()

    def _install(self) -> None:
        for name in ("stdout", "stderr"):
            wrapped = getattr(sys, name)
            while isinstance(wrapped, _Stream):
                # Left behind by somebody who replaced the stream and put it back too late.
                wrapped = wrapped.wrapped
            if wrapped is None:
                continue
            stream = _Stream(name, wrapped, self)
            self._streams[name] = (wrapped, stream)
            setattr(sys, name, stream)
        if self._handler is None:
            self._handler = _Handler(self)
        logging.getLogger().addHandler(self._handler)

    def _remove(self) -> None:
        for name, (wrapped, stream) in self._streams.items():
            # Somebody may have replaced the stream meanwhile (pytest, contextlib); then it is
            # theirs.
            if getattr(sys, name) is stream:
                setattr(sys, name, wrapped)
        self._streams.clear()
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)


def _is_known(thread_id: int) -> bool:
    """Whether a thread without a slot is the main one or FlowBuilder's, which run no user code."""
    if thread_id == threading.main_thread().ident:
        return True
    # Not `current_thread`, which registers a foreign thread for ever.
    thread = threading._active.get(thread_id)  # type: ignore[attr-defined]  # noqa: SLF001
    return thread is not None and thread.name.startswith(OWN_THREADS)


process_router = OutputRouter()


def _forget_inherited() -> None:
    # The threads are gone, and whoever held a lock of a run or the router can never give it back.
    slots.clear()
    _echoing.clear()
    task_slot.set(None)
    process_router.forget_inherited()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)
