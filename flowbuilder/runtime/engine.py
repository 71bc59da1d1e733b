"""The engine: one per process and store. It opens runs, lends them a driver, and passes requests
on to it.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import get_ident
from weakref import ref

import msgspec

from flowbuilder.clock import Clock, SystemClock
from flowbuilder.errors import ExecutorError
from flowbuilder.records import RunCreated, RunHeader, VersionHeader
from flowbuilder.runtime.admission import Admission
from flowbuilder.runtime.bound_plan import BoundPlan
from flowbuilder.runtime.capture import slots
from flowbuilder.runtime.driver import Driver
from flowbuilder.runtime.executors.io_loop import IoLoop
from flowbuilder.runtime.executors.processes import ProcessExecutor
from flowbuilder.runtime.executors.threads import ThreadExecutor
from flowbuilder.runtime.live_run import LiveRun, RunOptions
from flowbuilder.runtime.machine import memory_limit_bytes
from flowbuilder.runtime.memory_keeper import MemoryKeeper
from flowbuilder.runtime.services import ErrorReport, Services
from flowbuilder.store import forks
from flowbuilder.store.ports import ArtifactStore, Journal

__all__ = ["Engine", "EngineOptions"]

_LOG = logging.getLogger(__name__)

_ACKNOWLEDGE_S = 30.0
_RESCUE_S = 1.0
_MOST_ENDED = 1_024
"""Of so many ended runs it is known whether somebody still holds them."""
_BODY_S = 0.05
"""A driver that has not looked for so long is inside the body of a task."""


def _plain_report(_error: BaseException, traceback: str) -> ErrorReport:
    return ErrorReport(traceback=traceback, location="")


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Fixed properties of an engine."""

    engine_id: str
    """Names the owner lock of this process in the store."""
    workers: int
    scratch: Path
    """Folder for spilled output and table hand-over."""
    pools: Mapping[str, int] = msgspec.field(default_factory=dict)
    kept_bytes: int = 0
    """What outputs may hold in memory before the least needed go into files; 0 for no limit."""
    query_bytes: int = 0
    """What queries may take in memory; 0 for no limit."""
    clock: Clock = msgspec.field(default_factory=SystemClock)
    explain_error: Callable[[BaseException, str], ErrorReport] = _plain_report


