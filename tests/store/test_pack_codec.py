"""Small records that share a row come back one by one, as if each had its own."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.errors import StorageError
from flowbuilder.records import (
    ABSENT,
    EVENT_TYPES,
    AttemptFailed,
    AttemptFinished,
    AttemptRows,
    LogChunk,
    RetryScheduled,
    RunStateChanged,
    TaskSkipped,
)
from flowbuilder.store.codec import (
    PACK_KIND,
    count_of,
    decode_row,
    encode_record,
    encode_records,
    seal_row,
)
from flowbuilder.store.pack_codec import MAX_PACKED
from flowbuilder.vocabulary import TASK_STATES

NUMBERS = st.integers(0, 2**62)
OUTPUTS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5)
ROWS = st.tuples(
    st.integers(0, 2**31 - 1),
    st.integers(0, 99),
    st.integers(0, len(TASK_STATES) - 1),
    st.integers(0, 99),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    OUTPUTS | st.just(ABSENT),
)
RECORDS = st.one_of(
    st.builds(AttemptRows, st.lists(ROWS, min_size=1, max_size=4)),
    st.builds(TaskSkipped, instance=st.integers(0, 9), reason=st.text(max_size=9), time_ns=NUMBERS),
    st.builds(RunStateChanged, state=st.sampled_from(["paused", "running"]), time_ns=NUMBERS),
    st.builds(
        LogChunk,
        instance=st.integers(0, 9),
        attempt=st.integers(0, 9),
        stream=st.just("stdout"),
        text=st.text(max_size=9),
    ),
)


def events_of(rows):
    return [event for row in rows for event in decode_row(row)]


@given(st.lists(RECORDS, max_size=20), st.integers(0, 1000))
def test_records_together_read_like_records_apart(records, seq):
    together = list(encode_records("run", seq, records))
    apart = []
    for record in records:
        apart.append(encode_record("run", seq, record))
        seq += count_of(record)

    assert events_of(together) == events_of(apart)
    assert sum(row.n for row in together) == sum(row.n for row in apart)


@pytest.mark.parametrize("kind", [k for k in EVENT_TYPES if k is not AttemptFinished])
def test_every_kind_of_event_comes_back_equal_from_a_pack(kind):
    values = {str: "x", int: 3, float: 0.5, bool: True, dict[str, str]: {"a": "b"}}
    fields = {f.name: values[f.type] for f in msgspec.structs.fields(kind) if f.type in values}
    fields |= {"run_id": "run", "seq": 7}

    found = events_of(encode_records("run", 7, [kind(**fields), kind(**fields)]))

    assert found == [kind(**fields), kind(**{**fields, "seq": 8})]


def test_few_records_make_one_row():
    row = (0, 1, 4, 0, 1, 2, 3, "x")
    records = [TaskSkipped(instance=1, reason=""), AttemptRows([row, row]), AttemptRows([row])]

    (found,) = encode_records("run", 5, records)

    assert (found.kind, found.first_seq, found.n) == (PACK_KIND, 5, 4)


def test_lone_event_keeps_a_row_of_its_kind():
    (found,) = encode_records("run", 0, [RunStateChanged(state="paused")])

    assert found.kind == "run_state"


def test_long_texts_do_not_join_a_pack():
    retry = RetryScheduled(instance=0, attempt=2, delay_s=1.0, due_ns=5)
    failed = AttemptFailed(instance=0, attempt=1, failure="error", traceback="t" * 9)
    log = LogChunk(instance=0, attempt=1, stream="stdout", text="x")

    rows = list(encode_records("run", 0, [retry, retry, failed, log, retry, retry]))

    assert [row.kind for row in rows] == ["pack", "attempt_failed", "log", "pack"]
    assert [row.first_seq for row in rows] == [0, 2, 3, 4]


def test_packs_are_bounded():
    rows = list(encode_records("run", 0, [TaskSkipped(instance=0, reason="")] * (MAX_PACKED + 1)))

    assert [row.n for row in rows] == [MAX_PACKED, 1]


def test_output_no_record_can_hold_does_not_cost_the_others():
    good, bad = (0, 1, 4, 0, 1, 2, 3, "x"), (1, 1, 4, 0, 1, 2, 3, 2**70)
    skipped = TaskSkipped(instance=2, reason="")

    found = events_of(encode_records("run", 0, [AttemptRows([good, bad]), skipped]))

    assert [event.output for event in found[:2]] == ["x", ABSENT]
    assert found[2].instance == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc0",
        msgspec.msgpack.encode([5]),
        msgspec.msgpack.encode([[[1, 2]]]),
        msgspec.msgpack.encode([{"reason": ""}]),
        msgspec.msgpack.encode([{"kind": "task_skipped", "instance": "x", "reason": ""}]),
        msgspec.msgpack.encode([{"kind": "run_state", "state": "paused"}]),
    ],
    ids=["empty", "none", "number", "short row", "no kind", "wrong type", "too few"],
)
def test_damaged_pack_is_an_error_that_names_run_and_record(body):
    with pytest.raises(StorageError, match=r"record 3 .*of run run"):
        list(decode_row(seal_row("run", 3, 2, PACK_KIND, body)))


def test_kinds_of_newer_versions_in_a_pack_are_kept():
    entries = [{"kind": "dreamt", "x": 1}, {"kind": "run_state", "state": "paused"}]

    first, second = decode_row(seal_row("run", 0, 2, PACK_KIND, msgspec.msgpack.encode(entries)))

    assert (first.original_kind, first.body["x"], first.seq) == ("dreamt", 1, 0)
    assert (second.state, second.seq) == ("paused", 1)


def test_state_code_of_a_newer_version_is_unknown():
    body = msgspec.msgpack.encode([[[0, 1, 99, 0, 1, 2, 3, None]]])

    (event,) = decode_row(seal_row("run", 0, 1, PACK_KIND, body))

    assert event.state == "unknown"
