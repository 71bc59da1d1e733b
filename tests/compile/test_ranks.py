"""Ranks: longest path to a leaf, urgency that is inherited, and the critical path."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.compile.ranks import (
    critical_path,
    inherited_priorities,
    pack_ranks,
    path_lengths,
    weights_from_durations,
)


@st.composite
def numbered_dags(draw):
    size = draw(st.integers(1, 12))
    return [
        tuple(sorted(draw(st.sets(st.integers(0, i - 1), max_size=3)))) if i else ()
        for i in range(size)
    ]


def longest(parents, weights, start):
    successors = [i for i, row in enumerate(parents) if start in row]
    below = max((longest(parents, weights, each) for each in successors), default=0)
    return weights[start] + below


@given(numbered_dags(), st.data())
def test_path_lengths_match_their_definition(parents, data):
    size = len(parents)
    weights = data.draw(st.lists(st.integers(1, 9), min_size=size, max_size=size))

    assert path_lengths(parents, weights) == [longest(parents, weights, i) for i in range(size)]
    assert path_lengths(parents) == [longest(parents, [1] * size, i) for i in range(size)]


@given(numbered_dags(), st.data())
def test_ranks_fall_along_every_edge(parents, data):
    size = len(parents)
    own = data.draw(st.lists(st.integers(-5, 5), min_size=size, max_size=size))

    ranks = pack_ranks(path_lengths(parents), inherited_priorities(parents, own))

    assert ranks.typecode == "q"
    assert all(ranks[p] > ranks[i] for i, row in enumerate(parents) for p in row)


@given(numbered_dags(), st.data())
def test_critical_path_is_a_chain_of_the_longest_length(parents, data):
    size = len(parents)
    weights = data.draw(st.lists(st.integers(1, 9), min_size=size, max_size=size))
    lengths = path_lengths(parents, weights)

    path = critical_path(parents, lengths, weights)

    assert sum(weights[i] for i in path) == max(lengths)
    assert all(a in parents[b] for a, b in pairwise(path))


def test_pack_ranks_puts_priority_above_length():
    low_but_long, high_but_short = pack_ranks([10**6, 1], [0, 1])

    assert high_but_short > low_but_long


def test_pack_ranks_survives_any_number():
    ranks = pack_ranks([2**70, 1, 1], [10**30, -(10**30), 0])

    assert ranks[0] > ranks[2] > ranks[1]


def test_weights_of_unknown_tasks_are_the_median_of_the_known():
    assert weights_from_durations(["a", "b", "c", "new"], {"a": 1.0, "b": 2.0, "c": 0.0}) == [
        1_000_000,
        2_000_000,
        1,
        1_000_000,
    ]
    assert weights_from_durations(["a"], {"other": 3.0}) == [1]


def test_critical_path_of_nothing_is_empty():
    assert critical_path([], []) == ()
