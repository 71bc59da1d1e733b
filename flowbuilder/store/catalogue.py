"""Finding runs and versions in the journal: ids, suffixes, lists, summaries, whole saved runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from flowbuilder.errors import StorageError
from flowbuilder.ids import short_id
from flowbuilder.records import VersionHeader
from flowbuilder.store.batch import seal_snapshot
from flowbuilder.store.codec import HEADER_SEQ, decode_header, decode_version
from flowbuilder.store.ports import RunSummary, SavedRun
from flowbuilder.store.progress import Progress, ProgressRow, decode_progress
from flowbuilder.store.reading import Readers, header_row, missing_records, rows_of_run
from flowbuilder.store.replay import Replay
from flowbuilder.store.summaries import current_state, summarise
from flowbuilder.store.writing import SqlConnection
from flowbuilder.vocabulary import RunState

__all__ = [
    "find_run_id",
    "list_summaries",
    "load_saved_run",
    "read_progress",
    "read_snapshot",
    "read_summary",
    "read_version",
    "run_position",
    "snapshot_is_whole",
]

_PAGE_RUNS: Final = 100
_MAX_CANDIDATES: Final = 5
_COLUMNS = "run_id, workflow, state, owner, last_seq, crc32, progress"


def find_run_id(connection: SqlConnection, ref: str) -> str:
    """Resolve a run id, a unique suffix of one, or ``latest``.

    Raises
    ------
    StorageError
        If none or several match.
    """
    wanted = ref.strip().lower()
    if wanted == "latest":
        found = _texts(connection, "SELECT run_id FROM runs ORDER BY pos DESC LIMIT 1")
        if not found:
            raise StorageError("expected a run, found none in this store", hint="run a workflow")
        return found[0]
    if run_position(connection, wanted):
        return wanted
    query = (
        "SELECT run_id FROM runs WHERE substr(run_id, length(run_id) - ? + 1) = ?"
        " ORDER BY pos DESC LIMIT 6"
    )
    found = _texts(connection, query, len(wanted), wanted) if wanted else []
    if len(found) == 1:
        return found[0]
    raise _no_such_run(connection, ref[:64], found)


def _no_such_run(connection: SqlConnection, ref: str, matches: list[str]) -> StorageError:
    if matches:
        shown = ", ".join(matches[:_MAX_CANDIDATES]) + (", ..." if len(matches) > 5 else "")
        return StorageError(
            f"expected one run, found several that end in {ref!r}: {shown}",
            hint="give more characters",
        )
    recent = _texts(connection, "SELECT run_id FROM runs ORDER BY pos DESC LIMIT 5")
    shown = ", ".join(map(short_id, recent)) or "none"
    return StorageError(
        f"expected a run id, the end of one, or 'latest', found {ref!r}; recent runs: {shown}",
        hint="'flowbuilder runs list' shows them all",
    )


def _texts(connection: SqlConnection, query: str, *bindings: str | int) -> list[str]:
    return [str(row[0]) for row in connection.execute(query, bindings)]


def run_position(connection: SqlConnection, run_id: str) -> int:
    """Give the position of a run's header row, the key of its row in ``runs``; 0 if unknown."""
    query = "SELECT pos FROM journal WHERE run_id = ? AND first_seq = ?"
    found = next(connection.execute(query, (run_id, HEADER_SEQ)), None)
    return found[0] if found is not None and isinstance(found[0], int) else 0


def read_progress(connection: SqlConnection, run_id: str) -> Progress:
    """Read how far a run has come.

    Raises
    ------
    StorageError
        If there is no such run, or its row is damaged.
    """
    query = f"SELECT {_COLUMNS} FROM runs WHERE pos = ?"  # noqa: S608
    found = next(connection.execute(query, (run_position(connection, run_id),)), None)
    if found is None:
        raise StorageError(f"expected a run, found no {run_id!r} in this store")
    return decode_progress(_progress_row(found))


def read_summary(
    connection: SqlConnection, run_id: str, is_alive: Callable[[str], bool]
) -> RunSummary:
    """Read a run's line."""
    progress = read_progress(connection, run_id)
    return summarise(progress, decode_header(header_row(connection, run_id)), is_alive)


