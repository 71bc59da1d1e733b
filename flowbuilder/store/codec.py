"""Records as journal rows and back, each sealed with a checksum over its body and its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from flowbuilder.errors import StorageError
from flowbuilder.records import (
    EVENT_TYPES,
    AttemptBlock,
    AttemptRows,
    Event,
    Record,
    RunHeader,
    UnknownEvent,
    VersionHeader,
)
from flowbuilder.store.block_codec import decode_block, encode_block, unfold_block
from flowbuilder.store.extensions import (
    ENCODING_ERRORS,
    UNSTORED_EXT,
    from_extension,
    to_extension,
)
from flowbuilder.store.pack_codec import MAX_PACKED, encode_pack, is_packable, unfold_pack

__all__ = [
    "BLOCK_KIND",
    "HEADER_KIND",
    "HEADER_SEQ",
    "PACK_KIND",
    "RECORD_VERSION",
    "Row",
    "check_seal",
    "count_of",
    "damaged_row",
    "decode_header",
    "decode_row",
    "decode_version",
    "encode_header",
    "encode_record",
    "encode_records",
    "encode_version",
    "seal_row",
]

RECORD_VERSION: Final = 1
"""Version of the bodies written here: raised by a change of meaning, not by a new field."""

BLOCK_KIND: Final = "block"
PACK_KIND: Final = "pack"
HEADER_KIND: Final = "header"
HEADER_SEQ: Final = -1
"""Place of a run's header row: before its first record, counting for none."""

_MAX_DEPTH = 64
_MAX_SHOWN = 1000


class Row(NamedTuple):
    """One row of the table ``journal``, without its ``pos``."""

    run_id: str
    first_seq: int
    n: int
    kind: str
    schema_version: int
    crc32: int
    body: bytes


_encoder = msgspec.msgpack.Encoder(enc_hook=to_extension)
_header_encoder = msgspec.msgpack.Encoder(
    enc_hook=lambda value: msgspec.msgpack.Ext(UNSTORED_EXT, type(value).__name__.encode())
)
_KINDS: Final[Mapping[type[Event], str]] = {
    cls: str(cls.__struct_config__.tag) for cls in EVENT_TYPES
}
_decoders: Final = {
    kind: msgspec.msgpack.Decoder(cls, ext_hook=from_extension) for cls, kind in _KINDS.items()
}
_plain_decoder = msgspec.msgpack.Decoder(ext_hook=from_extension)
_header_decoder = msgspec.msgpack.Decoder(RunHeader, ext_hook=from_extension)
_version_decoder = msgspec.msgpack.Decoder(VersionHeader)


def encode_records(run_id: str, seq: int, records: Sequence[Record]) -> Iterator[Row]:
    """Encode records that begin at ``seq``, in as few rows as is cheap: small ones that follow each
    other share one.
    """
    start, count = 0, len(records)
    while start < count:
        end = start
        while end < count and end - start < MAX_PACKED and is_packable(records[end]):
            end += 1
        if end - start < 2 and not isinstance(records[start], AttemptRows):
            rows = [encode_record(run_id, seq, records[start])]
            start += 1
        else:
            rows = _encode_together(run_id, seq, records[start:end])
            start = end
        yield from rows
        seq = rows[-1].first_seq + rows[-1].n


def _encode_together(run_id: str, seq: int, records: Sequence[Record]) -> list[Row]:
    try:
        body = encode_pack(records)
    except ENCODING_ERRORS:
        # One value that msgpack cannot hold must not cost the others.
        rows: list[Row] = []
        for record in records:
            rows.append(encode_record(run_id, seq, record))
            seq += rows[-1].n
        return rows
    return [seal_row(run_id, seq, sum(map(count_of, records)), PACK_KIND, body)]


def count_of(record: Record) -> int:
    """Say how many facts a record holds."""
    return 1 if isinstance(record, Event) else len(record)


def encode_record(run_id: str, seq: int, record: Record) -> Row:
    """Encode one record that begins at ``seq``; what msgpack cannot hold is replaced by text."""
    if isinstance(record, AttemptRows):
        record = record.to_block()
    if isinstance(record, AttemptBlock):
        return seal_row(run_id, seq, len(record), BLOCK_KIND, encode_block(record))
    if isinstance(record, UnknownEvent):
        return seal_row(run_id, seq, 1, record.original_kind, _encoder.encode(record.body))
    return seal_row(run_id, seq, 1, _KINDS[type(record)], _encode_event(record))


def _encode_event(event: Event) -> bytes:
    try:
        return _encoder.encode(event)
    except ENCODING_ERRORS:
        fields = {name: _printable(getattr(event, name)) for name in event.__struct_fields__}
        return _encoder.encode({"kind": _KINDS[type(event)], **fields})


def _printable(value: object, depth: int = 0) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        return {str(_printable(str(k))): _printable(v, depth + 1) for k, v in value.items()}
    try:
        _encoder.encode(value)
    except ENCODING_ERRORS:
        return _printable(_shown(value))
    return value


