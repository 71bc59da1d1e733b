"""Everything one transaction writes, collected from live runs, and the statements that write it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from zlib import crc32

import apsw

from flowbuilder.records import (
    ArtifactStored,
    Event,
    Record,
    RunCreated,
    VersionHeader,
    WorkflowCreated,
)
from flowbuilder.store.codec import HEADER_KIND, Row, encode_header, encode_records, encode_version
from flowbuilder.store.live_run import LiveRun
from flowbuilder.store.progress import ProgressRow, encode_progress

__all__ = ["Batch", "rollback", "write_batch"]


class Batch:
    """Rows of one transaction. A run joins before anything of it changes, so all can be undone."""

    def __init__(self) -> None:
        self.runs: dict[LiveRun, None] = {}
        self.rows: list[Row] = []
        self.positions: dict[str, int] = {}
        """Run id -> position of its header row, which is the key of its row in ``runs``."""
        self.progress: list[ProgressRow] = []
        self.versions: list[tuple[str, str, str, int, bytes]] = []
        self.snapshots: list[tuple[str, int, int, bytes]] = []
        self.artifacts: list[tuple[object, ...]] = []

    @property
    def size_bytes(self) -> int:
        """Bytes of the bodies, roughly what the log grows by."""
        return sum(len(row.body) for row in self.rows) + 4096 * (1 + len(self.progress))

    def join(self, run: LiveRun) -> None:
        """Let a run take part; a second time changes nothing."""
        if run not in self.runs:
            self.runs[run] = None
            run.mark()
            if run.pos:
                self.positions[run.run_id] = run.pos

    def add_records(self, run: LiveRun, is_new_workflow: Callable[[str], bool]) -> None:
        """Encode everything taken from a run that joined, and fold it into the run's progress."""
        records = [record for record in run.taken if isinstance(record, Event) or len(record)]
        if not records:
            return
        projection = run.projection
        if run.header is not None and run.version is not None:
            self.rows.append(encode_header(run.header))
            fact = self._add_version(run.version, is_new_workflow, records[0])
            if fact is not None:
                records.insert(1, fact)
        self.rows.extend(encode_records(run.run_id, projection.next_seq, records))
        for record in records:
            projection.fold(record)
            if isinstance(record, ArtifactStored):
                self.artifacts.append(_artifact_row(run.run_id, record))
        self.progress.append(encode_progress(projection.row()))
        if projection.is_snapshot_due:
            self._add_snapshot(run)

    def drop(self, run_id: str) -> None:
        """Leave out what was encoded of a run."""
        self.rows[:] = [row for row in self.rows if row.run_id != run_id]
        self.progress[:] = [row for row in self.progress if row.run_id != run_id]
        self.artifacts[:] = [row for row in self.artifacts if row[0] != run_id]

    def _add_version(
        self, version: VersionHeader, is_new_workflow: Callable[[str], bool], first: Record
    ) -> WorkflowCreated | None:
        is_known = any(row[0] == version.plan_id for row in self.versions)
        if is_known or not is_new_workflow(version.plan_id):
            return None
        self.versions.append(encode_version(version))
        time_ns = first.monotonic_ns if isinstance(first, RunCreated) else 0
        return WorkflowCreated(fingerprint=version.fingerprint, name=version.name, time_ns=time_ns)

    def _add_snapshot(self, run: LiveRun) -> None:
        projection = run.projection
        projection.snapshot_seq = projection.next_seq
        states = bytes(projection.states)
        seq = projection.next_seq - 1
        self.snapshots.append((run.run_id, seq, seal_snapshot(run.run_id, seq, states), states))


def seal_snapshot(run_id: str, seq: int, states: bytes) -> int:
    """Compute the checksum of a snapshot and its place."""
    return crc32(states, crc32(f"{run_id} {seq}".encode()))


def _artifact_row(run_id: str, record: ArtifactStored) -> tuple[object, ...]:
    return (
        run_id,
        record.instance,
        record.attempt,
        record.name,
        f"{record.format}+{record.cipher}" if record.cipher else record.format,
        record.path,
        record.size_bytes,
        record.digest,
        record.type_name,
        record.num_rows,
    )


def write_batch(connection: apsw.Connection, batch: Batch) -> None:
    """Write a batch in one transaction and return once it is on disk.

    Raises
    ------
    apsw.Error
        If a statement fails; nothing of the batch is written then.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        write_rows(connection, batch)
        connection.execute("COMMIT")
    except BaseException:
        rollback(connection)
        raise


def write_rows(connection: apsw.Connection, batch: Batch) -> None:
    """Run the statements of a batch inside the caller's transaction."""
    if batch.versions:
        _insert(connection, _INSERT_VERSION, batch.versions)
    pos = _last_position(connection)
    rows = []
    for row in batch.rows:
        pos += 1
        rows.append((pos, *row))
        if row.kind == HEADER_KIND:
            batch.positions[row.run_id] = pos
    _insert(connection, _INSERT_JOURNAL, rows)
    runs = [(batch.positions[row.run_id], *row) for row in batch.progress]
    _insert(connection, _UPSERT_RUN, runs)
    if batch.artifacts:
        _insert(connection, _INSERT_ARTIFACT, batch.artifacts)
    if batch.snapshots:
        _insert(connection, _INSERT_SNAPSHOT, batch.snapshots)


def _last_position(connection: apsw.Connection) -> int:
    query = "SELECT seq FROM sqlite_sequence WHERE name = 'journal'"
    found = next(connection.execute(query), None)
    return found[0] if found is not None and isinstance(found[0], int) else 0


def rollback(connection: apsw.Connection) -> None:
    """Undo what an unfinished transaction did, if there is one."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


_INSERT_VERSION = ("INSERT OR IGNORE INTO versions VALUES ", 5, "")
_INSERT_JOURNAL = ("INSERT INTO journal VALUES ", 8, "")
_UPSERT_RUN = (
    "INSERT INTO runs VALUES ",
    8,
    (
        " ON CONFLICT (pos) DO UPDATE SET state = excluded.state, owner = excluded.owner,"
        " last_seq = excluded.last_seq, crc32 = excluded.crc32, progress = excluded.progress"
    ),
)
_INSERT_ARTIFACT = ("INSERT OR REPLACE INTO artifacts VALUES ", 10, "")
_INSERT_SNAPSHOT = ("INSERT OR REPLACE INTO snapshots VALUES ", 4, "")

# Rows per statement. A statement gives up the interpreter lock once and must win it back, which
# takes 5 ms beside code that hogs it: many rows in few statements. Few sizes, so that all stay in
# apsw's statement cache.
_ROWS_PER_STATEMENT: Final = (512, 64, 8, 4, 2, 1)


def _insert(
    connection: apsw.Connection,
    statement: tuple[str, int, str],
    rows: Sequence[tuple[object, ...]],
) -> None:
    place = 0
    left = len(rows)
    for size in _ROWS_PER_STATEMENT:
        while left >= size:
            chunk = rows[place : place + size]
            values = [value for row in chunk for value in row]
            connection.execute(_statement(statement, size), values)
            place += size
            left -= size


_statements: dict[tuple[str, int], str] = {}


def _statement(parts: tuple[str, int, str], size: int) -> str:
    head, width, tail = parts
    text = _statements.get((head, size))
    if text is None:
        row = "(" + ", ".join("?" * width) + ")"
        text = _statements[head, size] = head + ", ".join([row] * size) + tail
    return text
