"""Shape of a dependency graph: an order, its cycles, its transpose.

A graph is given as ``parents``: per index the indices it waits for. Everything here is pure,
iterative (a chain of a million tasks needs no call stack) and linear in indices plus edges.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Sequence

__all__ = ["cycles", "find_cycle", "topological_order", "transpose"]

_UNSEEN, _OPEN, _DONE = 0, 1, 2


def topological_order(parents: Sequence[Sequence[int]]) -> list[int] | None:
    """Order the indices so that each comes after all it waits for.

    Parameters
    ----------
    parents : sequence of sequences of int
        Per index the indices it waits for; naming one twice is harmless.

    Returns
    -------
    list of int or None
        All indices, or None if some wait for each other. An author's order that is already valid
        is kept; otherwise an index that comes too early pulls what it waits for just before itself.
    """
    state = bytearray(len(parents))
    order: list[int] = []
    for root in range(len(parents)):
        if state[root] == _UNSEEN and not _finish(root, parents, state, order):
            return None
    return order


def _finish(
    root: int, parents: Sequence[Sequence[int]], state: bytearray, order: list[int]
) -> bool:
    """Append ``root`` after its ancestors; False if a cycle is in the way."""
    state[root] = _OPEN
    stack: list[tuple[int, Iterator[int]]] = [(root, iter(parents[root]))]
    while stack:
        index, remaining = stack[-1]
        for parent in remaining:
            seen = state[parent]
            if seen == _OPEN:
                return False
            if seen == _UNSEEN:
                state[parent] = _OPEN
                stack.append((parent, iter(parents[parent])))
                break
        else:
            state[index] = _DONE
            order.append(index)
            stack.pop()
    return True


def find_cycle(parents: Sequence[Sequence[int]]) -> list[int] | None:
    """Find one cycle.

    Parameters
    ----------
    parents : sequence of sequences of int
        Per index the indices it waits for.

    Returns
    -------
    list of int or None
        Indices in waiting order: each waits for the next, the last for the first, which is the
        smallest and not repeated.
    """
    found = cycles(parents)
    return found[0] if found else None


def cycles(parents: Sequence[Sequence[int]]) -> list[list[int]]:
    """Find one cycle in every group of indices that all wait for each other.

    Parameters
    ----------
    parents : sequence of sequences of int
        Per index the indices it waits for.

    Returns
    -------
    list of list of int
        Per strongly connected component with a cycle the shortest one through its smallest index,
        in waiting order and starting there; components by their smallest index.
    """
    component_of = _components(parents)
    members: dict[int, list[int]] = {}
    for index, component in enumerate(component_of):
        members.setdefault(component, []).append(index)
    return [
        _shortest_cycle(group[0], parents, component_of)
        for group in members.values()
        if len(group) > 1 or group[0] in parents[group[0]]
    ]


def _shortest_cycle(
    start: int, parents: Sequence[Sequence[int]], component_of: Sequence[int]
) -> list[int]:
    """Search breadth first, inside the component, until something waits for ``start``."""
    component = component_of[start]
    waiter = {start: -1}
    queue = deque([start])
    while queue:
        index = queue.popleft()
        for parent in parents[index]:
            if parent == start:
                return _path_to(index, waiter)
            if component_of[parent] == component and parent not in waiter:
                waiter[parent] = index
                queue.append(parent)
    raise AssertionError("a strongly connected component has a cycle through each member")


def _path_to(index: int, waiter: dict[int, int]) -> list[int]:
    path = []
    while index >= 0:
        path.append(index)
        index = waiter[index]
    path.reverse()
    return path


def _components(parents: Sequence[Sequence[int]]) -> list[int]:
    """Label every index with its strongly connected component.

    Tarjan's algorithm (1972) on an explicit stack of (index, parents not yet looked at).
    """
    size = len(parents)
    low, component_of = [0] * size, [-1] * size
    visited_at: dict[int, int] = {}
    pending: list[int] = []
    for root in range(size):
        calls: list[tuple[int, Iterator[int]]] = []
        entering = root if root not in visited_at else -1
        while entering >= 0 or calls:
            if entering >= 0:
                low[entering] = visited_at[entering] = len(visited_at)
                pending.append(entering)
                calls.append((entering, iter(parents[entering])))
            index, remaining = calls[-1]
            entering = _next_unvisited(index, remaining, visited_at, low, component_of)
            if entering >= 0:
                continue
            calls.pop()
            if low[index] == visited_at[index]:
                while component_of[index] < 0:
                    component_of[pending.pop()] = index
            if calls:
                waiting = calls[-1][0]
                low[waiting] = min(low[waiting], low[index])
    return component_of


def _next_unvisited(
    index: int,
    remaining: Iterator[int],
    visited_at: dict[int, int],
    low: list[int],
    component_of: list[int],
) -> int:
    """Note how far back ``index`` reaches until a parent not visited yet comes up; -1 if none."""
    for parent in remaining:
        if parent not in visited_at:
            return parent
        if component_of[parent] < 0:
            low[index] = min(low[index], visited_at[parent])
    return -1


def transpose(parents: Sequence[Sequence[int]]) -> tuple[array[int], array[int]]:
    """Turn "waits for" into "is waited for", as compressed rows.

    Parameters
    ----------
    parents : sequence of sequences of int
        Per index the distinct indices it waits for.

    Returns
    -------
    offsets : array of 'i', shape (n + 1,)
        Where the successors of each index begin and end.
    successors : array of 'i', shape (edges,)
        Successors of index ``i`` are ``successors[offsets[i]:offsets[i + 1]]``, ascending.
    """
    counts = [0] * (len(parents) + 1)
    for row in parents:
        for parent in row:
            counts[parent + 1] += 1
    total = 0
    for position, count in enumerate(counts):
        total += count
        counts[position] = total
    offsets = array("i", counts)
    successors = array("i", bytes(4 * total))
    for index, row in enumerate(parents):
        for parent in row:
            successors[counts[parent]] = index
            counts[parent] += 1
    return offsets, successors
