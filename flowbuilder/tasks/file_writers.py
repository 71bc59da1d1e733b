"""Values into files: one function per format, each writing to a path that does not exist yet."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from flowbuilder.errors import FlowBuilderError
from flowbuilder.tasks.file_formats import FileFormat
from flowbuilder.tasks.file_places import near_names
from flowbuilder.tasks.tables import require

__all__ = ["FORMULA_STARTS", "formula_columns", "write_parts", "write_table", "write_value"]

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A text cell that begins so is run as a formula by spreadsheet programs."""


def write_value(value: object, kind: FileFormat, path: Path, *, compress: bool) -> None:
    """Write something that is not a table.

    Parameters
    ----------
    value : object
        str for text; str or bytes-like for bytes; a tree of plain values for JSON (NaN becomes
        null).
    kind : FileFormat
        TEXT, BYTES or JSON.
    path : Path
        Where.
    compress : bool
        Whether to gzip it.

    Raises
    ------
    FlowBuilderError
        If the value does not suit the format.
    """
    _store(_encode(value, kind), path, compress=compress)


def _encode(value: object, kind: FileFormat) -> bytes:
    if kind is FileFormat.JSON:
        return _json(value, indent=True)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview) and kind is FileFormat.BYTES:
        return bytes(value)
    wanted = "text" if kind is FileFormat.TEXT else "bytes or text"
    raise FlowBuilderError(
        f"expected {wanted} to write as {kind}, found {type(value).__name__}",
        hint="set `format`, or give the file a suffix that suits the data",
    )


def _json(value: object, *, indent: bool = False) -> bytes:
    try:
        data = msgspec.json.encode(value, enc_hook=_plain)
    except (TypeError, ValueError, RecursionError, NotImplementedError) as error:
        raise FlowBuilderError(f"the data cannot be written as JSON: {error}") from error
    return msgspec.json.format(data, indent=2) + b"\n" if indent else data


def _plain(value: Any) -> object:
    """Turn numpy scalars and arrays into plain values."""
    for method in ("tolist", "as_py"):
        if hasattr(value, method):
            plain: object = getattr(value, method)()
            return plain
    raise NotImplementedError(f"it contains a {type(value).__name__}")


def _store(data: bytes, path: Path, *, compress: bool) -> None:
    # Without a time stamp the same data gives the same file.
    path.write_bytes(gzip.compress(data, mtime=0) if compress else data)


def write_table(
    table: Any, kind: FileFormat, path: Path, *, options: Mapping[str, object], compress: bool
) -> None:
    """Write a table as one file.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    kind : FileFormat
        CSV, JSON, JSONL, PARQUET or ARROW.
    path : Path
        Where.
    options : mapping
        ``delimiter``, ``header``, ``escape_formulas`` for CSV; ``compression`` for Parquet and
        Arrow.
    compress : bool
        Whether to gzip text formats.

    Raises
    ------
    FlowBuilderError
        If the format cannot hold a column's type.
    """
    pa = require("pyarrow", f"writing {kind}")
    if compress and kind in {FileFormat.PARQUET, FileFormat.ARROW}:
        raise FlowBuilderError(
            f"{kind} files compress their columns themselves, found the suffix .gz",
            hint="remove .gz from `path`, and set `options.compression` if you like",
        )
    try:
        _WRITERS[kind](pa, table, path, options, compress)
    except pa.ArrowException as error:
        reason = str(error).strip().partition("\n")[0]
        raise FlowBuilderError(f"the table cannot be written as {kind}: {reason}") from error


def _write_csv(pa: Any, table: Any, path: Path, options: Mapping[str, Any], compress: bool) -> None:
    csv = require("pyarrow.csv", "writing csv")
    table = csv_table(pa, table, options)
    write_options = csv.WriteOptions(
        include_header=options.get("header", True), delimiter=options.get("delimiter", ",")
    )
    if not compress:
        csv.write_csv(table, str(path), write_options)
        return
    sink = pa.BufferOutputStream()
    csv.write_csv(table, sink, write_options)
    _store(sink.getvalue().to_pybytes(), path, compress=True)


def csv_table(pa: Any, table: Any, options: Mapping[str, Any]) -> Any:
    """Give a table as the CSV writer can show it, formulas marked if ``options`` ask for it.

    Raises
    ------
    FlowBuilderError
        If CSV cannot hold a column.
    """
    table = _flat(pa, table)
    return _escaped(pa, table) if options.get("escape_formulas") else table


def _flat(pa: Any, table: Any) -> Any:
    """Cast what the CSV writer cannot show though CSV can; name what CSV cannot hold."""
    for index, column in enumerate(table.schema):
        kind = column.type
        if pa.types.is_nested(kind):
            raise FlowBuilderError(
                f"column {column.name!r} holds {kind}, which CSV cannot",
                hint="write JSON lines or Parquet, or flatten the column first",
            )
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_string_view(kind):
            kind = pa.string()
        if kind != column.type:
            table = table.set_column(index, column.name, table.column(index).cast(kind))
    return table


