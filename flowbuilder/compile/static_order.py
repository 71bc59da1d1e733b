"""The order in which tasks run where nothing can run beside them."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from flowbuilder.model.topology import transpose

__all__ = ["static_order"]


def static_order(
    parents: Sequence[Sequence[int]], priorities: Sequence[int] | None = None
) -> list[int] | None:
    """Order the tasks so that outputs live shortly: what just became ready goes next.

    Parameters
    ----------
    parents : sequence of sequences of int
        Per task the distinct tasks it waits for.
    priorities : sequence of int, optional
        Of the ready tasks the one with the largest goes first; then the author's order decides, and
        what just became ready has no precedence.

    Returns
    -------
    list of int or None
        All tasks, or None if some wait for each other. Ties follow the author's order, so the
        result depends on nothing else.
    """
    offsets, successors = transpose(parents)
    waiting = [len(row) for row in parents]
    roots = [task for task, count in enumerate(waiting) if not count]
    if priorities is None:
        order = _newest_first(roots, offsets, successors, waiting)
    else:
        order = _most_urgent_first(roots, offsets, successors, waiting, priorities)
    return order if len(order) == len(parents) else None


def _newest_first(
    roots: list[int], offsets: Sequence[int], successors: Sequence[int], waiting: list[int]
) -> list[int]:
    order: list[int] = []
    ready = roots[::-1]
    while ready:
        task = ready.pop()
        order.append(task)
        for successor in reversed(successors[offsets[task] : offsets[task + 1]]):
            waiting[successor] -= 1
            if not waiting[successor]:
                ready.append(successor)
    return order


def _most_urgent_first(
    roots: list[int],
    offsets: Sequence[int],
    successors: Sequence[int],
    waiting: list[int],
    priorities: Sequence[int],
) -> list[int]:
    order: list[int] = []
    ready = [(-priorities[task], task) for task in roots]
    heapq.heapify(ready)
    while ready:
        _, task = heapq.heappop(ready)
        order.append(task)
        for successor in successors[offsets[task] : offsets[task + 1]]:
            waiting[successor] -= 1
            if not waiting[successor]:
                heapq.heappush(ready, (-priorities[successor], successor))
    return order
