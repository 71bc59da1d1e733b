"""Any value as bytes, and back exactly: the first form that gives it back equal, with its type."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from flowbuilder.errors import ConfigurationError, StorageError
from flowbuilder.store.artifact_files import ByteSink
from flowbuilder.store.small_outputs import is_exact
from flowbuilder.store.table_scan import ScanFiles, TableScan
from flowbuilder.store.tables import load_table, table_writer

__all__ = ["ValueForm", "find_form", "read_value"]

_BYTES: Final = "bytes"
_MSGPACK: Final = "msgpack"
_PICKLE: Final = "pickle"
_SCAN: Final = "scan"
_SCAN_TYPE: Final = "flowbuilder.TableScan"
_PART_BYTES: Final = 1 << 20
_SUFFIXES: Final = {_BYTES: "bin"}
_log = logging.getLogger(__name__)


class ValueForm(NamedTuple):
    """How to write one value."""

    format: str
    """``arrow``, ``npy``, ``parquet``, ``scan``, ``bytes``, ``msgpack`` or ``pickle``."""
    type_name: str
    num_rows: int
    """-1 if it has none."""
    size_bytes: int
    """About what it will take; 0 if only writing it tells."""
    write: Callable[[ByteSink], None]
    """May raise `UnpicklableError`, `TooLargeError`, or what the sink raises."""

    @property
    def suffix(self) -> str:
        """The end of a file's name."""
        return _SUFFIXES.get(self.format, self.format)


def find_form(value: object) -> ValueForm | None:
    """Find how to write a value; None if it is used up by use, or there is no key to sign it."""
    if type(value) is TableScan:
        return _scan_form(value)
    table = table_writer(value)
    if table is not None:
        return ValueForm(
            table.format, table.type_name, table.num_rows, table.size_bytes, table.write
        )
    type_name = _type_name(value)
    if type(value) is bytes:
        return ValueForm(_BYTES, type_name, -1, len(value), _writing(value))
    if is_exact(value):
        encoded = msgspec.msgpack.encode(value)
        return ValueForm(_MSGPACK, type_name, -1, len(encoded), _writing(encoded))
    return _pickle_form(value, type_name)


def _scan_form(scan: TableScan) -> ValueForm:
    """Copy the file of a scan that a task made; of one that was found, keep where it is."""
    if not scan.is_owner:
        data = msgspec.msgpack.encode(scan.files)
        return ValueForm(_SCAN, _SCAN_TYPE, -1, len(data), _writing(data))

    def write(sink: ByteSink) -> None:
        scan.check()
        with Path(scan.files.paths[0]).open("rb") as file:
            while part := file.read(_PART_BYTES):
                sink.write(part)

    return ValueForm(scan.files.format, _SCAN_TYPE, scan.num_rows, scan.size_bytes, write)


def _writing(data: bytes) -> Callable[[ByteSink], None]:
    def write(sink: ByteSink) -> None:
        sink.write(data)

    return write


def _pickle_form(value: object, type_name: str) -> ValueForm | None:
    from flowbuilder.store.pickles import is_consumable, write_pickle
    from flowbuilder.store.signing import signing_key

    if is_consumable(value):
        return None
    try:
        key = signing_key(create=True)
    except (StorageError, ConfigurationError) as error:
        _log.warning("outputs that need pickling stay in memory: %s", error)
        return None
    return ValueForm(_PICKLE, type_name, -1, 0, lambda sink: write_pickle(sink, key, value))


def read_value(
    source: Path | memoryview, file_format: str, type_name: str, name: str = ""
) -> object:
    """Read a value back.

    Parameters
    ----------
    source : Path or memoryview
        A file, mapped where the library allows, or its content.
    file_format, type_name : str
        As its `ValueForm` said.
    name : str
        What messages call it.

    Raises
    ------
    StorageError
        If it is a pickle without a valid HMAC.
    Exception
        Whatever a library raises for bytes it cannot read.
    """
    if type_name == _SCAN_TYPE:
        return _read_scan(source, file_format)
    if file_format not in {_BYTES, _MSGPACK, _PICKLE}:
        return load_table(source, file_format, type_name)
    content = source.read_bytes() if isinstance(source, Path) else source
    if file_format == _BYTES:
        return bytes(content)
    if file_format == _MSGPACK:
        return msgspec.msgpack.decode(content)
    from flowbuilder.store.pickles import load_pickle
    from flowbuilder.store.signing import signing_key

    return load_pickle(content, signing_key(create=False), name)


def _read_scan(source: Path | memoryview, file_format: str) -> TableScan:
    if file_format == _SCAN:
        data = source.read_bytes() if isinstance(source, Path) else source
        return TableScan(msgspec.msgpack.decode(data, type=ScanFiles))
    if isinstance(source, Path):
        return TableScan.of([source], file_format)
    raise ValueError("a table on disk cannot be read from memory")


def _type_name(value: object) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return module + kind.__qualname__
