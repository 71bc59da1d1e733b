"""Rows, their seals, and records of other versions."""

from __future__ import annotations

import msgspec
import pytest

from flowbuilder.errors import StorageError
from flowbuilder.records import (
    ABSENT,
    EVENT_TYPES,
    AttemptFinished,
    LogChunk,
    RunCreated,
    RunStateChanged,
    UnknownEvent,
)
from flowbuilder.store.codec import (
    RECORD_VERSION,
    Row,
    decode_row,
    decode_version,
    encode_record,
    encode_version,
    seal_row,
)

SAMPLES = {int: 7, str: "text", float: 0.5, bool: True, dict: {"k": "v"}}


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda k: k.__name__)
def test_every_kind_of_event_comes_back_equal(kind):
    fields = {}
    for field in msgspec.structs.fields(kind):
        if field.name not in {"run_id", "seq"}:
            origin = getattr(field.type, "__origin__", field.type)
            fields[field.name] = SAMPLES.get(origin, [1, {"x": None}])
    event = kind(**fields)

    (found,) = decode_row(encode_record("run", 3, event))

    assert (found.run_id, found.seq) == ("run", 3)
    found.run_id, found.seq = "", -1
    assert found == event


@pytest.mark.parametrize("output", [ABSENT, None, 5, {"a": [b"x"]}])
def test_finished_attempt_as_a_single_event_keeps_its_output(output):
    event = AttemptFinished(instance=1, attempt=1, state="succeeded", output=output)

    (found,) = decode_row(encode_record("run", 0, event))

    assert found.output == output
    assert (found.output is ABSENT) == (output is ABSENT)


def test_unknown_kind_is_kept_whole_and_written_back_alike():
    row = seal_row("run", 4, 1, "dreamt", msgspec.msgpack.encode({"kind": "dreamt", "x": [1]}))

    (found,) = decode_row(row)

    assert isinstance(found, UnknownEvent)
    assert (found.original_kind, found.body) == ("dreamt", {"kind": "dreamt", "x": [1]})
    assert encode_record("run", 4, found) == row


def test_unknown_fields_are_ignored():
    body = msgspec.msgpack.encode({"kind": "run_state", "state": "paused", "mood": "good"})

    (found,) = decode_row(seal_row("run", 0, 1, "run_state", body))

    assert found == RunStateChanged(run_id="run", seq=0, state="paused")


def newer_row(kind: str, body: bytes) -> Row:
    from zlib import crc32

    version = RECORD_VERSION + 1
    seal = crc32(body, crc32(f"run 0 1 {kind} {version}".encode()))
    return Row("run", 0, 1, kind, version, seal, body)


def test_newer_meaning_of_a_known_kind_is_kept_as_unknown():
    body = msgspec.msgpack.encode({"kind": "run_state", "state": 5})

    (found,) = decode_row(newer_row("run_state", body))

    assert isinstance(found, UnknownEvent)
    assert found.body["state"] == 5


def test_body_that_does_not_fit_our_own_version_is_damage():
    body = msgspec.msgpack.encode({"kind": "run_state", "state": 5})

    with pytest.raises(StorageError, match="damaged at record 0"):
        list(decode_row(seal_row("run", 0, 1, "run_state", body)))


@pytest.mark.parametrize("field", range(7))
def test_every_field_of_a_row_is_sealed(field):
    row = encode_record("run", 3, LogChunk(instance=0, attempt=1, stream="stdout", text="hi"))
    values = list(row)
    changed = {0: "ran", 1: 4, 2: 2, 3: "run_state", 4: 0, 5: values[5] ^ 1, 6: row.body + b"\0"}
    values[field] = changed[field]

    with pytest.raises(StorageError, match="checksum"):
        list(decode_row(Row(*values)))


def test_event_that_msgpack_cannot_hold_is_written_as_text():
    event = RunCreated(wall_ns=2**90, monotonic_ns=1, owner="\udcff", reasons={"\ud800": "x"})

    row = encode_record("run", 0, event)

    assert b"1237940039285380274899124224" in row.body
    assert b"\\udcff" in row.body


def test_version_comes_back_equal_and_its_damage_is_seen(make):
    version = make.version(20)
    plan_id, _, _, seal, body = encode_version(version)

    assert decode_version(plan_id, seal, body) == version
    with pytest.raises(StorageError, match="damaged"):
        decode_version(plan_id, seal, body[:-1])
