"""Closing months: every record of every run that began in one, as Parquet that was checked.

A month is closed when it has ended, the grace has passed since, and every run that began in it is
final and has been so for the grace. Closing changes nothing in the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from flowbuilder.errors import StorageError
from flowbuilder.history.month_files import (
    Manifest,
    describe_file,
    read_manifest,
    remove_leftovers,
    write_manifest,
)
from flowbuilder.history.months import Months, month_schema
from flowbuilder.history.run_fold import PlanLabels, RunFold, RunRows
from flowbuilder.history.source import JournalSource
from flowbuilder.history.tables import TABLES, to_arrow
from flowbuilder.ids import short_id
from flowbuilder.records import Event, RunHeader, VersionHeader
from flowbuilder.store.codec import RECORD_VERSION, encode_header, encode_record, encode_version
from flowbuilder.store.ports import RunSummary
from flowbuilder.vocabulary import FINAL_RUN_STATES

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["KeptRun", "close_month", "month_of", "reason_to_wait", "runs_of_month", "write_month"]

_TABLES: Final = (*TABLES, "facts", "versions")
_FLUSH_FACTS: Final = 50_000
_ROW_GROUP: Final = 65_536


class KeptRun(msgspec.Struct, frozen=True):
    """Everything of one run."""

    summary: RunSummary
    header: RunHeader
    version: VersionHeader
    events: Iterable[Event]


def month_of(started_wall_ns: int) -> str:
    """Give the month an instant is in, as ``2026-05``, UTC."""
    return datetime.fromtimestamp(started_wall_ns // 1_000_000_000, UTC).strftime("%Y-%m")


def reason_to_wait(month: str, runs: Sequence[RunSummary], *, now_ns: int, grace_s: float) -> str:
    """Say in words why a month cannot be closed yet; empty if it can."""
    year, number = (int(part) for part in month.split("-"))
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    grace_ns = int(grace_s * 1e9)
    if now_ns < int(end.timestamp()) * 1_000_000_000 + grace_ns:
        return "it has not ended, or its grace has not passed"
    for run in runs:
        ref = short_id(run.run_id)
        if run.state not in FINAL_RUN_STATES:
            return f"run {ref} is {run.state.value}: end, resume or remove it first"
        if run.started_wall_ns + int(run.duration_s * 1e9) + grace_ns > now_ns:
            return f"run {ref} ended too recently"
    return ""


def close_month(
    months: Months, month: str, source: JournalSource, runs: Sequence[RunSummary]
) -> Manifest:
    """Write a month: runs of the journal, and those it held before that the journal has no more.

    Parameters
    ----------
    months : Months
        Where.
    month : str
        Which.
    source : JournalSource
        The journal.
    runs : sequence of RunSummary
        Those of the journal that began in the month.

    Raises
    ------
    StorageError
        If a run cannot be read, the disk refuses, or what was written does not read back equal;
        the month is then as it was.
    """
    mine = {run.run_id for run in runs}
    before = read_manifest(months.folder / month)
    earlier = [run for run in months.run_ids() if months.month_of(run) == month and run not in mine]
    return write_month(
        months, month, before, [*_of_journal(source, runs), *runs_of_month(months, earlier)]
    )


def write_month(
    months: Months, month: str, before: Manifest | None, runs: Sequence[KeptRun]
) -> Manifest:
    """Write a month with exactly these runs, check it, and make it count."""
    folder = months.folder / month
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_leftovers(folder, before)
        generation = before.generation + 1 if before is not None else 1
        with ExitStack() as stack:
            writer = _MonthWriter(folder, generation, stack)
            for run in sorted(runs, key=lambda run: run.header.run_id):
                writer.add(run)
            writer.flush()
        manifest = writer.manifest(month, len(runs))
        _check_equal(folder, manifest, writer.digest)
        write_manifest(folder, manifest)
    except OSError as error:
        raise StorageError(
            f"could not write month {month} in {folder}: {error.strerror or error}",
            hint="free some space; the journal is as it was",
        ) from error
    return manifest


def _of_journal(source: JournalSource, runs: Sequence[RunSummary]) -> Iterator[KeptRun]:
    for summary in runs:
        header = source.header(summary.run_id)
        if header is not None:
            version = source.version(header.plan_id)
            yield KeptRun(summary, header, version, source.events(summary.run_id))


def runs_of_month(months: Months, run_ids: Sequence[str]) -> Iterator[KeptRun]:
    """Iterate over runs that are in months already."""
    for summary in months.summaries(run_ids) if run_ids else ():
        version = months.version(summary.plan_id)
        if version is None:
            raise StorageError(f"the version {summary.plan_id} of a kept run is missing")
        header = months.header(summary.run_id)
        yield KeptRun(summary, header, version, months.events(summary.run_id))


class _MonthWriter:
    """Writes runs, a part at a time."""

    def __init__(self, folder: Path, generation: int, stack: ExitStack) -> None:
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        self.digest = blake2b(digest_size=32)
        self._generation = generation
        self._paths = {table: folder / f"{table}-{generation}.parquet" for table in _TABLES}
        self._writers = {
            table: stack.enter_context(
                pq.ParquetWriter(path, month_schema(table), compression="zstd")
            )
            for table, path in self._paths.items()
        }
        self._counts = dict.fromkeys(_TABLES, 0)
        self._labels: dict[str, PlanLabels] = {}
        self._clear()

    def _clear(self) -> None:
        self._rows = RunRows()
        self._runs: list[tuple[Any, ...]] = []
        self._extra: list[tuple[bytes, bytes]] = []
        self._facts: list[tuple[str, int, str, bytes]] = []
        self._versions: list[tuple[str, int, bytes]] = []

    def add(self, run: KeptRun) -> None:
        """Add a run."""
        fold = RunFold(run.header, self._labels_of(run.version), self._rows)
        for event in run.events:
            row = encode_record(run.header.run_id, event.seq, event)
            self._facts.append((row.run_id, row.first_seq, row.kind, row.body))
            fold.take(event)
            _note_fact(self.digest, self._facts[-1])
            if len(self._facts) >= _FLUSH_FACTS:
                self._write_facts()
        if fold.last_seq != run.summary.last_seq:
            raise StorageError(
                f"expected {run.summary.last_seq + 1} records of run {run.header.run_id}, found"
                f" {fold.last_seq + 1}: it changed meanwhile",
                hint="repeat",
            )
        self._runs.append(fold.row(run.summary.counts, run.summary.task_count))
        summary = msgspec.msgpack.encode(replace(run.summary, params={}))
        self._extra.append((encode_header(run.header).body, summary))
        if len(self._rows.tasks) + len(self._rows.events) >= _FLUSH_FACTS:
            self.flush()

    def _labels_of(self, version: VersionHeader) -> PlanLabels:
        found = self._labels.get(version.plan_id)
        if found is None:
            plan_id, _, _, seal, body = encode_version(version)
            self._versions.append((plan_id, seal, body))
            found = self._labels[version.plan_id] = PlanLabels(version)
        return found

    def _write_facts(self) -> None:
        self._write("facts", _table("facts", self._facts))
        self._facts = []

    def flush(self) -> None:
        """Write what was added."""
        self._write_facts()
        runs = to_arrow("runs", self._runs)
        headers, summaries = zip(*self._extra, strict=True) if self._extra else ((), ())
        for name, values in (("header", headers), ("summary", summaries)):
            field = month_schema("runs").field(name)
            runs = runs.append_column(field, [_array(values, field.type)])
        self._write("runs", runs)
        for table in ("tasks", "events", "artifacts", "metrics"):
            self._write(table, to_arrow(table, getattr(self._rows, table)))
        self._write("versions", _table("versions", self._versions))
        self._clear()

    def _write(self, table: str, rows: pa.Table) -> None:
        if rows.num_rows:
            self._writers[table].write_table(rows, row_group_size=_ROW_GROUP)
            self._counts[table] += rows.num_rows

    def manifest(self, month: str, runs: int) -> Manifest:
        """Describe the files, which must be closed."""
        files = {
            table: describe_file(path, self._counts[table]) for table, path in self._paths.items()
        }
        return Manifest(
            month=month,
            generation=self._generation,
            record_version=RECORD_VERSION,
            runs=runs,
            files=files,
        )


def _table(name: str, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    import pyarrow as pa

    schema = month_schema(name)
    if not rows:
        return schema.empty_table()
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: Sequence[bytes], kind: Any) -> Any:
    import pyarrow as pa

    return pa.array(values, kind)


def _note_fact(digest: Any, fact: tuple[str, int, str, bytes]) -> None:
    run_id, seq, kind, body = fact
    digest.update(f"{run_id} {seq} {kind} {len(body)} ".encode())
    digest.update(body)


def _check_equal(folder: Path, manifest: Manifest, expected: Any) -> None:
    """Read every fact back from the file: only what is there counts."""
    import pyarrow.parquet as pq

    digest = blake2b(digest_size=32)
    with pq.ParquetFile(folder / manifest.files["facts"].name) as file:
        for batch in file.iter_batches(_ROW_GROUP):
            for fact in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                _note_fact(digest, fact)
    if digest.digest() != expected.digest():
        raise StorageError(
            f"month {manifest.month} does not read back as it was written",
            hint="the journal is as it was; check the disk",
        )
