"""One try of one instance, from its start to the completion its executor reports."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from flowbuilder.records import AttemptStarted
from flowbuilder.runtime.cancel import CancelToken
from flowbuilder.runtime.program import AttemptContext
from flowbuilder.vocabulary import ExecutorKind, FailureKind

if TYPE_CHECKING:
    from flowbuilder.runtime.admission import Pool
    from flowbuilder.runtime.live_run import LiveRun
    from flowbuilder.runtime.timers import Timer

__all__ = ["Attempt", "Completion"]

_LOG = logging.getLogger(__name__)


_lock = threading.Lock()
"""Held to make a token or to stop an attempt; renewed in a forked child."""


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603 - whoever held it does not exist in a forked child
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class Attempt(msgspec.Struct, eq=False):
    """What the driver and an executor share about one try.

    An attempt that timed out on a thread is *abandoned*: it is final for the run, its thread keeps
    running and its late result is dropped, because the run's ``in_flight`` no longer holds this
    very object.
    """

    run: LiveRun
    instance: int
    number: int
    executor: ExecutorKind
    ready_ns: int
    why: str = ""
    """Why this executor."""
    start_ns: int = 0
    worker: int = 0
    stop_reason: str = ""
    """Why it was asked to stop (``cancelled`` or ``timeout``); empty if it was not."""
    is_elsewhere: bool = False
    """Whether an executor has it, which gives the units back when the body has really ended."""
    timers: tuple[Timer, ...] = ()
    """Of the attempt: its timeout, the grace after it."""
    on_kill: Callable[[Attempt, str], None] | None = None
    """Stops the work for sure (asynchronous tasks and worker processes); None on threads."""
    held: list[tuple[Pool, int]] | None = None
    """The units of pools it was admitted with, which are given back one by one."""
    made_token: CancelToken | None = None

    @property
    def token(self) -> CancelToken:
        """What tells the body to stop; most bodies never ask for it."""
        if self.made_token is None:
            with _lock:
                if self.made_token is None:
                    token = CancelToken()
                    if self.stop_reason:
                        token.cancel(self.stop_reason)
                    self.made_token = token
        return self.made_token

    @property
    def is_stopped(self) -> bool:
        """Whether it was asked to stop."""
        return bool(self.stop_reason)

    @property
    def can_hear(self) -> bool:
        """Whether something in it will notice that it should stop."""
        token = self.made_token
        return self.on_kill is not None or (token is not None and token.has_listeners)

    def started(self) -> AttemptStarted:
        """Describe its beginning for the journal."""
        return AttemptStarted(
            instance=self.instance,
            attempt=self.number,
            executor=self.executor.value,
            reason=self.why,
            time_ns=self.ready_ns,
        )

    def context(self) -> AttemptContext:
        """Build what the program gets."""
        task = self.run.plan.tasks[self.instance]
        return AttemptContext(
            run=self.run,
            instance=self.instance,
            attempt=self.number,
            key=task.key,
            cancel=self.token,
            timeout_s=task.timeout_s,
            write=self.write,
        )

    def write(self, stream: str, text: str) -> None:
        """Append to the captured output."""
        self.run.write(self.instance, self.number, stream, text)

    def give_back(self) -> None:
        """Release the units; each once, whoever calls, from any thread."""
        held = self.held
        while held:
            try:
                pool, units = held.pop()
            except IndexError:
                return  # another thread was faster
            pool.release(units)

    def lend(self) -> Callable[[], None]:
        """Release the units while a run nested in this attempt uses them; call the result to take
        them back.
        """
        held = self.held or []
        lent = list(held)
        self.give_back()

        def take_back() -> None:
            for pool, units in lent:
                pool.acquire(units)
                held.append((pool, units))

        return take_back

    def stop(self, reason: str) -> None:
        """Ask the work to stop, and make it where that is possible."""
        with _lock:
            self.stop_reason = self.stop_reason or reason
            token = self.made_token
        if token is not None:
            token.cancel(self.stop_reason)
        if self.on_kill is not None:
            try:
                self.on_kill(self, reason)
            except Exception:
                # The driver has others to stop; this one is abandoned after its grace.
                _LOG.exception("an attempt could not be killed")

    def let_go(self) -> None:
        """Drop what would keep an ended run in memory."""
        self.on_kill = None
        if self.made_token is not None:
            self.made_token.forget_callbacks()


class Completion(msgspec.Struct):
    """What an executor reports. Times are monotonic nanoseconds; ``kind`` None means success."""

    attempt: Attempt
    start_ns: int
    end_ns: int
    value: object = None
    kind: FailureKind | None = None
    error: BaseException | None = None
    traceback: str = ""
