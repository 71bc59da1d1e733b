"""Worker threads for code that blocks or releases the GIL.

How many tasks run at once is decided by admission, so threads are started whenever none is idle: a
thread whose task was abandoned,
or waits in a nested run, does not count against the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from weakref import WeakSet

from flowbuilder.runtime.attempt import Attempt
from flowbuilder.runtime.executors.inline import perform, unstarted
from flowbuilder.runtime.program import Program

__all__ = ["ThreadExecutor"]

_IDLE_S = 10.0
_PATIENCE_S = 0.2

Job = Callable[[int], None]


class ThreadExecutor:
    """Runs jobs on daemon threads that end after ten idle seconds."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._alive: WeakSet[threading.Thread] = WeakSet()
        self._numbers = 0
        self._is_closed = False

    def submit(self, attempt: Attempt, program: Program) -> None:
        """Run an attempt; its driver gets the completion."""

        def job(worker: int) -> None:
            attempt.worker = worker
            completion = unstarted(attempt) if attempt.is_stopped else perform(attempt, program)
            # Here and not with the completion: nobody may be left to read that of an abandoned one.
            attempt.give_back()
            attempt.run.require_driver().inbox.put(completion)

        self.call(job)

    def call(self, job: Job) -> None:
        """Run ``job(worker_number)`` soon. It must not raise."""
        with self._lock:
            is_new = self._idle == 0
            if is_new:
                self._numbers += 1
                number = self._numbers
            else:
                self._idle -= 1
        self._jobs.put(job)
        if is_new:
            thread = threading.Thread(
                target=self._work, args=(number,), name=f"flowbuilder-{number}", daemon=True
            )
            self._alive.add(thread)
            thread.start()

    def _work(self, number: int) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE_S)
            except Empty:
                with self._lock:
                    # Somebody may have counted on this thread just now; then its job is in the
                    # queue.
                    if self._idle == 0:
                        continue
                    self._idle -= 1
                return
            if job is None:
                return
            job(number)
            del job  # while this thread is idle it would keep an ended run in memory
            with self._lock:
                if self._is_closed:
                    return
                self._idle += 1

    def close(self) -> None:
        """End idle threads; busy ones end with their job.

        Waits for the idle ones: a daemon thread that outlives the interpreter keeps extension
        modules from cleaning up.
        """
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, 0
            threads = [thread for thread in self._alive if thread is not threading.current_thread()]
        for _ in range(idle):
            self._jobs.put(None)
        deadline = time.monotonic() + _PATIENCE_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
