"""Files into values, one function per format. Arrow and Parquet are mapped, not loaded whole."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from flowbuilder.errors import FlowBuilderError
from flowbuilder.tasks.file_formats import FileFormat, split_compression
from flowbuilder.tasks.file_places import near_names
from flowbuilder.tasks.tables import require

__all__ = ["check_columns", "read_json", "read_payload", "read_table"]

_DECIMAL = re.compile(r"decimal\((\d+),\s*(\d+)\)")
_JSON_BLOCK_BYTES = 1 << 24


def read_payload(path: Path) -> bytes:
    """Read a whole file, decompressed if its name says it is compressed.

    Parameters
    ----------
    path : Path
        The file; a ``.zip`` must hold exactly one file.

    Returns
    -------
    bytes
        The content.

    Raises
    ------
    FlowBuilderError
        If it cannot be read or decompressed.
    """
    compression = split_compression(path.name)[1]
    try:
        if compression == "zip":
            return _unzip(path)
        if compression == "zstd":
            pa = require("pyarrow", "a .zst file")
            with pa.input_stream(str(path), compression="zstd") as stream:
                return bytes(stream.read())
        data = path.read_bytes()
        expand: dict[str, Callable[[bytes], bytes]] = {
            "gzip": gzip.decompress,
            "bz2": bz2.decompress,
            "xz": lzma.decompress,
        }
        return expand[compression](data) if compression else data
    except (OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile, RuntimeError) as error:
        raise FlowBuilderError(f"file {path.name!r} could not be read: {error}") from error


def _unzip(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        members = [
            member
            for member in archive.infolist()
            if not member.is_dir() and not member.filename.startswith("__MACOSX/")
        ]
        if len(members) != 1:
            raise FlowBuilderError(
                f"expected one file inside {path.name!r}, found {len(members)}",
                hint="unpack the archive in a shell task first",
            )
        return archive.read(members[0])


def read_json(path: Path) -> object:
    """Read a JSON document.

    Parameters
    ----------
    path : Path
        The file, UTF-8.

    Returns
    -------
    object
        The value; numbers with a point are floats.

    Raises
    ------
    FlowBuilderError
        If it is not JSON.
    """
    try:
        value: object = msgspec.json.decode(read_payload(path).removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError) as error:
        raise FlowBuilderError(f"file {path.name!r} is not JSON: {error}") from error
    return value


def read_table(
    files: Sequence[Path],
    kind: FileFormat,
    *,
    columns: Sequence[str] | None,
    options: Mapping[str, object],
    partitions: Path | None = None,
) -> Any:
    """Read files of one format as one table.

    Parameters
    ----------
    files : sequence of Path
        At least one; several are appended in order, columns matched by name, missing ones null.
    kind : FileFormat
        One of `TABLE_FORMATS`.
    columns : sequence of str or None
        Columns to read, in this order; all if None.
    options : mapping
        CSV settings of the config.
    partitions : Path, optional
        Folder below which ``name=value`` folders are columns.

    Returns
    -------
    pyarrow.Table
        The rows.

    Raises
    ------
    FlowBuilderError
        If a file is damaged, not of this format, or lacks a column.
    """
    pa = require("pyarrow", f"reading {kind}")
    tables = []
    for file in files:
        labels = _partition_labels(file, partitions) if partitions else {}
        stored = None if columns is None else [name for name in columns if name not in labels]
        try:
            table = _READERS[kind](file, stored, options)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise FlowBuilderError(
                f"file {file.name!r} could not be read as {kind}: {reason}"
            ) from error
        tables.append(_with_labels(pa, table, labels))
    whole = tables[0] if len(tables) == 1 else _joined(pa, tables)
    whole = _typed_labels(pa, whole, files, partitions)
    return whole if columns is None else _pick(whole, columns, files[0])


def _joined(pa: Any, tables: list[Any]) -> Any:
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise FlowBuilderError(
            f"the files do not fit together: {str(error).strip().partition(chr(10))[0]}",
            hint="give `options.dtypes`, or read them in separate tasks",
        ) from error


def _read_csv(file: Path, columns: Sequence[str] | None, options: Mapping[str, Any]) -> Any:
    pa, csv = require("pyarrow", "reading csv"), require("pyarrow.csv", "reading csv")
    stem, compression = split_compression(file.name)
    delimiter = options.get("delimiter", "\t" if stem.lower().endswith(".tsv") else ",")
    source = pa.BufferReader(read_payload(file)) if compression else str(file)
    names, header = options.get("names"), options.get("header", True)
    read_options = csv.ReadOptions(
        skip_rows=options.get("skip_rows", 0) + (1 if names and header else 0),
        column_names=names,
        autogenerate_column_names=not names and not header,
        encoding=options.get("encoding", "utf8"),
    )
    parse_options = csv.ParseOptions(
        delimiter=delimiter, quote_char=options.get("quote", '"'), newlines_in_values=True
    )
    convert_options = csv.ConvertOptions(
        null_values=options.get("na", [""]),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        column_types=_types(pa, options.get("dtypes", {})),
        timestamp_parsers=options.get("timestamp_formats"),
        decimal_point=options.get("decimal_point", "."),
    )
    if columns is not None:
        convert_options.include_columns = list(columns)
    try:
        return csv.read_csv(source, read_options, parse_options, convert_options)
    except KeyError:
        convert_options.include_columns = []
        source = pa.BufferReader(read_payload(file)) if compression else str(file)
        table = csv.read_csv(source, read_options, parse_options, convert_options)
        return _pick(table, columns or (), file)


def _types(pa: Any, names: Mapping[str, str]) -> dict[str, Any]:
    return {column: _type(pa, name) for column, name in names.items()}


def _type(pa: Any, name: str) -> Any:
    if decimal := _DECIMAL.fullmatch(name):
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    aliases = {"date": "date32", "timestamp": "timestamp[us]", "int": "int64", "float": "double"}
    return pa.type_for_alias(aliases.get(name, name))


def _read_jsonl(file: Path, columns: Sequence[str] | None, options: Mapping[str, Any]) -> Any:
    pa, json = require("pyarrow", "reading jsonl"), require("pyarrow.json", "reading jsonl")
    data = read_payload(file)
    if not data.strip():
        return pa.table({})
    longest = max(_JSON_BLOCK_BYTES, 1 << (len(data) - 1).bit_length())
    read_options = json.ReadOptions(block_size=min(longest, (1 << 31) - 1))
    schema = pa.schema(list(_types(pa, options.get("dtypes", {})).items()))
    parse_options = json.ParseOptions(explicit_schema=schema if len(schema) else None)
    table = json.read_json(pa.BufferReader(data), read_options, parse_options)
    return table if columns is None else _pick(table, columns, file)


def _read_parquet(file: Path, columns: Sequence[str] | None, options: Mapping[str, Any]) -> Any:
    del options
    source = require("pyarrow.parquet", "reading parquet").ParquetFile(file, memory_map=True)
    check_columns(columns or (), source.schema_arrow.names, file)
    return source.read(columns=None if columns is None else list(columns))


def _read_arrow(file: Path, columns: Sequence[str] | None, options: Mapping[str, Any]) -> Any:
    del options
    pa, ipc = require("pyarrow", "reading arrow"), require("pyarrow.ipc", "reading arrow")
    if split_compression(file.name)[1]:
        source = pa.BufferReader(read_payload(file))
    else:
        source = pa.memory_map(str(file))
    try:
        table = ipc.open_file(source).read_all()
    except pa.ArrowInvalid:  # not the file format: the stream format has no magic bytes at its end
        source.seek(0)
        table = ipc.open_stream(source).read_all()
    return table if columns is None else _pick(table, columns, file)


_READERS: dict[FileFormat, Callable[[Path, Sequence[str] | None, Mapping[str, Any]], Any]] = {
    FileFormat.CSV: _read_csv,
    FileFormat.JSONL: _read_jsonl,
    FileFormat.PARQUET: _read_parquet,
    FileFormat.ARROW: _read_arrow,
}


def _pick(table: Any, columns: Sequence[str], file: Path) -> Any:
    check_columns(columns, table.column_names, file)
    return table.select(list(columns))


def check_columns(columns: Iterable[str], known: Sequence[str], file: Path) -> None:
    """Make sure that a file has columns.

    Raises
    ------
    FlowBuilderError
        At the first it does not have, with what may have been meant.
    """
    for column in columns:
        if column not in known:
            raise FlowBuilderError(
                f"file {file.name!r} has no column {column!r}", hint=near_names(column, known)
            )


def _partition_labels(file: Path, root: Path) -> dict[str, str]:
    """Read ``month=1/carrier=UA`` off a path."""
    folders = file.relative_to(root).parts[:-1]
    return {name: value for name, _, value in (part.partition("=") for part in folders) if value}


def _with_labels(pa: Any, table: Any, labels: Mapping[str, str]) -> Any:
    for name, value in labels.items():
        if name not in table.column_names:
            values = pa.repeat(pa.scalar(None if value == _NULL_LABEL else value), len(table))
            table = table.append_column(name, values.cast(pa.string()))
    return table


_NULL_LABEL = "__HIVE_DEFAULT_PARTITION__"


def _typed_labels(pa: Any, table: Any, files: Sequence[Path], root: Path | None) -> Any:
    """Make a label column integers if every one of its labels is an integer."""
    names = _partition_labels(files[0], root) if root else {}
    for index, name in enumerate(table.column_names):
        if name in names and table.schema.field(index).type == pa.string():
            try:
                table = table.set_column(index, name, table.column(index).cast(pa.int64()))
            except pa.ArrowInvalid:
                continue
    return table
