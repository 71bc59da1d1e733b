"""Scheduling priority: the author's first, then the longest way to the end of the run.

Tasks are instances here: numbered so that parents are smaller than what waits for them.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

__all__ = [
    "critical_path",
    "inherited_priorities",
    "pack_ranks",
    "path_lengths",
    "weights_from_durations",
]

_LENGTH_BITS = 40
_LONGEST = (1 << _LENGTH_BITS) - 1
_MOST_URGENT = 1 << 22


def weights_from_durations(keys: Sequence[str], durations: Mapping[str, float]) -> list[int]:
    """Weigh tasks by how long they took in former runs.

    Parameters
    ----------
    keys : sequence of str
        TaskRun key per instance.
    durations : mapping of str to float
        Seconds by key; a task that is missing counts as the median of the others.

    Returns
    -------
    list of int
        Microseconds, at least 1.
    """
    known = {key: max(1, round(durations[key] * 1e6)) for key in keys if key in durations}
    typical = sorted(known.values())[len(known) // 2] if known else 1
    return [known.get(key, typical) for key in keys]


def path_lengths(
    parents: Sequence[Sequence[int]], weights: Sequence[int] | None = None
) -> list[int]:
    """Measure the longest path from each instance to a leaf, both ends included.

    Parameters
    ----------
    parents : sequence of sequences of int
        Per instance the instances it waits for, all smaller.
    weights : sequence of int, optional
        Weight of each instance, positive; 1 if missing.

    Returns
    -------
    list of int
        Sums of weights: larger by at least its own weight than that of anything that waits for it.
    """
    below = [0] * len(parents)
    for instance in range(len(parents) - 1, -1, -1):
        below[instance] += weights[instance] if weights else 1
        length = below[instance]
        for parent in parents[instance]:
            if below[parent] < length:  # noqa: PLR1730 - a call per edge costs twice as much
                below[parent] = length
    return below


def inherited_priorities(parents: Sequence[Sequence[int]], priorities: Sequence[int]) -> list[int]:
    """Make everything an urgent task waits for as urgent as the task itself."""
    inherited = list(priorities)
    for instance in range(len(parents) - 1, -1, -1):
        for parent in parents[instance]:
            inherited[parent] = max(inherited[parent], inherited[instance])
    return inherited


def pack_ranks(lengths: Sequence[int], priorities: Sequence[int] | None) -> array[int]:
    """Join priority and path length into one number each, larger first.

    Returns
    -------
    array of 'q', shape (n,)
        Falls along every edge as long as lengths are below 2**40 and priorities within 2**22.
    """
    if priorities is None:
        return array("q", [min(length, _LONGEST) for length in lengths])
    return array(
        "q",
        [
            (max(-_MOST_URGENT, min(priority, _MOST_URGENT)) << _LENGTH_BITS)
            + min(length, _LONGEST)
            for length, priority in zip(lengths, priorities, strict=True)
        ],
    )


def critical_path(
    parents: Sequence[Sequence[int]], lengths: Sequence[int], weights: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Follow the longest path from start to leaf; of equally long ones the earliest."""
    if not lengths:
        return ()
    current = lengths.index(max(lengths))
    path = [current]
    # Successors are larger than the current instance, so one pass upwards meets the whole path.
    for instance in range(current + 1, len(lengths)):
        rest = lengths[current] - (weights[current] if weights else 1)
        if lengths[instance] == rest and current in parents[instance]:
            current = instance
            path.append(current)
    return tuple(path)
