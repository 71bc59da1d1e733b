"""From running to final: what a completion means, what is recorded of it, and who may start
because of it.
"""

from __future__ import annotations

import logging
from functools import partial
from time import monotonic_ns
from typing import TYPE_CHECKING

from flowbuilder.errors import (
    FlowBuilderError,
    RunCancelledError,
    TaskFailedError,
    TaskTimeoutError,
)
from flowbuilder.records import (
    ABSENT,
    ArtifactStored,
    AttemptFailed,
    CacheChecked,
    RetryScheduled,
    TaskSkipped,
)
from flowbuilder.runtime.attempt import Attempt, Completion
from flowbuilder.runtime.live_run import LiveRun, TaskFailure, Timing
from flowbuilder.runtime.program import CachedOutput
from flowbuilder.runtime.retry import retry_delay_s, should_retry
from flowbuilder.runtime.secret_outputs import holds_secret
from flowbuilder.runtime.timers import to_ns
from flowbuilder.store.small_outputs import small_output
from flowbuilder.vocabulary import (
    TASK_STATE_CODES,
    Durability,
    Effects,
    ExecutorKind,
    FailureKind,
    Persist,
    TaskState,
    WaitReason,
)

if TYPE_CHECKING:
    from flowbuilder.runtime.driver import Driver

__all__ = ["Outcomes"]

_LOG = logging.getLogger(__name__)
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_WORTH_SAVING_NS = 50_000_000
_CODES = TASK_STATE_CODES
_LONG_SEGMENT_NS = 20_000
_EXECUTOR_NAMES = {kind: kind.value for kind in ExecutorKind}


