"""Orders and cycles of dependency graphs, against plain definitions of both."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.model.topology import cycles, find_cycle, topological_order, transpose


@st.composite
def graphs(draw):
    size = draw(st.integers(0, 12))
    if size == 0:
        return []
    return [sorted(draw(st.sets(st.integers(0, size - 1), max_size=4))) for _ in range(size)]


def reaches(parents, start):
    seen, stack = set(), list(parents[start])
    while stack:
        index = stack.pop()
        if index not in seen:
            seen.add(index)
            stack.extend(parents[index])
    return seen


@given(graphs())
def test_topological_order_exists_exactly_without_cycle(parents):
    order = topological_order(parents)

    cyclic = any(index in reaches(parents, index) for index in range(len(parents)))
    assert (order is None) == cyclic
    if order is not None:
        position = {index: place for place, index in enumerate(order)}
        assert sorted(order) == list(range(len(parents)))
        assert all(position[p] < position[i] for i, row in enumerate(parents) for p in row)


@given(graphs())
def test_cycles_gives_one_true_cycle_per_component(parents):
    found = cycles(parents)

    for cycle in found:
        assert cycle[0] == min(cycle)
        assert len(set(cycle)) == len(cycle)
        assert all(b in parents[a] for a, b in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    components = set()
    for index in range(len(parents)):
        if index in (below := reaches(parents, index)):
            components.add(frozenset(i for i in below if index in reaches(parents, i)))
    assert len(found) == len(components)
    assert all(sum(set(cycle) <= c for c in components) == 1 for cycle in found)
    assert find_cycle(parents) == (found[0] if found else None)


@given(graphs())
def test_transpose_lists_exactly_the_reversed_edges(parents):
    offsets, successors = transpose(parents)

    assert len(offsets) == len(parents) + 1
    edges = {(p, i) for i, row in enumerate(parents) for p in row}
    rows = [list(successors[offsets[i] : offsets[i + 1]]) for i in range(len(parents))]
    assert {(p, i) for p, row in enumerate(rows) for i in row} == edges
    assert all(row == sorted(row) for row in rows)
    assert len(successors) == len(edges)


def test_topological_order_keeps_a_valid_author_order():
    assert topological_order([[], [], [0], [1], [2, 3]]) == [0, 1, 2, 3, 4]


def test_topological_order_pulls_late_parents_forward():
    assert topological_order([[3], [], [0], []]) == [3, 0, 1, 2]


@pytest.mark.parametrize(
    ("parents", "cycle"),
    [
        ([[0]], [0]),
        ([[1], [0]], [0, 1]),
        ([[], [2], [3], [1]], [1, 2, 3]),
        ([[2, 1], [2], [0]], [0, 2]),
    ],
    ids=["self-loop", "two", "three", "shortest"],
)
def test_find_cycle_names_it_in_waiting_order(parents, cycle):
    assert find_cycle(parents) == cycle


def test_find_cycle_walks_a_cycle_of_a_hundred_thousand():
    size = 100_000
    parents = [[(i + 1) % size] for i in range(size)]

    assert find_cycle(parents) == list(range(size))
    assert topological_order(parents) is None


def test_topological_order_walks_a_backward_chain_of_a_hundred_thousand():
    size = 100_000
    parents = [[i + 1] if i + 1 < size else [] for i in range(size)]

    assert topological_order(parents) == list(range(size - 1, -1, -1))
    assert cycles(parents) == []


def test_topological_order_of_all_to_all_layers():
    parents = [[]] * 1000 + [list(range(1000))] * 1000

    assert topological_order(parents) == list(range(2000))
    assert len(transpose(parents)[1]) == 1_000_000