def list_summaries(
    readers: Readers,
    is_alive: Callable[[str], bool],
    *,
    limit: int,
    workflow: str | None,
    state: RunState | None,
) -> list[RunSummary]:
    """List runs, newest first."""
    found: list[RunSummary] = []
    for progress in _newest_first(readers, workflow):
        if len(found) >= limit:
            break
        if state is None or current_state(progress, is_alive) == state:
            with readers.reading() as connection:
                header = decode_header(header_row(connection, progress.run_id))
            found.append(summarise(progress, header, is_alive))
    return found


def _newest_first(readers: Readers, workflow: str | None) -> Iterator[Progress]:
    which = "" if workflow is None else "AND workflow = ?"
    names = () if workflow is None else (workflow,)
    query = (
        f"SELECT pos, {_COLUMNS} FROM runs WHERE pos < ? {which}"  # noqa: S608
        " ORDER BY pos DESC LIMIT ?"
    )
    before: object = 2**62
    while True:
        with readers.reading() as connection:
            page = list(connection.execute(query, (before, *names, _PAGE_RUNS)))
        for values in page:
            yield decode_progress(_progress_row(values[1:]))
        if len(page) < _PAGE_RUNS:
            return
        before = page[-1][0]


def _progress_row(values: tuple[object, ...]) -> ProgressRow:
    run_id, workflow, state, owner, last_seq, seal, body = values
    if isinstance(last_seq, int) and isinstance(seal, int) and isinstance(body, bytes):
        return ProgressRow(str(run_id), str(workflow), str(state), str(owner), last_seq, seal, body)
    raise StorageError(f"the journal is damaged: the summary of run {run_id!r} has wrong types")


def read_version(connection: SqlConnection, plan_id: str) -> VersionHeader:
    """Read a stored workflow version.

    Raises
    ------
    StorageError
        If it is missing or damaged.
    """
    query = "SELECT crc32, body FROM versions WHERE plan_id = ?"
    found = next(connection.execute(query, (plan_id,)), None)
    if found is None:
        raise StorageError(f"expected a stored workflow version, found no {plan_id!r}")
    seal, body = found
    if not isinstance(seal, int) or not isinstance(body, bytes):
        raise StorageError(f"the stored workflow version {plan_id} is damaged: wrong types")
    return decode_version(plan_id, seal, body)


def read_snapshot(connection: SqlConnection, run_id: str) -> tuple[int, bytes] | None:
    """Read the newest snapshot of a run: sequence number and state codes, if there is one."""
    query = "SELECT seq, crc32, states FROM snapshots WHERE run_id = ?"
    found = next(connection.execute(query, (run_id,)), None)
    # A damaged one counts as none: it is only a short cut, the records themselves are the truth.
    return (found[0], found[2]) if found is not None and _is_whole(run_id, found) else None


def snapshot_is_whole(connection: SqlConnection, run_id: str) -> bool:
    """Tell whether the snapshot of a run is as it was written, or there is none."""
    query = "SELECT seq, crc32, states FROM snapshots WHERE run_id = ?"
    found = next(connection.execute(query, (run_id,)), None)
    return found is None or _is_whole(run_id, found)


def _is_whole(run_id: str, found: tuple[object, ...]) -> bool:
    seq, seal, states = found
    return (
        isinstance(seq, int)
        and isinstance(states, bytes)
        and seal_snapshot(run_id, seq, states) == seal
    )


def load_saved_run(readers: Readers, run_id: str, is_alive: Callable[[str], bool]) -> SavedRun:
    """Read back everything known of a run.

    Raises
    ------
    StorageError
        If anything of it is damaged or missing.
    """
    with readers.reading() as connection:
        summary = read_summary(connection, run_id, is_alive)
        header = decode_header(header_row(connection, run_id))
        version = read_version(connection, header.plan_id)
    replay = Replay(header, len(version.keys))
    last_seq = replay.fold(rows_of_run(readers, run_id)).last_seq
    if last_seq < summary.last_seq:
        raise missing_records(run_id, last_seq + 1, summary.last_seq)
    return SavedRun(
        summary=summary,
        version=version,
        header=header,
        states=replay.task_states(),
        attempts=replay.attempts,
        outputs=replay.outputs,
        artifacts=replay.settled_artifacts(),
        started=replay.started,
        failures=replay.failures,
        lost=replay.lost,
    )
