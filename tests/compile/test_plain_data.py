"""Canonical plain data: same meaning, same bytes; different meaning, different bytes."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.compile.plain_data import encode_canonical, to_plain
from flowbuilder.errors import WorkflowError

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def canonical(value):
    return encode_canonical(to_plain(value))


def shape(value):
    """What YAML means: numbers by value, booleans apart from them, mappings without order."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return (type(value).__name__, value)
    if isinstance(value, int | float):
        return ("number", value)
    if isinstance(value, list):
        return ("list", tuple(map(shape, value)))
    return ("map", frozenset((key, shape(item)) for key, item in value.items()))


@given(trees, trees)
def test_canonical_bytes_are_equal_exactly_for_equal_meanings(a, b):
    assert (canonical(a) == canonical(b)) == (shape(a) == shape(b))


@given(st.dictionaries(st.text(max_size=4), scalars, min_size=2, max_size=5))
def test_canonical_bytes_ignore_key_order(mapping):
    assert canonical(mapping) == canonical(dict(reversed(mapping.items())))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (0, None),
        ("1", 1),
        (math.inf, -math.inf),
        (math.nan, None),
        (math.nan, math.inf),
        (0.1, 0.2),
        (2**63, 2**63 + 1),
        (b"a", "a"),
        ([1, 2], [2, 1]),
        ({"a": None}, {}),
    ],
)
def test_canonical_bytes_differ_for(one, other):
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1.0, 1),
        (-0.0, 0),
        ((1, 2), [1, 2]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ({3, 1, 2}, frozenset({1, 2, 3})),
        (PurePosixPath("a/b"), "a/b"),
        (math.nan, float("nan")),
    ],
)
def test_canonical_bytes_are_equal_for(one, other):
    assert canonical(one) == canonical(other)


def test_functions_enter_by_name():
    assert to_plain({"f": canonical}) == {"f": f"{__name__}:canonical"}


@pytest.mark.parametrize("value", [object(), [object()], {1: 2}])
def test_values_without_a_stable_text_are_refused(value):
    with pytest.raises(WorkflowError):
        to_plain(value)
