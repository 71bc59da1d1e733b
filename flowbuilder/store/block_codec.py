"""Attempt blocks as bytes and back: little-endian columns, omitted where they say nothing."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from flowbuilder.records import ABSENT, AttemptBlock, AttemptFinished
from flowbuilder.store.extensions import ENCODING_ERRORS, from_extension, to_extension
from flowbuilder.vocabulary import TASK_STATE_CODES, TASK_STATES, TaskState

__all__ = [
    "SUCCEEDED_CODE",
    "BlockColumns",
    "attempts_of",
    "decode_block",
    "encode_block",
    "first_of_range",
    "instances_of",
    "known_code",
    "state_codes_of",
    "unfold_block",
]

SUCCEEDED_CODE: Final = TASK_STATE_CODES[TaskState.SUCCEEDED]
_UNKNOWN_CODE = TASK_STATE_CODES[TaskState.UNKNOWN]
_KNOWN_CODES = bytes(c if c < len(TASK_STATES) else _UNKNOWN_CODE for c in range(256))
_IS_BIG_ENDIAN: Final = sys.byteorder == "big"


class BlockColumns(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The body of a block row. An absent column holds in every row what its comment says."""

    n: int
    i: bytes | None = None
    """Instances, int32; else ``first``, ``first + 1``, ..."""
    first: int = 0
    a: bytes | None = None
    """Attempts, int32; else 1."""
    s: bytes | None = None
    """State codes, uint8; else succeeded."""
    w: bytes | None = None
    """Workers, int16; else 0."""
    r: bytes | None = None
    """Ready times, int64; else the start times."""
    b: bytes | None = None
    """Start times, int64; else the previous row's end, and ``begin`` for the first row."""
    begin: int = 0
    e: bytes
    """End times, int64."""
    o: list[object] | None = None
    """Outputs: scalars, trees, or an extension for `ABSENT`; else None."""


_encoder = msgspec.msgpack.Encoder(enc_hook=to_extension)
_decoder = msgspec.msgpack.Decoder(BlockColumns, ext_hook=from_extension)


def encode_block(block: AttemptBlock) -> bytes:
    """Encode a block, at the cost of a memory copy of each column that says something.

    Raises
    ------
    ValueError
        If its columns differ in length.
    """
    count = len(block)
    _check_lengths(block, count)
    columns = BlockColumns(n=count, e=_to_bytes(block.ends_ns), begin=block.first_start_ns)
    first = first_of_range(block.instances)
    if first < 0:
        columns.i = _to_bytes(block.instances)
    else:
        columns.first = first
    if block.states is not None:
        _add_free_columns(columns, block)
    outputs = block.outputs
    if outputs is not None and outputs.count(None) != count:
        columns.o = outputs if isinstance(outputs, list) else list(outputs)
    try:
        return _encoder.encode(columns)
    except ENCODING_ERRORS:
        columns.o = [_storable(output) for output in outputs or ()]
        return _encoder.encode(columns)


def _check_lengths(block: AttemptBlock, count: int) -> None:
    for name in AttemptBlock.__slots__:
        column = getattr(block, name)
        if column is not None and name != "first_start_ns" and len(column) != count:
            raise ValueError(f"expected {count} values in {name!r}, found {len(column)}")


def _add_free_columns(columns: BlockColumns, block: AttemptBlock) -> None:
    count = columns.n
    assert block.states is not None
    states = block.states.tobytes()
    if states.count(SUCCEEDED_CODE) != count:
        columns.s = states
    if block.attempts is not None and block.attempts.count(1) != count:
        columns.a = _to_bytes(block.attempts)
    if block.workers is not None and block.workers.count(0) != count:
        columns.w = _to_bytes(block.workers)
    if block.starts_ns is not None:
        columns.b = _to_bytes(block.starts_ns)
    if block.readies_ns is not None and block.readies_ns != block.starts_ns:
        columns.r = _to_bytes(block.readies_ns)


