"""A call given to the worker pool, and how it ended."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from flowbuilder.errors import RunCancelledError
from flowbuilder.runtime.payload import Payload
from flowbuilder.runtime.program import RemoteCall

__all__ = ["Outcome", "OutcomeKind", "Ticket"]

OutcomeKind = Literal["ok", "error", "lost", "cancelled"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended.

    Parameters
    ----------
    kind : str
        ``ok``; ``error`` if the function raised, could not be sent, or returned what cannot be
        sent; ``lost`` if the worker died; ``cancelled`` if the ticket was killed.
    value : object
        What the function returned, if ``ok``.
    error : BaseException or None
        The exception, rebuilt where it survives pickling, else a `TaskFailedError` that names it.
    traceback : str
        Traceback text of the worker, without frames of ours.
    exit_code : int or None
        Exit status of a lost worker, negative for a signal.
    reason : str
        Why it was cancelled.
    pipe_bytes, file_bytes : int
        What of the value came through the pipe, and what was written to files for it.
    """

    kind: OutcomeKind
    value: object = None
    error: BaseException | None = None
    traceback: str = ""
    exit_code: int | None = None
    reason: str = ""
    pipe_bytes: int = 0
    file_bytes: int = 0


class Killable(Protocol):
    """A process that can be stopped from any thread."""

    def kill(self) -> None:
        """Stop it at once."""
        ...


class Ticket:
    """A submitted call. Callers use `kill`; the other methods are the pool's.

    Parameters
    ----------
    call : RemoteCall
        What to do.
    done : callable
        Gets the outcome, once.
    write : callable
        Gets (stream, text) of what the call prints.
    withdraw : callable
        Takes the ticket out of the queue and finishes it.
    sent : callable, optional
        Gets the arguments as they were sent.
    """

    __slots__ = (
        "_done",
        "_lock",
        "_process",
        "_sent",
        "_state",
        "_withdraw",
        "call",
        "reason",
        "write",
    )

    def __init__(
        self,
        call: RemoteCall,
        done: Callable[[Outcome], None],
        write: Callable[[str, str], None],
        withdraw: Callable[[Ticket], None],
        sent: Callable[[Payload], None] | None = None,
    ) -> None:
        self.call: RemoteCall | None = call
        self.write = write
        self.reason = ""
        self._done = done
        self._withdraw = withdraw
        self._sent = sent
        self._lock = threading.Lock()
        self._state: Literal["queued", "running", "answered", "finished"] = "queued"
        self._process: Killable | None = None

    def kill(self, reason: str = "cancelled") -> None:
        """Stop the call: take it from the queue, or kill its worker. Nothing if it has ended.

        Parameters
        ----------
        reason : str
            Goes into the outcome; the first one counts.

        Notes
        -----
        Returns at once, from any thread; the outcome arrives through ``done`` like any other.
        """
        with self._lock:
            if self.reason or self._state in ("answered", "finished"):
                return
            self.reason = reason or "cancelled"
            if self._process is not None:
                self._process.kill()
            is_queued = self._state == "queued"
        if is_queued:
            self._withdraw(self)

    def begin(self) -> RemoteCall | None:
        """Leave the queue; None if killed there."""
        with self._lock:
            if self.reason:
                return None
            self._state = "running"
            return self.call

    def attach(self, process: Killable) -> bool:
        """Name the process `kill` has to hit; False if the kill came before."""
        with self._lock:
            self._process = None if self.reason else process
            return not self.reason

    def detach(self) -> bool:
        """Take the process out of reach of `kill`; False if that has hit it."""
        with self._lock:
            self._process = None
            if not self.reason:
                self._state = "answered"
            return not self.reason

    def note_sent(self, arguments: Payload) -> None:
        """Tell whoever wants to know how the arguments travel."""
        if self._sent is not None:
            self._sent(arguments)

    def finish(self, outcome: Outcome) -> None:
        """Report the outcome; a second one is ignored."""
        with self._lock:
            if self._state == "finished":
                return
            self._state = "finished"
            self.call = None
        try:
            self._done(outcome)
        except Exception:
            _log.exception("the outcome of a call in a worker could not be delivered")

    def cancelled(self) -> Outcome:
        """Describe the end `kill` gave it."""
        error = RunCancelledError(f"the worker process was stopped: {self.reason}")
        return Outcome(kind="cancelled", error=error, reason=self.reason)
