"""Everything one transaction writes, collected from live runs."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from flowbuilder.records import (
    ArtifactStored,
    Event,
    Record,
    RunCreated,
    VersionHeader,
    WorkflowCreated,
)
from flowbuilder.store.codec import Row, encode_header, encode_records, encode_version
from flowbuilder.store.live_run import LiveRun
from flowbuilder.store.progress import ProgressRow, encode_progress

__all__ = ["Batch", "artifact_row", "seal_snapshot"]


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
        return sum(len(row.body) for row in self.rows) + 8192 + 512 * len(self.progress)

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
                self.artifacts.append(artifact_row(run.run_id, record))
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


def artifact_row(run_id: str, record: ArtifactStored) -> tuple[object, ...]:
    """Give the row of the table ``artifacts`` for a stored output."""
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
