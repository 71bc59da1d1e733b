"""Values that differ in anything a function can see have different hashes."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import struct
import uuid
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.cache.parts import UncacheableError
from flowbuilder.cache.values import ValueHash

NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]
NAIVE = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - without a zone is another value
DISTINCT = [
    None, True, False, 0, 1, -1, 2**63, -(2**200), 0.0, -0.0, 1.0, math.nan, NAN, math.inf,
    1j, "", "a", b"", b"a", bytearray(b"a"), "1", "\ud800",
    [], (), {}, set(), frozenset(), [1], (1,), [[1]], [1, 2], [[1], [2]], [[1, 2]], [2, 1],
    {"a": 1}, {"a": 1.0}, {"a": None}, {1: "a"}, {"1": "a"}, {"a": 1, "b": 2}, {"b": 2, "a": 1},
    {1, 2}, {1, 3}, {(1, 2)}, range(3), range(4), slice(1), slice(2), ...,
    dt.date(2020, 1, 1), NAIVE, dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    dt.timedelta(1), decimal.Decimal("1.0"), decimal.Decimal("1.00"), uuid.UUID(int=1),
    PurePosixPath("a"), PurePosixPath("b"), int, float, len, math.sin, ValueError("a"),
]  # fmt: skip


def digest(value):
    return ValueHash(lambda thing: repr(thing).encode()).digest(value)


def test_values_that_differ_have_different_hashes():
    digests = [digest(value) for value in DISTINCT]

    assert len(set(digests)) == len(DISTINCT)
    assert digests == [digest(value) for value in DISTINCT]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def image(value):
    """What tells values apart, types and order included."""
    if isinstance(value, dict):
        return ("dict", *((image(key), image(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, *map(image, value))
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    return (type(value).__name__, value)


@given(PLAIN, PLAIN)
def test_hashes_are_equal_exactly_for_equal_values(one, other):
    assert (digest(one) == digest(other)) == (image(one) == image(other))


def test_order_of_a_set_does_not_count():
    words = [f"word {number}" for number in range(50)]
    backwards: set[str] = set()
    for word in reversed(words):
        backwards.add(word)

    assert digest(set(words)) == digest(backwards)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (iter([1]), "read only once"),
        ((item for item in ()), "read only once"),
        (open, ""),
    ],
    ids=["iterator", "generator", "function"],
)
def test_values_that_are_used_up_by_reading_are_refused(value, words):
    if not words:
        assert digest(value) == digest(value)
        return
    with pytest.raises(UncacheableError, match=words):
        digest(value)


def test_values_that_contain_themselves_or_are_too_deep_are_refused():
    loop: list[object] = []
    loop.append((loop,))
    deep: object = object
    for _ in range(5_000):
        deep = (deep,)

    for value in (loop, deep):
        with pytest.raises(UncacheableError):
            digest(value)


def test_the_same_object_twice_is_no_loop():
    inner = (object, 1)

    assert digest([inner, inner]) == digest([(object, 1), (object, 1)])


def test_lazy_frames_are_refused():
    pl = pytest.importorskip("polars")

    with pytest.raises(UncacheableError, match="lazy"):
        digest({"frame": pl.LazyFrame({"a": [1]})})
