"""Taking over a run: one compare-and-set that exactly one process can win."""

from __future__ import annotations

from collections.abc import Callable

from flowbuilder.errors import RecoveryError
from flowbuilder.records import RunCreated
from flowbuilder.store.batch import Batch
from flowbuilder.store.catalogue import (
    read_progress,
    read_snapshot,
    read_version,
    run_position,
)
from flowbuilder.store.codec import decode_header, encode_record
from flowbuilder.store.progress import Progress, encode_progress
from flowbuilder.store.projection import Projection
from flowbuilder.store.reading import header_row, rows_in_transaction
from flowbuilder.store.replay import Replay
from flowbuilder.store.writing import JournalWriter, SqlConnection
from flowbuilder.vocabulary import RunState

__all__ = ["adopt"]


def adopt(
    writer: JournalWriter,
    run_id: str,
    created: RunCreated,
    is_alive: Callable[[str], bool],
) -> tuple[int, Projection]:
    """Make ``created.owner`` the owner of a run, durably; return its position and progress.

    The check and the change are one write transaction, so of two processes that try, the second
    finds the first alive.

    Raises
    ------
    RecoveryError
        If the run's owner lives, or the run succeeded.
    StorageError
        If the run does not exist or is damaged.
    """
    with writer.transaction() as connection:
        progress = read_progress(connection, run_id)
        _check_adoptable(progress, created.owner, is_alive)
        projection = _projection_of(connection, progress)
        batch = Batch()
        pos = batch.positions[run_id] = run_position(connection, run_id)
        batch.rows.append(encode_record(run_id, projection.next_seq, created))
        projection.fold(created)
        batch.progress.append(encode_progress(projection.row()))
        writer.write_rows(batch)
    return pos, projection


def _check_adoptable(progress: Progress, new_owner: str, is_alive: Callable[[str], bool]) -> None:
    if progress.state == RunState.SUCCEEDED:
        raise RecoveryError(
            f"run {progress.run_id} has succeeded: there is nothing left to resume",
            hint="run the workflow again",
        )
    if progress.is_final or progress.owner == new_owner or not is_alive(progress.owner):
        return
    raise RecoveryError(
        f"run {progress.run_id} is alive in process {progress.owner_pid} on"
        f" {progress.owner_host or 'this machine'}",
        hint="wait for it, or cancel it there first",
    )


def _projection_of(connection: SqlConnection, progress: Progress) -> Projection:
    header = decode_header(header_row(connection, progress.run_id))
    version = read_version(connection, header.plan_id)
    replay = Replay(header, len(version.keys))
    snapshot = read_snapshot(connection, progress.run_id)
    after = -1
    if snapshot is not None:
        after, states = snapshot
        replay.begin_with(states)
    replay.fold(rows_in_transaction(connection, progress.run_id, after))
    return Projection.after(progress, replay.states)