class Engine:
    """Executes plans. Thread-safe.

    Parameters
    ----------
    journal : Journal or None
        Where runs are recorded; None records nothing (tests and measurements of the bare
        scheduler).
    artifacts : ArtifactStore or None
        Where large outputs are kept.
    options : EngineOptions
        Fixed properties.
    """

    def __init__(
        self, journal: Journal | None, artifacts: ArtifactStore | None, options: EngineOptions
    ) -> None:
        self.journal = journal
        self.artifacts = artifacts
        self.options = options
        self.services = Services(
            clock=options.clock,
            threads=ThreadExecutor(),
            io=IoLoop(),
            processes=ProcessExecutor(options.workers, options.scratch),
            admission=Admission(
                options.workers, options.pools, memory_limit_bytes() or sys.maxsize
            ),
            artifacts=artifacts,
            explain_error=options.explain_error,
            forget=self._forget,
        )
        self.keeper = MemoryKeeper(
            options.scratch,
            options.engine_id,
            limit_bytes=options.kept_bytes,
            query_bytes=options.query_bytes,
        )
        self.live: dict[str, LiveRun] = {}
        """Runs that are not final, by id."""
        self._ended: dict[str, ref[LiveRun]] = {}
        self._lock = threading.Lock()
        self._shared: Driver | None = None
        self._idle_drivers: list[Driver] = []
        self._is_closed = False
        self._pid = os.getpid()
        self._forks = forks.count
        self._host = socket.gethostname()

    @property
    def is_stale(self) -> bool:
        """Whether it can no longer be used: closed, or inherited by a forked process."""
        return self._is_closed or self._forks != forks.count

    # -- runs ------------------------------------------------------------------------------------

    def open(
        self,
        bound: BoundPlan,
        version: VersionHeader,
        header: RunHeader,
        params: Mapping[str, object],
        options: RunOptions,
    ) -> LiveRun:
        """Create a run; nothing happens until it is driven.

        Raises
        ------
        ConfigurationError
            If a task names a pool that is not configured.
        ExecutorError
            If the engine is closed or belongs to the parent of this forked process.
        """
        run = self._new_run(bound, header, params, options)
        if self.journal is not None:
            run.journal = self.journal.open_run(version, header, self._created(run), run.recorder)
            run.recorder.attach(run.journal)
        self._admit(run)
        return run

    def reopen(
        self,
        bound: BoundPlan,
        header: RunHeader,
        params: Mapping[str, object],
        options: RunOptions,
        *,
        reasons: dict[str, str],
        restore: Callable[[LiveRun], None],
    ) -> LiveRun:
        """Take over a recorded run; ``restore`` fills in what is settled before anything is
        scheduled.
        """
        run = self._new_run(bound, header, params, options)
        if self.journal is not None:
            created = self._created(run, resumed=True, reasons=reasons)
            run.journal = self.journal.adopt_run(header.run_id, created, run.recorder)
            run.recorder.attach(run.journal)
        run.allocate()
        try:
            restore(run)
        except BaseException:
            if run.journal is not None:
                run.journal.close()
            raise
        self._admit(run)
        return run

    def _new_run(
        self, bound: BoundPlan, header: RunHeader, params: Mapping[str, object], options: RunOptions
    ) -> LiveRun:
        if self.is_stale:
            why = "is closed" if self._is_closed else "belongs to the parent of this forked process"
            raise ExecutorError(
                f"expected a usable engine, but this one {why}", hint="make a new one"
            )
        for pool in bound.pools:
            self.services.admission.pool(pool)
        return LiveRun.of(
            bound,
            header,
            params,
            options,
            anchor=self.options.clock.anchor(),
            keeper=self.keeper,
        )

    def _created(
        self, run: LiveRun, *, resumed: bool = False, reasons: dict[str, str] | None = None
    ) -> RunCreated:
        return RunCreated(
            wall_ns=run.anchor.wall_ns,
            monotonic_ns=run.anchor.monotonic_ns,
            time_ns=run.anchor.monotonic_ns,
            owner=self.options.engine_id,
            host=self._host,
            pid=self._pid,
            resumed=resumed,
            reasons=reasons or {},
        )

    def find(self, run_id: str) -> LiveRun | None:
        """Find a run that lives, or has ended and is still held by somebody in this process."""
        run = self.live.get(run_id)
        if run is None and run_id in self._ended:
            run = self._ended[run_id]()
        return run

    def _admit(self, run: LiveRun) -> None:
        self.live[run.run_id] = run

    def _forget(self, run_id: str) -> None:
        run = self.live.get(run_id)
        if run is not None:
            self._ended[run_id] = ref(run)
            del self.live[run_id]
            if len(self._ended) > _MOST_ENDED:
                del self._ended[next(iter(self._ended))]

    def run(self, run: LiveRun) -> bool:
        """Drive a run on this thread until it is final; return whether Ctrl-C cancelled it.

        Inside a task, the units of pools the task holds are lent to the run meanwhile. A run that
        somebody else drives is waited for.

        Raises
        ------
        KeyboardInterrupt
            If Ctrl-C came too late to cancel it.
        """
        if not self._claim(run):
            run.wait()
            return False
        try:
            return self._drive_here(run)
        except BaseException:
            if run.finished is None:
                # An exception between two steps (a signal handler's): the run still has to end.
                driver = self._shared or self._start_shared()
                driver.inbox.put(partial(driver.rescue, run))
                run.wait(_RESCUE_S)
            raise

    def _claim(self, run: LiveRun) -> bool:
        with self._lock:
            if run.is_claimed or run.finished is not None:
                return False
            run.is_claimed = True
            return True

    def _drive_here(self, run: LiveRun) -> bool:
        slot = slots.get(get_ident())
        take_back = slot.units() if slot is not None and slot.units is not None else None
        events = sys.modules.get("asyncio.events")
        loop = events._get_running_loop() if events is not None else None  # noqa: SLF001
        if loop is not None and events is not None:
            # Tasks of a run started inside a running loop (a notebook cell) may start a loop of
            # their own.
            events._set_running_loop(None)  # noqa: SLF001
        try:
            return self._drive(run)
        finally:
            if loop is not None and events is not None:
                events._set_running_loop(loop)  # noqa: SLF001
            if take_back is not None:
                take_back()

    def _drive(self, run: LiveRun) -> bool:
        # Drivers are used again: making one costs as much as a short run.
        try:
            driver = self._idle_drivers.pop()
        except IndexError:
            driver = Driver(self.services, is_shared=False)
        interrupted = driver.drive(run)
        if driver.is_clean:
            self._idle_drivers.append(driver)
        return interrupted

    def start(self, run: LiveRun) -> None:
        """Drive a run on the engine's own thread; returns at once. Nothing if it is driven."""
        if not self._claim(run):
            return
        driver = self._shared or self._start_shared()
        if driver.thread == get_ident():
            # A task on that thread may wait for the run.
            self.services.threads.call(lambda _worker: self._drive_apart(run))
        else:
            driver.submit(run)

    def _drive_apart(self, run: LiveRun) -> None:
        try:
            self._drive(run)
        except Exception:
            _LOG.exception("run %s could not be driven", run.run_id)

    def _start_shared(self) -> Driver:
        with self._lock:
            if self._shared is None:
                driver = Driver(self.services, is_shared=True)
                thread = threading.Thread(
                    target=driver.serve,
                    args=(lambda: self._is_closed,),
                    name="flowbuilder-driver",
                    daemon=True,
                )
                thread.start()
                self._shared = driver
            return self._shared

    # -- requests --------------------------------------------------------------------------------

    def cancel(self, run: LiveRun, *, reason: str = "cancelled") -> None:
        """Cancel a run; when this returns nothing new starts."""
        driver = run.driver
        if driver is not None and driver.thread == get_ident():
            # A task on the driver itself: a flag that is looked at before anything else starts.
            driver.request_stop(run, reason)
            return
        self._ask(
            run,
            lambda driver: driver.request_stop(run, reason),
            lambda driver: driver.break_in(reason),
        )

    def cancel_task(self, run: LiveRun, key: str) -> None:
        """Cancel one task of a run; its descendants are judged by their join rules."""
        instance = run.instance_of(key)
        self._ask(run, lambda driver: driver.cancel_task(run, instance))

    def pause(self, run: LiveRun) -> None:
        """Let nothing new start; what runs goes on."""
        self._ask(run, lambda driver: driver.pause(run))

    def resume(self, run: LiveRun) -> None:
        """Go on after a pause."""
        self._ask(run, lambda driver: driver.unpause(run))

    def _ask(
        self,
        run: LiveRun,
        request: Callable[[Driver], LiveRun],
        in_body: Callable[[Driver], None] | None = None,
    ) -> None:
        if run.finished is not None:
            return
        if run.driver is None and run.ask_early(request):
            return
        driver = run.require_driver()
        if driver.thread == get_ident():
            driver.inbox.put(partial(request, driver))
            run.must_look = True
            return
        _await_answer(run, driver, request, in_body)

    def close(self) -> None:
        """Cancel what lives, end all threads and processes. The journal stays open for its owner
        to close.
        """
        for run in list(self.live.values()):
            if run.is_claimed and (run.driver is None or run.driver.thread != get_ident()):
                self.cancel(run)
                run.wait(10.0)
        self._is_closed = True
        if self._shared is not None:
            self._shared.inbox.put(lambda: None)
        self.services.threads.close()
        self.services.io.close()
        self.services.processes.close()
        self.keeper.close()


def _await_answer(
    run: LiveRun,
    driver: Driver,
    request: Callable[[Driver], LiveRun],
    in_body: Callable[[Driver], None] | None,
) -> None:
    done = threading.Event()
    problems: list[Exception] = []

    def ask() -> LiveRun:
        try:
            return request(driver)
        except Exception as error:
            problems.append(error)
            return run
        finally:
            done.set()

    run.at_end(done.set)
    driver.inbox.put(ask)
    run.must_look = True
    if not done.wait(_BODY_S):
        if not driver.is_in_body:
            done.wait(_ACKNOWLEDGE_S)
        elif in_body is not None:
            # The request stands before anything else starts; only the body itself may be long.
            in_body(driver)
    run.not_at_end(done.set)
    if problems:
        raise problems[0]
