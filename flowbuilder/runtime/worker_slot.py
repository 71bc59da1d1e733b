"""One slot of the worker pool: a thread, and the at most one process it owns."""
# ruff: noqa: S301 - both ends belong to one user, and one started the other

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

from flowbuilder.errors import ExecutorError, TaskFailedError, WorkerLostError
from flowbuilder.runtime.payload import Payload, dump_payload, load_payload
from flowbuilder.runtime.process_ticket import Outcome, Ticket
from flowbuilder.runtime.program import RemoteCall
from flowbuilder.runtime.remote_function import (
    LARGE_CODE_BYTES,
    FunctionRef,
    describe_function,
    large_globals,
)
from flowbuilder.runtime.transport_folder import TransportFolder
from flowbuilder.runtime.worker_messages import Reply
from flowbuilder.runtime.worker_process import WorkerProcess

__all__ = ["WorkerSlot"]

_log = logging.getLogger(__name__)


class _NotOkError(Exception):
    """A call did not give a value; its outcome says why."""


class WorkerSlot:
    """Takes tickets until there are no more and runs each in its process.

    Parameters
    ----------
    number : int
        Position in the pool.
    take : callable
        Waits for the next ticket; None ends the slot.
    folder : TransportFolder
        Where tables are handed over.
    warned : set of str
        Code versions already warned about, shared by the pool.
    is_threaded : bool
        Passed to `WorkerProcess`.
    """

    def __init__(
        self,
        number: int,
        take: Callable[[WorkerSlot], Ticket | None],
        folder: TransportFolder,
        warned: set[str],
        *,
        is_threaded: bool,
    ) -> None:
        self.worker: WorkerProcess | None = None
        self.ticket: Ticket | None = None
        self._number = number
        self._take = take
        self._folder = folder
        self._warned = warned
        self._is_threaded = is_threaded
        self._thread = threading.Thread(target=self._serve, name=f"worker-{number}", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end; nothing if called on it."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _serve(self) -> None:
        while (ticket := self._take(self)) is not None:
            call = ticket.begin()
            outcome = ticket.cancelled() if call is None else self._guarded(ticket, call)
            ticket.finish(outcome)
            # An idle slot must not keep the last call's tables alive.
            del ticket, call, outcome
        self._discard_worker()

    def _guarded(self, ticket: Ticket, call: RemoteCall) -> Outcome:
        try:
            outcome = self._run(ticket, call)
        except Exception as error:
            # Not the task's doing: no more processes, no room for tables.
            self._discard_worker()
            outcome = Outcome(kind="error", error=error)
        if ticket.detach():
            return outcome
        self._discard_worker()
        return ticket.cancelled()

    def _run(self, ticket: Ticket, call: RemoteCall) -> Outcome:
        if call.around is None:
            return self._make(ticket, call)
        ended: list[Outcome] = []

        def send() -> object:
            ended.append(self._make(ticket, call))
            if ended[0].kind != "ok":
                raise _NotOkError
            return ended[0].value

        try:
            return Outcome(kind="ok", value=call.around(send))
        except _NotOkError:
            return ended[0]

    def _make(self, ticket: Ticket, call: RemoteCall) -> Outcome:
        try:
            function = describe_function(call.function)
        except Exception as error:
            return _unsendable(call, "the function", error)
        self._warn_once(call, function, ticket)
        worker = self._ready_worker(ticket, function)
        if worker is None:
            return ticket.cancelled()
        if isinstance(worker, Outcome):
            return worker
        try:
            folders = () if call.is_confidential else worker.folders
            arguments = dump_payload((call.args, dict(call.kwargs)), folders)
        except ExecutorError:
            raise
        except Exception as error:
            return _unsendable(call, "an argument", error)
        ticket.note_sent(arguments)
        try:
            return self._ask(worker, function, call, arguments, ticket)
        finally:
            arguments.discard()

    def _ask(
        self,
        worker: WorkerProcess,
        function: FunctionRef,
        call: RemoteCall,
        arguments: Payload,
        ticket: Ticket,
    ) -> Outcome:
        directory = call.directory or str(Path.cwd())
        try:
            reply, parts = worker.call(
                function,
                directory,
                arguments.parts,
                ticket.write,
                is_confidential=call.is_confidential,
            )
        except WorkerLostError as error:
            exit_code = worker.exit_code
            self._discard_worker()
            return Outcome(kind="lost", error=error, exit_code=exit_code)
        if not reply.is_ok:
            return Outcome(kind="error", error=_rebuild(reply), traceback=reply.traceback)
        try:
            size = sum(len(part) for part in parts)
            value = load_payload(parts, adopt=True)
            return Outcome(kind="ok", value=value, pipe_bytes=size, file_bytes=reply.file_bytes)
        except Exception as error:
            return _unsendable(call, "the result", error)

    def _ready_worker(
        self, ticket: Ticket, function: FunctionRef
    ) -> WorkerProcess | Outcome | None:
        """Find or make the process; an outcome if it does not start, None if killed meanwhile."""
        worker = self.worker
        if worker is not None and (not worker.is_alive() or worker.has_stale(function)):
            self._discard_worker()
        if self.worker is not None:
            return self.worker if ticket.attach(self.worker) else None
        folders = self._folder.open_worker(self._number)
        worker = self.worker = WorkerProcess(folders, is_threaded=self._is_threaded)
        if not ticket.attach(worker):
            return None
        try:
            worker.wait_until_ready()
        except WorkerLostError as error:
            exit_code = worker.exit_code
            self._discard_worker()
            return Outcome(kind="lost", error=error, exit_code=exit_code)
        return worker

    def _discard_worker(self) -> None:
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.close()
            self._folder.close_worker(worker.folders)

    def _warn_once(self, call: RemoteCall, function: FunctionRef, ticket: Ticket) -> None:
        """Say what makes a function's code large, once per version."""
        if len(function.code) <= LARGE_CODE_BYTES or function.version in self._warned:
            return
        self._warned.add(function.version)
        found = large_globals(call.function)
        names = ", ".join(f"{name!r} ({size:,} bytes)" for name, size in found)
        text = (
            f"{function.qualname} travels to worker processes as {len(function.code):,} bytes of"
            f" code and globals (largest: {names or 'its own constants'});"
            " pass data as inputs, or move the function to a module"
        )
        _log.warning("%s", text)
        try:
            ticket.write("log", f"warning: {text}\n")
        except Exception:
            _log.exception("a warning could not be passed on")


def _rebuild(reply: Reply) -> BaseException:
    """Restore the worker's exception, or describe it."""
    if reply.error:
        try:
            error = pickle.loads(reply.error)
        except Exception:
            error = None
        if isinstance(error, Exception):
            return error
    return TaskFailedError(
        reply.message if reply.is_described else f"{reply.error_type}: {reply.message}",
        traceback=reply.traceback,
        error_type=reply.error_type,
    )


def _unsendable(call: RemoteCall, what: str, error: Exception) -> Outcome:
    name = getattr(call.function, "__qualname__", repr(call.function))
    failure = TaskFailedError(
        f"expected {what} of {name} to be something that can be pickled,"
        f" found {type(error).__name__}: {error}",
        hint="pass plain data, or use 'executor: thread'",
        error_type=type(error).__name__,
    )
    failure.__cause__ = error
    return Outcome(kind="error", error=failure)
