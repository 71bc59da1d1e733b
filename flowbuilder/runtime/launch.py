"""From ready to running: the join rule, the condition, limits, the executor."""

from __future__ import annotations

import heapq
from time import monotonic_ns
from typing import TYPE_CHECKING

from flowbuilder.errors import TaskTimeoutError
from flowbuilder.records import ResourceAllocated
from flowbuilder.runtime.admission import CPU_POOL, Pool
from flowbuilder.runtime.attempt import Attempt, Completion
from flowbuilder.runtime.choice import choose_executor
from flowbuilder.runtime.executors.inline import format_error, perform
from flowbuilder.runtime.frontier import judge_join
from flowbuilder.runtime.live_run import NOT_SET, LiveRun
from flowbuilder.runtime.plan import PlannedTask
from flowbuilder.runtime.program import Program
from flowbuilder.runtime.timers import to_ns
from flowbuilder.vocabulary import (
    Durability,
    Effects,
    ExecutorKind,
    FailureKind,
    JoinRule,
    TaskState,
    WaitReason,
)

if TYPE_CHECKING:
    from flowbuilder.runtime.driver import Driver
    from flowbuilder.runtime.outcome import Outcomes

__all__ = ["Launcher"]

_ON_THREADS = frozenset({ExecutorKind.THREAD, ExecutorKind.PROCESS})


