"""What can run next: in-degrees counted down, ready instances in order of rank, and whose parents
did not all succeed.
"""

from __future__ import annotations

import heapq
from collections.abc import Container

import msgspec

from flowbuilder.runtime.plan import ExecutionPlan
from flowbuilder.vocabulary import FINAL_TASK_STATES, TASK_STATE_CODES, JoinRule, TaskState

__all__ = ["Frontier", "judge_join"]

_FINAL_CODES = frozenset(TASK_STATE_CODES[state] for state in FINAL_TASK_STATES)
_OK_CODES = frozenset({TASK_STATE_CODES[TaskState.SUCCEEDED], TASK_STATE_CODES[TaskState.CACHED]})
_PENDING = TASK_STATE_CODES[TaskState.PENDING]
_NONE: frozenset[int] = frozenset()


class Frontier(msgspec.Struct, eq=False):
    """Ready instances of one run, derived from its columns and recomputable from them at any time.

    Only the driver changes it. It shares the run's columns but does not know the run, so that an
    ended run is freed at once, without the garbage collector.

    Parameters
    ----------
    plan : ExecutionPlan
        The arrays.
    codes : bytearray, shape (n,)
        The run's state column.
    in_flight, waiting : mapping
        Instances that are pending but must not be started: they run, or wait for a retry or a pool.
    remaining : int
        Instances that are not final.
    """

    plan: ExecutionPlan
    codes: bytearray
    in_flight: Container[int]
    waiting: Container[int]
    remaining: int
    plain: bytearray = bytearray()
    """1 where an instance may run in a static segment; the driver fills it in."""
    heap: list[tuple[int, int]] | tuple[()] = ()
    is_queued: bytearray = bytearray()
    """1 where an instance is in the heap; as long as the plan once order is dynamic."""
    tainted: set[int] | frozenset[int] = _NONE
    """Instances with a parent that is final but did not succeed."""
    degrees: list[int] | None = None
    """Parents that are not final yet; None until dynamic order is needed."""
    low: int = 0
    """No instance below is pending."""

    def rebuild(self) -> None:
        """Derive everything from the state column: O(tasks + edges)."""
        plan, codes = self.plan, self.codes
        self.heap = []
        self.is_queued = bytearray(len(codes))
        self.tainted = _NONE
        degrees = [0] * len(codes)
        self.remaining = 0
        offsets, parents = plan.parent_offsets, plan.parents
        for instance, code in enumerate(codes):
            if code in _FINAL_CODES:
                continue
            self.remaining += 1
            waits = 0
            for parent in parents[offsets[instance] : offsets[instance + 1]]:
                if codes[parent] not in _FINAL_CODES:
                    waits += 1
                elif codes[parent] not in _OK_CODES:
                    self._taint(instance)
            degrees[instance] = waits
            if not waits and not self._is_engaged(instance):
                self.push(instance)
        self.degrees = degrees
        self.low = 0

    def start(self) -> None:
        """Prepare dynamic order at the beginning of a run, when nothing is final."""
        plan = self.plan
        self.degrees = plan.in_degrees.tolist()
        ranks = plan.ranks
        self.heap = [
            (-ranks[instance], instance)
            for instance, degree in enumerate(self.degrees)
            if not degree
        ]
        heapq.heapify(self.heap)
        self.is_queued = bytearray(len(self.codes))
        for _, instance in self.heap:
            self.is_queued[instance] = 1

    def push(self, instance: int) -> None:
        """Make an instance ready."""
        if not self.is_queued:
            self.is_queued = bytearray(len(self.codes))
        if self.is_queued[instance]:
            return
        self.is_queued[instance] = 1
        entry = (-self.plan.ranks[instance], instance)
        if isinstance(self.heap, tuple):
            self.heap = [entry]
        else:
            heapq.heappush(self.heap, entry)

    def _taint(self, instance: int) -> None:
        if isinstance(self.tainted, frozenset):
            self.tainted = set()
        self.tainted.add(instance)
        self.plain[instance] = 0

    def pop(self) -> int:
        """Take the ready instance of highest rank, or -1."""
        while self.heap:
            assert isinstance(self.heap, list)
            instance = heapq.heappop(self.heap)[1]
            if not self.heap:
                self.heap = ()
            self.is_queued[instance] = 0
            # A segment may have finished or failed it since it became ready.
            if self.codes[instance] == _PENDING and not self._is_engaged(instance):
                return instance
        return -1

    def _is_engaged(self, instance: int) -> bool:
        return instance in self.in_flight or instance in self.waiting

    def is_ready(self, instance: int) -> bool:
        """Whether an instance waits only for its turn."""
        return bool(self.is_queued) and bool(self.is_queued[instance])

    @property
    def ready_count(self) -> int:
        """Number of ready instances (upper bound: ones a segment finished may still be counted)."""
        return len(self.heap)

    def release(self, instance: int, *, is_ok: bool) -> None:
        """Tell the successors that ``instance`` is final."""
        degrees = self.degrees
        if degrees is None:
            return
        for successor in self.plan.successors_of(instance):
            degrees[successor] -= 1
            if not is_ok:
                self._taint(successor)
            if not degrees[successor]:
                self.push(successor)


def judge_join(rule: JoinRule, states: dict[str, TaskState]) -> str:
    """Decide whether a task may start, given its parents' final states by name.

    Parameters
    ----------
    rule : JoinRule
        The task's rule.
    states : dict
        Parent key -> final state; ``cached`` counts as success, ``cancelled`` and ``unknown`` as
        failure.

    Returns
    -------
    str
        Empty if it may start, else the reason why not.
    """
    ok = [key for key, state in states.items() if state in {TaskState.SUCCEEDED, TaskState.CACHED}]
    skipped = [key for key, state in states.items() if state is TaskState.SKIPPED]
    known = {*ok, *skipped}
    failed = [key for key in states if key not in known]
    if rule is JoinRule.ALL_SUCCESS:
        blame = failed or skipped
    elif rule is JoinRule.NONE_FAILED:
        blame = failed
    elif rule is JoinRule.NONE_SKIPPED:
        blame = skipped
    elif rule is JoinRule.ALL_FAILED:
        blame = ok or skipped
    elif rule is JoinRule.ONE_SUCCESS:
        blame = [] if ok or not states else list(states)
    elif rule is JoinRule.ONE_FAILED:
        blame = [] if failed else list(states) or ["nothing"]
    else:
        blame = []
    if not blame:
        return ""
    first = blame[0]
    state = states.get(first, TaskState.SUCCEEDED)
    return (
        f"upstream {first} {_PAST[state]}"
        if rule is JoinRule.ALL_SUCCESS
        else f"join {rule}: {first} {_PAST[state]}"
    )


_PAST = {
    TaskState.SUCCEEDED: "succeeded",
    TaskState.CACHED: "succeeded",
    TaskState.FAILED: "failed",
    TaskState.SKIPPED: "was skipped",
    TaskState.CANCELLED: "was cancelled",
    TaskState.UNKNOWN: "has an unknown outcome",
}
