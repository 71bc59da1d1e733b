"""The static order: valid, complete, repeatable, and kind to memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.compile.static_order import static_order


@st.composite
def dags(draw):
    """Graphs without cycles whose author's order is arbitrary."""
    size = draw(st.integers(0, 14))
    names = draw(st.permutations(range(size)))
    parents = [[] for _ in range(size)]
    for place in range(1, size):
        chosen = draw(st.sets(st.integers(0, place - 1), max_size=4))
        parents[names[place]] = sorted(names[each] for each in chosen)
    return parents


@given(dags(), st.data())
def test_static_order_puts_parents_first(parents, data):
    size = len(parents)
    priorities = data.draw(st.none() | st.lists(st.integers(-3, 3), min_size=size, max_size=size))

    order = static_order(parents, priorities)

    assert sorted(order) == list(range(size))
    position = {task: place for place, task in enumerate(order)}
    assert all(position[p] < position[t] for t, row in enumerate(parents) for p in row)


@given(dags(), st.data())
def test_static_order_takes_the_most_urgent_ready_task(parents, data):
    size = len(parents)
    priorities = data.draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size))

    done = set()
    for task in static_order(parents, priorities):
        ready = [t for t in range(size) if t not in done and done.issuperset(parents[t])]
        assert task == min(ready, key=lambda t: (-priorities[t], t))
        done.add(task)


def test_static_order_finishes_a_chain_before_starting_the_next():
    assert static_order([[], [], [0], [1], [2], [3]]) == [0, 2, 4, 1, 3, 5]


def test_static_order_of_a_cycle_is_none():
    assert static_order([[], [2], [1]]) is None
    assert static_order([[], [2], [1]], [0, 0, 0]) is None


def test_static_order_walks_a_chain_of_a_hundred_thousand():
    assert static_order([[]] + [[i] for i in range(99_999)]) == list(range(100_000))