def _shown(value: object) -> str:
    try:
        return repr(value)[:_MAX_SHOWN]
    except Exception:  # a huge int refuses, and a class of the user may do anything
        return f"<{type(value).__name__}>"


def encode_header(header: RunHeader) -> Row:
    """Encode a run's header. Parameters msgpack cannot hold keep their name and type only."""
    try:
        body = _header_encoder.encode(header)
    except ENCODING_ERRORS:
        params = {str(_printable(str(k))): _printable(v) for k, v in header.params.items()}
        body = _header_encoder.encode(msgspec.structs.replace(header, params=params))
    return seal_row(header.run_id, HEADER_SEQ, 0, HEADER_KIND, body)


def encode_version(version: VersionHeader) -> tuple[str, str, str, int, bytes]:
    """Encode a workflow version as a row of the table ``versions``."""
    try:
        body = _encoder.encode(version)
    except ENCODING_ERRORS:
        body = _encoder.encode(_printable(msgspec.structs.asdict(version)))
    name = str(_printable(version.name))
    return (version.plan_id, version.fingerprint, name, crc32(body), body)


def seal_row(run_id: str, first_seq: int, n: int, kind: str, body: bytes) -> Row:
    """Make a row with its checksum."""
    seal = crc32(body, _seal_place(run_id, first_seq, n, kind, RECORD_VERSION))
    return Row(run_id, first_seq, n, kind, RECORD_VERSION, seal, body)


def _seal_place(run_id: str, first_seq: int, n: int, kind: str, version: int) -> int:
    return crc32(f"{run_id} {first_seq} {n} {kind} {version}".encode())


def check_seal(row: Row) -> None:
    """Make sure a row is as it was written.

    Raises
    ------
    StorageError
        If its checksum differs; the message names the run and the place.
    """
    place = _seal_place(row.run_id, row.first_seq, row.n, row.kind, row.schema_version)
    if crc32(row.body, place) != row.crc32:
        raise damaged_row(row, "its checksum differs")


def damaged_row(row: Row, reason: str) -> StorageError:
    """Make the error for a row that is not as it was written."""
    return StorageError(
        f"the journal is damaged at record {row.first_seq} ({row.kind!r}) of run"
        f" {row.run_id}: {reason}",
        hint="earlier records of the run are intact; the rest needs a copy of the store",
    )


def decode_row(row: Row) -> Iterator[Event]:
    """Read a row's events in order. Kinds this version does not know become `UnknownEvent`.

    Raises
    ------
    StorageError
        If the row is damaged.
    """
    check_seal(row)
    try:
        if row.kind == BLOCK_KIND:
            yield from unfold_block(decode_block(row.body), row.run_id, row.first_seq)
        elif row.kind == PACK_KIND:
            yield from _unfold_pack(row)
        elif row.n:
            yield _decode_event(row)
    except (msgspec.MsgspecError, ValueError) as error:
        if row.schema_version <= RECORD_VERSION:
            raise damaged_row(row, str(error)) from error
        yield _unknown(row)


def _unfold_pack(row: Row) -> Iterator[Event]:
    count = 0
    for event in unfold_pack(
        row.body,
        row.run_id,
        row.first_seq,
        lambda kind, body, seq: _decode_event(row._replace(kind=kind, body=body, first_seq=seq)),
    ):
        yield event
        count += 1
    if count != row.n:
        raise ValueError(f"expected {row.n} records in a pack, found {count}")


def _decode_event(row: Row) -> Event:
    decoder = _decoders.get(row.kind)
    if decoder is None:
        return _unknown(row)
    event = decoder.decode(row.body)
    event.run_id = row.run_id
    event.seq = row.first_seq
    return event


def _unknown(row: Row) -> UnknownEvent:
    try:
        body = _plain_decoder.decode(row.body)
    except (msgspec.MsgspecError, ValueError):
        body = row.body
    if not isinstance(body, dict):
        body = {"body": body}
    time_ns = body.get("time_ns", 0)
    return UnknownEvent(
        run_id=row.run_id,
        seq=row.first_seq,
        time_ns=time_ns if isinstance(time_ns, int) else 0,
        original_kind=row.kind,
        body=body,
    )


def decode_header(row: Row) -> RunHeader:
    """Read a run's header.

    Raises
    ------
    StorageError
        If the row is damaged.
    """
    check_seal(row)
    try:
        return _header_decoder.decode(row.body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise damaged_row(row, str(error)) from error


def decode_version(plan_id: str, seal: int, body: bytes) -> VersionHeader:
    """Read a workflow version.

    Raises
    ------
    StorageError
        If it is damaged.
    """
    try:
        if crc32(body) == seal:
            return _version_decoder.decode(body)
        reason = "its checksum differs"
    except (msgspec.MsgspecError, ValueError) as error:
        reason = str(error)
    raise StorageError(f"the stored workflow version {plan_id} is damaged: {reason}")
