"""Tables on disk into files of the user's, batch by batch, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowbuilder.errors import FlowBuilderError
from flowbuilder.store.table_scan import TableScan
from flowbuilder.tasks.file_formats import FileFormat
from flowbuilder.tasks.file_writers import csv_table, json_lines, write_table
from flowbuilder.tasks.tables import require

__all__ = ["write_scan"]


def write_scan(
    scan: TableScan, kind: FileFormat, path: Path, *, options: Mapping[str, Any], compress: bool
) -> int:
    """Write a table on disk as one file of another place, format or compression.

    Parameters
    ----------
    scan : TableScan
        The rows.
    kind : FileFormat
        CSV, JSON, JSONL, PARQUET or ARROW. JSON, and text formats that are compressed, are made in
        memory.
    path : Path
        Where.
    options : mapping
        As for `flowbuilder.tasks.file_writers.write_table`.
    compress : bool
        Whether to gzip text formats.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    FlowBuilderError
        If the format cannot hold a column's type.
    """
    pa = require("pyarrow", f"writing {kind}")
    if compress or kind is FileFormat.JSON:
        table = scan.to_arrow()
        write_table(table, kind, path, options=options, compress=compress)
        return int(table.num_rows)
    try:
        return _stream(pa, scan, kind, path, options)
    except pa.ArrowException as error:
        reason = str(error).strip().partition("\n")[0]
        raise FlowBuilderError(f"the table cannot be written as {kind}: {reason}") from error


def _stream(
    pa: Any, scan: TableScan, kind: FileFormat, path: Path, options: Mapping[str, Any]
) -> int:
    count = 0
    if kind is FileFormat.JSONL:
        with path.open("wb") as file:
            for batch in scan.batches(10_000):
                file.write(json_lines(batch))
                count += batch.num_rows
        return count
    empty = scan.schema.empty_table()
    shown = csv_table(pa, empty, options) if kind is FileFormat.CSV else empty
    with _writer(pa, kind, path, shown.schema, options) as writer:
        for batch in scan.batches():
            table = pa.Table.from_batches([batch])
            writer.write_table(csv_table(pa, table, options) if kind is FileFormat.CSV else table)
            count += batch.num_rows
    return count


def _writer(pa: Any, kind: FileFormat, path: Path, schema: Any, options: Mapping[str, Any]) -> Any:
    if kind is FileFormat.PARQUET:
        parquet = require("pyarrow.parquet", "writing parquet")
        return parquet.ParquetWriter(
            str(path), schema, compression=options.get("compression", "zstd")
        )
    if kind is FileFormat.CSV:
        csv = require("pyarrow.csv", "writing csv")
        written = csv.WriteOptions(
            include_header=options.get("header", True), delimiter=options.get("delimiter", ",")
        )
        return csv.CSVWriter(str(path), schema, write_options=written)
    compression = options.get("compression", "none")
    codec = None if compression == "none" else compression
    return pa.ipc.new_file(str(path), schema, options=pa.ipc.IpcWriteOptions(compression=codec))
