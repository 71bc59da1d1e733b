"""Checking and copying the datasets of a store, while others append."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from flowbuilder.datasets.catalogue import read_file_row
from flowbuilder.datasets.data_files import FileChecks
from flowbuilder.datasets.manifest import DataFile
from flowbuilder.datasets.parts import CATALOGUE_NAME, FOLDER_NAME
from flowbuilder.errors import StorageError
from flowbuilder.store.connection import open_connection, storage_errors
from flowbuilder.store.findings import Finding, Severity
from flowbuilder.store.table_copy import copy_database

__all__ = ["DatasetsPart", "check_datasets"]

_TRIES: Final = 5


def check_datasets(data_dir: Path, *, is_thorough: bool = True) -> list[Finding]:
    """Compare every data file of every version with the catalogue.

    Parameters
    ----------
    data_dir : Path
        The store directory; it need not have datasets.
    is_thorough : bool
        Whether to read the files, or to compare sizes only.

    Raises
    ------
    StorageError
        If the catalogue cannot be read.
    """
    folder = data_dir / FOLDER_NAME
    checks = FileChecks(folder, is_thorough=is_thorough)
    findings = []
    for name, dataset_id, file in _files(folder):
        found = _check(checks, name, dataset_id, file)
        # A vacuum may have removed it since the catalogue was read.
        if found is not None and any(file == other for _, _, other in _files(folder)):
            findings.append(found)
    return findings


class DatasetsPart:
    """The datasets, as a part of a backup: the catalogue as of one moment, and its files.

    Parameters
    ----------
    data_dir : Path
        The store directory.
    may_link : bool
        Whether data files may be hard links.
    """

    def __init__(self, data_dir: Path, *, may_link: bool) -> None:
        self._folder = data_dir / FOLDER_NAME
        self._may_link = may_link

    def copy_to(self, target: Path) -> list[Finding]:
        """Copy them below a backup; give what was lost already.

        Raises
        ------
        StorageError
            If something cannot be read or written.
        """
        source = self._folder / CATALOGUE_NAME
        if not source.exists():
            return []
        folder = target / FOLDER_NAME
        lost: list[Finding] = []
        for _ in range(_TRIES):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            copy_database(source, folder / CATALOGUE_NAME)
            _forget_derived(folder)
            lost = self._copy_files(folder)
            if not lost or not self._moved(lost):
                break  # else a vacuum removed files that the copied catalogue still knows
        return lost

    def _copy_files(self, folder: Path) -> list[Finding]:
        here, there = FileChecks(self._folder), FileChecks(folder)
        lost = []
        for name, dataset_id, file in _files(folder):
            target = there.path_of(dataset_id, file.body.name)
            if not target.resolve().is_relative_to(folder.resolve()):
                raise StorageError(
                    f"the catalogue of datasets names a file outside its folder:"
                    f" {file.body.name!r}",
                    hint="somebody edited it: restore it from an earlier backup",
                )
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # the check below says so
                self._copy_file(here.path_of(dataset_id, file.body.name), target)
            found = _check(there, name, dataset_id, file)
            if found is not None:
                lost.append(found)
        return lost

    def _copy_file(self, source: Path, target: Path) -> None:
        if self._may_link:
            try:
                target.hardlink_to(source)  # data files never change
            except FileNotFoundError:
                raise
            except OSError:
                pass
            else:
                return
        shutil.copyfile(source, target)

    def _moved(self, lost: list[Finding]) -> bool:
        known = {f"{name}/{file.body.name}" for name, _, file in _files(self._folder)}
        return any(found.path not in known for found in lost)


def _check(checks: FileChecks, name: str, dataset_id: int, file: DataFile) -> Finding | None:
    try:
        checks.check(dataset_id, [file], dataset=name)
    except StorageError as error:
        return Finding(
            severity=Severity.ERROR,
            subject="dataset",
            message=error.message,
            hint="restore the file from a backup",
            path=f"{name}/{file.body.name}",
        )
    return None


def _files(folder: Path) -> Iterator[tuple[str, int, DataFile]]:
    """Give dataset, its number, and file, of everything the catalogue knows."""
    path = folder / CATALOGUE_NAME
    if not path.exists():
        return
    query = (
        "SELECT datasets.name, datasets.dataset_id, file_id, place, schema_id, crc32, body"
        " FROM files JOIN datasets USING (dataset_id) ORDER BY file_id"
    )
    with (
        storage_errors("read", path),
        closing(open_connection(path, read_only=True)) as connection,
    ):
        rows = list(connection.execute(query))
    for name, dataset_id, *fields in rows:
        assert isinstance(dataset_id, int)
        yield str(name), dataset_id, read_file_row(dataset_id, *fields)


def _forget_derived(folder: Path) -> None:
    """Let indexes be built anew: their files are not copied."""
    path = folder / CATALOGUE_NAME
    with storage_errors("write", path), closing(open_connection(path)) as connection:
        connection.execute("DELETE FROM pieces")
