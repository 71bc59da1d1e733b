"""Which executor ``auto`` means for a task, from how long its code took so far, and why."""

from __future__ import annotations

from flowbuilder.runtime.program import Program
from flowbuilder.vocabulary import ExecutorKind

__all__ = ["SHORT_NS", "MeanDurations", "choose_executor"]

SHORT_NS = 100_000.0
"""Below this mean a hand-off to another thread (13-56 us there and back) costs more than it can
win."""

_WEIGHT = 0.25
_JUMP = 8
_SWITCH_NS = 20e6
"""Some turns of the interpreter lock, of 5 ms each; what takes longer has done so by itself."""
_LONG_PYTHON_NS = 50e6


class MeanDurations:
    """Exponentially weighted mean duration per code key, in nanoseconds.

    Shared by all runs of an engine. Updates from several threads may lose one now and then, which
    an average does not mind.
    """

    __slots__ = ("_means",)

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def observe(self, code_key: str, duration_ns: float) -> None:
        """Add one measurement; code without a key could be any, so it is not measured."""
        if not code_key:
            return
        mean = self._means.get(code_key)
        if mean is None:
            self._means[code_key] = duration_ns
            return
        if duration_ns < _SWITCH_NS:
            # The body may have waited for the interpreter lock: alone that says nothing of it.
            duration_ns = min(duration_ns, _JUMP * mean + SHORT_NS / 10)
        self._means[code_key] = mean + _WEIGHT * (duration_ns - mean)

    def get(self, code_key: str) -> float | None:
        """Give the mean, or None if the code never ran."""
        return self._means.get(code_key)

    def is_short(self, code_key: str) -> bool:
        """Whether the code is known to take less than a hand-off."""
        mean = self._means.get(code_key)
        return mean is not None and mean < SHORT_NS


def choose_executor(
    program: Program,
    wanted: ExecutorKind,
    means: MeanDurations,
    *,
    may_block_driver: bool,
    has_timeout: bool,
) -> tuple[ExecutorKind, str]:
    """Pick where an attempt runs.

    Parameters
    ----------
    program : Program
        What runs.
    wanted : ExecutorKind
        What the author or the caller asked for.
    means : MeanDurations
        Measured durations.
    may_block_driver : bool
        Whether the driver has nothing else to do: a caller-driven run whose only ready task this
        is.
    has_timeout : bool
        A task with a timeout is never inline, because nothing could interrupt it.

    Returns
    -------
    tuple of ExecutorKind and str
        The choice and the reason in words. Never picks ``process`` by itself: globals and
        connections would silently stop
        being shared.
    """
    if program.coroutine is not None or program.delay is not None:
        return ExecutorKind.ASYNC, "it waits without using a thread"
    if wanted is ExecutorKind.PROCESS:
        if program.remote is not None:
            return ExecutorKind.PROCESS, "asked for"
        return (
            ExecutorKind.THREAD,
            "asked for process, but this task type cannot leave this process",
        )
    if wanted is ExecutorKind.THREAD:
        return ExecutorKind.THREAD, "asked for"
    short = means.is_short(program.code_key)
    if has_timeout:
        return ExecutorKind.THREAD, "it has a timeout, which needs a thread to keep"
    if wanted is ExecutorKind.INLINE:
        return ExecutorKind.INLINE, "asked for"
    if short:
        return ExecutorKind.INLINE, "its code took under 100 us so far"
    if may_block_driver:
        return ExecutorKind.INLINE, "nothing else is ready, so a hand-off would only cost time"
    mean = means.get(program.code_key)
    if mean is not None and mean > _LONG_PYTHON_NS and program.function is not None:
        return (
            ExecutorKind.THREAD,
            f"mean {mean / 1e6:.0f} ms; process would help if it is pure Python that holds the GIL",
        )
    return ExecutorKind.THREAD, "its duration is not known to be short"
