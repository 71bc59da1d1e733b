"""The row ``runs`` keeps of each run, so that lists and views need not read its records."""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

import msgspec

from flowbuilder.errors import StorageError
from flowbuilder.vocabulary import FINAL_RUN_STATES, TASK_STATES, RunState

__all__ = ["Progress", "ProgressRow", "decode_progress", "encode_progress"]


class Progress(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """How far a run has come: a fold of its records. Stored by position: append fields only."""

    run_id: str
    workflow: str
    fingerprint: str
    plan_id: str
    path: str = ""
    task_count: int = 0
    parent_run_id: str = ""
    durability: str = "run"
    state: str = RunState.PENDING
    error: str = ""
    error_task: str = ""
    owner: str = ""
    owner_host: str = ""
    owner_pid: int = 0
    started_wall_ns: int = 0
    updated_wall_ns: int = 0
    ended_wall_ns: int = 0
    """0 while the run is not final."""
    anchor_wall_ns: int = 0
    anchor_monotonic_ns: int = 0
    """The two clocks of the process that drives the run, read at once."""
    counts: tuple[int, ...] = ()
    """TaskRuns per state, by state code."""
    last_seq: int = -1

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self.state in FINAL_RUN_STATES

    def named_counts(self) -> dict[str, int]:
        """Give the counts by state name, without zeros."""
        pairs = zip(TASK_STATES, self.counts, strict=False)
        return {str(state): count for state, count in pairs if count}


class ProgressRow(NamedTuple):
    """One row of the table ``runs``, without its number."""

    run_id: str
    workflow: str
    state: str
    owner: str
    last_seq: int
    crc32: int
    progress: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Progress)


def encode_progress(progress: Progress) -> ProgressRow:
    """Encode a run's progress with a checksum over all of it."""
    body = _encoder.encode(progress)
    columns = (
        progress.run_id,
        progress.workflow,
        progress.state,
        progress.owner,
        progress.last_seq,
    )
    return ProgressRow(*columns, _seal(columns, body), body)


def _seal(columns: tuple[str | int, ...], body: bytes) -> int:
    return crc32(body, crc32("\0".join(map(str, columns)).encode()))


def decode_progress(row: ProgressRow) -> Progress:
    """Read a run's progress.

    Raises
    ------
    StorageError
        If the row is damaged.
    """
    if _seal(row[:5], row.progress) == row.crc32:
        try:
            return _decoder.decode(row.progress)
        except (msgspec.MsgspecError, ValueError):
            pass
    raise StorageError(
        f"the journal is damaged: the summary of run {row.run_id} does not match its checksum",
        hint="its records may be intact; restore the store from a copy to have the summary",
    )
