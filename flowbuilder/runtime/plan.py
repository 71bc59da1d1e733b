"""The execution plan: a workflow compiled to arrays, ready to run. Immutable, hashable by
``plan_id``, free of user code.

Instances are numbered 0..n-1 in topological order, so the static order is simply ``range(n)``.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping

import msgspec

from flowbuilder.vocabulary import Backoff, Durability, Effects, ExecutorKind, JoinRule, Persist

__all__ = ["ExecutionPlan", "PlannedTask", "RetryPolicy"]


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a failed attempt is repeated; delays in seconds, ``jitter`` a share of the delay from 0
    to 1.
    """

    max_attempts: int = 1
    backoff: Backoff = Backoff.EXPONENTIAL
    delay_s: float = 1.0
    max_delay_s: float = 300.0
    jitter: float = 0.1
    on: tuple[str, ...] = ()


class PlannedTask(msgspec.Struct, frozen=True, kw_only=True):
    """What the scheduler must know of one task."""

    key: str
    """TaskRun key: ``outer/inner`` inside sub-workflows."""
    type: str
    executor: ExecutorKind = ExecutorKind.AUTO
    executor_reason: str = ""
    join: JoinRule = JoinRule.ALL_SUCCESS
    retry: RetryPolicy = RetryPolicy()
    timeout_s: float | None = None
    effects: Effects = Effects.IDEMPOTENT
    persist: Persist = Persist.AUTO
    encrypt: bool = False
    """Whether nothing of the output may be on disk in clear; entering and leaving a sub-workflow
    take it over from what they pass on."""
    cpu: int = 1
    memory_bytes: int = 0
    pool: str | None = None
    priority: int = 0
    has_condition: bool = False
    location: str = ""
    """``file:line:col`` of the task, for messages."""


class ExecutionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled workflow.

    Parents of instance ``i`` are ``parents[parent_offsets[i]:parent_offsets[i + 1]]``, successors
    likewise; both ascending.
    All arrays have type code 'i' except ``ranks`` ('q'); offsets have length n + 1.
    """

    plan_id: str
    """Hash of the fingerprint and the selection."""
    fingerprint: str
    """Hash of the normalised workflow."""
    workflow: str
    tasks: tuple[PlannedTask, ...]
    parent_offsets: array[int]
    parents: array[int]
    successor_offsets: array[int]
    successors: array[int]
    in_degrees: array[int]
    ranks: array[int]
    """Scheduling priority: larger first. Author's priority, then length of the longest path to a
    leaf."""
    twins: array[int]
    """Instance whose output this one shares (common sub-task), or -1."""
    outputs: tuple[int, ...]
    """Instances whose output is an output of the run (leaves of the selected graph)."""
    critical_path: tuple[int, ...] = ()
    durability: Durability = Durability.RUN
    timeout_s: float | None = None
    options: Mapping[str, object] = {}
    """The selection: ``to``, ``from``, ``only``."""

    def __len__(self) -> int:
        return len(self.tasks)

    def __hash__(self) -> int:
        return hash(self.plan_id)

    def parents_of(self, instance: int) -> array[int]:
        """List the instances ``instance`` waits for, ascending."""
        return self.parents[self.parent_offsets[instance] : self.parent_offsets[instance + 1]]

    def successors_of(self, instance: int) -> array[int]:
        """List the instances that wait for ``instance``, ascending."""
        return self.successors[
            self.successor_offsets[instance] : self.successor_offsets[instance + 1]
        ]
