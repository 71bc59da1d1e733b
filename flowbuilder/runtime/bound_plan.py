"""A plan joined with the programs of its instances: what runs share, computed once."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from flowbuilder.runtime.choice import MeanDurations
from flowbuilder.runtime.frontier import Frontier
from flowbuilder.runtime.plan import ExecutionPlan, PlannedTask
from flowbuilder.runtime.program import NOT_SET, InputSlot, Program
from flowbuilder.vocabulary import Effects, ExecutorKind, JoinRule

__all__ = ["BoundPlan", "DirectCall"]

DirectCall = tuple[Callable[..., object], tuple[int, ...] | None, Sequence[object]]
"""function; instances of its arguments if all are whole upstream outputs, else None; the arguments
as bound."""

_NEEDS_SUCCESS = frozenset(
    {
        JoinRule.ALL_SUCCESS,
        JoinRule.ALL_DONE,
        JoinRule.ONE_SUCCESS,
        JoinRule.NONE_FAILED,
        JoinRule.NONE_SKIPPED,
    }
)


class BoundPlan:
    """A plan ready to run many times. Safe to share between threads: derived tables are only ever
    filled in.

    Parameters
    ----------
    plan : ExecutionPlan
        The arrays.
    programs : sequence of Program, length n
        How to run each instance.
    """

    __slots__ = (
        "_plain",
        "blank_attempts",
        "blank_codes",
        "blank_ends",
        "blank_frontier",
        "blank_values",
        "calls",
        "offsets",
        "plan",
        "pools",
        "programs",
        "single_attempts",
        "successors",
    )

    def __init__(self, plan: ExecutionPlan, programs: Sequence[Program]) -> None:
        self.plan = plan
        self.programs = programs
        self.offsets: array[int] = plan.successor_offsets
        self.successors: array[int] = plan.successors
        self.calls: list[DirectCall | None] = _direct_calls(programs)
        self.pools = frozenset(task.pool for task in plan.tasks if task.pool is not None)
        self._plain: tuple[bytes, dict[str, list[int]]] | None = None
        # Stand in for those of runs that have not begun or have ended; nothing changes them.
        count = len(plan.tasks)
        self.blank_values: list[object] = [NOT_SET] * count
        self.blank_attempts: array[int] = array("i", bytes(4 * count))
        self.blank_ends: array[int] = array("q", bytes(8 * count))
        self.blank_codes = bytearray(count)
        self.blank_frontier = Frontier(plan, self.blank_codes, {}, {}, 0)
        self.single_attempts: array[int] = array("i", (1,)) * count
        """Of runs in which every task succeeded at once."""

    def plain_mask(self, means: MeanDurations, executor: ExecutorKind) -> bytearray:
        """Mark the instances that may run in a static inline segment, given what is known of
        durations now.

        Parameters
        ----------
        means : MeanDurations
            Decides for tasks left to ``auto``.
        executor : ExecutorKind
            The run's override of the authors' choices; ``auto`` for none.

        Returns
        -------
        bytearray, shape (n,)
            1 where plain; the caller owns it.
        """
        if executor is ExecutorKind.INLINE:
            return bytearray(map(self._is_simple, range(len(self.programs))))
        if executor is not ExecutorKind.AUTO:
            return bytearray(len(self.programs))
        if self._plain is None:
            self._plain = self._split_by_choice()
        always, undecided = self._plain
        mask = bytearray(always)
        for code_key, instances in undecided.items():
            if means.is_short(code_key):
                for instance in instances:
                    mask[instance] = 1
        return mask

    def _split_by_choice(self) -> tuple[bytes, dict[str, list[int]]]:
        always = bytearray(len(self.programs))
        undecided: dict[str, list[int]] = {}
        for instance, task in enumerate(self.plan.tasks):
            if not self._is_simple(instance):
                continue
            if task.executor is ExecutorKind.INLINE:
                always[instance] = 1
            elif task.executor is ExecutorKind.AUTO:
                undecided.setdefault(self.programs[instance].code_key, []).append(instance)
        return bytes(always), undecided

    def _is_simple(self, instance: int) -> bool:
        return (
            self.calls[instance] is not None
            and is_unconditional(self.plan.tasks[instance])
            and self.plan.twins[instance] < 0
        )


def is_unconditional(task: PlannedTask) -> bool:
    """Whether a task whose parents all succeeded may start without looking at anything else."""
    return (
        task.timeout_s is None
        and task.pool is None
        and not task.memory_bytes
        and not task.encrypt
        and not task.has_condition
        and task.effects is not Effects.EXTERNAL
        and task.join in _NEEDS_SUCCESS
    )


def _direct_calls(programs: Sequence[Program]) -> list[DirectCall | None]:
    return [_direct_call(program) for program in programs]


def _direct_call(program: Program) -> DirectCall | None:
    function = program.function
    if function is None or program.coroutine is not None:
        return None
    arguments = program.arguments
    if not arguments:
        return function, (), ()
    sources: list[int] = []
    for argument in arguments:
        if not isinstance(argument, InputSlot) or argument.path:
            return function, None, arguments
        sources.append(argument.instance)
    return function, tuple(sources), arguments
