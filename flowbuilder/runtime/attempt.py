"""One try of one instance, from its start to the completion its executor reports."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from flowbuilder.runtime.cancel import CancelToken
from flowbuilder.runtime.program import AttemptContext
from flowbuilder.vocabulary import ExecutorKind, FailureKind

if TYPE_CHECKING:
    from flowbuilder.runtime.admission import Pool
    from flowbuilder.runtime.live_run import LiveRun
    from flowbuilder.runtime.timers import Timer

__all__ = ["Attempt", "Completion"]

_LOG = logging.getLogger(__name__)


class Attempt:
    """What the driver and an executor share about one try.

    An attempt that timed out on a thread is *abandoned*: it is final for the run, its thread keeps
    running and its late result is
    dropped, because the run's ``in_flight`` no longer holds this very object.
    """

    __slots__ = (
        "_held",
        "executor",
        "instance",
        "is_elsewhere",
        "number",
        "on_kill",
        "ready_ns",
        "run",
        "start_ns",
        "timers",
        "token",
        "worker",
    )

    def __init__(
        self, run: LiveRun, instance: int, number: int, executor: ExecutorKind, ready_ns: int
    ) -> None:
        self.run = run
        self.instance = instance
        self.number = number
        self.executor = executor
        self.ready_ns = ready_ns
        self.start_ns = 0
        self.worker = 0
        self.token = CancelToken()
        self.is_elsewhere = False
        """Whether an executor has it, which gives the units back when the body has really ended."""
        self.timers: tuple[Timer, ...] = ()
        """Of the attempt: its timeout, the grace after it."""
        self._held: list[tuple[Pool, int]] | None = None
        self.on_kill: Callable[[Attempt, str], None] | None = None
        """Stops the work for sure (asynchronous tasks and worker processes); None on threads."""

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

    def hold(self, units: list[tuple[Pool, int]]) -> None:
        """Note the units of pools this attempt was admitted with."""
        self._held = units

    def give_back(self) -> None:
        """Release the units; each once, whoever calls, from any thread."""
        held = self._held
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
        held = self._held or []
        lent = list(held)
        self.give_back()

        def take_back() -> None:
            for pool, units in lent:
                pool.acquire(units)
                held.append((pool, units))

        return take_back

    def stop(self, reason: str) -> None:
        """Ask the work to stop, and make it where that is possible."""
        self.token.cancel(reason)
        if self.on_kill is not None:
            try:
                self.on_kill(self, reason)
            except Exception:
                # The driver has others to stop; this one is abandoned after its grace.
                _LOG.exception("an attempt could not be killed")

    def let_go(self) -> None:
        """Drop what would keep an ended run in memory."""
        self.on_kill = None
        self.token.forget_callbacks()


class Completion(msgspec.Struct):
    """What an executor reports. Times are monotonic nanoseconds; ``kind`` None means success."""

    attempt: Attempt
    start_ns: int
    end_ns: int
    value: object = None
    kind: FailureKind | None = None
    error: BaseException | None = None
    traceback: str = ""
