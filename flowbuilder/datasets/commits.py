"""Making the next version: one transaction that looks at the head and changes it, or refuses.

Data files are on disk, synced and renamed, before this begins. An append fits any head; what
removes rows it has read (``delete``, ``compact``) fits only if those rows are still the ones there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import apsw
import msgspec

from flowbuilder.datasets.catalogue import Catalogue, DatasetRow, live_files, schema_id_of
from flowbuilder.datasets.database import seal, unseal
from flowbuilder.datasets.evolution import decode_schema, encode_schema, merge_schemas
from flowbuilder.datasets.manifest import DataFile, FileBody, Version
from flowbuilder.datasets.names import fold_dataset
from flowbuilder.errors import StorageError

__all__ = ["Addition", "Change", "ConflictError", "commit", "create", "is_refusal"]


class ConflictError(Exception):
    """The head has moved so that a change no longer fits; the caller computes it anew."""


def is_refusal(error: BaseException) -> bool:
    """Whether `commit` raised this having changed nothing for certain.

    After anything else, an interrupt or an error of the disk, the change may yet turn out to be
    there, so its files must stay; the janitor knows later.
    """
    return isinstance(error, ConflictError) or (
        isinstance(error, StorageError) and error.__cause__ is None
    )


class Addition(msgspec.Struct, frozen=True, kw_only=True):
    """A written file; ``place`` is None for the end of the dataset, ``sketches`` hold the distinct
    counts by column.
    """

    body: FileBody
    schema: bytes
    sketches: dict[str, bytes] = msgspec.field(default_factory=dict)
    place: int | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What the next version does.

    Parameters
    ----------
    operation : str
        As in `Version`.
    schema : bytes
        Schema of the rows that come; merged into that of the dataset unless ``replaces``.
    replaces : bool
        Whether everything there goes, and the schema becomes ``schema``.
    removed : tuple of int
        Files that go.
    base : int or None
        The version the change was computed from, if rows added since would make it wrong.
    partition_by : tuple of str or None
        Only with ``replaces``: new partition columns.
    """

    operation: str
    schema: bytes
    additions: tuple[Addition, ...] = ()
    removed: tuple[int, ...] = ()
    replaces: bool = False
    base: int | None = None
    partition_by: tuple[str, ...] | None = None
    run_id: str = ""
    note: str = ""


def create(
    catalogue: Catalogue,
    name: str,
    schema: bytes,
    *,
    partition_by: tuple[str, ...] = (),
    run_id: str = "",
) -> DatasetRow:
    """Make a dataset with version 1, which is empty; give the one there is if another process was
    first.
    """
    with catalogue.database.writing() as connection:
        found = catalogue.find(name)
        if found is not None:
            return found
        connection.execute(
            "INSERT INTO datasets (name, folded, partition_by, head) VALUES (?, ?, ?, 0)",
            (name, fold_dataset(name), msgspec.json.encode(partition_by).decode()),
        )
        dataset_id = connection.last_insert_rowid()
        schema_id = schema_id_of(connection, dataset_id, schema)
        version = Version(
            version=1,
            created_ns=time.time_ns(),
            operation="create",
            schema_id=schema_id,
            num_rows=0,
            num_files=0,
            size_bytes=0,
            run_id=run_id,
        )
        _write_version(connection, dataset_id, version)
        return DatasetRow(
            dataset_id=dataset_id, name=name, partition_by=partition_by, head=version.version
        )


def commit(
    catalogue: Catalogue,
    row: DatasetRow,
    change: Change,
    *,
    now_ns: Callable[[], int] = time.time_ns,
) -> Version:
    """Make the next version.

    Raises
    ------
    ConflictError
        If another process changed what this change was computed from.
    StorageError
        If the schemas do not fit, the dataset was dropped, or the catalogue cannot be written.
    """
    with catalogue.database.writing() as connection:
        head = _read_head(connection, row)
        number = head.version + 1
        removed = _removed(connection, row, change, head)
        schema_id = _next_schema(connection, row, change, head)
        for file in removed:
            connection.execute(
                "UPDATE files SET removed = ? WHERE file_id = ?", (number, file.file_id)
            )
        for addition in change.additions:
            _write_file(connection, row.dataset_id, addition, number)
        version = Version(
            version=number,
            created_ns=max(now_ns(), head.created_ns + 1),
            operation=change.operation,
            schema_id=schema_id,
            run_id=change.run_id,
            note=change.note,
            **_totals(head, [file.body for file in removed], [a.body for a in change.additions]),
        )
        _write_version(connection, row.dataset_id, version)
        if change.partition_by is not None:
            connection.execute(
                "UPDATE datasets SET partition_by = ? WHERE dataset_id = ?",
                (msgspec.json.encode(change.partition_by).decode(), row.dataset_id),
            )
    return version


