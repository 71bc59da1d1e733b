"""Task type ``read``: files as tables or values."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from msgspec.structs import replace

from flowbuilder.cache.subject import Subject
from flowbuilder.errors import FlowBuilderError
from flowbuilder.plugins.task_type import Finding, TaskCall, TaskType
from flowbuilder.store.table_scan import TableScan
from flowbuilder.tasks.file_formats import (
    TABLE_FORMATS,
    FileFormat,
    file_format,
    known_suffix,
    split_compression,
)
from flowbuilder.tasks.file_places import find_files, package_folder, resolve_path
from flowbuilder.tasks.file_readers import check_columns, read_json, read_payload, read_table
from flowbuilder.tasks.tables import from_arrow, require, to_arrow
from flowbuilder.vocabulary import Effects

__all__ = ["ReadTask"]

_CSV_OPTIONS: dict[str, object] = {
    "delimiter": {"type": "string", "minLength": 1, "maxLength": 1},
    "quote": {"type": "string", "minLength": 1, "maxLength": 1},
    "header": {"type": "boolean", "description": "Whether the first row holds names."},
    "names": {"type": "array", "items": {"type": "string"}, "description": "Column names."},
    "skip_rows": {"type": "integer", "minimum": 0},
    "na": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Unquoted texts that mean missing; by default only the empty one.",
    },
    "decimal_point": {"enum": [".", ","]},
    "encoding": {"type": "string"},
    "timestamp_formats": {
        "type": "array",
        "items": {"type": "string"},
        "description": "strptime formats to try; ISO 8601 by default.",
    },
}


class ReadTask(TaskType):
    """Read a file, a folder or all files that match a pattern.

    The format goes by the suffix unless ``format`` says otherwise; ``.gz``, ``.zip``, ``.bz2``,
    ``.zst`` and ``.xz`` are unpacked. Tables come out as Arrow (``output: auto``), JSON as plain
    values, text as str. With ``package`` the path starts in the folder of an installed Python
    package, which is found but not imported.

    Notes
    -----
    CSV columns are typed by their content; only an empty unquoted field is missing, so
    a quoted empty text, ``NA`` and ``NaN`` keep their meaning unless ``options.na`` lists them.
    """

    name: ClassVar[str] = "read"
    summary: ClassVar[str] = "Read CSV, JSON, Parquet, Arrow or text files"
    schema: ClassVar[Mapping[str, object]] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["path"],
        "properties": {
            "path": {
                "type": "string",
                "minLength": 1,
                "description": "File, folder or pattern (*, ?, **), relative to the workflow file.",
            },
            "package": {
                "type": "string",
                "pattern": r"^[^\W\d]\w*(\.[^\W\d]\w*)*$",
                "description": "Installed Python package in whose folder `path` starts.",
            },
            "format": {"enum": ["auto", *FileFormat], "default": "auto"},
            "columns": {
                "type": "array",
                "items": {"type": "string"},
                "minItems": 1,
                "description": "Columns to read, in this order.",
            },
            "output": {
                "enum": ["auto", "arrow", "polars", "pandas", "scan", "rows"],
                "default": "auto",
                "description": "Type of a table; auto is arrow, and plain values for JSON; scan "
                "leaves Parquet and Arrow files where they are.",
            },
            "options": {
                "type": "object",
                "additionalProperties": False,
                "default": {},
                "properties": {
                    **_CSV_OPTIONS,
                    "dtypes": {
                        "type": "object",
                        "additionalProperties": {"type": "string"},
                        "description": "Column types: int, float, string, bool, date, "
                        "timestamp, decimal(10,2) or any Arrow name.",
                    },
                },
                "description": "How to read CSV; `dtypes` also for JSON lines.",
            },
        },
    }

    def effects(self, config: Mapping[str, object]) -> Effects:
        """Say ``none``: reading changes nothing."""
        del config
        return Effects.NONE

    def check(self, config: Mapping[str, object], directory: Path) -> Iterable[Finding]:
        """Find formats that cannot be told, options of another format, packages not installed."""
        path, asked, output = config.get("path"), config.get("format"), config.get("output", "auto")
        package = config.get("package")
        if isinstance(package, str) and "${{" not in package:
            yield from _package_findings(package)
        if not isinstance(path, str) or "${{" in f"{path}{asked}{output}":
            return
        place = directory / Path(path)
        kind = known_suffix(path) if asked in (None, "auto") else FileFormat(str(asked))
        if kind is None:
            if Path(path).suffix and not place.is_dir() and package is None:
                message = f"cannot tell the format of {path!r} by its suffix"
                yield Finding(message, ("path",), hint="set `format`")
            return
        yield from _option_findings(config, kind)

    def cache_subject(self, call: TaskCall) -> Subject:
        """Name the content of the files and how it is read."""
        files, place = _find(call)
        root = place if place.is_dir() else place.parent
        # Names of files reach the output: as keys, and as values of partitions.
        names = [os.path.relpath(file, root) for file in files]
        return Subject(
            arguments={**call.config, "files": names}, files=tuple(files), libraries=("pyarrow",)
        )

    def run(self, call: TaskCall) -> object:
        """Read what ``path`` means."""
        files, place = _find(call)
        return _read(files, place, call)


def _find(call: TaskCall) -> tuple[Sequence[Path], Path]:
    shown, package = str(call.config["path"]), call.config.get("package")
    if package:
        root = package_folder(str(package))
        place = root / shown
        return find_files(place, f"{package}:{shown}", inside=root), place
    place = resolve_path(shown, call.directory, call.policy)
    is_restricted = call.policy == "restricted"
    return find_files(place, shown, inside=call.directory if is_restricted else None), place


def _read(files: Sequence[Path], place: Path, call: TaskCall) -> object:
    config = call.config
    output = str(config.get("output", "auto"))
    kinds = {file_format(file.name, config.get("format")) for file in files}
    if len(kinds) > 1:
        found = " and ".join(sorted(kinds))
        raise FlowBuilderError(
            f"expected files of one format in {place.name!r}, found {found}",
            hint="name them with a pattern such as '*.csv'",
        )
    kind = kinds.pop()
    root = place if place.is_dir() else place.parent
    if kind not in TABLE_FORMATS:
        values = {file.relative_to(root).as_posix(): _value(file, kind) for file in files}
        value = next(iter(values.values())) if place.is_file() else values
        return value if output == "auto" else from_arrow(to_arrow(value, place.name), output)
    columns, options = config.get("columns"), config.get("options")
    if output == "scan":
        return _scan(files, kind, place, columns)
    table = read_table(
        files,
        kind,
        columns=list(columns) if isinstance(columns, Sequence) else None,
        options=options if isinstance(options, Mapping) else {},
        partitions=place if place.is_dir() else None,
    )
    return from_arrow(table, output)


def _scan(files: Sequence[Path], kind: FileFormat, place: Path, columns: object) -> TableScan:
    """Leave a table in its files; nothing but their footers is read."""
    pa = require("pyarrow", "output: scan")
    _check_scannable(files, kind)
    labelled = place.is_dir() and any("=" in part for part in files[0].relative_to(place).parts)
    scan = TableScan.of(files, str(kind), root=place if labelled else None)
    try:
        known = scan.schema.names
    except (pa.ArrowException, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise FlowBuilderError(f"{place.name!r} could not be read as {kind}: {reason}") from error
    if not isinstance(columns, Sequence):
        return scan
    check_columns(columns, known, files[0])
    return TableScan(replace(scan.files, columns=tuple(columns)))


def _check_scannable(files: Sequence[Path], kind: FileFormat) -> None:
    if kind not in {FileFormat.PARQUET, FileFormat.ARROW}:
        raise FlowBuilderError(
            f"expected Parquet or Arrow files for `output: scan`, found {kind}",
            hint="use a sql task: select * from read_csv('...'), with `output: scan`",
        )
    packed = [file.name for file in files if split_compression(file.name)[1]]
    if packed:
        raise FlowBuilderError(
            f"expected files that are not compressed as a whole, found {packed[0]!r}",
            hint="unpack it first",
        )


def _value(file: Path, kind: FileFormat) -> object:
    if kind is FileFormat.JSON:
        return read_json(file)
    data = read_payload(file)
    if kind is FileFormat.BYTES:
        return data
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FlowBuilderError(
            f"file {file.name!r} is not UTF-8 text (byte {error.start})",
            hint="use `format: bytes`",
        ) from error


def _package_findings(package: str) -> Iterable[Finding]:
    try:
        package_folder(package)
    except FlowBuilderError as error:
        yield Finding(error.message, ("package",), hint=error.hint, severity="warning")


def _option_findings(config: Mapping[str, object], kind: FileFormat) -> Iterable[Finding]:
    options = config.get("options")
    for name in options if isinstance(options, Mapping) else ():
        if kind is not FileFormat.CSV and not (kind is FileFormat.JSONL and name == "dtypes"):
            yield Finding(f"option {name!r} is for csv, not for {kind}", ("options", name))
    if kind not in TABLE_FORMATS and "columns" in config:
        yield Finding(f"`columns` needs a table, but the format is {kind}", ("columns",))
    if kind in {FileFormat.TEXT, FileFormat.BYTES} and config.get("output", "auto") != "auto":
        yield Finding(f"`output` needs a table, but the format is {kind}", ("output",))