class Outcomes:
    """Turns completions into states and records, for one driver."""

    __slots__ = ("_driver",)

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    # -- completions -----------------------------------------------------------------------------

    def complete(self, done: Completion) -> None:
        """Take what an executor reports; late reports of abandoned attempts only free their
        slots.
        """
        attempt = done.attempt
        run, instance = attempt.run, attempt.instance
        attempt.give_back()
        if run.in_flight.get(instance) is not attempt:
            _LOG.debug("dropped the late result of %s", run.plan.tasks[instance].key)
            return
        self._let_go(attempt)
        run.recorder.started.pop(instance, None)
        del run.in_flight[instance]
        run.timings[instance] = _timing(attempt, done)
        run.end_ns[instance] = done.end_ns
        if done.kind is None and attempt.stop_reason != "timeout":
            self._succeed(run, attempt, done)
        else:
            self._fail(run, attempt, done)

    def _let_go(self, attempt: Attempt) -> None:
        for timer in attempt.timers:
            self._driver.timers.drop(timer)
        attempt.let_go()

    def _succeed(self, run: LiveRun, attempt: Attempt, done: Completion) -> None:
        state = TaskState.SUCCEEDED
        if done.value.__class__ is CachedOutput:
            state = self._unwrap(run, attempt, done)
        instance, value = attempt.instance, done.value
        if state is TaskState.SUCCEEDED:
            self._driver.services.means.observe(
                run.programs[instance].code_key, done.end_ns - done.start_ns
            )
        if value.__class__ in _SCALARS:
            run.values[instance] = value
            small: object = small_output(value)
        else:
            run.keep_output(instance, value)
            run.keeper.learn(run.guarded.get(instance), done.end_ns - done.start_ns)
            small = run.encoded[instance]
        if run.plan.tasks[instance].encrypt:
            # Nothing of it rides in the record; `_save` asks whether it would have.
            run.encoded[instance] = ABSENT
            self._save(run, attempt, done, is_small=small is not ABSENT)
            small = ABSENT
        elif run.options.redact is not None and holds_secret(value, run.options.redact):
            small = run.encoded[instance] = ABSENT
            text = "the output holds a secret and is not kept\n"
            run.note(instance, attempt.number, "log", text, "warning")
        elif small is ABSENT:
            self._save(run, attempt, done)
        self._record(run, attempt, done, state, small)
        self._set_final(run, instance, state)

    @staticmethod
    def _unwrap(run: LiveRun, attempt: Attempt, done: Completion) -> TaskState:
        """Take the output of a cached task out, and say why it ran or did not."""
        found = done.value
        assert isinstance(found, CachedOutput)
        done.value = found.value
        reason = found.why if run.options.redact is None else run.options.redact(found.why)
        run.set_sparse("state_reasons", attempt.instance, reason)
        run.recorder.event(
            CacheChecked(
                instance=attempt.instance,
                attempt=attempt.number,
                key=found.key,
                is_hit=found.is_hit,
                is_kept=found.is_kept,
                saved_s=found.saved_s,
                reason=reason,
                time_ns=done.end_ns,
            )
        )
        return TaskState.CACHED if found.is_hit else TaskState.SUCCEEDED

    def _fail(self, run: LiveRun, attempt: Attempt, done: Completion) -> None:
        instance = attempt.instance
        reason = attempt.stop_reason
        if reason and reason != "timeout":
            self._record(run, attempt, done, TaskState.CANCELLED)
            run.set_sparse("state_reasons", instance, reason)
            self._set_final(run, instance, TaskState.CANCELLED)
            return
        failure = self._describe(run, attempt, done)
        self._record_failure(run, attempt, done, failure)
        lost = run.lost.get(instance, 0)
        if failure.kind is FailureKind.LOST:
            lost += 1
            run.set_sparse("lost", instance, lost)
        failures = attempt.number - run.bases.get(instance, 0) - lost
        policy = run.plan.tasks[instance].retry
        if not run.is_stopping and should_retry(
            policy, failure.kind, failure.error, failures, lost
        ):
            delay_s = 0.0 if failure.kind is FailureKind.LOST else retry_delay_s(policy, failures)
            self._retry(run, attempt, delay_s)
            return
        run.set_sparse("failures", instance, failure)
        if not run.error_task:
            run.error_task = run.plan.tasks[instance].key
            run.error = run.error or _run_error(run, failure)
        self._set_final(run, instance, TaskState.FAILED)

    def _describe(self, run: LiveRun, attempt: Attempt, done: Completion) -> TaskFailure:
        kind, error, trace = done.kind or FailureKind.ERROR, done.error, done.traceback
        task = run.plan.tasks[attempt.instance]
        if attempt.stop_reason == "timeout":
            kind = FailureKind.TIMEOUT
            error = TaskTimeoutError(
                f"expected task {task.key!r} to take at most {task.timeout_s:g} s, "
                "it was still running",
                task=task.key,
                hint="raise its timeout",
            )
            trace = ""
        if error is None:
            error = TaskFailedError(f"task {task.key!r} failed without saying why", task=task.key)
        report = self._driver.services.explain_error(error, trace)
        location = report.location or (
            str(error.location) if isinstance(error, FlowBuilderError) and error.location else ""
        )
        redact = run.options.redact or str
        name = getattr(error, "error_type", "") or type(error).__name__
        message, text = redact(_text_of(error)), redact(report.traceback)
        if run.handles_encrypted(attempt.instance):
            message = "the message is not recorded: it may show a part of an encrypted output"
            text = ""
        return TaskFailure(
            kind=kind,
            error=error,
            error_type=name,
            message=message,
            traceback=text,
            location=location,
            attempt=attempt.number,
        )

    def _retry(self, run: LiveRun, attempt: Attempt, delay_s: float) -> None:
        instance = attempt.instance
        due_ns = monotonic_ns() + to_ns(delay_s)
        run.recorder.event(
            RetryScheduled(
                instance=instance,
                attempt=attempt.number + 1,
                delay_s=delay_s,
                due_ns=due_ns,
                time_ns=monotonic_ns(),
            )
        )
        run.waiting[instance] = WaitReason.RETRY
        run.frontier.plain[instance] = 0  # static segments count attempts from one

        def wake() -> LiveRun | None:
            if run.waiting.get(instance) is not WaitReason.RETRY or run.state_codes[instance]:
                return None
            del run.waiting[instance]
            run.frontier.push(instance)
            return run

        if delay_s:
            self._driver.at(due_ns, run, wake)
        else:
            wake()

    def abandon(self, attempt: Attempt) -> LiveRun | None:
        """Make an attempt that does not stop final anyway; its thread keeps its slot until it
        returns.
        """
        run = attempt.run
        if run.in_flight.get(attempt.instance) is not attempt:
            return None
        now = monotonic_ns()
        key = run.plan.tasks[attempt.instance].key
        _LOG.warning(
            "task %s did not stop when asked; its thread goes on and its result will be dropped",
            key,
        )
        run.note(
            attempt.instance,
            attempt.number,
            "log",
            "did not stop when asked; its result will be dropped\n",
            "warning",
        )
        error = RunCancelledError(
            f"task {key!r} was abandoned: it did not stop when asked", task=key
        )
        done = Completion(
            attempt, attempt.start_ns or now, now, kind=FailureKind.ERROR, error=error
        )
        self._let_go(attempt)
        run.recorder.started.pop(attempt.instance, None)
        del run.in_flight[attempt.instance]
        run.timings[attempt.instance] = _timing(attempt, done)
        run.end_ns[attempt.instance] = now
        self._fail(run, attempt, done)
        return run

    # -- finals without an attempt ---------------------------------------------------------------

    def skip(self, run: LiveRun, instance: int, reason: str) -> None:
        """Decide that an instance will not run."""
        self.finish(run, instance, TaskState.SKIPPED, reason=reason)

    def share(self, run: LiveRun, instance: int, twin: int) -> None:
        """Give an instance the output of its twin, the same computation."""
        run.values[instance] = run.values[twin]
        if twin in run.guarded:
            run.guarded[instance] = run.guarded[twin]
        value = run.values[twin]
        small = run.encoded[twin] if twin in run.encoded else small_output(value)
        run.encoded[instance] = small
        self.finish(
            run,
            instance,
            TaskState.CACHED,
            reason=f"same as {run.plan.tasks[twin].key}",
            small=small,
        )

    def finish(
        self, run: LiveRun, instance: int, state: TaskState, *, reason: str, small: object = ABSENT
    ) -> None:
        """Make an instance final that nothing ran for."""
        now = monotonic_ns()
        run.set_sparse("state_reasons", instance, reason)
        run.end_ns[instance] = now
        run.timings[instance] = (now, now, 0, "", "")
        run.recorder.event(TaskSkipped(instance=instance, reason=reason, time_ns=now))
        run.recorder.row((instance, run.attempts[instance], _CODES[state], 0, now, now, now, small))
        self._set_final(run, instance, state)

    def finish_all_pending(self, run: LiveRun) -> None:
        """Cancel everything that did not start."""
        codes, cancelled = run.state_codes, _CODES[TaskState.CANCELLED]
        now = monotonic_ns()
        instance = codes.find(0)
        while instance >= 0:
            if instance not in run.in_flight:
                run.recorder.row(
                    (instance, run.attempts[instance], cancelled, 0, now, now, now, ABSENT)
                )
                codes[instance] = cancelled
                run.set_sparse("state_reasons", instance, run.cancel_reason)
                run.frontier.remaining -= 1
            instance = codes.find(0, instance + 1)

    def close_segment(self, run: LiveRun, first: int, last: int) -> None:
        """Tell who waits for the instances of a static segment, and learn their durations."""
        if run.frontier.degrees is not None:
            for instance in range(first, last):
                run.frontier.release(instance, is_ok=True)
        if last == first:
            return
        _, _, start_ns = run.segments[-1]
        mean_ns = (run.end_ns[last - 1] - start_ns) / (last - first)
        means = self._driver.services.means
        if mean_ns < _LONG_SEGMENT_NS:
            means.observe(run.programs[first].code_key, mean_ns)
        else:
            for instance in range(first, last):
                _, start, end, _ = run.times_of(instance)
                means.observe(run.programs[instance].code_key, end - start)
        if run.encoded:
            self._save_segment(run, first, last)

    def _save_segment(self, run: LiveRun, first: int, last: int) -> None:
        for instance in range(first, last):
            if run.encoded.get(instance) is ABSENT:
                _, start, end, _ = run.times_of(instance)
                attempt = Attempt(run, instance, 1, run.plan.tasks[instance].executor, start)
                run.keeper.learn(run.guarded.get(instance), end - start)
                self._save(run, attempt, Completion(attempt, start, end))

    # -- finals ----------------------------------------------------------------------------------

    def _set_final(self, run: LiveRun, instance: int, state: TaskState) -> None:
        run.state_codes[instance] = _CODES[state]
        run.frontier.remaining -= 1
        if instance == run.frontier.low:
            run.frontier.low += 1
        is_ok = state in {TaskState.SUCCEEDED, TaskState.CACHED}
        if run.options.durability is Durability.TASK:
            self._driver.acknowledgements.owe(run)
        if run.frontier.degrees is None:
            run.frontier.rebuild()
        else:
            run.frontier.release(instance, is_ok=is_ok)

    # -- records ---------------------------------------------------------------------------------

    @staticmethod
    def _record(
        run: LiveRun, attempt: Attempt, done: Completion, state: TaskState, small: object = ABSENT
    ) -> None:
        run.recorder.row(
            (
                attempt.instance,
                attempt.number,
                _CODES[state],
                attempt.worker,
                attempt.ready_ns,
                done.start_ns,
                done.end_ns,
                small,
            )
        )

    def _record_failure(
        self, run: LiveRun, attempt: Attempt, done: Completion, failure: TaskFailure
    ) -> None:
        run.recorder.event(
            AttemptFailed(
                instance=attempt.instance,
                attempt=attempt.number,
                failure=failure.kind.value,
                error_type=failure.error_type,
                message=failure.message,
                traceback=failure.traceback,
                location=failure.location,
                time_ns=done.end_ns,
            )
        )
        self._record(run, attempt, done, TaskState.FAILED)

    # -- large outputs ---------------------------------------------------------------------------

    def _save(
        self, run: LiveRun, attempt: Attempt, done: Completion, *, is_small: bool = False
    ) -> None:
        """Write an output that does not ride in its record, if it is worth it; tables on a thread,
        for they cannot change. ``is_small`` ones would ride there, if they were not encrypted.
        """
        task = run.plan.tasks[attempt.instance]
        store, persist = self._driver.services.artifacts, task.persist
        if store is None or persist is Persist.NEVER:
            return
        if (
            persist is Persist.AUTO
            and not is_small
            and (
                run.options.durability is Durability.NONE
                or (
                    done.end_ns - done.start_ns < _WORTH_SAVING_NS
                    and attempt.instance not in run.plan.outputs
                    # Without its output it would not be settled, and cannot simply run again.
                    and run.plan.tasks[attempt.instance].effects is not Effects.EXTERNAL
                )
            )
        ):
            return
        instance, number, key = (
            attempt.instance,
            attempt.number,
            run.plan.tasks[attempt.instance].key,
        )
        value = run.output(instance)

        def save() -> ArtifactStored | Exception | None:
            try:
                return store.save(run.run_id, instance, number, key, value, encrypt=task.encrypt)
            except Exception as error:
                # Whatever storing it raises, the task itself did what it should.
                _LOG.warning("the output of %s is not kept: %s", key, error)
                run.note(instance, number, "log", f"the output is not kept: {error}\n", "warning")
                return error

        def saved(artifact: ArtifactStored | Exception | None) -> LiveRun:
            run.require_driver().carry_out(run, lambda: self._note_saved(run, instance, artifact))
            return run

        run.pending_saves += 1
        if instance in run.guarded or type(value).__module__.partition(".")[0] == "pyarrow":
            self._driver.services.threads.call(
                lambda _worker: run.require_driver().inbox.put(partial(saved, save()))
            )
        else:
            # Nothing stops a consumer from changing such an object, so it is written before anyone
            # gets it.
            saved(save())

    def _note_saved(
        self, run: LiveRun, instance: int, saved: ArtifactStored | Exception | None
    ) -> LiveRun | None:
        run.pending_saves -= 1
        if run.finished is not None:
            return None
        if isinstance(saved, Exception):
            if run.plan.tasks[instance].persist is Persist.ALWAYS:
                # The author said that the run is worth nothing without it.
                self._driver.blame(run, saved)
                self._driver.request_stop(run, "storage")
        elif saved is not None:
            run.set_sparse("stored", instance, saved)
            run.recorder.event(saved)
        return run


def _timing(attempt: Attempt, done: Completion) -> Timing:
    name = _EXECUTOR_NAMES[attempt.executor]
    return attempt.ready_ns, done.start_ns, attempt.worker, name, attempt.why


def _text_of(error: BaseException) -> str:
    try:
        text = error.message if isinstance(error, FlowBuilderError) else str(error)
    except Exception as broken:
        return f"(its text could not be made: {type(broken).__name__})"
    return text if len(text) <= 8_192 else text[:8_192] + "..."


def _run_error(run: LiveRun, failure: TaskFailure) -> TaskFailedError:
    key = run.error_task
    error = TaskFailedError(
        f"task {key!r} failed: {failure.error_type}: {failure.message}",
        task=key,
        traceback=failure.traceback,
        run_id=run.run_id,
        error_type=failure.error_type,
    )
    error.failure_location = failure.location  # type: ignore[attr-defined]
    error.__cause__ = failure.error
    return error
