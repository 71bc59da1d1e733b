"""One thread with an asyncio loop, for tasks that wait: it runs coroutines and never schedules.
Started on first need.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic_ns
from types import CoroutineType
from typing import TYPE_CHECKING

from flowbuilder.runtime.attempt import Attempt, Completion
from flowbuilder.runtime.capture import Slot, task_slot
from flowbuilder.runtime.executors.inline import (
    format_error,
    kind_of,
    not_awaited,
    unstarted,
)
from flowbuilder.runtime.program import Program

if TYPE_CHECKING:
    import asyncio

__all__ = ["IoLoop"]


class IoLoop:
    """Runs coroutines of attempts. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._waiting: deque[tuple[Attempt, Program]] = deque()
        self._tasks: dict[Attempt, asyncio.Task[None]] = {}
        self._kill = self._kill_task  # one bound method for all attempts
        self._is_woken = False

    def submit(self, attempt: Attempt, program: Program) -> None:
        """Start an attempt on the loop; submissions made close together share one wake-up."""
        loop = self._loop or self._start()
        self._waiting.append((attempt, program))
        if not self._is_woken:
            self._is_woken = True
            loop.call_soon_threadsafe(self._begin_waiting)

    def close(self) -> None:
        """Cancel what runs and end the thread."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            self._is_woken = False
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5.0)

    def _start(self) -> asyncio.AbstractEventLoop:
        import asyncio

        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._serve, args=(loop,), name="flowbuilder-io", daemon=True
                )
                self._thread.start()
                self._loop = loop
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        import asyncio

        asyncio.set_event_loop(loop)
        loop.run_forever()
        left = list(self._tasks.values())
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def _begin_waiting(self) -> None:
        loop = self._loop
        # Cleared before the queue is emptied: whoever appends later wakes the loop again.
        self._is_woken = False
        while self._waiting and loop is not None:
            attempt, program = self._waiting.popleft()
            if attempt.is_stopped:
                # A task cancelled before its first step would never report.
                _report(unstarted(attempt))
                continue
            task = loop.create_task(self._perform(attempt, program))
            self._tasks[attempt] = task
            attempt.on_kill = self._kill
            if attempt.stop_reason:  # between the first look and ``on_kill``
                loop.call_soon(_cancel, task)

    def _kill_task(self, attempt: Attempt, _reason: str) -> None:
        loop, task = self._loop, self._tasks.get(attempt)
        if loop is not None and task is not None and not loop.is_closed():
            loop.call_soon_threadsafe(_cancel, task)

    async def _perform(self, attempt: Attempt, program: Program) -> None:
        start_ns = attempt.start_ns = monotonic_ns()
        run = attempt.run
        task_slot.set(Slot(run, attempt.instance, attempt.number))
        try:
            if attempt.stop_reason:
                _report(unstarted(attempt))
                return
            if program.function is not None:
                body = program.function(*run.arguments_of(program.arguments))
            else:
                assert program.coroutine is not None
                body = program.coroutine(attempt.context())
            value = await body  # type: ignore[misc]
            if value.__class__ is CoroutineType:
                raise not_awaited(value, run.plan.tasks[attempt.instance].key)  # noqa: TRY301
            _report(Completion(attempt, start_ns, monotonic_ns(), value))
        except BaseException as error:
            # Reported from here: a frame that holds its own exception is a cycle.
            _report(
                Completion(
                    attempt,
                    start_ns,
                    monotonic_ns(),
                    kind=kind_of(error),
                    error=error,
                    traceback=format_error(error),
                )
            )
        finally:
            del self._tasks[attempt]


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    # A turn of the loop after its end: an idle loop holds on to the last timer it dropped, whose
    # context knows the run.
    task.add_done_callback(_nothing)


def _nothing(_task: asyncio.Task[None]) -> None:
    """Let the loop turn."""


def _report(completion: Completion) -> None:
    attempt = completion.attempt
    # Here and not with the completion: nobody may be left to read that of an abandoned one.
    attempt.give_back()
    attempt.run.require_driver().inbox.put(completion)