class Launcher:
    """Starts ready instances for one driver."""

    __slots__ = ("_driver", "_outcomes")

    def __init__(self, driver: Driver, outcomes: Outcomes) -> None:
        self._driver = driver
        self._outcomes = outcomes

    def launch(self, run: LiveRun, instance: int) -> None:
        """Start a ready instance, or make it final at once (skipped, shared with its twin), or let
        it wait for a pool.
        """
        task = run.plan.tasks[instance]
        twin = run.plan.twins[instance]
        if twin >= 0 and run.values[twin] is not NOT_SET:
            self._outcomes.share(run, instance, twin)
            return
        if not self._may_start(run, instance, task):
            return
        program = run.programs[instance]
        executor, reason = self._choose(run, task, program)
        held = self._admit(run, instance, task, program, executor)
        if held is None:
            return
        attempt = self._open_attempt(run, instance, executor, reason, held)
        if run.options.durability is Durability.TASK:
            run.recorder.event(attempt.started())
            self._driver.acknowledgements.announce(run, attempt)
        else:
            self._announce_effect(run, attempt, task)
            self.execute(run, attempt)

    def _may_start(self, run: LiveRun, instance: int, task: PlannedTask) -> bool:
        if instance in run.frontier.tainted or task.join in {
            JoinRule.ALL_FAILED,
            JoinRule.ONE_FAILED,
        }:
            tasks = run.plan.tasks
            states = {
                tasks[parent].key: TaskState(run.state(parent))
                for parent in run.plan.parents_of(instance)
            }
            blame = judge_join(task.join, states)
            if blame:
                self._outcomes.skip(run, instance, blame)
                return False
        condition = run.programs[instance].condition
        if condition is None:
            return True
        try:
            if condition(run):
                return True
        except Exception as error:
            now = monotonic_ns()
            attempt = Attempt(run, instance, run.attempts[instance] + 1, ExecutorKind.INLINE, now)
            run.attempts[instance] = attempt.number
            run.in_flight[instance] = attempt
            trace = format_error(error)
            self._outcomes.complete(
                Completion(
                    attempt, now, now, kind=FailureKind.CONTRACT, error=error, traceback=trace
                )
            )
            return False
        self._outcomes.skip(run, instance, "its condition (when) is false")
        return False

    def _choose(
        self, run: LiveRun, task: PlannedTask, program: Program
    ) -> tuple[ExecutorKind, str]:
        wanted = run.options.executor
        if wanted is ExecutorKind.AUTO:
            wanted = task.executor
        return choose_executor(
            program,
            wanted,
            self._driver.services.means,
            may_block_driver=not self._driver.is_shared
            and not run.in_flight
            and not run.frontier.ready_count,
            has_timeout=task.timeout_s is not None or run.plan.timeout_s is not None,
        )

    # -- limits ----------------------------------------------------------------------------------

    def _admit(
        self,
        run: LiveRun,
        instance: int,
        task: PlannedTask,
        program: Program,
        executor: ExecutorKind,
    ) -> list[tuple[Pool, int]] | None:
        admission = self._driver.services.admission
        wanted: list[tuple[Pool, int]] = []
        if task.pool is not None:
            wanted.append((admission.pool(task.pool), 1))
        if task.memory_bytes:
            wanted.append((admission.memory, task.memory_bytes))
        if executor in _ON_THREADS and program.uses_cpu:
            wanted.append((admission.cpu, task.cpu))
        for position, (pool, units) in enumerate(wanted):
            if self._try_acquire(run, pool, units):
                continue
            for taken, taken_units in wanted[:position]:
                taken.release(taken_units)
            blocked = run.blocked.get(pool.name)
            if blocked is None:
                blocked = []
                run.set_sparse("blocked", pool.name, blocked)
            heapq.heappush(blocked, (-run.plan.ranks[instance], instance))
            run.waiting[instance] = WaitReason.POOL
            return None
        return wanted

    def _try_acquire(self, run: LiveRun, pool: Pool, units: int) -> bool:
        who = (run.run_id, pool.name)
        inbox = self._driver.inbox

        def on_capacity() -> LiveRun | None:
            return self._driver.carry_out(run, lambda: self._on_capacity(run, pool))

        return pool.try_acquire(units, who, lambda: inbox.put(on_capacity))

    def _on_capacity(self, run: LiveRun, pool: Pool) -> LiveRun:
        """Units may be free: try those who wait, best rank first, until one does not fit."""
        blocked = run.blocked.get(pool.name)
        while blocked and not (run.is_stopping or run.is_pausing or run.finished is not None):
            instance = heapq.heappop(blocked)[1]
            if run.waiting.pop(instance, None) is None:
                continue
            self.launch(run, instance)
            if blocked and blocked[0][1] == instance:
                # It waits here again. One that now waits for another pool does not stop the rest:
                # nobody would wake them.
                return run
        if blocked and run.is_pausing:
            # Give them another chance when the run goes on.
            for _, instance in blocked:
                run.waiting.pop(instance, None)
                run.frontier.push(instance)
            blocked.clear()
        pool.wake_next()
        return run

    # -- starting --------------------------------------------------------------------------------

    def _open_attempt(
        self,
        run: LiveRun,
        instance: int,
        executor: ExecutorKind,
        reason: str,
        held: list[tuple[Pool, int]],
    ) -> Attempt:
        number = run.attempts[instance] + 1
        run.attempts[instance] = number
        now = monotonic_ns()
        attempt = Attempt(run, instance, number, executor, now, reason)
        if held:
            attempt.held = held
        run.in_flight[instance] = attempt
        for pool, units in held:
            if pool.name != CPU_POOL:
                run.recorder.event(
                    ResourceAllocated(instance=instance, pool=pool.name, units=units, time_ns=now)
                )
        return attempt

    @staticmethod
    def _announce_effect(run: LiveRun, attempt: Attempt, task: PlannedTask) -> None:
        """Have the start of what must not happen twice on disk before it happens."""
        if task.effects is not Effects.EXTERNAL:
            run.recorder.started[attempt.instance] = attempt
            return
        run.recorder.event(attempt.started())
        if run.journal is not None and run.options.durability is not Durability.NONE:
            run.journal.sync()

    def execute(self, run: LiveRun, attempt: Attempt) -> None:
        """Begin the body of an open attempt, here or where its executor has it."""
        services, driver = self._driver.services, self._driver
        task, program = run.plan.tasks[attempt.instance], run.programs[attempt.instance]
        if task.timeout_s is not None:
            due_ns = monotonic_ns() + to_ns(task.timeout_s)
            timer = driver.at(due_ns, run, lambda: self._time_out(run, attempt))
            attempt.timers += (timer,)
        if program.delay is not None:
            self._delay(run, attempt, program)
        elif attempt.executor is ExecutorKind.INLINE:
            if run.journal is not None:
                # Before the body, which may take long: until then nobody knows of the run.
                run.journal.notify()
            done = perform(attempt, program)
            if isinstance(done.error, KeyboardInterrupt) and not driver.is_shared:
                # Ctrl-C struck in the body: the user stops the run, the task did not fail.
                driver.interrupt(run)
            self._outcomes.complete(done)
        else:
            attempt.is_elsewhere = True
            if attempt.executor is ExecutorKind.ASYNC:
                services.io.submit(attempt, program)
            elif attempt.executor is ExecutorKind.PROCESS:
                services.processes.submit(attempt, program)
            else:
                services.threads.submit(attempt, program)
        if attempt.executor is not ExecutorKind.INLINE and run.journal is not None:
            run.journal.notify()

    def _delay(self, run: LiveRun, attempt: Attempt, program: Program) -> None:
        assert program.delay is not None
        start_ns = attempt.start_ns = monotonic_ns()
        try:
            due_ns = start_ns + to_ns(program.delay(attempt.context()))
        except Exception as error:
            trace = format_error(error)
            self._outcomes.complete(
                Completion(
                    attempt,
                    start_ns,
                    start_ns,
                    kind=FailureKind.ERROR,
                    error=error,
                    traceback=trace,
                )
            )
            return

        def wake() -> LiveRun:
            if run.in_flight.get(attempt.instance) is attempt:
                self._outcomes.complete(Completion(attempt, start_ns, monotonic_ns()))
            return run

        def kill(attempt: Attempt, reason: str) -> None:
            error = TaskTimeoutError("the pause was cut short") if reason == "timeout" else None
            run.require_driver().inbox.put(
                Completion(attempt, start_ns, monotonic_ns(), kind=FailureKind.ERROR, error=error)
            )

        attempt.on_kill = kill
        self._driver.at(due_ns, run, wake)

    def _time_out(self, run: LiveRun, attempt: Attempt) -> LiveRun | None:
        if run.in_flight.get(attempt.instance) is not attempt or attempt.stop_reason:
            return None
        self._driver.stop_attempt(attempt, "timeout")
        return run
