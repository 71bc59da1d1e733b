"""Changes that write rows anew: deleting some of them, joining small files.

Both read one version and commit only if what they read is still there; `delete` also needs that
nothing was added, because it has not looked at that. Else they begin again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from flowbuilder.datasets.catalogue import DatasetRow
from flowbuilder.datasets.commits import Addition, Change, ConflictError, commit
from flowbuilder.datasets.evolution import align, encode_schema
from flowbuilder.datasets.libraries import arrow, arrow_parquet, library
from flowbuilder.datasets.manifest import DataFile, Version
from flowbuilder.datasets.names import quote_identifier
from flowbuilder.datasets.parts import StoreParts
from flowbuilder.datasets.relations import files_select
from flowbuilder.datasets.selection import filter_rows
from flowbuilder.datasets.snapshot import Snapshot
from flowbuilder.datasets.sql_session import SqlSession
from flowbuilder.datasets.writing import FileSet, gathered
from flowbuilder.errors import StorageError

__all__ = ["compact", "delete_rows"]

_ATTEMPTS: Final = 10
_ROW: Final = "row number of a file"


def delete_rows(
    parts: StoreParts, session: SqlSession, row: DatasetRow, where: str, *, note: str
) -> Version:
    """Remove the rows a condition is true for; see `Dataset.delete`."""
    for _ in range(_ATTEMPTS):
        with parts.snapshot(row) as snapshot:
            try:
                return _delete_once(parts, session, snapshot, _Deletion(row, where, note))
            except ConflictError:
                continue
    raise _too_busy(row)


class _Deletion(NamedTuple):
    row: DatasetRow
    where: str
    note: str


def _delete_once(
    parts: StoreParts, session: SqlSession, snapshot: Snapshot, asked: _Deletion
) -> Version:
    removed, additions = [], []
    writers = []
    try:
        for file, doomed in _doomed(session, snapshot, asked.where):
            removed.append(file.file_id)
            if len(doomed) < file.body.num_rows:
                files = _file_set(
                    parts, session, asked.row, snapshot.schema_of(file.schema_id), file
                )
                writers.append(files)
                _write_rest(files, snapshot, file, doomed)
                additions += files.additions
        if not removed:
            return snapshot.version
        change = Change(
            operation="delete",
            schema=encode_schema(snapshot.schema),
            additions=tuple(additions),
            removed=tuple(removed),
            base=snapshot.version.version,
            run_id=parts.asking().run_id,
            note=asked.note or asked.where,
        )
        for files in writers:
            files.is_submitted = True
        return commit(parts.catalogue, asked.row, change)
    except BaseException as error:
        for files in writers:
            files.discard_after(error)
        raise


def _doomed(
    session: SqlSession, snapshot: Snapshot, where: str
) -> Iterator[tuple[DataFile, list[int]]]:
    """Find the rows of each file the condition is true for."""
    duckdb = library("duckdb")
    name = quote_identifier(snapshot.name)
    try:
        with session.cursor() as cursor:
            for file in snapshot.manifest.files:
                source = files_select(session, cursor, snapshot, [file], row_number=_ROW)
                found = cursor.sql(
                    f"SELECT {quote_identifier(_ROW)} FROM ({source}) AS {name}"  # noqa: S608
                    f" WHERE ({where}\n) IS TRUE ORDER BY 1"
                ).fetchall()
                if found:
                    yield file, [number for (number,) in found]
            if not snapshot.manifest.files:
                source = files_select(session, cursor, snapshot, [])
                cursor.sql(f"SELECT 1 FROM ({source}) AS {name} WHERE ({where}\n)").fetchall()  # noqa: S608
    except duckdb.Error as error:
        raise StorageError(
            f"the condition for deleting rows of {snapshot.name!r} is wrong:"
            f" {str(error).partition(chr(10))[0]}",
            hint="columns: " + ", ".join(snapshot.schema.names),
        ) from error


def _write_rest(files: FileSet, snapshot: Snapshot, file: DataFile, doomed: Sequence[int]) -> None:
    pa = arrow()
    (path,) = snapshot.paths([file])
    table = arrow_parquet().read_table(path, partitioning=None, page_checksum_verification=True)
    is_kept = bytearray(b"\1") * table.num_rows
    for number in doomed:
        is_kept[number] = 0
    mask = pa.array(is_kept, pa.uint8()).cast(pa.bool_())
    files.write(filter_rows(table, mask), place=file.place)
    files.finish(place=file.place)


def compact(
    parts: StoreParts, session: SqlSession, row: DatasetRow, *, target_rows: int
) -> Version:
    """Join small neighbouring files; see `Dataset.compact`."""
    if target_rows < 1:
        raise StorageError(f"expected target_rows of at least 1, found {target_rows}")
    for _ in range(_ATTEMPTS):
        with parts.snapshot(row) as snapshot:
            try:
                return _compact_once(parts, session, row, snapshot, target_rows)
            except ConflictError:
                continue
    raise _too_busy(row)


def _compact_once(
    parts: StoreParts, session: SqlSession, row: DatasetRow, snapshot: Snapshot, target_rows: int
) -> Version:
    groups = list(_neighbours(snapshot.manifest.files, target_rows))
    if not groups:
        return snapshot.version
    removed: list[int] = []
    additions: list[Addition] = []
    writers = []
    try:
        for group in groups:
            files = _file_set(parts, session, row, snapshot.schema, group[0])
            writers.append(files)
            for table in gathered(_read(snapshot, group), is_partitioned=False):
                files.write(table, place=group[0].place)
            files.finish(place=group[0].place)
            additions += files.additions
            removed += [file.file_id for file in group]
        change = Change(
            operation="compact",
            schema=encode_schema(snapshot.schema),
            additions=tuple(additions),
            removed=tuple(removed),
            run_id=parts.asking().run_id,
        )
        for files in writers:
            files.is_submitted = True
        return commit(parts.catalogue, row, change)
    except BaseException as error:
        for files in writers:
            files.discard_after(error)
        raise


def _neighbours(files: Sequence[DataFile], target_rows: int) -> Iterator[list[DataFile]]:
    """Group small files of one partition that follow each other, so that row order stays.

    In a partitioned dataset, rows of different partitions may change places.
    """
    by_partition: dict[tuple[str, ...], list[DataFile]] = {}
    for file in files:
        by_partition.setdefault(file.body.partition, []).append(file)
    for members in by_partition.values():
        group: list[DataFile] = []
        for file in members:
            is_full = sum(each.body.num_rows for each in group) + file.body.num_rows > target_rows
            if is_full and group:
                if len(group) > 1:
                    yield group
                group = []
            group.append(file)
        if len(group) > 1:
            yield group


def _read(snapshot: Snapshot, files: Sequence[DataFile]) -> Iterator[Any]:
    for path in snapshot.paths(files):
        with arrow_parquet().ParquetFile(path, page_checksum_verification=True) as reader:
            for group in range(reader.metadata.num_row_groups):
                yield align(reader.read_row_group(group), snapshot.schema)


def _file_set(
    parts: StoreParts, session: SqlSession, row: DatasetRow, schema: Any, like: DataFile
) -> FileSet:
    """Make files beside an existing one, in the folder of its partition."""
    directory = like.body.name.rpartition("/")[0]
    return FileSet(
        parts.folder / str(row.dataset_id),
        parts.pins.owner_id(),
        session,
        schema,
        directory=directory,
        partition=like.body.partition,
    )


def _too_busy(row: DatasetRow) -> StorageError:
    return StorageError(
        f"dataset {row.name!r} was changed by others {_ATTEMPTS} times in a row meanwhile;"
        " nothing was done",
        hint="try again when fewer writers are at work",
    )
