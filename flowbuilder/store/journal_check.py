"""Reading a whole journal sceptically: checksums, gaps, and whether derived rows follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from flowbuilder.errors import StorageError
from flowbuilder.records import ArtifactStored
from flowbuilder.store.batch import artifact_row
from flowbuilder.store.catalogue import (
    read_progress,
    read_version,
    snapshot_is_whole,
)
from flowbuilder.store.codec import (
    HEADER_SEQ,
    RECORD_VERSION,
    Row,
    check_seal,
    decode_header,
    decode_row,
)
from flowbuilder.store.findings import CheckCounts, Finding, Severity
from flowbuilder.store.progress import Progress
from flowbuilder.store.reading import Readers, header_row, rows_in_transaction
from flowbuilder.store.replay import Replay
from flowbuilder.store.writing import SqlConnection
from flowbuilder.vocabulary import TASK_STATES

__all__ = ["check_journal"]

_PAGE_RUNS: Final = 500
_COPY_HINT: Final = "restore the store from a backup; what comes before it in the run is intact"
_DERIVED_HINT: Final = "its records are intact; restore the store from a backup to have it right"


def check_journal(readers: Readers, counts: CheckCounts) -> Iterator[Finding]:
    """Read everything of a journal, run by run; others may write meanwhile.

    Parameters
    ----------
    readers : Readers
        Where read connections come from.
    counts : CheckCounts
        Counts what was looked at.

    Yields
    ------
    Finding
        Whatever is wrong.

    Raises
    ------
    StorageError
        If the database itself cannot be read.
    """
    yield from _check_versions(readers, counts)
    before = 0
    while True:
        with readers.reading() as connection:
            page = list(connection.execute(_RUNS, (before, _PAGE_RUNS)))
        for _, run_id in page:
            with _snapshot(readers) as connection:
                yield from _check_run(connection, str(run_id), counts)
        if len(page) < _PAGE_RUNS:
            break
        before = page[-1][0]
    yield from _check_strays(readers)


_RUNS: Final = (
    f"SELECT pos, run_id FROM journal WHERE first_seq = {HEADER_SEQ} AND pos > ?"  # noqa: S608
    " ORDER BY pos LIMIT ?"
)


@contextmanager
def _snapshot(readers: Readers) -> Iterator[SqlConnection]:
    """Read as of one moment, so that a run is never seen half written or half removed."""
    with readers.reading() as connection:
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")


def _check_versions(readers: Readers, counts: CheckCounts) -> Iterator[Finding]:
    with readers.reading() as connection:
        ids = [str(row[0]) for row in connection.execute("SELECT plan_id FROM versions")]
    for plan_id in ids:
        counts.versions += 1
        try:
            with readers.reading() as connection:
                read_version(connection, plan_id)
        except StorageError as error:
            yield _error("version", error, hint="runs of it can be read, but not be resumed")


def _check_run(connection: SqlConnection, run_id: str, counts: CheckCounts) -> Iterator[Finding]:
    try:
        row = header_row(connection, run_id)
    except StorageError:
        return  # removed since the page was read
    counts.runs += 1
    try:
        header = decode_header(row)
        version = read_version(connection, header.plan_id)
    except StorageError as error:
        yield _error("run", error, run_id=run_id)
        return
    replay = Replay(header, len(version.keys))
    recorded: dict[tuple[object, ...], tuple[object, ...]] = {}
    try:
        for row in rows_in_transaction(connection, run_id, -1):
            counts.rows += 1
            counts.records += row.n
            check_seal(row)
            yield from _newer(row)
            for event in decode_row(row):
                if isinstance(event, ArtifactStored):
                    values = artifact_row(run_id, event)
                    recorded[values[:4]] = values
            replay.fold((row,))
    except StorageError as error:
        yield _error("record", error, run_id=run_id)
        return
    yield from _check_summary(connection, run_id, replay)
    yield from _check_catalogue(connection, run_id, recorded)
    if not snapshot_is_whole(connection, run_id):
        yield _notice(
            "run",
            f"the snapshot of run {run_id} is damaged",
            hint="nothing is lost: views read the records instead",
            run_id=run_id,
        )


def _newer(row: Row) -> Iterator[Finding]:
    if row.schema_version > RECORD_VERSION:
        yield _notice(
            "record",
            f"record {row.first_seq} ({row.kind!r}) of run {row.run_id} was written by a newer"
            " version",
            hint="update FlowBuilder to read all of it",
            run_id=row.run_id,
        )


def _check_summary(connection: SqlConnection, run_id: str, replay: Replay) -> Iterator[Finding]:
    try:
        progress = read_progress(connection, run_id)
    except StorageError as error:
        yield _error("run", error, run_id=run_id, hint=_DERIVED_HINT)
        return
    if progress.last_seq > replay.last_seq:
        first, last = replay.last_seq + 1, progress.last_seq
        message = f"records {first} to {last} at the end of run {run_id} are missing"
        yield _finding(Severity.ERROR, "record", message, _COPY_HINT, run_id)
    elif progress.last_seq < replay.last_seq or _counts(progress) != _states(replay):
        message = f"the summary of run {run_id} does not follow from its records"
        yield _finding(Severity.ERROR, "run", message, _DERIVED_HINT, run_id)


def _counts(progress: Progress) -> dict[str, int]:
    return progress.named_counts()


def _states(replay: Replay) -> dict[str, int]:
    pairs = ((str(state), replay.states.count(code)) for code, state in enumerate(TASK_STATES))
    return {state: count for state, count in pairs if count}


def _check_catalogue(
    connection: SqlConnection, run_id: str, recorded: dict[tuple[Any, ...], tuple[Any, ...]]
) -> Iterator[Finding]:
    query = (
        "SELECT run_id, instance, attempt, name, format, path, size_bytes, digest, type_name,"
        " num_rows FROM artifacts WHERE run_id = ?"
    )
    listed = {tuple(row[:4]): tuple(row) for row in connection.execute(query, (run_id,))}
    if listed != recorded:
        wrong = sum(listed.get(key) != recorded.get(key) for key in {*listed, *recorded})
        message = f"the catalogue of outputs of run {run_id} differs from its records in {wrong}"
        yield _finding(Severity.ERROR, "run", message, _DERIVED_HINT, run_id)


def _check_strays(readers: Readers) -> Iterator[Finding]:
    header = f"SELECT run_id FROM journal WHERE first_seq = {HEADER_SEQ}"  # noqa: S608
    for table in ("journal", "runs", "snapshots", "artifacts"):
        with readers.reading() as connection:
            query = f"SELECT DISTINCT run_id FROM {table} EXCEPT {header}"  # noqa: S608
            strays = [str(row[0]) for row in connection.execute(query)]
        for run_id in strays:
            message = f"the table {table!r} has rows of run {run_id}, whose header is missing"
            yield _finding(Severity.ERROR, "run", message, _COPY_HINT, run_id)


def _error(subject: str, error: StorageError, *, run_id: str = "", hint: str = "") -> Finding:
    return _finding(Severity.ERROR, subject, error.message, hint or _COPY_HINT, run_id)


def _notice(subject: str, message: str, *, hint: str, run_id: str = "") -> Finding:
    return _finding(Severity.NOTICE, subject, message, hint, run_id)


def _finding(severity: Severity, subject: str, message: str, hint: str, run_id: str) -> Finding:
    return Finding(severity=severity, subject=subject, message=message, hint=hint, run_id=run_id)
