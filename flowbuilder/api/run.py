"""A run in the user's hands: its state, its outputs (the very objects), its history, and what can
be done about it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flowbuilder.api.task_run import TaskRun, isoformat_ns, table_of, timeline_text
from flowbuilder.durations import format_duration
from flowbuilder.errors import RunCancelledError, TaskFailedError
from flowbuilder.ids import short_id
from flowbuilder.records import Event, LogChunk
from flowbuilder.runtime.live_run import NOT_SET, LiveRun
from flowbuilder.vocabulary import RunState, TaskState

if TYPE_CHECKING:
    from flowbuilder.api.copy_report import CopyReport
    from flowbuilder.api.launching import LaunchPlan

__all__ = ["Run", "TaskRun"]

_FEW_TASKS = 5_000
"""Up to so many, looking at every task ten times a second costs nothing."""


class Run:
    """One execution of a workflow in this process. All methods are thread-safe.

    ``run["clean"]`` is the very object the task returned.
    """

    def __init__(self, live: LiveRun, launch: LaunchPlan) -> None:
        self._live = live
        self._launch = launch
        self._was_interrupted = False

    # -- identity and state ----------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Full run id (UUIDv7)."""
        return self._live.run_id

    @property
    def short_id(self) -> str:
        """The last eight characters, which commands accept too."""
        return short_id(self._live.run_id)

    @property
    def workflow(self) -> str:
        """Name of the workflow."""
        return self._live.workflow

    @property
    def params(self) -> Mapping[str, object]:
        """Parameters of this run, defaults filled in."""
        return self._live.params

    @property
    def state(self) -> RunState:
        """State now."""
        return self._live.run_state

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self._live.finished is not None

    @property
    def error(self) -> BaseException | None:
        """Why it failed, or None."""
        return self._live.error

    @property
    def duration_s(self) -> float:
        """Seconds from its start to its end, or to now."""
        live = self._live
        end_ns = max(live.end_ns, default=0) if live.finished is not None else live.now_ns()
        return max(0.0, (end_ns - live.anchor.monotonic_ns) / 1e9) if end_ns else 0.0

    @property
    def counts(self) -> dict[TaskState, int]:
        """Number of tasks in each state."""
        return self._live.counts()

    # -- outputs ---------------------------------------------------------------------------------

    def __getitem__(self, task: str) -> Any:
        """Give a task's output: the object it returned, not a copy.

        Raises
        ------
        FlowBuilderError
            If there is no such task, or it did not succeed.
        """
        return self._live.value(self._live.instance_of(task))

    def __contains__(self, task: object) -> bool:
        return any(item.key == task for item in self._live.plan.tasks)

    @property
    def outputs(self) -> dict[str, object]:
        """Outputs of the tasks nothing else waits for, by task name; those that did not succeed
        are left out.
        """
        live = self._live
        return {
            live.plan.tasks[instance].key: live.value(instance)
            for instance in live.plan.outputs
            if live.values[instance] is not NOT_SET
        }

    def result(self, timeout_s: float | None = None) -> dict[str, object]:
        """Wait for the end and give the outputs.

        Raises
        ------
        TimeoutError
            If it has not ended after ``timeout_s`` seconds.
        RunError
            If it did not succeed.
        """
        if not self.wait(timeout_s):
            raise TimeoutError(f"run {self.short_id} has not ended after {timeout_s:g} s")
        self.raise_for_state()
        return self.outputs

    # -- driving ---------------------------------------------------------------------------------

    def drive(self) -> None:
        """Execute on this thread until the end. For `Workflow.run`; a run is driven once."""
        self._was_interrupted = self._launch.container.engine.run(self._live)

    def begin(self) -> None:
        """Execute on the engine's thread. For `Workflow.start`; a run is driven once."""
        self._launch.container.engine.start(self._live)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; return whether it has come."""
        return self._live.wait(timeout_s)

    def cancel(self, task: str | None = None) -> None:
        """Cancel the run, or one task of it; when this returns nothing new starts."""
        engine = self._launch.container.engine
        if task is None:
            engine.cancel(self._live)
        else:
            engine.cancel_task(self._live, task)

    def pause(self) -> None:
        """Let nothing new start; what runs goes on."""
        self._launch.container.engine.pause(self._live)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._launch.container.engine.resume(self._live)

    def __await__(self) -> Generator[Any, None, Run]:
        return self._until_final().__await__()

    async def _until_final(self) -> Run:
        import asyncio

        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

        self._live.at_end(wake)
        if self._live.finished is None:
            try:
                await done.wait()
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self

    def raise_for_state(self) -> None:
        """Raise if the run ended without success.

        Raises
        ------
        RunError
            With ``run`` set to this run; `TaskFailedError` if a task failed.
        KeyboardInterrupt
            If Ctrl-C cancelled it.
        """
        state = self._live.finished
        if state is None or state is RunState.SUCCEEDED:
            return
        if self._was_interrupted:
            raise KeyboardInterrupt
        error = self._live.error
        if error is None:
            error = RunCancelledError(f"run {self.short_id} was cancelled")
        if isinstance(error, TaskFailedError) and error.location is None:
            error.location = self._launch.locate_failure(self._live, error)
        error.run = self  # type: ignore[attr-defined]
        raise error

    def retry_failed(
        self,
        *,
        assume: str | None = None,
        functions: Mapping[str, Callable[..., object]] | None = None,
        check: bool = True,
    ) -> Run:
        """Run again what is not settled, as the same run: failed tasks and what waited for them.

        Says on stderr what will run again and why. Functions are looked up again by their names, so
        a task that was corrected in another cell runs as it is now.

        Parameters
        ----------
        assume : {"done", "rerun"}, optional
            What to do with external tasks whose outcome is unknown.
        functions : mapping, optional
            ``module:name`` -> function, for corrected functions that cannot be found by name.
        check : bool
            Raise if it does not succeed this time either.

        Returns
        -------
        Run
            The continued run; this object keeps showing the first try.

        Raises
        ------
        RecoveryError
            If it has not ended yet, or there is nothing to run again.
        """
        from flowbuilder.api.resuming import prepare_retry

        prepared = prepare_retry(self._live, self._launch, assume=assume, functions=functions)
        echo = self._live.options.echo
        again = prepared.open(echo=echo)
        if echo:
            prepared.announce()
        again.drive()
        if check:
            again.raise_for_state()
        return again

    # -- reports ---------------------------------------------------------------------------------

    @property
    def task_runs(self) -> list[TaskRun]:
        """All its tasks, in the static order of the plan."""
        return [self._task_run(instance) for instance in range(len(self._live.plan))]

    @property
    def tasks(self) -> Any:
        """All its tasks as a polars frame: state, times, attempt, reason.

        Raises
        ------
        ModuleNotFoundError
            If polars is not installed; `task_runs` needs nothing.
        """
        return table_of(self.task_runs)

    def notable_tasks(self, most: int = 14) -> list[TaskRun]:
        """Give what one would look at now: tasks that run, wait for a retry or failed, then the
        latest that ended. Cheap for runs of any size.
        """
        live = self._live
        seen = dict.fromkeys([*live.in_flight, *live.waiting, *live.failures])
        if len(seen) < most and len(live.plan) <= _FEW_TASKS:
            ended = sorted(range(len(live.plan)), key=live.end_ns.__getitem__, reverse=True)
            seen.update(dict.fromkeys(item for item in ended[:most] if live.end_ns[item]))
        return [self._task_run(instance) for instance in list(seen)[:most]]

    def _task_run(self, instance: int) -> TaskRun:
        live = self._live
        task = live.plan.tasks[instance]
        state = live.task_state(instance)
        ready, start, end, worker = live.times_of(instance)
        attempt = live.in_flight.get(instance)
        if attempt is not None and attempt.start_ns:
            state, start, end = TaskState.RUNNING, attempt.start_ns, live.now_ns()
        has_run = start > 0 and state not in {TaskState.SKIPPED, TaskState.PENDING, TaskState.READY}
        failure = live.failures.get(instance)
        executor, why = live.executor_of(instance)
        return TaskRun(
            name=task.key,
            type=task.type,
            state=state.value,
            attempt=live.attempts[instance],
            started_at=isoformat_ns(live.anchor.to_wall_ns(start)) if has_run else None,
            duration_s=max(0, end - start) / 1e9 if has_run else None,
            cached=state is TaskState.CACHED,
            reason=live.state_reasons.get(instance, ""),
            error=f"{failure.error_type}: {failure.message}" if failure else "",
            executor=executor + (f" ({why})" if why else ""),
            worker=worker,
            offset_s=max(0, start - live.anchor.monotonic_ns) / 1e9 if has_run else 0.0,
            queued_s=max(0, start - ready) / 1e9 if has_run else 0.0,
        )

    def explain(self, task: str) -> str:
        """Say in words what happened to a task and why."""
        instance = self._live.instance_of(task)
        seen = self._task_run(instance)
        parts = [f"{seen.name} ({seen.type}): {seen.state}"]
        if seen.reason:
            has_run = seen.state == TaskState.SUCCEEDED
            parts.append(f"ran: {seen.reason}" if has_run else f"because {seen.reason}")
        if seen.executor:
            parts.append(f"executor {seen.executor}")
        if seen.attempt > 1:
            parts.append(f"attempt {seen.attempt}")
        if seen.duration_s is not None:
            parts.append(
                f"took {format_duration(seen.duration_s)},"
                f" after {format_duration(seen.queued_s)} in the queue"
            )
        if seen.error:
            parts.append(seen.error)
        return "; ".join(parts)

    def copies(self) -> CopyReport:
        """Say what was copied on the way from task to task, how much, and why it had to be.

        Every edge along which a value went has its line; one that copied nothing says how the value
        was shared. ``print(run.copies())`` shows them.
        """
        from flowbuilder.api.copy_report import report_copies

        return report_copies(self._live, self._launch.compiled)

    def timeline(self) -> str:
        """Draw when each task ran, as text."""
        return timeline_text(self.task_runs)

    def logs(self, task: str | None = None) -> str:
        """Give what tasks printed and logged, of one task or of all, in order."""
        instance = None if task is None else self._live.instance_of(task)
        return "".join(
            event.text
            for event in self.events()
            if isinstance(event, LogChunk) and (instance is None or event.instance == instance)
        )

    def events(self, *, after_seq: int = -1) -> Iterator[Event]:
        """Iterate over what the journal holds of this run, oldest first."""
        return self._launch.container.journal.events(self.id, after_seq=after_seq)

    def on_finish(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the run ends (on the driver's thread), at once if it has."""
        self._live.at_end(callback)

    def __repr__(self) -> str:
        counts = ", ".join(f"{number} {state.value}" for state, number in self.counts.items())
        head = f"Run {self.short_id} of {self.workflow!r}"
        took = format_duration(self.duration_s)
        return f"<{head}: {self.state.value} in {took}; {counts}>"
