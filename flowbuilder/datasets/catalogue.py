"""Datasets, versions and files, as SQLite holds them.

Files are rows with the version they came with and the one they went with, so a version costs what
it changes, not what it holds, and any version can be read by one indexed query.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import apsw
import msgspec

from flowbuilder.datasets.database import Database, fetch, seal, unseal
from flowbuilder.datasets.manifest import DataFile, FileBody, Manifest, Version
from flowbuilder.datasets.names import fold_dataset
from flowbuilder.errors import StorageError

__all__ = ["Catalogue", "DatasetRow", "schema_id_of"]

_LIVE = "dataset_id = ? AND added <= ? AND (removed IS NULL OR removed > ?)"


class DatasetRow(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset as the catalogue names it; ``head`` is its newest version."""

    dataset_id: int
    name: str
    partition_by: tuple[str, ...]
    head: int


class Catalogue:
    """Reading and the simple changes; `commit` has the one that matters.

    Parameters
    ----------
    database : Database
        Where it is.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def find(self, name: str) -> DatasetRow | None:
        """Look a dataset up by any spelling of its name."""
        sql = f"SELECT {_DATASET} FROM datasets WHERE folded = ?"  # noqa: S608
        with self.database.reading() as connection:
            row = next(connection.execute(sql, (fold_dataset(name),)), None)
        return None if row is None else _dataset(row)

    def get(self, name: str) -> DatasetRow:
        """Look a dataset up.

        Raises
        ------
        StorageError
            If there is none; the hint names the nearest.
        """
        found = self.find(name)
        if found is None:
            raise StorageError(f"there is no dataset {name!r}", hint=self._near(name))
        return found

    def _near(self, name: str) -> str:
        from difflib import get_close_matches

        names = [row.name for row in self.all()]
        near = get_close_matches(name, names, n=1)
        if near:
            return f"did you mean {near[0]!r}?"
        return "there are " + ", ".join(map(repr, names[:20])) if names else "append() makes one"

    def all(self) -> list[DatasetRow]:
        """List the datasets by name."""
        sql = f"SELECT {_DATASET} FROM datasets ORDER BY folded"  # noqa: S608
        with self.database.reading() as connection:
            return [_dataset(row) for row in connection.execute(sql)]

    def versions(self, row: DatasetRow) -> list[Version]:
        """List what is kept of its versions, newest first."""
        sql = "SELECT version, crc32, body FROM versions WHERE dataset_id = ? ORDER BY version DESC"
        with self.database.reading() as connection:
            found = fetch(connection, sql, (row.dataset_id,))
        return [_version(row, *fields) for fields in found]

    def version_at(self, row: DatasetRow, time_ns: int) -> int:
        """Give the number of the newest version that is not newer than an instant.

        Raises
        ------
        StorageError
            If it is older than everything kept.
        """
        sql = (
            "SELECT max(version), min(created_ns) FROM versions"
            " WHERE dataset_id = ? AND created_ns <= ?"
        )
        with self.database.reading() as connection:
            version, _ = next(connection.execute(sql, (row.dataset_id, time_ns)))
        if version is None:
            raise StorageError(
                f"dataset {row.name!r} has no version as old as asked for",
                hint="history() lists the versions there are",
            )
        assert isinstance(version, int)
        return version

    def manifest(self, row: DatasetRow, version: int | None = None) -> Manifest:
        """Read one version, by default the newest.

        Raises
        ------
        StorageError
            If there is no such version (any more), or its rows are damaged.
        """
        with self.database.reading() as connection:
            head = _head(connection, row)
            number = head if version is None else version
            found = self._read_version(connection, row, number)
            schemas = {
                schema_id: _schema(row, schema_id, crc32, body)
                for schema_id, crc32, body in connection.execute(
                    "SELECT schema_id, crc32, body FROM schemas WHERE dataset_id = ?",
                    (row.dataset_id,),
                )
            }
            files = live_files(connection, row.dataset_id, number)
        return Manifest(
            dataset_id=row.dataset_id,
            name=row.name,
            version=found,
            partition_by=row.partition_by,
            schemas=schemas,
            files=tuple(files),
        )

    def _read_version(self, connection: apsw.Connection, row: DatasetRow, number: int) -> Version:
        sql = "SELECT version, crc32, body FROM versions WHERE dataset_id = ? AND version = ?"
        found = next(connection.execute(sql, (row.dataset_id, number)), None)
        if found is not None:
            return _version(row, *found)
        kept = connection.execute(
            "SELECT min(version), max(version) FROM versions WHERE dataset_id = ?",
            (row.dataset_id,),
        ).fetchall()[0]
        raise StorageError(
            f"dataset {row.name!r} has no version {number} (any more)",
            hint=f"versions from {kept[0]} to {kept[1]} are kept; history() lists them",
        )

    def has_version(self, dataset_id: int, version: int) -> bool:
        """Whether a version is still kept."""
        sql = "SELECT 1 FROM versions WHERE dataset_id = ? AND version = ?"
        with self.database.reading() as connection:
            return next(connection.execute(sql, (dataset_id, version)), None) is not None

    def drop(self, row: DatasetRow) -> None:
        """Forget a dataset; its files are collected when nobody reads them."""
        with self.database.writing() as connection:
            for table in ("datasets", "schemas", "versions", "uses", "observations"):
                connection.execute(f"DELETE FROM {table} WHERE dataset_id = ?", (row.dataset_id,))  # noqa: S608


_DATASET = "dataset_id, name, partition_by, head"


def _dataset(row: Sequence[object]) -> DatasetRow:
    dataset_id, name, partition_by, head = row
    return DatasetRow(
        dataset_id=int(str(dataset_id)),
        name=str(name),
        partition_by=msgspec.json.decode(str(partition_by), type=tuple[str, ...]),
        head=int(str(head)),
    )


def _head(connection: apsw.Connection, row: DatasetRow) -> int:
    found = next(
        connection.execute("SELECT head FROM datasets WHERE dataset_id = ?", (row.dataset_id,)),
        None,
    )
    if found is None:
        raise StorageError(f"dataset {row.name!r} was dropped meanwhile")
    assert isinstance(found[0], int)
    return found[0]


def _version(row: DatasetRow, number: int, crc32: int, body: bytes) -> Version:
    what = f"version {number} of dataset {row.name!r}"
    return unseal(body, crc32, Version, what, row.dataset_id, number)


def _schema(row: DatasetRow, schema_id: int, crc32: int, body: bytes) -> bytes:
    what = f"schema {schema_id} of dataset {row.name!r}"
    return unseal(body, crc32, bytes, what, row.dataset_id, schema_id)


def live_files(
    connection: apsw.Connection, dataset_id: int, version: int, only: Collection[int] | None = None
) -> list[DataFile]:
    """Read the files of a version in the order of their rows."""
    sql = (
        f"SELECT file_id, place, schema_id, crc32, body FROM files WHERE {_LIVE}"  # noqa: S608
        " ORDER BY place, file_id"
    )
    return [
        read_file_row(dataset_id, *fields)
        for fields in connection.execute(sql, (dataset_id, version, version))
        if only is None or fields[0] in only
    ]


def read_file_row(dataset_id: int, *fields: Any) -> DataFile:
    """Decode a row of ``files``: number, place, schema, checksum, body.

    Raises
    ------
    StorageError
        If it is damaged.
    """
    file_id, place, schema_id, crc32, body = fields
    facts = unseal(body, crc32, FileBody, f"file {file_id}", dataset_id)
    return DataFile(file_id=file_id, place=place, schema_id=schema_id, body=facts)


def schema_id_of(connection: apsw.Connection, dataset_id: int, schema: bytes) -> int:
    """Give the number of a schema, noting it if it is new. Inside a write transaction."""
    rows = connection.execute(
        "SELECT schema_id, body FROM schemas WHERE dataset_id = ?", (dataset_id,)
    ).fetchall()
    body = msgspec.msgpack.encode(schema)
    for schema_id, known in rows:
        if known == body:
            assert isinstance(schema_id, int)
            return schema_id
    number = len(rows) + 1
    connection.execute(
        "INSERT INTO schemas VALUES (?, ?, ?, ?)",
        (dataset_id, number, seal(body, dataset_id, number), body),
    )
    return number
