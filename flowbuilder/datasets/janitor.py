"""Forgetting old versions and removing files nobody needs: the only code that deletes data.

The catalogue forgets first, files go afterwards, so a crash leaves files too many, never too few;
the next call collects them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import apsw
import msgspec

from flowbuilder.datasets.catalogue import Catalogue, DatasetRow, read_file_row
from flowbuilder.datasets.database import fetch
from flowbuilder.datasets.pins import Pins
from flowbuilder.errors import StorageError

__all__ = ["Vacuumed", "remove_orphans", "vacuum"]

_GRACE_S = 600.0


class Vacuumed(msgspec.Struct, frozen=True, kw_only=True):
    """What a vacuum did.

    Parameters
    ----------
    versions : tuple of int
        Versions that can no longer be read.
    files, size_bytes : int
        Files removed, and the space that gave.
    waiting : int
        Files somebody still reads; a later vacuum removes them.
    """

    versions: tuple[int, ...] = ()
    files: int = 0
    size_bytes: int = 0
    waiting: int = 0


def vacuum(
    catalogue: Catalogue, pins: Pins, folder: Path, row: DatasetRow, *, keep: int, keep_runs: bool
) -> Vacuumed:
    """Forget all but the newest versions of a dataset and remove the files only they need.

    Parameters
    ----------
    catalogue, pins, folder : Catalogue, Pins, Path
        The store.
    row : DatasetRow
        The dataset.
    keep : int
        How many of the newest versions stay, at least 1.
    keep_runs : bool
        Whether versions that a run noted stay as well.

    Raises
    ------
    StorageError
        If ``keep`` is not a positive number.
    """
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
        raise StorageError(
            f"expected to keep at least 1 version, found keep={keep!r}",
            hint="drop() removes a whole dataset",
        )
    with catalogue.database.writing() as connection:
        forgotten = _forget_versions(connection, row, keep, keep_runs=keep_runs)
    # Only now look for readers: who pins from here on finds the versions gone and lets go.
    pinned = pins.pinned(row.dataset_id)
    return _remove_files(catalogue, pinned, folder, row.dataset_id, tuple(forgotten))


def _forget_versions(
    connection: apsw.Connection, row: DatasetRow, keep: int, *, keep_runs: bool
) -> list[int]:
    noted = (
        "AND version NOT IN (SELECT version FROM uses WHERE uses.dataset_id = ?1)"
        if keep_runs
        else ""
    )
    found = fetch(
        connection,
        "SELECT version FROM versions WHERE dataset_id = ?1 AND version NOT IN (SELECT version"  # noqa: S608
        f" FROM versions WHERE dataset_id = ?1 ORDER BY version DESC LIMIT ?2) {noted}"
        " ORDER BY version",
        (row.dataset_id, keep),
    )
    forgotten = [int(version) for (version,) in found]
    for version in forgotten:
        connection.execute(
            "DELETE FROM versions WHERE dataset_id = ? AND version = ?", (row.dataset_id, version)
        )
    return forgotten


def _remove_files(
    catalogue: Catalogue,
    pinned: set[int],
    folder: Path,
    dataset_id: int,
    forgotten: tuple[int, ...],
) -> Vacuumed:
    """Remove the files that no kept version and no reader needs."""
    gone, waiting = [], 0
    with catalogue.database.writing() as connection:
        kept = [
            version
            for (version,) in fetch(
                connection, "SELECT version FROM versions WHERE dataset_id = ?", (dataset_id,)
            )
        ]
        is_dropped = not kept
        rows = fetch(
            connection,
            "SELECT file_id, place, schema_id, crc32, body, added, removed FROM files"
            " WHERE dataset_id = ? AND (removed IS NOT NULL OR ?)",
            (dataset_id, is_dropped),
        )
        for *fields, added, removed in rows:
            if _is_needed(kept, added, removed):
                continue
            if _is_needed(pinned, added, removed):
                waiting += 1
                continue
            gone.append(read_file_row(dataset_id, *fields))
            connection.execute("DELETE FROM files WHERE file_id = ?", (fields[0],))
    for file in gone:
        with suppress(OSError):
            folder.joinpath(str(dataset_id), *file.body.name.split("/")).unlink()
    return Vacuumed(
        versions=forgotten,
        files=len(gone),
        size_bytes=sum(file.body.size_bytes for file in gone),
        waiting=waiting,
    )


def _is_needed(versions: Iterable[int], added: int, removed: int | None) -> bool:
    return any(added <= version and (removed is None or version < removed) for version in versions)


def remove_orphans(
    catalogue: Catalogue, pins: Pins, folder: Path, *, grace_s: float = _GRACE_S
) -> int:
    """Remove what crashed writers and dropped datasets left behind; return how many files.

    Parameters
    ----------
    catalogue, pins, folder : Catalogue, Pins, Path
        The store.
    grace_s : float
        Younger files stay, in seconds; so do files of processes that live.
    """
    removed = 0
    for dataset_id in _dropped(catalogue):
        removed += _remove_files(catalogue, pins.pinned(dataset_id), folder, dataset_id, ()).files
    # The folder before the catalogue: a file committed in between is then found in the latter.
    found = _abandoned(pins, folder, time.time() - grace_s)
    known = _known_files(catalogue)
    for path in found:
        if path.relative_to(folder).as_posix() not in known:
            with suppress(OSError):
                path.unlink()
                removed += 1
    return removed


def _dropped(catalogue: Catalogue) -> list[int]:
    sql = (
        "SELECT DISTINCT dataset_id FROM files"
        " WHERE dataset_id NOT IN (SELECT dataset_id FROM datasets)"
    )
    with catalogue.database.reading() as connection:
        return [dataset_id for (dataset_id,) in fetch(connection, sql)]


def _abandoned(pins: Pins, folder: Path, before: float) -> list[Path]:
    alive: dict[str, bool] = {}
    found = []
    for path in folder.glob("[0-9]*/**/*"):
        owner = path.name.partition(".")[0]
        with suppress(OSError):
            if not path.is_file() or path.stat().st_mtime > before:
                continue
            if owner not in alive:
                alive[owner] = pins.is_alive(owner)
            if not alive[owner]:
                found.append(path)
    return found


def _known_files(catalogue: Catalogue) -> set[str]:
    sql = "SELECT dataset_id, file_id, place, schema_id, crc32, body FROM files"
    with catalogue.database.reading() as connection:
        data = {
            f"{fields[0]}/{read_file_row(*fields).body.name}" for fields in connection.execute(sql)
        }
        pieces = {
            f"{dataset_id}/index/{name}"
            for dataset_id, name in connection.execute(
                "SELECT dataset_id, name FROM pieces JOIN indexes USING (index_id)"
            )
        }
    return data | pieces
