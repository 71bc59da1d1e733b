"""Who printed this? One routing proxy stands in for stdout and stderr while runs are live and
files text under the right attempt.

A thread that runs a task says so in a slot (a dictionary entry, 0.05 us); asynchronous tasks use a
context variable. Text from
threads a task started itself belongs to the task if only one is live, else to the run. What was
there before (a terminal, the
Jupyter kernel's stream) still gets the text unless the run asked for silence.
"""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import TYPE_CHECKING, Any, TextIO

from flowbuilder.records import RUN_INSTANCE

if TYPE_CHECKING:
    from flowbuilder.runtime.live_run import LiveRun

__all__ = ["OWN_THREADS", "OutputRouter", "Slot", "slots", "task_slot"]


OWN_THREADS = "flowbuilder-"
"""Names of threads that are FlowBuilder's begin so; what they print is never a task's."""


class Slot:
    """The attempt a thread (or asynchronous task) is running. ``text`` collects stdout for those
    who want it back.
    """

    __slots__ = ("attempt", "instance", "run", "text", "units")

    def __init__(self, run: LiveRun, instance: int = RUN_INSTANCE, attempt: int = 0) -> None:
        self.run = run
        self.instance = instance
        self.attempt = attempt
        self.text: list[str] | None = None
        self.units: Callable[[], Callable[[], None]] | None = None
        """Lends the attempt's admitted units to a run nested in it; returns how to take them
        back."""

    def captured_text(self) -> str:
        """Give what was printed to stdout since the attempt began."""
        return "".join(self.text or ())


slots: dict[int, Slot | None] = {}
"""Thread id -> slot."""

task_slot: contextvars.ContextVar[Slot | None] = contextvars.ContextVar(
    "flowbuilder_task_slot", default=None
)


class _Stream:
    """Stands in for ``sys.stdout`` or ``sys.stderr``; everything but writing is the wrapped
    stream's business.
    """

    def __init__(self, name: str, wrapped: TextIO, router: OutputRouter) -> None:
        self._name = name
        self._wrapped = wrapped
        self._router = router

    def write(self, text: str) -> int:
        slot = self._router.find_slot()
        if slot is None:
            return self._wrapped.write(text)
        if slot.text is not None and self._name == "stdout":
            slot.text.append(text)
        slot.run.write(slot.instance, slot.attempt, self._name, text)
        if slot.run.options.echo:
            self._wrapped.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


class _Handler(logging.Handler):
    """Files log records of user code under the attempt that made them."""

    def __init__(self, router: OutputRouter) -> None:
        super().__init__()
        self._router = router
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        slot = self._router.find_slot()
        if slot is None or record.name.startswith("flowbuilder."):
            return
        try:
            text = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        slot.run.write(slot.instance, slot.attempt, "log", text, record.levelname.lower())


class OutputRouter:
    """Installs the proxies while at least one run is live."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[LiveRun, None] = {}
        self._streams: dict[str, tuple[TextIO, _Stream]] = {}
        self._handler: _Handler | None = None

    def enter(self, run: LiveRun) -> None:
        """Note that a run begins."""
        with self._lock:
            self._runs[run] = None
            if len(self._runs) == 1:
                self._install()

    def leave(self, run: LiveRun) -> None:
        """Note that a run ended; the last one puts everything back."""
        with self._lock:
            if run in self._runs:
                del self._runs[run]
                if not self._runs:
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
        thread = threading.current_thread()
        if thread is threading.main_thread() or thread.name.startswith(OWN_THREADS):
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
        return Slot(run)

    def _install(self) -> None:
        for name in ("stdout", "stderr"):
            wrapped = getattr(sys, name)
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
