"""Worker processes for tasks: one process per slot, one task in flight in each, each killed alone.

Calls wait in one queue; whichever slot is free takes the next. A slot is a thread that owns at most
one process, made when the slot gets its first call and again after one was killed or lost.

    submit -> queued -> running -> finished      (done is called once, on a thread of the pool)
                 |         +--- kill: the process dies, alone
                 +------------- kill: reported at once, passed over later
"""

from __future__ import annotations

import atexit
import os
import select
import threading
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from flowbuilder.errors import ExecutorError
from flowbuilder.runtime.payload import Payload
from flowbuilder.runtime.process_ticket import Outcome, Ticket
from flowbuilder.runtime.program import RemoteCall
from flowbuilder.runtime.transport_folder import MEMORY_ROOT, TransportFolder
from flowbuilder.runtime.worker_slot import WorkerSlot

__all__ = ["Outcome", "ProcessPool", "Ticket"]

_CLOSE_WAIT_S = 5.0
_pools: weakref.WeakSet[ProcessPool] = weakref.WeakSet()


class ProcessPool:
    """Runs calls in up to ``size`` worker processes.

    Parameters
    ----------
    size : int
        Most processes at a time, at least 1.
    scratch : Path
        Folder on disk for tables in transit where memory has no room; made when first needed.
    memory_root : Path
        Memory file system for tables in transit.
    is_threaded : bool
        Whether output of workers is read by threads of its own, as it must be on Windows.

    Notes
    -----
    Thread-safe. No process, thread or folder is made before the first `submit`. Workers are fresh
    interpreters with the engine's ``sys.path``, working directory and environment, so a script
    needs no ``__main__`` guard. A forked child must not use its parent's pool.
    """

    def __init__(
        self,
        size: int,
        *,
        scratch: Path,
        memory_root: Path = MEMORY_ROOT,
        is_threaded: bool = not hasattr(select, "poll"),
    ) -> None:
        if size < 1:
            raise ValueError(f"expected a pool of at least one worker process, found {size}")
        self._size = size
        self._scratch = scratch
        self._memory_root = memory_root
        self._is_threaded = is_threaded
        self._pid = os.getpid()
        self._condition = threading.Condition()
        self._queue: deque[Ticket] = deque()
        self._slots: list[WorkerSlot] = []
        self._idle = 0
        self._is_closed = False
        self._folder: TransportFolder | None = None
        self._withdrawn: SimpleQueue[Ticket | None] | None = None
        self._warned: set[str] = set()
        _pools.add(self)

    def submit(
        self,
        call: RemoteCall,
        *,
        done: Callable[[Outcome], None],
        write: Callable[[str, str], None],
        sent: Callable[[Payload], None] | None = None,
    ) -> Ticket:
        """Queue a call.

        Parameters
        ----------
        call : RemoteCall
            What to do. Its arguments must not be changed before ``done``.
        done : callable
            Called exactly once with the `Outcome`, on a thread of the pool; must be quick.
        write : callable
            ``write(stream, text)``, called with what the call prints, from Python or C, while it
            runs; all of it before ``done``. What a thread prints that an earlier call left behind
            in the same worker comes here too.
        sent : callable, optional
            Called with the arguments as they are sent, on a thread of the pool; must be quick.

        Returns
        -------
        Ticket
            To stop the call with.

        Raises
        ------
        ExecutorError
            If the pool is closed, or belongs to the process this one was forked from.

        Notes
        -----
        Costs microseconds: pickling and starting processes happen on the pool's threads.
        """
        ticket = Ticket(call, done, write, self._withdraw, sent)
        self._check_process()
        with self._condition:
            if self._is_closed:
                raise ExecutorError("expected an open worker pool, found one that was closed")
            self._queue.append(ticket)
            if len(self._queue) > self._idle and len(self._slots) < self._size:
                self._add_slot()
            else:
                self._condition.notify()
        return ticket

    def worker_pids(self) -> tuple[int, ...]:
        """Give the process ids of the workers there are now."""
        with self._condition:
            workers = [slot.worker for slot in self._slots]
        return tuple(worker.pid for worker in workers if worker is not None)

    def close(self) -> None:
        """Kill what runs, withdraw what waits, end all workers; takes 5 s at most.

        Notes
        -----
        May be called again, from any thread. Runs by itself at exit.
        """
        if self._pid != os.getpid():
            return
        with self._condition:
            self._is_closed = True
            slots = tuple(self._slots)
            tickets = [*self._queue, *(slot.ticket for slot in slots)]
            self._condition.notify_all()
        for ticket in tickets:
            if ticket is not None:
                ticket.kill("the engine is shutting down")
        for slot in slots:
            slot.join(_CLOSE_WAIT_S)
        with self._condition:
            withdrawn, self._withdrawn = self._withdrawn, None
        if withdrawn is not None:
            withdrawn.put(None)
        if self._folder is not None:
            self._folder.close()

    def abandon(self) -> None:
        """Let go of the parent's descriptors; for a forked child."""
        for slot in self._slots:
            if slot.worker is not None:
                slot.worker.abandon()

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise ExecutorError(
                "expected the process that made this worker pool, found a forked child of it",
                hint="start an engine of its own in the child",
            )

    def _add_slot(self) -> None:
        if self._folder is None:
            self._folder = TransportFolder(self._scratch, memory_root=self._memory_root)
        slot = WorkerSlot(
            len(self._slots), self._take, self._folder, self._warned, is_threaded=self._is_threaded
        )
        self._slots.append(slot)

    def _take(self, slot: WorkerSlot) -> Ticket | None:
        """Wait for a call; None when the pool is closed and nothing waits."""
        with self._condition:
            slot.ticket = None
            self._idle += 1
            self._condition.wait_for(lambda: self._queue or self._is_closed)
            self._idle -= 1
            slot.ticket = self._queue.popleft() if self._queue else None
            return slot.ticket

    def _withdraw(self, ticket: Ticket) -> None:
        """Report a call that was killed in the queue; whoever takes it out later passes it over."""
        with self._condition:
            if self._withdrawn is None:
                self._withdrawn = SimpleQueue()
                threading.Thread(
                    target=_report, args=(self._withdrawn,), name="worker-withdrawn", daemon=True
                ).start()
            self._withdrawn.put(ticket)


def _report(withdrawn: SimpleQueue[Ticket | None]) -> None:
    """Finish killed tickets away from the thread that killed them, which may hold locks."""
    while (ticket := withdrawn.get()) is not None:
        ticket.finish(ticket.cancelled())


def _close_all() -> None:
    for pool in list(_pools):
        pool.close()


def _abandon_all() -> None:
    for pool in list(_pools):
        pool.abandon()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
