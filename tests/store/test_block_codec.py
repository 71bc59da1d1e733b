"""Blocks as bytes: exact, small, independent of the machine's byte order."""

from __future__ import annotations

from array import array

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.records import ABSENT, AttemptBlock
from flowbuilder.store import block_codec
from flowbuilder.store.block_codec import decode_block, encode_block, first_of_range, unfold_block
from flowbuilder.vocabulary import TASK_STATES

INT64 = st.integers(-(2**63), 2**63 - 1)
ROW = st.tuples(
    st.integers(0, 2**31 - 1),
    st.integers(1, 2**31 - 1),
    st.integers(0, len(TASK_STATES) - 1),
    st.integers(-(2**15), 2**15 - 1),
    INT64,
    INT64,
    INT64,
    st.one_of(st.none(), INT64, st.text(max_size=8), st.binary(max_size=8), st.just(ABSENT)),
)


@given(st.lists(ROW, max_size=20))
def test_block_comes_back_row_by_row(rows):
    columns = list(zip(*rows, strict=True)) if rows else [()] * 8
    block = AttemptBlock(
        instances=array("i", columns[0]),
        attempts=array("i", columns[1]),
        states=array("B", columns[2]),
        workers=array("h", columns[3]),
        readies_ns=array("q", columns[4]),
        starts_ns=array("q", columns[5]),
        ends_ns=array("q", columns[6]),
        outputs=list(columns[7]),
    )

    events = list(unfold_block(decode_block(encode_block(block)), "run", 10))

    found = [
        (e.instance, e.attempt, e.state, e.worker, e.ready_ns, e.start_ns, e.end_ns, e.output)
        for e in events
    ]
    assert found == [(*row[:2], TASK_STATES[row[2]], *row[3:]) for row in rows]
    assert [e.seq for e in events] == list(range(10, 10 + len(rows)))


def test_columns_that_say_nothing_take_no_space(make):
    n = 1000
    plain = make.chain(0, n)
    full = make.block(list(range(n)), outputs=[None] * n)
    full.workers = array("h", bytes(2 * n))
    full.readies_ns = full.starts_ns

    assert len(encode_block(plain)) < 8 * n + 40
    assert len(encode_block(full)) < 16 * n + 40


@pytest.mark.parametrize(
    ("instances", "first"),
    [([], -1), ([5], 5), ([3, 4, 5], 3), ([3, 5, 4], -1), ([3, 3, 5], -1), ([2, 1, 4], -1)],
)
def test_ranges_are_recognised(instances, first):
    assert first_of_range(array("i", instances)) == first


def test_byte_order_is_little_endian_everywhere():
    column = array("i", [1, 2**30])

    as_big = block_codec._to_bytes(column, is_big_endian=True)

    assert block_codec._to_bytes(column) == b"\1\0\0\0\0\0\0\x40"
    assert as_big == b"\0\0\0\1\x40\0\0\0"
    assert column.tolist() == [1, 2**30]
    assert block_codec._from_bytes("i", as_big, is_big_endian=True) == column


def test_trees_are_spliced_without_decoding():
    tree = {"a": [1, 2.5, None], "": {}}
    block = AttemptBlock(
        instances=array("i", [0, 1]),
        ends_ns=array("q", [1, 2]),
        outputs=[msgspec.Raw(msgspec.msgpack.encode(tree)), ABSENT],
    )

    first, second = unfold_block(decode_block(encode_block(block)), "run", 0)

    assert first.output == tree
    assert second.output is ABSENT


def test_outputs_that_cannot_be_stored_are_absent_and_spare_the_others():
    block = AttemptBlock(
        instances=array("i", [0, 1, 2, 3]),
        ends_ns=array("q", [1, 2, 3, 4]),
        outputs=[1, 2**80, object(), "\ud800"],
    )

    outputs = [e.output for e in unfold_block(decode_block(encode_block(block)), "run", 0)]

    assert outputs == [1, ABSENT, ABSENT, ABSENT]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"n": 2, "e": b"\0" * 8}),
        msgspec.msgpack.encode({"n": 1, "e": b"\0" * 8, "i": b"\0"}),
        msgspec.msgpack.encode({"n": 1, "e": b"\0" * 8, "o": [1, 2]}),
        msgspec.msgpack.encode([1, 2]),
    ],
)
def test_malformed_block_is_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        decode_block(body)


def test_columns_and_states_of_newer_versions_are_survived():
    body = msgspec.msgpack.encode({"n": 1, "e": b"\0" * 8, "s": b"\xc8", "future": [1]})

    (event,) = unfold_block(decode_block(body), "run", 0)

    assert event.state == "unknown"
