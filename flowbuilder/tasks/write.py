"""Task type ``write``: a table or value into a file, whole or not at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from flowbuilder.errors import FlowBuilderError
from flowbuilder.plugins.task_type import Finding, TaskCall, TaskType
from flowbuilder.store.table_scan import TableScan
from flowbuilder.tasks.atomic_files import replacing_file, replacing_folder
from flowbuilder.tasks.file_formats import (
    TABLE_FORMATS,
    FileFormat,
    file_format,
    known_suffix,
    split_compression,
)
from flowbuilder.tasks.file_places import resolve_path
from flowbuilder.tasks.file_writers import formula_columns, write_parts, write_table, write_value
from flowbuilder.tasks.streamed_files import write_scan
from flowbuilder.tasks.streamed_tables import sink_lazy
from flowbuilder.tasks.tables import is_lazy, is_table, to_arrow
from flowbuilder.vocabulary import Effects

__all__ = ["WriteTask"]

_PORT = "data"


class WriteTask(TaskType):
    """Write the output of another task to a file.

    The data is the port ``data``, else the only input, else the output of the only task waited for.
    The file appears under its name only when it is complete and on disk. The output says where:
    ``path`` (absolute), ``format``, ``size_bytes``, ``num_rows`` (null if not a table) and
    ``num_files``.

    Notes ----- There is no append mode: a task that is run again after a crash would append twice.
    Write parts into a folder (``partition_by``) or read all parts with a pattern instead.
    """

    name: ClassVar[str] = "write"
    summary: ClassVar[str] = "Write CSV, JSON, Parquet, Arrow or text files"
    schema: ClassVar[Mapping[str, object]] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["path"],
        "properties": {
            "path": {
                "type": "string",
                "minLength": 1,
                "description": "File, or folder with partition_by; relative to the workflow file.",
            },
            "format": {"enum": ["auto", *FileFormat], "default": "auto"},
            "mode": {
                "enum": ["overwrite", "error"],
                "default": "overwrite",
                "description": "What to do if the file is there already.",
            },
            "partition_by": {
                "type": "array",
                "items": {"type": "string"},
                "minItems": 1,
                "uniqueItems": True,
                "description": "Parquet: write a folder, one sub-folder per value of these.",
            },
            "options": {
                "type": "object",
                "additionalProperties": False,
                "default": {},
                "properties": {
                    "delimiter": {"type": "string", "minLength": 1, "maxLength": 1},
                    "header": {"type": "boolean"},
                    "escape_formulas": {
                        "type": "boolean",
                        "description": "CSV: mark texts a spreadsheet would run as formulas.",
                    },
                    "compression": {
                        "enum": ["none", "snappy", "zstd", "lz4", "gzip"],
                        "description": "Parquet (zstd by default) and Arrow (none, zstd, lz4).",
                    },
                },
            },
        },
    }

    def effects(self, config: Mapping[str, object]) -> Effects:
        """Say ``idempotent`` for overwriting, ``external`` for a mode that fails the second time.

        Overwriting twice leaves the same file as once, and no reader ever sees half of it.
        """
        return Effects.EXTERNAL if config.get("mode") == "error" else Effects.IDEMPOTENT

    def check(self, config: Mapping[str, object], directory: Path) -> Iterable[Finding]:
        """Find formats that cannot be told or written, and options of another format."""
        del directory
        path, asked = config.get("path"), config.get("format", "auto")
        parts, options = config.get("partition_by"), config.get("options", {})
        if not isinstance(path, str) or "${{" in f"{path}{asked}":
            return
        kind = known_suffix(path) if asked == "auto" else FileFormat(str(asked))
        if parts is not None:
            if kind not in {None, FileFormat.PARQUET}:
                yield Finding(f"`partition_by` writes parquet, not {kind}", ("partition_by",))
            kind = FileFormat.PARQUET
        elif kind is None:
            message = f"cannot tell the format of {path!r} by its suffix"
            yield Finding(message, ("path",), hint="set `format`")
        if split_compression(path)[1] not in {"", "gzip"}:
            yield Finding("expected no compression or .gz", ("path",), hint=f"found {path!r}")
        for name in options if kind and isinstance(options, Mapping) else ():
            if name not in _OPTIONS.get(kind or FileFormat.TEXT, ()):
                yield Finding(f"option {name!r} is not for {kind}", ("options", name))

    def check_inputs(
        self, config: Mapping[str, object], ports: Collection[str], directory: Path
    ) -> Iterable[Finding]:
        """Find inputs of which none is marked as the one to write."""
        del config, directory
        if len(ports) > 1 and _PORT not in ports:
            found = ", ".join(sorted(ports))
            hint = "say which: `inputs: {data: the_task}`"
            yield Finding(f"expected one input to write, found {found}", hint=hint)

    def run(self, call: TaskCall) -> object:
        """Write the data and say where it is."""
        config = call.config
        shown, options = str(config["path"]), config.get("options") or {}
        assert isinstance(options, Mapping)
        target = resolve_path(shown, call.directory, call.policy)
        value = _on_disk(_data(call), call)
        overwrite = config.get("mode", "overwrite") == "overwrite"
        parts = config.get("partition_by")
        try:
            if isinstance(parts, Sequence):
                table = _partable(value, call.name)
                with replacing_folder(target, overwrite=overwrite, suffix=".parquet") as folder:
                    write_parts(table, folder, list(parts), options=options)
                return _receipt(target, FileFormat.PARQUET, _row_count(value, table))
            kind = file_format(target.name, config.get("format"))
            with replacing_file(target, overwrite=overwrite) as temporary:
                num_rows = _write(value, kind, temporary, options, call)
        except OSError as error:
            raise FlowBuilderError(
                f"{shown!r} could not be written: {error.strerror or error}"
            ) from error
        return _receipt(target, kind, num_rows)


_OPTIONS: dict[FileFormat, tuple[str, ...]] = {
    FileFormat.CSV: ("delimiter", "header", "escape_formulas"),
    FileFormat.PARQUET: ("compression",),
    FileFormat.ARROW: ("compression",),
}


def _partable(value: object, name: str) -> Any:
    """Give what can be split into parts: an Arrow table, or a dataset that is read as it goes."""
    if isinstance(value, TableScan):
        return value.dataset() if value.files.columns is None else value.to_arrow()
    return to_arrow(value, name)


def _row_count(value: object, table: Any) -> int:
    count: int = value.num_rows if isinstance(value, TableScan) else table.num_rows
    return count


def _on_disk(value: object, call: TaskCall) -> object:
    """Compute a lazy frame into a file, so that it is never whole in memory."""
    if is_lazy(value) and not call.is_confidential:
        return sink_lazy(value, call.temporary)
    return value


def _data(call: TaskCall) -> object:
    """Choose what to write."""
    if _PORT in call.inputs:
        return call.inputs[_PORT]
    source = call.inputs or call.upstream
    if len(source) == 1:
        return next(iter(source.values()))
    found = ", ".join(sorted(source)) or "none"
    raise FlowBuilderError(
        f"expected one input to write, found {found}",
        task=call.name,
        hint="say which: `inputs: {data: the_task}`",
    )


def _write(
    value: object, kind: FileFormat, path: Path, options: Mapping[str, object], call: TaskCall
) -> int | None:
    compress = split_compression(str(call.config["path"]))[1] == "gzip"
    if kind not in TABLE_FORMATS and not (kind is FileFormat.JSON and _is_frame(value)):
        write_value(value, kind, path, compress=compress)
        return None
    if isinstance(value, TableScan):
        return write_scan(value, kind, path, options=options, compress=compress)
    table = to_arrow(value, call.name)
    if kind is FileFormat.CSV and not options.get("escape_formulas"):
        _warn_of_formulas(table, call)
    write_table(table, kind, path, options=options, compress=compress)
    num_rows: int = table.num_rows
    return num_rows


def _is_frame(value: object) -> bool:
    """Whether a value is a table that JSON cannot take as it is."""
    return is_table(value) and not isinstance(value, Mapping | list | tuple)


def _warn_of_formulas(table: Any, call: TaskCall) -> None:
    if risky := formula_columns(table):
        names = ", ".join(map(repr, risky[:5]))
        call.write(
            "log",
            f"texts in {names} begin like spreadsheet formulas; "
            "set `options.escape_formulas: true` if the file will be opened in one\n",
        )


def _receipt(target: Path, kind: FileFormat, num_rows: int | None) -> dict[str, object]:
    files = [file for file in target.rglob("*") if file.is_file()] if target.is_dir() else [target]
    return {
        "path": str(target.resolve()),
        "format": str(kind),
        "size_bytes": sum(file.stat().st_size for file in files),
        "num_rows": num_rows,
        "num_files": len(files),
    }
