"""Attempts in worker processes: one killable process per slot, made when the first task asks for
one.
"""

from __future__ import annotations

import threading
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, cast

from msgspec.structs import replace

from flowbuilder.errors import WorkerLostError
from flowbuilder.runtime.attempt import Attempt, Completion
from flowbuilder.runtime.copies import TracedRun
from flowbuilder.runtime.executors.inline import format_error
from flowbuilder.runtime.program import Program, RunScope
from flowbuilder.vocabulary import FailureKind

if TYPE_CHECKING:
    from flowbuilder.runtime.payload import Payload
    from flowbuilder.runtime.process_pool import Outcome, ProcessPool

__all__ = ["ProcessExecutor"]


_WRITTEN: Final = "written once to a file that the worker process maps"
_LINKED: Final = "in a file already, which the worker process maps"
_RETURNED: Final = "written once by the worker process, mapped here"
_PICKLED: Final = "pickled through a pipe"


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

        traced = TracedRun(attempt.run)

        def sent(arguments: Payload) -> None:
            _note_arguments(attempt, traced, arguments)

        def done(outcome: Outcome) -> None:
            _note_result(attempt, outcome)
            report(_completion(attempt, start_ns, outcome))

        try:
            assert program.remote is not None
            context = attempt.context()
            context.run = cast("RunScope", traced)
            call = program.remote(context)
            if attempt.run.handles_encrypted(attempt.instance):
                call = replace(call, is_confidential=True)
            ticket = self._ensure_pool().submit(call, done=done, write=attempt.write, sent=sent)
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


def _note_arguments(attempt: Attempt, traced: TracedRun, arguments: Payload) -> None:
    """Count what the way to the worker copied."""
    run, instance = attempt.run, attempt.instance
    for value, size_bytes in arguments.tables:
        reason = _WRITTEN if size_bytes else _LINKED
        run.note_copy(traced.source_of(value), instance, size_bytes, reason)
    parents = traced.sources
    source = parents[0] if len(parents) == 1 else -1
    if parents:
        run.note_copy(source, instance, arguments.pipe_bytes, _PICKLED)


def _note_result(attempt: Attempt, outcome: Outcome) -> None:
    """Count what the way back copied."""
    run, instance = attempt.run, attempt.instance
    if outcome.file_bytes:
        run.note_copy(instance, instance, outcome.file_bytes, _RETURNED)
    if outcome.pipe_bytes:
        run.note_copy(instance, instance, outcome.pipe_bytes, _PICKLED)


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