def first_of_range(instances: array[int]) -> int:
    """Give the first instance if the column is an ascending run without gaps, else -1."""
    count = len(instances)
    if not count or instances[-1] - instances[0] != count - 1 or instances[0] < 0:
        return -1
    first = instances[0]
    return first if instances == array("i", range(first, first + count)) else -1


def _storable(output: object) -> object:
    # One value that msgpack cannot hold must not cost the other rows of its block.
    try:
        _encoder.encode(output)
    except ENCODING_ERRORS:
        return ABSENT
    return output


def decode_block(body: bytes) -> BlockColumns:
    """Read a block's columns.

    Raises
    ------
    ValueError
        If it is not a block, or its columns differ in length.
    """
    columns = _decoder.decode(body)
    count = columns.n
    widths = ((columns.i, 4), (columns.a, 4), (columns.s, 1), (columns.w, 2))
    times = ((columns.r, 8), (columns.b, 8), (columns.e, 8))
    for column, width in (*widths, *times):
        if column is not None and len(column) != count * width:
            raise ValueError(f"expected {count} values in a column, found {len(column)} bytes")
    if columns.o is not None and len(columns.o) != count:
        raise ValueError(f"expected {count} outputs, found {len(columns.o)}")
    return columns


def instances_of(columns: BlockColumns) -> Sequence[int]:
    """Give the instance of every row."""
    if columns.i is None:
        return range(columns.first, columns.first + columns.n)
    return _from_bytes("i", columns.i)


def attempts_of(columns: BlockColumns) -> Sequence[int]:
    """Give the attempt number of every row."""
    return [1] * columns.n if columns.a is None else _from_bytes("i", columns.a)


def state_codes_of(columns: BlockColumns) -> bytes:
    """Give the state code of every row; codes of newer versions become that of ``unknown``."""
    if columns.s is None:
        return bytes([SUCCEEDED_CODE]) * columns.n
    return columns.s.translate(_KNOWN_CODES)


def known_code(code: int) -> int:
    """Give a state code, or that of ``unknown`` for one of a newer version."""
    return code if 0 <= code < len(TASK_STATES) else _UNKNOWN_CODE


def unfold_block(columns: BlockColumns, run_id: str, first_seq: int) -> Iterator[AttemptFinished]:
    """Turn a block into one event per row, numbered from ``first_seq``."""
    count = columns.n
    ends = _from_bytes("q", columns.e)
    chain = (columns.begin, *ends[:-1])
    starts = chain if columns.b is None else _from_bytes("q", columns.b)
    readies = starts if columns.r is None else _from_bytes("q", columns.r)
    workers = [0] * count if columns.w is None else _from_bytes("h", columns.w)
    outputs = [None] * count if columns.o is None else columns.o
    rows = zip(
        instances_of(columns),
        attempts_of(columns),
        state_codes_of(columns),
        workers,
        readies,
        starts,
        ends,
        outputs,
        strict=True,
    )
    for seq, (instance, attempt, code, worker, ready, start, end, output) in enumerate(
        rows, first_seq
    ):
        yield AttemptFinished(
            run_id=run_id,
            seq=seq,
            time_ns=end,
            instance=instance,
            attempt=attempt,
            state=TASK_STATES[code],
            worker=worker,
            ready_ns=ready,
            start_ns=start,
            end_ns=end,
            output=output,
        )


def _to_bytes(column: array[int], *, is_big_endian: bool = _IS_BIG_ENDIAN) -> bytes:
    if is_big_endian:
        column = column[:]
        column.byteswap()
    return column.tobytes()


def _from_bytes(code: str, data: bytes, *, is_big_endian: bool = _IS_BIG_ENDIAN) -> array[int]:
    column: array[int] = array(code)
    column.frombytes(data)
    if is_big_endian:
        column.byteswap()
    return column