def formula_columns(table: Any) -> list[str]:
    """Name the columns whose texts a spreadsheet could run as formulas, and such column names.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.

    Returns
    -------
    list of str
        Column names, in order.
    """
    pa, compute = require("pyarrow", "writing csv"), require("pyarrow.compute", "writing csv")
    return [
        column.name
        for index, column in enumerate(table.schema)
        if column.name.startswith(FORMULA_STARTS)
        or (_is_text(pa, column.type) and compute.any(_risky(compute, table.column(index))).as_py())
    ]


def _escaped(pa: Any, table: Any) -> Any:
    """Put an apostrophe before risky texts, which spreadsheets take as "this is text"."""
    compute = require("pyarrow.compute", "writing csv")
    for index, column in enumerate(table.schema):
        name = f"'{column.name}" if column.name.startswith(FORMULA_STARTS) else column.name
        values = table.column(index)
        if _is_text(pa, column.type):
            marked = compute.binary_join_element_wise("'", values, "")
            values = compute.if_else(_risky(compute, values), marked, values)
        table = table.set_column(index, name, values)
    return table


def _risky(compute: Any, values: Any) -> Any:
    return compute.match_substring_regex(values.cast("string"), "^[=+@\\t\\r-]")


def _is_text(pa: Any, kind: Any) -> bool:
    is_text: bool = (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
    return is_text


def _write_json(
    pa: Any, table: Any, path: Path, options: Mapping[str, Any], compress: bool
) -> None:
    del pa, options
    write_value(table.to_pylist(), FileFormat.JSON, path, compress=compress)


def _write_jsonl(
    pa: Any, table: Any, path: Path, options: Mapping[str, Any], compress: bool
) -> None:
    del pa, options
    with gzip.GzipFile(path, "wb", mtime=0) if compress else path.open("wb") as file:
        for batch in table.to_batches(max_chunksize=10_000):
            file.write(json_lines(batch))


def json_lines(batch: Any) -> bytes:
    """Give the rows of a record batch as JSON, a line each."""
    return b"".join(_json(row) + b"\n" for row in batch.to_pylist())


def _write_parquet(
    pa: Any, table: Any, path: Path, options: Mapping[str, Any], compress: bool
) -> None:
    del pa, compress
    parquet = require("pyarrow.parquet", "writing parquet")
    parquet.write_table(table, path, compression=options.get("compression", "zstd"))


def _write_arrow(
    pa: Any, table: Any, path: Path, options: Mapping[str, Any], compress: bool
) -> None:
    del compress
    # Uncompressed by default: only then can the file be mapped into memory and used in place.
    compression = options.get("compression", "none")
    codec = None if compression == "none" else compression
    write_options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_file(str(path), table.schema, options=write_options) as writer:
        writer.write_table(table)


_WRITERS: dict[FileFormat, Callable[[Any, Any, Path, Mapping[str, Any], bool], None]] = {
    FileFormat.CSV: _write_csv,
    FileFormat.JSON: _write_json,
    FileFormat.JSONL: _write_jsonl,
    FileFormat.PARQUET: _write_parquet,
    FileFormat.ARROW: _write_arrow,
}


def write_parts(
    table: Any, folder: Path, partition_by: Sequence[str], *, options: Mapping[str, object]
) -> None:
    """Write a table as a folder of Parquet files, one sub-folder ``name=value`` per value.

    Parameters
    ----------
    table : pyarrow.Table or pyarrow.dataset.Dataset
        The rows.
    folder : Path
        An empty folder.
    partition_by : sequence of str
        Columns that become folders, outermost first.
    options : mapping
        ``compression``.

    Raises
    ------
    FlowBuilderError
        If a column is missing or makes too many folders.
    """
    pa = require("pyarrow", "writing parquet")
    dataset = require("pyarrow.dataset", "writing parquet")
    for name in partition_by:
        if name not in table.schema.names:
            hint = near_names(name, table.schema.names)
            raise FlowBuilderError(f"the table has no column {name!r} to partition by", hint=hint)
    schema = pa.schema([table.schema.field(name) for name in partition_by])
    parquet_format = dataset.ParquetFileFormat()
    try:
        dataset.write_dataset(
            table,
            folder,
            format=parquet_format,
            partitioning=dataset.partitioning(schema, flavor="hive"),
            file_options=parquet_format.make_write_options(
                compression=options.get("compression", "zstd")
            ),
        )
    except pa.ArrowException as error:
        raise FlowBuilderError(
            f"the table cannot be partitioned by {', '.join(partition_by)}: {error}"
        ) from error
