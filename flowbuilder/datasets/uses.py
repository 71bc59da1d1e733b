"""Which version of a dataset a run used, so that it can be read again."""

from __future__ import annotations

import time

import msgspec

from flowbuilder.datasets.catalogue import Catalogue, DatasetRow
from flowbuilder.datasets.database import fetch
from flowbuilder.errors import StorageError

__all__ = ["DatasetUse", "note_use_in", "uses_of_run", "version_used"]


class DatasetUse(msgspec.Struct, frozen=True, kw_only=True):
    """A run, or one task of it, read or made a version of a dataset."""

    run_id: str
    task: str
    dataset: str
    version: int

    def __str__(self) -> str:
        return f"{self.dataset}@{self.version}"


def note_use_in(
    catalogue: Catalogue, run_id: str, task: str, dataset_id: int, version: int
) -> None:
    """Record that a run used a version. May be repeated.

    A vacuum keeps noted versions unless it is told otherwise.
    """
    with catalogue.database.writing() as connection:
        connection.execute(
            "INSERT OR IGNORE INTO uses VALUES (?, ?, ?, ?, ?)",
            (run_id, dataset_id, version, task, time.time_ns()),
        )


def uses_of_run(catalogue: Catalogue, run: str) -> list[DatasetUse]:
    """List what a run used.

    Parameters
    ----------
    catalogue : Catalogue
        The store's.
    run : str
        Its id, or a suffix of it.

    Returns
    -------
    list of DatasetUse
        In the order it was noted; empty for a run that used no dataset.
    """
    sql = (
        "SELECT run_id, task, name, version FROM uses JOIN datasets USING (dataset_id)"
        " WHERE substr(run_id, -length(?1)) = ?1 ORDER BY noted_ns, name, version"
    )
    with catalogue.database.reading() as connection:
        rows = fetch(connection, sql, (run,)) if run else []
    return [
        DatasetUse(run_id=run_id, task=task, dataset=name, version=version)
        for run_id, task, name, version in rows
    ]


def version_used(catalogue: Catalogue, row: DatasetRow, run: str) -> int:
    """Give the version of a dataset a run used.

    Raises
    ------
    StorageError
        If it used none, or several, or the suffix fits several runs.
    """
    found = [use for use in uses_of_run(catalogue, run) if use.dataset == row.name]
    if not found:
        raise StorageError(
            f"run {run!r} used no version of dataset {row.name!r}",
            hint="uses() lists what a run used; history() lists all versions",
        )
    if len({use.run_id for use in found}) > 1:
        raise StorageError(f"expected the id of one run, found several that end in {run!r}")
    versions = sorted({use.version for use in found})
    if len(versions) > 1:
        raise StorageError(
            f"run {run!r} used several versions of dataset {row.name!r}:"
            f" {', '.join(map(str, versions))}",
            hint="ask for one of them with version=",
        )
    return versions[0]
