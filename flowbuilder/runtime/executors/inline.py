"""Running an attempt on the calling thread; threads use the same function."""

from __future__ import annotations

import traceback
from threading import get_ident
from time import monotonic_ns
from types import CoroutineType

from flowbuilder.errors import RunCancelledError, TaskFailedError
from flowbuilder.runtime.attempt import Attempt, Completion
from flowbuilder.runtime.capture import Slot, slots
from flowbuilder.runtime.program import Program
from flowbuilder.vocabulary import FailureKind

__all__ = ["NotAwaitedError", "format_error", "kind_of", "not_awaited", "perform", "unstarted"]


class NotAwaitedError(TaskFailedError):
    """A task gave a coroutine instead of a value."""


def not_awaited(output: CoroutineType[object, object, object], key: str) -> NotAwaitedError:
    """Make the error for a coroutine as output, and close it."""
    output.close()
    return NotAwaitedError(
        "expected a value, but the task returned a coroutine that nobody awaited",
        task=key,
        hint="declare the function with async def",
    )


def kind_of(error: BaseException) -> FailureKind:
    """Tell what kind of failure an exception of a body is."""
    return FailureKind.CONTRACT if isinstance(error, NotAwaitedError) else FailureKind.ERROR


def perform(attempt: Attempt, program: Program) -> Completion:
    """Call the program's body here and now, printed output filed under the attempt. Never
    raises.
    """
    run, thread = attempt.run, get_ident()
    outer = slots.get(thread)
    slot = Slot(run, attempt.instance, attempt.number)
    slot.units = attempt.lend
    start_ns = attempt.start_ns = monotonic_ns()
    try:
        slots[thread] = slot
        if program.function is not None:
            value = program.function(*run.arguments_of(program.arguments))
        else:
            assert program.call is not None
            slot.text = []
            context = attempt.context()
            context.captured_stdout = slot.captured_text
            value = program.call(context)
        if value.__class__ is CoroutineType:
            raise not_awaited(value, run.plan.tasks[attempt.instance].key)  # noqa: TRY301
        return Completion(attempt, start_ns, monotonic_ns(), value)
    except BaseException as error:
        # No longer the body: Ctrl-C waits until the driver looks.
        slots[thread] = outer
        return Completion(
            attempt,
            start_ns,
            monotonic_ns(),
            kind=kind_of(error),
            error=error,
            traceback=format_error(error),
        )
    finally:
        slots[thread] = outer
        if outer is None:
            del slots[thread]


def unstarted(attempt: Attempt) -> Completion:
    """Report an attempt that was stopped before its body began."""
    now = monotonic_ns()
    error = RunCancelledError("the task was stopped before it began")
    return Completion(attempt, now, now, kind=FailureKind.ERROR, error=error)


def format_error(error: BaseException) -> str:
    """Format a traceback; bounded, because messages can be huge."""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as broken:
        text = f"{type(error).__name__} (its text could not be made: {type(broken).__name__})\n"
    return text if len(text) <= 65_536 else text[:32_768] + "\n...\n" + text[-32_768:]
