"""The fast path: consecutive plain tasks run on the driver in the plan's static order, with one
clock read each.

The end of a task is the start of the next. Nothing is allocated per task but its output and its
end time.
"""

from __future__ import annotations

from threading import get_ident
from time import monotonic_ns
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from flowbuilder.runtime.capture import Slot, slots
from flowbuilder.runtime.executors.inline import not_awaited
from flowbuilder.store.small_outputs import small_output

if TYPE_CHECKING:
    from flowbuilder.runtime.live_run import LiveRun

__all__ = ["run_segment"]

_ALWAYS_SMALL = frozenset({type(None), bool, float})
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_TEXTS = frozenset({str, bytes})


def run_segment(
    run: LiveRun, first: int, last: int, until_ns: int
) -> tuple[int, int, BaseException | None]:
    """Run instances ``first`` to ``last - 1``, all pending and plain, all parents outside
    succeeded.

    Returns
    -------
    tuple of int, int and exception or None
        The first instance that was not finished (``last`` if all were), its start in nanoseconds,
        and what it raised. No exception and an instance below ``last`` mean that the driver has to
        look at something else: a request, or that ``until_ns`` has passed.
    """
    calls, values, guarded, encoded = run.bound.calls, run.values, run.guarded, run.encoded
    thread = get_ident()
    outer = slots.get(thread)
    slot = Slot(run, first, 1)
    start_ns = monotonic_ns()
    segment = run.recorder.open_segment(first, last, start_ns, values, encoded)
    record_end = segment.ends.append
    keep_output = run.keep_output
    instance = first
    raised: BaseException | None = None
    output: Any
    try:
        # From here on Ctrl-C raises; before, and after it is put back, the driver hears it.
        slots[thread] = slot
        for instance in range(first, last):
            function, sources, arguments = calls[instance]  # type: ignore[misc]
            slot.instance = instance
            if sources is None:
                output = function(*run.arguments_of(arguments))
            elif guarded:
                output = function(*[run.output(source) for source in sources])
            else:
                output = function(*[values[source] for source in sources])
            kind = output.__class__
            if kind in _ALWAYS_SMALL or (kind is int and _INT_MIN <= output <= _INT_MAX):
                values[instance] = output
            elif kind in _TEXTS or kind is int:
                values[instance] = output
                encoded[instance] = small_output(output)
            elif kind is CoroutineType:
                raise not_awaited(output, run.plan.tasks[instance].key)  # noqa: TRY301
            else:
                keep_output(instance, output)
            end_ns = monotonic_ns()
            record_end(end_ns)
            if run.must_look or end_ns > until_ns:
                break
    except BaseException as error:
        raised = error
    finally:
        slots[thread] = outer
        if outer is None:
            del slots[thread]
        done = len(segment.ends)
        run.finish_segment(first, done, start_ns, segment.ends)
        run.recorder.close_segment(segment)
    return first + done, segment.ends[-1] if done else start_ns, raised