def _totals(head: Version, removed: list[FileBody], added: list[FileBody]) -> dict[str, int]:
    """Count from the head, so that an append does not read the whole manifest."""
    return {
        "num_rows": head.num_rows
        + sum(body.num_rows for body in added)
        - sum(body.num_rows for body in removed),
        "num_files": head.num_files + len(added) - len(removed),
        "size_bytes": head.size_bytes
        + sum(body.size_bytes for body in added)
        - sum(body.size_bytes for body in removed),
        "added": len(added),
        "removed": len(removed),
    }


def _read_head(connection: apsw.Connection, row: DatasetRow) -> Version:
    found = next(
        connection.execute(
            "SELECT v.version, v.crc32, v.body FROM datasets d JOIN versions v"
            " ON v.dataset_id = d.dataset_id AND v.version = d.head WHERE d.dataset_id = ?",
            (row.dataset_id,),
        ),
        None,
    )
    if found is None:
        raise StorageError(f"dataset {row.name!r} was dropped meanwhile; nothing was written")
    number, crc32, body = found
    return unseal(body, crc32, Version, f"the head of {row.name!r}", row.dataset_id, number)


def _removed(
    connection: apsw.Connection, row: DatasetRow, change: Change, head: Version
) -> list[DataFile]:
    if change.base is not None and change.base != head.version:
        raise ConflictError
    if not change.replaces and not change.removed:
        return []
    only = None if change.replaces else frozenset(change.removed)
    found = live_files(connection, row.dataset_id, head.version, only)
    if only is not None and len(found) < len(only):
        raise ConflictError
    return found


def _next_schema(
    connection: apsw.Connection, row: DatasetRow, change: Change, head: Version
) -> int:
    if change.replaces:
        return schema_id_of(connection, row.dataset_id, change.schema)
    crc32, body = next(
        connection.execute(
            "SELECT crc32, body FROM schemas WHERE dataset_id = ? AND schema_id = ?",
            (row.dataset_id, head.schema_id),
        )
    )
    what = f"the schema of {row.name!r}"
    current = unseal(body, crc32, bytes, what, row.dataset_id, head.schema_id)
    if current == change.schema:
        return head.schema_id
    merged = merge_schemas(decode_schema(current), decode_schema(change.schema), dataset=row.name)
    return schema_id_of(connection, row.dataset_id, encode_schema(merged))


def _write_file(
    connection: apsw.Connection, dataset_id: int, addition: Addition, version: int
) -> None:
    schema_id = schema_id_of(connection, dataset_id, addition.schema)
    body = msgspec.msgpack.encode(addition.body)
    sketches = msgspec.msgpack.encode(addition.sketches)
    connection.execute(
        "INSERT INTO files (dataset_id, place, schema_id, added, crc32, body, sketches_crc32,"
        " sketches) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            dataset_id,
            addition.place if addition.place is not None else -1,
            schema_id,
            version,
            seal(body, dataset_id),
            body,
            seal(sketches, dataset_id),
            sketches,
        ),
    )
    if addition.place is None:  # numbers grow, so the newest file comes last
        connection.execute(
            "UPDATE files SET place = file_id WHERE file_id = ?", (connection.last_insert_rowid(),)
        )


def _write_version(connection: apsw.Connection, dataset_id: int, version: Version) -> None:
    body = msgspec.msgpack.encode(version)
    connection.execute(
        "INSERT INTO versions VALUES (?, ?, ?, ?, ?)",
        (
            dataset_id,
            version.version,
            version.created_ns,
            seal(body, dataset_id, version.version),
            body,
        ),
    )
    connection.execute(
        "UPDATE datasets SET head = ? WHERE dataset_id = ?", (version.version, dataset_id)
    )
