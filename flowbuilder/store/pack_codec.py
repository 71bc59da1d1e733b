"""Small records that follow each other in one run as one body, and back.

A short run makes a handful of records, and a row each would cost more than the run: a checksum, a
statement's worth of values, an index entry. A *pack* is a msgpack array whose entries are an event
(a map, told apart by its ``kind``) or the rows of a few finished attempts (an array).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from flowbuilder.records import (
    AttemptBlock,
    AttemptFailed,
    AttemptFinished,
    AttemptRows,
    Event,
    LogChunk,
    Record,
    Row,
    UnknownEvent,
)
from flowbuilder.store.block_codec import known_code
from flowbuilder.store.extensions import from_extension, to_extension
from flowbuilder.vocabulary import TASK_STATES

__all__ = ["MAX_PACKED", "encode_pack", "is_packable", "unfold_pack"]

MAX_PACKED: Final = 256
"""Records of one pack."""


_encoder = msgspec.msgpack.Encoder(enc_hook=to_extension)
_entries_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])
_rows_decoder = msgspec.msgpack.Decoder(list[Row], ext_hook=from_extension)


class _Kind(msgspec.Struct):
    kind: str


_kind_decoder = msgspec.msgpack.Decoder(_Kind)


def is_packable(record: Record) -> bool:
    """Whether a record is small enough to share a row."""
    if isinstance(record, LogChunk | AttemptFailed):
        # Texts may be long; a row of their own can be found by its kind.
        return False
    return not isinstance(record, AttemptBlock | UnknownEvent)


def encode_pack(records: Sequence[Record]) -> bytes:
    """Encode records in one go.

    Raises
    ------
    ENCODING_ERRORS
        If one of them holds what msgpack cannot.
    """
    return _encoder.encode(
        [record.rows if isinstance(record, AttemptRows) else record for record in records]
    )


def unfold_pack(
    body: bytes, run_id: str, first_seq: int, decode_event: Callable[[str, bytes, int], Event]
) -> Iterator[Event]:
    """Give the events of a pack, numbered from ``first_seq``.

    Parameters
    ----------
    body : bytes
        What `encode_pack` gave.
    run_id : str
        Whose records they are.
    first_seq : int
        Number of the first one.
    decode_event : callable
        ``decode_event(kind, body, seq)`` reads one event.

    Raises
    ------
    ValueError
        If it is not a pack.
    """
    seq = first_seq
    for raw in _entries_decoder.decode(body):
        entry = bytes(raw)
        if _is_array(entry):
            for event in _unfold_rows(_rows_decoder.decode(entry), run_id, seq):
                yield event
                seq += 1
        else:
            yield decode_event(_kind_decoder.decode(entry).kind, entry, seq)
            seq += 1


def _is_array(entry: bytes) -> bool:
    return 0x90 <= entry[0] <= 0x9F or entry[0] in {0xDC, 0xDD}


def _unfold_rows(rows: Iterable[Row], run_id: str, first_seq: int) -> Iterator[AttemptFinished]:
    for seq, (instance, attempt, code, worker, ready, start, end, output) in enumerate(
        rows, first_seq
    ):
        yield AttemptFinished(
            run_id=run_id,
            seq=seq,
            time_ns=end,
            instance=instance,
            attempt=attempt,
            state=TASK_STATES[known_code(code)],
            worker=worker,
            ready_ns=ready,
            start_ns=start,
            end_ns=end,
            output=output,
        )
