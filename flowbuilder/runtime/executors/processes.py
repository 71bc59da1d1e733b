"""Attempts in worker processes: one killable process per slot, made when the first task asks for
one.
"""

from __future__ import annotations

import threading
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flowbuilder.errors import WorkerLostError
from flowbuilder.runtime.attempt import Attempt, Completion
from flowbuilder.runtime.executors.inline import format_error
from flowbuilder.runtime.program import Program
from flowbuilder.vocabulary import FailureKind

if TYPE_CHECKING:
    from flowbuilder.runtime.process_pool import Outcome, ProcessPool

__all__ = ["ProcessExecutor"]


class ProcessExecutor:
    """Adapts the process pool to attempts. Thread-safe."""

    def __init__(self, workers: int, scratch: Path) -> None:
        self._workers = workers
        self._scratch = scratch
        self._lock = threading.Lock()
        self._pool: ProcessPool | None = None

    def submit(self, attempt: Attempt, program: Program) -> None:
        """Send an attempt to a worker; its driver gets the completion."""
        start_ns = attempt.start_ns = monotonic_ns()

        def report(completion: Completion) -> None:
            # Here and not with the completion: nobody may be left to read that of an abandoned one.
            attempt.give_back()
            attempt.run.require_driver().inbox.put(completion)

        def done(outcome: Outcome) -> None:
            report(_completion(attempt, start_ns, outcome))

        try:
            assert program.remote is not None
            call = program.remote(attempt.context())
            if attempt.run.handles_encrypted(attempt.instance):
                call = replace(call, is_confidential=True)
            ticket = self._ensure_pool().submit(call, done=done, write=attempt.write)
        except Exception as error:
            report(
                Completion(
                    attempt,
                    start_ns,
                    monotonic_ns(),
                    kind=FailureKind.ERROR,
                    error=error,
                    traceback=format_error(error),
                )
            )
            return
        attempt.on_kill = lambda _attempt, reason: ticket.kill(reason)
        if attempt.stop_reason:
            ticket.kill(attempt.stop_reason)

    def _ensure_pool(self) -> ProcessPool:
        from flowbuilder.runtime.process_pool import ProcessPool

        with self._lock:
            if self._pool is None:
                self._pool = ProcessPool(self._workers, scratch=self._scratch)
            return self._pool

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


def _completion(attempt: Attempt, start_ns: int, outcome: Outcome) -> Completion:
    end_ns = monotonic_ns()
    if outcome.kind == "ok":
        return Completion(attempt, start_ns, end_ns, outcome.value)
    if outcome.kind == "lost":
        key = attempt.run.plan.tasks[attempt.instance].key
        error = WorkerLostError(
            f"the worker process died under task {key!r}: {outcome.traceback or outcome.error}",
            task=key,
        )
        return Completion(
            attempt, start_ns, end_ns, kind=FailureKind.LOST, error=error, traceback=str(error)
        )
    return Completion(
        attempt,
        start_ns,
        end_ns,
        kind=FailureKind.ERROR,
        error=outcome.error,
        traceback=outcome.traceback,
    )
