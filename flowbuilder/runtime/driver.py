"""Drives runs: takes completions and requests from an inbox, starts what is ready, waits. One
thread at a time.

A driver serves one run on its caller's thread, or many runs on the engine's shared thread. Each
*turn* handles all messages that
are there, lets each touched run start what it can, and ends with at most one journal commit for
all of them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import get_ident
from time import monotonic_ns

from flowbuilder.errors import (
    FlowBuilderError,
    InternalError,
    RunCancelledError,
    TaskTimeoutError,
)
from flowbuilder.records import RunStateChanged
from flowbuilder.runtime.acknowledgement import Acknowledgements
from flowbuilder.runtime.attempt import Attempt, Completion
from flowbuilder.runtime.capture import slots
from flowbuilder.runtime.executors.inline import format_error, kind_of
from flowbuilder.runtime.interrupts import InterruptGuard
from flowbuilder.runtime.launch import Launcher
from flowbuilder.runtime.live_run import EMPTY, LiveRun
from flowbuilder.runtime.outcome import Outcomes
from flowbuilder.runtime.segment import run_segment
from flowbuilder.runtime.services import Services
from flowbuilder.runtime.timers import Timer, Timers, to_ns
from flowbuilder.vocabulary import (
    TASK_STATE_CODES,
    Durability,
    ExecutorKind,
    RunState,
    TaskState,
)

__all__ = ["Driver"]

_LOG = logging.getLogger(__name__)

_CANCELLED = TASK_STATE_CODES[TaskState.CANCELLED]

_SLICE_NS = 5_000_000
"""How long one run may keep a driver busy before it looks at messages, timers and other runs."""

_STEPS_A_LOOK = 4
"""Tasks or segments between two looks at the clock; on the shared driver each of them is short."""

_BEGUN_A_TURN = 64
"""Runs begun in a turn: what is under way comes first, so that little is at once."""

_NEVER_NS = 1 << 62
_LONGEST_WAIT_S = 3600.0

GRACE_NS = 5_500_000_000
"""How long cooperative work on a thread may take to stop (a process group gets TERM, 5 s, KILL)
before it is abandoned."""

Message = Completion | Callable[[], LiveRun | None]


class Driver:
    """Moves TaskRuns through their states.

    Parameters
    ----------
    services : Services
        The engine's shared parts.
    is_shared : bool
        Whether other runs would wait while this thread is busy.
    """

    __slots__ = (
        "_breaking_in",
        "_carried",
        "_ending",
        "_guard",
        "_is_woken",
        "_launcher",
        "_outcomes",
        "_submitted",
        "acknowledgements",
        "inbox",
        "is_shared",
        "services",
        "thread",
        "timers",
    )

    def __init__(self, services: Services, *, is_shared: bool) -> None:
        self.services = services
        self.is_shared = is_shared
        self.inbox: SimpleQueue[Message] = SimpleQueue()
        self.thread = 0
        self.timers = Timers()
        self._guard: InterruptGuard | None = None
        self._ending: dict[LiveRun, RunState] = {}
        self._submitted: deque[LiveRun] = deque()
        self._is_woken = False
        self._carried: set[LiveRun] = set()
        """Runs that can go on in the next turn, behind the messages."""
        self._breaking_in = ""
        self.acknowledgements = Acknowledgements(self)
        self._outcomes = Outcomes(self)
        self._launcher = Launcher(self, self._outcomes)

    # -- entry points ----------------------------------------------------------------------------

    def begin(self, run: LiveRun) -> LiveRun:
        """Take charge of a run: the first thing that happens to it."""
        try:
            self._prepare(run)
            run.driver = self
            while isinstance(run.early, list) and run.early:
                run.early.pop(0)(self)
        except Exception as error:
            run.driver = self
            self.break_down(run, error)
        return run

    def _prepare(self, run: LiveRun) -> None:
        run.allocate()
        self.services.router.enter(run)
        run.frontier.plain = run.bound.plain_mask(self.services.means, run.options.executor)
        if run.options.redact is not None:
            # Each output is searched for secrets before it is recorded; segments do not look.
            run.frontier.plain = bytearray(len(run.plan))
        for instance in run.bases:
            # Static segments count attempts from one.
            run.frontier.plain[instance] = 0
        if not is_untouched(run):
            run.frontier.rebuild()
        if run.plan.timeout_s is not None:
            due_ns = monotonic_ns() + to_ns(run.plan.timeout_s)
            self.at(due_ns, run, lambda: self._time_out(run))

    def rescue(self, run: LiveRun) -> LiveRun:
        """Cancel a run whose own driver was torn away by an exception between two steps."""
        for timer in run.timers or ():
            timer.run = timer.action = None
        run.timers = None
        lost, run.driver = run.driver, self
        while lost is not None and not lost.inbox.empty():
            self.inbox.put(lost.inbox.get())
        run.is_stopping = False
        run.frontier.rebuild()
        return self.request_stop(run, run.cancel_reason or "interrupted")

    def drive(self, run: LiveRun) -> bool:
        """Drive one run on the calling thread until it is final; return whether Ctrl-C cancelled
        it.
        """
        self.thread = get_ident()
        self._breaking_in = ""
        guard = InterruptGuard(lambda: self.inbox.put(partial(self.interrupt, run)))
        self._guard = guard
        interrupted = False
        try:
            guard.install()
            touched: set[LiveRun] = set()
            while True:
                try:
                    if run.driver is None:
                        self.begin(run)
                    touched.add(run)
                    self._finish_turn(touched)
                    if run.finished is not None:
                        break
                    touched = self._wait_for_messages()
                except KeyboardInterrupt:
                    interrupted = interrupted or not self._breaking_in
                    self.interrupt(run)
                    touched = {run}
        finally:
            guard.remove()
            self._guard = None
        interrupted = interrupted or run.cancel_reason == "interrupted"
        if guard.pending and not interrupted:
            # Too late for the run, but not for its caller.
            raise KeyboardInterrupt
        return interrupted

    @property
    def is_clean(self) -> bool:
        """Whether nothing of the runs it drove is left: no timers, no messages."""
        return not self.timers and self.inbox.empty()

    def submit(self, run: LiveRun) -> None:
        """Have a run begun soon, behind those submitted before. Called from other threads."""
        self._submitted.append(run)
        if not self._is_woken:
            self._is_woken = True
            self.inbox.put(_wake)

    def serve(self, should_stop: Callable[[], bool]) -> None:
        """Drive whatever comes through the inbox until ``should_stop``."""
        self.thread = get_ident()
        while not should_stop():
            try:
                self._finish_turn(self._wait_for_messages())
            except Exception:
                _LOG.exception("the driver of all started runs met a bug")

    def at(self, due_ns: int, run: LiveRun, action: Callable[[], LiveRun | None]) -> Timer:
        """Call ``action`` at a monotonic instant, unless the run has ended; it may return it."""
        return self.timers.add(due_ns, run, partial(self.carry_out, run, action))

    def carry_out(self, run: LiveRun, action: Callable[[], LiveRun | None]) -> LiveRun | None:
        """Do something for one run; whatever goes wrong ends this run, and it alone.

        Any recorded fact may say that an earlier flush failed.
        """
        try:
            return action()
        except Exception as error:
            if run.finished is None:
                self.break_down(run, error)
            return run

    # -- turns -----------------------------------------------------------------------------------

    def _wait_for_messages(self) -> set[LiveRun]:
        try:
            message: Message | None = self.inbox.get(timeout=self._patience_s())
        except Empty:
            message = None
        touched, self._carried = self._carried, set()
        while message is not None:
            self._handle(message, touched)
            try:
                message = self.inbox.get_nowait()
            except Empty:
                break
        while (action := self.timers.pop_due(monotonic_ns())) is not None:
            self._perform(action, touched)
        # Lowered before the look: who submits later wakes again.
        self._is_woken = False
        for _ in range(min(len(self._submitted), _BEGUN_A_TURN)):
            touched.add(self.begin(self._submitted.popleft()))
        return touched

    def _patience_s(self) -> float | None:
        """Say how long to wait for a message."""
        if self._submitted:
            return 0.0
        due_ns = self.timers.next_ns
        if due_ns is None:
            return None
        return min(max(0.0, (due_ns - monotonic_ns()) / 1e9), _LONGEST_WAIT_S)

    def _handle(self, message: Message, touched: set[LiveRun]) -> None:
        if isinstance(message, Completion):
            run = message.attempt.run
            try:
                self._outcomes.complete(message)
            except Exception as error:
                self.break_down(run, error)
            touched.add(run)
            return
        self._perform(message, touched)

    @staticmethod
    def _perform(action: Callable[[], LiveRun | None], touched: set[LiveRun]) -> None:
        try:
            run = action()
        except Exception:
            # A bug of ours in one request must not end the driver of all runs.
            _LOG.exception("a request could not be carried out")
            return
        if run is not None:
            touched.add(run)

    def _finish_turn(self, touched: set[LiveRun]) -> None:
        waiting = self.acknowledgements
        until_ns = monotonic_ns() + _SLICE_NS
        while touched or waiting.is_due:
            for run in touched:
                if run.finished is None and run not in self._ending:
                    try:
                        self._pump(run)
                    except Exception as error:
                        self.break_down(run, error)
            for run in self._ending:
                waiting.drop(run)  # the commit of its end covers it
            touched = waiting.settle(self._launcher, _SLICE_NS)
            if waiting.is_due or (touched and monotonic_ns() > until_ns):
                self._carried = touched
                self.inbox.put(_wake)
                break
        if self._ending:
            self._end_runs()

    def _pump(self, run: LiveRun) -> None:
        frontier = run.frontier
        until_ns = monotonic_ns() + _SLICE_NS
        steps = 0
        while frontier.remaining and not (run.is_stopping or run.is_pausing):
            if run.must_look:
                # In this order: what is announced after the flag is down raises it again.
                run.must_look = False
                if not self.inbox.empty():
                    self.inbox.put(lambda: run)
                    return
            if (
                not run.in_flight
                and run.options.durability is not Durability.TASK
                and self._run_segment(run, until_ns)
            ):
                pass
            else:
                if frontier.degrees is None and frontier.remaining:
                    self._start_dynamic(run)
                instance = frontier.pop()
                if instance < 0:
                    break
                self._launcher.launch(run, instance)
            steps += 1
            if not steps % _STEPS_A_LOOK and monotonic_ns() > until_ns:
                self.inbox.put(lambda: run)
                return
        self._settle(run)

    def _settle(self, run: LiveRun) -> None:
        """End a run in which nothing is left, or nothing can start any more."""
        frontier = run.frontier
        if run.is_stopping and frontier.remaining > len(run.in_flight):
            self._cancel_pending(run)
        if run.in_flight or run.pending_saves:
            return
        if not frontier.remaining:
            self._ending[run] = self._final_state(run)
        elif not run.waiting and not run.is_pausing:
            self._recover(run)

    def _recover(self, run: LiveRun) -> None:
        """Go on where nothing can wake a run any more: an interrupt lost what was ready."""
        run.frontier.rebuild()
        if not run.frontier.ready_count:
            raise InternalError("the run has tasks left, but none of them can start")
        self.inbox.put(lambda: run)

    @staticmethod
    def _start_dynamic(run: LiveRun) -> None:
        if is_untouched(run):
            run.frontier.start()
        else:
            run.frontier.rebuild()

    def _run_segment(self, run: LiveRun, until_ns: int) -> bool:
        """Run the plain instances at the low end of the static order; return whether anything was
        done.
        """
        due_ns = self.timers.next_ns
        if not self.is_shared:
            until_ns = _NEVER_NS
        if due_ns is not None:
            until_ns = min(until_ns, due_ns)
        frontier, codes = run.frontier, run.state_codes
        first = codes.find(0, frontier.low)
        if first < 0 or not frontier.plain[first] or run.waiting:
            return False
        frontier.low = first
        last = frontier.plain.find(0, first)
        if last < 0:
            last = len(codes)
        if codes.count(0, first, last) != last - first:
            last = first + len(codes[first:last]) - len(codes[first:last].lstrip(b"\0"))
        stopped_at, start_ns, error = run_segment(run, first, last, until_ns)
        self._outcomes.close_segment(run, first, stopped_at)
        frontier.low = stopped_at
        if isinstance(error, KeyboardInterrupt) and not self.is_shared:
            raise error
        if error is not None:
            self._fail_in_segment(run, stopped_at, start_ns, error)
        return True

    def _fail_in_segment(
        self, run: LiveRun, instance: int, start_ns: int, error: BaseException
    ) -> None:
        attempt = Attempt(run, instance, run.attempts[instance] + 1, ExecutorKind.INLINE, start_ns)
        run.attempts[instance] = attempt.number
        run.in_flight[instance] = attempt
        if run.frontier.degrees is None:
            run.frontier.rebuild()
        self._outcomes.complete(
            Completion(
                attempt,
                start_ns,
                monotonic_ns(),
                kind=kind_of(error),
                error=error,
                traceback=format_error(error),
            )
        )

    # -- requests from other threads -------------------------------------------------------------

    def request_stop(
        self, run: LiveRun, reason: str, error: FlowBuilderError | None = None
    ) -> LiveRun:
        """Stop a run: nothing new starts, what runs is asked to stop. Runs on the driver."""
        if run.finished is None and not run.is_stopping:
            run.is_stopping = run.must_look = True
            run.cancel_reason = reason
            run.error = run.error or error
            for attempt in list(run.in_flight.values()):
                self.stop_attempt(attempt, reason)
        return run

    def stop_attempt(self, attempt: Attempt, reason: str) -> None:
        """Ask an attempt to stop; abandon it after the grace, at once if nothing in it can hear."""
        can_hear = attempt.can_hear
        attempt.stop(reason)
        due_ns = monotonic_ns() + (GRACE_NS if can_hear else 0)
        timer = self.at(due_ns, attempt.run, lambda: self._outcomes.abandon(attempt))
        attempt.timers += (timer,)

    def pause(self, run: LiveRun) -> LiveRun:
        """Start nothing new until resumed. Runs on the driver."""
        if run.finished is None and not run.is_pausing and not run.is_stopping:
            run.is_pausing = run.must_look = True
            run.recorder.event(RunStateChanged(state=RunState.PAUSED.value, time_ns=monotonic_ns()))
        return run

    def unpause(self, run: LiveRun) -> LiveRun:
        """Go on. Runs on the driver."""
        if run.finished is None and run.is_pausing and not run.is_stopping:
            run.is_pausing = False
            run.recorder.event(
                RunStateChanged(state=RunState.RUNNING.value, time_ns=monotonic_ns())
            )
        return run

    def cancel_task(self, run: LiveRun, instance: int) -> LiveRun:
        """Cancel one task. Runs on the driver."""
        attempt = run.in_flight.get(instance)
        if attempt is not None:
            self.stop_attempt(attempt, "cancelled")
        elif run.state_codes[instance] == 0:
            run.waiting.pop(instance, None)
            if run.frontier.degrees is None:
                self._start_dynamic(run)
            self._outcomes.finish(run, instance, TaskState.CANCELLED, reason="cancelled on request")
        return run

    def _time_out(self, run: LiveRun) -> LiveRun:
        error = TaskTimeoutError(
            f"expected the run to take at most {run.plan.timeout_s:g} s, it was still running",
            hint="raise the workflow's timeout, or look for the task that takes long",
        )
        return self.request_stop(run, "the run's timeout", error)

    def interrupt(self, run: LiveRun) -> LiveRun:
        """Stop a run after Ctrl-C, at once after the second. Runs on the driver."""
        if self._guard is not None:
            self._guard.pending = 0
        if run.driver is None:
            self.begin(run)
        if run.is_stopping:
            # A second Ctrl-C: the user will not wait.
            for attempt in list(run.in_flight.values()):
                self._outcomes.abandon(attempt)
        if run.frontier.degrees is not None or not is_untouched(run):
            # The first one may have struck between any two steps.
            run.frontier.rebuild()
        reason, self._breaking_in = self._breaking_in or "interrupted", ""
        return self.request_stop(run, reason)

    @property
    def is_in_body(self) -> bool:
        """Whether its thread executes the body of a task now."""
        return self.thread in slots

    def break_in(self, reason: str) -> None:
        """End the body its thread executes as Ctrl-C would, where that is possible: on the main
        thread, if nobody else handles Ctrl-C. Called from other threads.
        """
        guard = self._guard
        if guard is not None:
            self._breaking_in = reason
            if not guard.send():
                self._breaking_in = ""

    # -- ends ------------------------------------------------------------------------------------

    def _cancel_pending(self, run: LiveRun) -> None:
        self._forget_pools(run)
        run.waiting.clear()
        self._outcomes.finish_all_pending(run)

    def _forget_pools(self, run: LiveRun) -> None:
        # A wake-up for a run that does not read it any more would be lost to the others.
        for pool in run.blocked:
            self.services.admission.pool(pool).forget((run.run_id, pool))
        if run.blocked:
            run.blocked = EMPTY

    @staticmethod
    def _final_state(run: LiveRun) -> RunState:
        if run.error is not None and not isinstance(run.error, RunCancelledError):
            return RunState.FAILED
        if run.is_stopping:
            return RunState.CANCELLED
        return RunState.FAILED if run.failures or run.error is not None else RunState.SUCCEEDED

    def _end_runs(self) -> None:
        ending, self._ending = self._ending, {}
        for run, state in ending.items():
            error = run.error
            changed = RunStateChanged(
                state=state,
                reason=run.cancel_reason,
                error="" if error is None else error.message,
                error_task=run.error_task,
                time_ns=monotonic_ns(),
            )
            try:
                run.recorder.event(changed)
            except Exception as problem:
                self.blame(run, problem)
        is_synced = False
        for run, state in ending.items():
            if (
                run.journal is not None
                and run.options.durability is not Durability.NONE
                and not is_synced
            ):
                # One commit covers all runs that end in this turn.
                try:
                    run.journal.sync()
                    is_synced = True
                except Exception as problem:
                    if run.error is not None:
                        _LOG.warning("the end of run %s is not on disk: %s", run.run_id, problem)
                    self.blame(run, problem)
                    state = RunState.FAILED  # noqa: PLW2901
                    self._correct_end(run)
            self._close(run, state)

    @staticmethod
    def _correct_end(run: LiveRun) -> None:
        """Have the journal say what the caller is told, should it take the records later."""
        error = "" if run.error is None else run.error.message
        with suppress(FlowBuilderError):
            run.recorder.event(
                RunStateChanged(state=RunState.FAILED, error=error, time_ns=monotonic_ns())
            )

    def _close(self, run: LiveRun, state: RunState) -> None:
        if run.journal is not None:
            try:
                run.journal.close()
            except Exception as problem:
                self.blame(run, problem)
                state = RunState.FAILED
        self._forget_pools(run)
        self.services.router.leave(run)
        run.recorder.detach()
        run.finished = state
        run.let_go()
        self.services.forget(run.run_id)
        if run.timers:
            self.timers.drop_all(run)
        while isinstance(run.on_finish, list) and run.on_finish:
            try:
                run.on_finish.pop()()
            except Exception:
                _LOG.exception("a callback for the end of run %s failed", run.run_id)

    @staticmethod
    def blame(run: LiveRun, error: Exception) -> None:
        """Note why a run fails without a task's fault, unless it has a reason already."""
        if run.error is not None:
            return
        if isinstance(error, FlowBuilderError):
            run.error = error
        else:
            run.error = InternalError(f"{type(error).__name__}: {error}")
            run.error.__cause__ = error

    def break_down(self, run: LiveRun, error: Exception) -> None:
        """End a run after a bug of ours or a failure of the journal, and spare the others."""
        _LOG.error("run %s ends with an internal error", run.run_id, exc_info=error)
        run.allocate()  # the error may have struck before its columns were made
        self.blame(run, error)
        run.is_stopping = True
        for attempt in list(run.in_flight.values()):
            attempt.stop("cancelled")
            if not attempt.is_elsewhere:
                attempt.give_back()
        run.in_flight.clear()
        run.pending_saves = 0
        self.acknowledgements.drop(run)
        codes = run.state_codes
        for instance, code in enumerate(codes):
            if not code:
                codes[instance] = _CANCELLED
        run.frontier.remaining = 0
        self._ending[run] = RunState.FAILED


def _wake() -> None:
    """Do nothing but wake the driver."""


def is_untouched(run: LiveRun) -> bool:
    """Whether no instance left the pending state yet."""
    return run.state_codes.count(0) == len(run.state_codes)
