"""Moving closed months out of the journal, which stays small; removing runs from months."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from flowbuilder.errors import StorageError
from flowbuilder.history.access import Access
from flowbuilder.history.month_files import read_manifest, verify
from flowbuilder.history.months import Months
from flowbuilder.history.rollup import (
    close_month,
    month_of,
    reason_to_wait,
    runs_of_month,
    write_month,
)
from flowbuilder.history.source import JournalSource
from flowbuilder.store.ports import Journal, RunSummary
from flowbuilder.store.retention import RetainingJournal

__all__ = ["DEFAULT_GRACE_S", "MonthReport", "prune", "remove_from_months"]

DEFAULT_GRACE_S: Final = 7 * 86_400.0
_LOCK: Final = "months.lock"
_WAIT_S: Final = 30.0
_RUNS_AT_ONCE: Final = 200


class MonthReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one month."""

    month: str
    runs: int
    """Runs of it that were in the journal."""
    pruned: int = 0
    """How many of them left it."""
    waits: str = ""
    """Why it is not closed yet."""
    size_bytes: int = 0
    """What its files take."""


def prune(
    journal: Journal,
    months: Months,
    *,
    grace_s: float = DEFAULT_GRACE_S,
    is_dry: bool = False,
    now_ns: int | None = None,
) -> list[MonthReport]:
    """Close every month that can be closed, then let the journal go of its runs.

    A run leaves the journal only when its month is on disk, complete and checked; killed at any
    point, every run is in one of them or in both.

    Parameters
    ----------
    journal : Journal
        The journal.
    months : Months
        Where the runs go.
    grace_s : float
        How long a month and its runs must have been over, in seconds.
    is_dry : bool
        Whether to say only what would be done.
    now_ns : int, optional
        Unix time to judge by; now by default.

    Raises
    ------
    StorageError
        If the journal cannot let go of runs, something is damaged, or the disk refuses.
    """
    if not isinstance(journal, RetainingJournal):
        raise StorageError(f"a {type(journal).__name__} cannot be pruned")
    source = JournalSource(journal)
    now_ns = time.time_ns() if now_ns is None else now_ns
    reports = []
    with _one_at_a_time(months):
        for month, runs in sorted(_by_month(source.summaries()).items()):
            waits = reason_to_wait(month, runs, now_ns=now_ns, grace_s=grace_s)
            if waits or is_dry:
                reports.append(MonthReport(month=month, runs=len(runs), waits=waits))
            else:
                reports.append(_prune_month(journal, source, months, month, runs))
    return reports


def _prune_month(
    journal: RetainingJournal,
    source: JournalSource,
    months: Months,
    month: str,
    runs: Sequence[RunSummary],
) -> MonthReport:
    kept = months.last_seqs()
    manifest = read_manifest(months.folder / month)
    if manifest is None or any(kept.get(run.run_id) != run.last_seq for run in runs):
        manifest = close_month(months, month, source, runs)
    verify(months.folder / month, manifest)
    pruned = 0
    for start in range(0, len(runs), _RUNS_AT_ONCE):
        part = runs[start : start + _RUNS_AT_ONCE]
        pruned += len(journal.prune_runs({run.run_id: run.last_seq for run in part}))
    size = sum(file.size_bytes for file in manifest.files.values())
    return MonthReport(month=month, runs=len(runs), pruned=pruned, size_bytes=size)


def remove_from_months(months: Months, run_ids: Sequence[str]) -> int:
    """Remove runs from the months they are in, each of which is written anew; return how many."""
    with _one_at_a_time(months):
        wanted = {run_id for run_id in run_ids if months.month_of(run_id)}
        for month in sorted({months.month_of(run_id) for run_id in wanted}):
            stay = [
                run
                for run in months.run_ids()
                if months.month_of(run) == month and run not in wanted
            ]
            before = read_manifest(months.folder / month)
            write_month(months, month, before, list(runs_of_month(months, stay)))
    return len(wanted)


def _by_month(runs: Sequence[RunSummary]) -> dict[str, list[RunSummary]]:
    found = defaultdict(list)
    for run in runs:
        found[month_of(run.started_wall_ns)].append(run)
    return found


@contextmanager
def _one_at_a_time(months: Months) -> Iterator[None]:
    try:
        months.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with Access(months.folder / _LOCK).exclusive(_WAIT_S) as is_held:
            if not is_held:
                raise StorageError(
                    f"another process is closing months in {months.folder}", hint="repeat later"
                )
            yield
    except OSError as error:
        raise StorageError(
            f"cannot write in {months.folder}: {error.strerror or error}",
            hint="check the permissions of the store",
        ) from error
