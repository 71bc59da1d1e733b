"""Closed months: runs that were taken out of the journal, complete and readable.

``facts`` holds every record of every run as it was in the journal; the other tables are their
projection, so that other programs can read them and the history need not fold them again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from flowbuilder.errors import StorageError
from flowbuilder.history.month_files import Manifest, manifest_stamp, read_manifest
from flowbuilder.history.run_fold import PlanLabels
from flowbuilder.history.search_documents import RunTexts
from flowbuilder.history.tables import TABLES, arrow_schema
from flowbuilder.records import Event, RunHeader, VersionHeader
from flowbuilder.store.codec import (
    HEADER_KIND,
    HEADER_SEQ,
    decode_header,
    decode_row,
    decode_version,
    seal_row,
)
from flowbuilder.store.ports import RunSummary

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["Months", "month_schema"]

_BATCH_ROWS: Final = 262_144
_Found = TypeVar("_Found")


class Months:
    """The closed months of a store. Thread-safe; files never change, only manifests do.

    Parameters
    ----------
    folder : Path
        Holds one folder per month; need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._manifests: dict[str, tuple[object, Manifest | None]] = {}
        self._known: tuple[str, dict[str, tuple[str, int]]] = ("", {})

    def manifests(self) -> list[Manifest]:
        """Read the manifest of every closed month, oldest first.

        Raises
        ------
        StorageError
            If one is damaged.
        """
        found = []
        for name in self._names():
            path = self.folder / name
            stamp = manifest_stamp(path)
            known = self._manifests.get(name)
            if known is None or known[0] != stamp:
                known = self._manifests[name] = stamp, read_manifest(path)
            if known[1] is not None:
                found.append(known[1])
        return found

    def _names(self) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self.folder) if entry.is_dir())
        except OSError:
            return []

    def mark(self) -> str:
        """Say which months there are; a change of anything in them changes it."""
        return _mark_of(self.manifests())

    def last_seqs(self) -> Mapping[str, int]:
        """Give every run with its newest record."""
        return {run_id: seq for run_id, (_, seq) in self._runs().items()}

    def run_ids(self) -> list[str]:
        """List every run, oldest month first."""
        return list(self._runs())

    def run_ids_of(self, month: str) -> list[str]:
        """List the runs of a month."""
        return [run_id for run_id, (found, _) in self._runs().items() if found == month]

    def month_of(self, run_id: str) -> str:
        """Tell which month a run is in; empty if in none."""
        return self._runs().get(run_id, ("", 0))[0]

    def tables(self, run_ids: Sequence[str]) -> Iterator[Mapping[str, pa.Table]]:
        """Iterate over the projected rows of runs, a part of one table at a time."""
        for month in sorted({self.month_of(run_id) for run_id in run_ids}):
            for table in TABLES:
                for part in self._parts(month, table, run_ids):
                    names = list(TABLES[table])
                    yield {table: part.select(names).cast(arrow_schema(table))}

    def summary(self, run_id: str) -> RunSummary:
        """Describe a run."""
        return self.summaries([run_id])[0]

    def summaries(self, run_ids: Sequence[str]) -> list[RunSummary]:
        """Describe runs, newest first."""
        rows = self._rows("runs", run_ids, ["summary", "header"])
        found = [_read_summary(row) for row in rows]
        return sorted(found, key=lambda summary: summary.started_wall_ns, reverse=True)

    def header(self, run_id: str) -> RunHeader:
        """Read what a run was started with."""
        (row,) = self._rows("runs", [run_id], ["header"])
        return _read_header(run_id, row["header"])

    def version(self, plan_id: str) -> VersionHeader | None:
        """Read a workflow version that a kept run executed."""

        def read(manifest: Manifest) -> VersionHeader | None:
            found = self._read(manifest, "versions", [("plan_id", "=", plan_id)], None)
            return _read_version(found.to_pylist()[0]) if found.num_rows else None

        return self._first(read)

    def events(self, run_id: str) -> Iterator[Event]:
        """Iterate over a run's facts in order, read when the first is asked for.

        Raises
        ------
        StorageError
            If records are missing or damaged.
        """
        yield from self.facts([run_id])[run_id]

    def facts(self, run_ids: Sequence[str]) -> dict[str, list[Event]]:
        """Read the facts of several runs."""
        found: dict[str, list[Event]] = {run_id: [] for run_id in run_ids}
        for row in self._rows("facts", run_ids, ["run_id", "seq", "kind", "body"]):
            run_id, seq = row["run_id"], row["seq"]
            if seq != len(found[run_id]):
                raise StorageError(f"record {len(found[run_id])} of run {run_id} is missing")
            found[run_id].extend(decode_row(seal_row(run_id, seq, 1, row["kind"], row["body"])))
        for run_id, events in found.items():
            last = self._runs().get(run_id, ("", -1))[1]
            if len(events) != last + 1:
                raise StorageError(
                    f"expected {last + 1} records of run {run_id}, found {len(events)}"
                )
        return found

    def runs(self, run_ids: Iterable[str]) -> Iterator[tuple[RunTexts, list[Event]]]:
        """Iterate over runs with their facts, in the order given."""
        wanted = list(run_ids)
        facts = self.facts(wanted)
        rows = self._rows("runs", wanted, ["run_id", "header"])
        headers = {row["run_id"]: _read_header(row["run_id"], row["header"]) for row in rows}
        labels: dict[str, PlanLabels] = {}
        for run_id in wanted:
            plan_id = headers[run_id].plan_id
            if plan_id not in labels:
                version = self.version(plan_id)
                if version is None:
                    raise StorageError(f"the version {plan_id} of a kept run is missing")
                labels[plan_id] = PlanLabels(version)
            yield RunTexts(headers[run_id], labels[plan_id]), facts[run_id]

    def _runs(self) -> dict[str, tuple[str, int]]:
        """Run -> month and newest record; read again when a manifest changed."""
        manifests = self.manifests()
        mark = _mark_of(manifests)
        if self._known[0] != mark:
            found: dict[str, tuple[str, int]] = {}
            for manifest in manifests:
                table = self._read(manifest, "runs", None, ["run_id", "last_seq"])
                ids, seqs = (column.to_pylist() for column in table.columns)
                found.update(
                    (run_id, (manifest.month, seq)) for run_id, seq in zip(ids, seqs, strict=True)
                )
            self._known = mark, found
        return self._known[1]

    def _rows(self, table: str, run_ids: Sequence[str], columns: list[str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for month in sorted({self.month_of(run_id) for run_id in run_ids}):
            wanted = [run_id for run_id in run_ids if self.month_of(run_id) == month]
            read = partial(
                self._read, table=table, filters=[("run_id", "in", wanted)], columns=columns
            )
            rows += self._of_month(month, read).to_pylist()
        return rows

    def _parts(self, month: str, table: str, run_ids: Sequence[str]) -> Iterator[pa.Table]:
        import pyarrow as pa
        import pyarrow.compute as pc  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        wanted = pa.array(run_ids, pa.string())
        manifest = self._of_month(month, lambda manifest: manifest)
        path = self.folder / month / manifest.files[table].name
        with _explained(path), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                part = pa.Table.from_batches([batch])
                yield part.filter(pc.is_in(part["run_id"], value_set=wanted))

    def _of_month(self, month: str, read: Callable[[Manifest], _Found]) -> _Found:
        """Read from a month; once more if it was written anew meanwhile."""
        for is_last in (False, True):
            manifest = read_manifest(self.folder / month) if month else None
            if manifest is None:
                raise StorageError(f"expected closed month {month!r} in {self.folder}")
            try:
                return read(manifest)
            except _GoneError as error:
                if is_last or read_manifest(self.folder / month) == manifest:
                    raise StorageError(
                        f"the file {error} of closed month {month} is missing",
                        hint="restore it from a copy",
                    ) from error
        raise AssertionError

    def _first(self, read: Callable[[Manifest], _Found | None]) -> _Found | None:
        for manifest in reversed(self.manifests()):
            found = self._of_month(manifest.month, read)
            if found is not None:
                return found
        return None

    def _read(
        self, manifest: Manifest, table: str, filters: object, columns: list[str] | None
    ) -> pa.Table:
        import pyarrow.parquet as pq

        path = self.folder / manifest.month / manifest.files[table].name
        with _explained(path):
            return pq.read_table(path, columns=columns, filters=filters, partitioning=None)


class _GoneError(Exception):
    """A file is not there: its month was written anew, or it is lost."""


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Map what pyarrow raises for a file it cannot read."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise _GoneError(path) from error
    except (pa.ArrowException, OSError) as error:
        raise StorageError(
            f"cannot read {path}: {error}", hint="restore the month's folder from a copy"
        ) from error


def month_schema(table: str) -> pa.Schema:
    """Give the columns of a table as a month keeps it: those of the history, and what is needed to
    have the run back.
    """
    import pyarrow as pa

    if table == "facts":
        names = [("run_id", pa.string()), ("seq", pa.int64()), ("kind", pa.string())]
        return pa.schema([*names, ("body", pa.binary())])
    if table == "versions":
        return pa.schema([("plan_id", pa.string()), ("crc32", pa.int64()), ("body", pa.binary())])
    extra = [("header", pa.binary()), ("summary", pa.binary())] if table == "runs" else []
    return pa.schema([*arrow_schema(table), *(pa.field(*item) for item in extra)])


def _mark_of(manifests: Sequence[Manifest]) -> str:
    return " ".join(f"{found.month}.{found.generation}.{found.runs}" for found in manifests)


def _read_header(run_id: str, body: bytes) -> RunHeader:
    return decode_header(seal_row(run_id, HEADER_SEQ, 0, HEADER_KIND, body))


def _read_summary(row: Mapping[str, Any]) -> RunSummary:
    try:
        summary = msgspec.msgpack.decode(row["summary"], type=RunSummary)
    except (msgspec.MsgspecError, ValueError) as error:
        raise StorageError(f"a kept run's summary is damaged: {error}") from error
    summary.params = _read_header(summary.run_id, row["header"]).params
    return summary


def _read_version(row: Mapping[str, Any]) -> VersionHeader:
    return decode_version(row["plan_id"], row["crc32"], row["body"])
