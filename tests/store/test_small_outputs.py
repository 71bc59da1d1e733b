"""Which outputs ride in their record."""

from __future__ import annotations

import collections
import enum
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.records import ABSENT
from flowbuilder.store.small_outputs import MAX_SMALL_BYTES, is_exact, small_output


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    __slots__ = ()


SCALARS = [None, True, 0, -(2**63), 2**63 - 1, 1.5, float("inf"), "", "é" * 2048, b"\xff" * 4096]


@pytest.mark.parametrize("value", SCALARS, ids=repr)
def test_scalars_ride_as_themselves(value):
    assert small_output(value) is value


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        -(2**63) - 1,
        10**4000,
        "x" * 4097,
        "é" * 2049,
        b"x" * 4097,
        "\ud800",
        Colour.RED,
        Name("x"),
        1j,
        (1, 2),
        {1, 2},
        {1: 2},
        {"a": (1,)},
        {"a": {None: 1}},
        [2**64],
        ["\udc00"],
        {"\udc00": 1},
        {Name("a"): 1},
        [Colour.RED],
        [object()],
        collections.OrderedDict(a=1),
        collections.defaultdict(int),
        bytearray(b"x"),
        object(),
        ["x" * 4096],
        list(range(5000)),
        ABSENT,
    ],
)
def test_everything_else_is_absent(value):
    assert small_output(value) is ABSENT


def test_numpy_scalars_are_absent():
    np = pytest.importorskip("numpy")

    for value in (np.float64(1.5), np.int64(1), np.bool_(True), np.str_("x"), np.zeros(2)):
        assert small_output(value) is ABSENT


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=30,
    )
)
def test_trees_come_back_with_the_same_types(value):
    found = small_output(value)

    if isinstance(value, list | dict) and isinstance(found, msgspec.Raw):
        assert repr(msgspec.msgpack.decode(found)) == repr(value)
    assert is_exact(value)


def test_trees_are_encoded_at_once():
    tree = {"a": [1]}
    found = small_output(tree)
    tree["a"].append(2)

    assert msgspec.msgpack.decode(found) == {"a": [1]}


def test_endless_trees_are_refused_quickly():
    loop: list[object] = []
    loop.append(loop)
    twin: list[object] = []
    twin += [twin, twin]
    bomb: object = "x"
    for _ in range(60):
        bomb = [bomb] * 10
    deep: object = 1
    for _ in range(sys.getrecursionlimit() * 3):
        deep = [deep]

    for value in (loop, twin, bomb, deep):
        assert small_output(value) is ABSENT
        assert not is_exact(value, max_nodes=100_000)


def test_largest_small_tree_fits_exactly():
    tree = ["x" * 1000] * 4
    spare = MAX_SMALL_BYTES - len(msgspec.msgpack.encode(tree))
    tree.append("y" * (spare - 2))

    assert len(small_output(tree)) == MAX_SMALL_BYTES
    tree[-1] += "y"
    assert small_output(tree) is ABSENT
