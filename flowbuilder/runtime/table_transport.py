"""Tables and arrays on their way to another process: written to a file once, mapped there.

Arrow and polars tables become uncompressed Arrow IPC files. NumPy arrays and pandas frames become
a file of their raw buffers beside a small description (pickle protocol 5, out of band), which keeps
every dtype, index and attribute exactly and leaves the receiver a private, writable copy-on-write
view. In both, the data itself is never pickled and the receiver copies nothing.

A table whose buffers already lie in such a file (it came from a worker, or is on its way to another
one) is handed over by a hard link instead of a second copy.
"""
# ruff: noqa: S301 - both ends belong to one user, and one started the other

from __future__ import annotations

import contextlib
import io
import itertools
import mmap
import os
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowbuilder.errors import StorageError
from flowbuilder.runtime.machine import memory_available_bytes
from flowbuilder.runtime.table_links import (
    forget_file,
    link_table,
    record_file,
    table_signature,
)

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["TableRef", "adopting", "export_table", "import_table", "release"]

LIBRARIES = frozenset({"numpy", "pandas", "polars", "pyarrow"})
"""Where the types with their own way of travelling come from."""
FILE_FROM_BYTES = 64 * 1024
"""Smaller tables and arrays go through the pipe."""
_SPARE_BYTES = 16 * 1024 * 1024
_ALIGNMENT = 64

_names = itertools.count()
_adoption = threading.local()


@dataclass(frozen=True, slots=True)
class TableRef:
    """Where a table lies and what it was.

    Parameters
    ----------
    kind : str
        ``pyarrow.Table``, ``pyarrow.RecordBatch``, ``polars.DataFrame``, or ``buffers``.
    path : str
        File with the data; empty if ``data`` holds it.
    size_bytes : int
        Bytes of the file, or of ``data``.
    data : bytes
        A small table as an Arrow IPC file image, or the description belonging to ``buffers``.
    spans : tuple of (int, int)
        Offset and length of each buffer in the file, in bytes.
    is_link : bool
        Whether nothing was written: the file was there and has one more name.
    """

    kind: str
    path: str
    size_bytes: int
    data: bytes = b""
    spans: tuple[tuple[int, int], ...] = ()
    is_link: bool = False


def export_table(value: object, *folders: Path) -> TableRef | None:
    """Put a table or a large array where another process can map it.

    Parameters
    ----------
    value : object
        Anything.
    *folders : Path
        Where files may be written, best first; one without room is passed over.

    Returns
    -------
    TableRef or None
        None if ``value`` is neither a table nor an array of at least 64 KiB without Python objects,
        or is a pandas frame that fits into the pipe.

    Raises
    ------
    StorageError
        If no folder has room.

    Notes
    -----
    One copy into the page cache, at the speed of ``write``; a table that is in a file already costs
    a hard link. Imports nothing the value's own library has not imported.
    """
    kind = type(value)
    match kind.__module__.partition(".")[0], kind.__name__:
        case "pyarrow", "Table":
            return _export_arrow("pyarrow.Table", value, value, folders)
        case "pyarrow", "RecordBatch":
            return _export_batch(value, folders)
        case "polars", "DataFrame":
            return _export_polars(value, folders)
        case "pandas", "DataFrame" | "Series":
            return _export_buffers(value, folders)
        case "numpy", "ndarray":
            return _export_buffers(value, folders) if _is_large_array(value) else None
    return None


def import_table(ref: TableRef, *, keep: bool = False) -> object:
    """Map what `export_table` wrote and give it the type it had.

    Parameters
    ----------
    ref : TableRef
        As exported.
    keep : bool
        Whether the file stays the caller's; otherwise it is used once and removed with the table.

    Returns
    -------
    object
        The table or array; its bytes are shared with every other process that maps them.

    Raises
    ------
    StorageError
        If the file is gone.
    """
    if ref.kind == "buffers":
        return _import_buffers(ref, keep=keep)
    import pyarrow as pa

    if not ref.path:
        return _as_kind(ref.kind, pa.ipc.open_file(pa.BufferReader(ref.data)))
    path = ref.path if keep else _adopted(ref.path)
    mapping = _map(path, mmap.ACCESS_READ)
    reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapping)))
    record_file(table_signature(reader.read_all()), path, mapping)
    # The mapping lives as long as any buffer in it, whichever library holds that; so does the name,
    # because a hand-over by link needs it.
    if not keep:
        weakref.finalize(mapping, _release_in, os.getpid(), path)
    return _as_kind(ref.kind, reader)


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Move each imported file one folder up first: out of the folder that goes with its writer."""
    _adoption.is_on = True
    try:
        yield
    finally:
        _adoption.is_on = False


def release(path: str) -> None:
    """Remove a file whose receiver has mapped it or will never do so; mappings stay valid."""
    forget_file(path)
    with contextlib.suppress(OSError):
        Path(path).unlink()


def _is_large_array(array: Any) -> bool:
    return array.nbytes >= FILE_FROM_BYTES and not array.dtype.hasobject


def _release_in(pid: int, path: str) -> None:
    # A forked child inherits the finalizers but not the files.
    if os.getpid() == pid:
        release(path)


def _export_arrow(kind: str, table: pa.Table, owner: object, folders: Sequence[Path]) -> TableRef:
    size = table.nbytes
    if size < FILE_FROM_BYTES:
        return _export_inline(kind, table)
    signature = table_signature(table)
    path = _link_somewhere(signature, folders)
    is_link = path is not None
    if path is None:
        path = _write_somewhere(size, folders, ".arrow", lambda path: _write_ipc(table, path))
        # A polars frame can be changed in place while the file is on its way; Arrow cannot.
        if kind != "polars.DataFrame":
            record_file(signature, path, owner)
    return TableRef(kind, path, Path(path).stat().st_size, is_link=is_link)


def _export_batch(batch: pa.RecordBatch, folders: Sequence[Path]) -> TableRef:
    import pyarrow as pa

    return _export_arrow("pyarrow.RecordBatch", pa.Table.from_batches([batch]), batch, folders)


def _export_polars(frame: object, folders: Sequence[Path]) -> TableRef | None:
    import polars as pl

    assert isinstance(frame, pl.DataFrame)
    try:
        # The newest level keeps strings as views: nothing is copied before the write.
        table = frame.to_arrow(compat_level=pl.CompatLevel.newest())
    except (pl.exceptions.PolarsError, TypeError, ValueError):
        return None
    return _export_arrow("polars.DataFrame", table, frame, folders)


def _export_inline(kind: str, table: pa.Table) -> TableRef:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    _write_ipc_to(table, sink)
    data = sink.getvalue().to_pybytes()
    return TableRef(kind, "", len(data), data)


def _export_buffers(value: object, folders: Sequence[Path]) -> TableRef | None:
    """Write the raw buffers of an array or frame; None if they are few enough for the pipe."""
    found: list[pickle.PickleBuffer] = []
    sink = io.BytesIO()
    _BufferPickler(sink, protocol=5, buffer_callback=found.append).dump(value)
    description = sink.getvalue()
    buffers = [buffer.raw() for buffer in found]
    spans: list[tuple[int, int]] = []
    end = 0
    for buffer in buffers:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = start + buffer.nbytes
        spans.append((start, buffer.nbytes))
    if end < FILE_FROM_BYTES:
        return None
    path = _write_somewhere(
        end, folders, ".buffers", lambda path: _write_buffers(buffers, spans, path)
    )
    return TableRef("buffers", path, end, description, tuple(spans))


class _BufferPickler(pickle.Pickler):
    """Takes the buffers of arrays of times too, which NumPy itself copies into the pickle."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        is_array = kind.__name__ == "ndarray" and kind.__module__ == "numpy"
        if is_array and value.dtype.kind in "mM" and value.flags.forc and value.size:
            return _as_times, (value.view("i8"), value.dtype)
        return NotImplemented


def _as_times(numbers: Any, dtype: object) -> object:
    return numbers.view(dtype)


def _import_buffers(ref: TableRef, *, keep: bool) -> object:
    # Copy-on-write pages: the receiver may change its array without touching the file. Where the
    # system counts such pages against its memory and refuses, a read-only mapping must do.
    try:
        mapping = _map(ref.path, mmap.ACCESS_COPY)
    except OSError:
        mapping = _map(ref.path, mmap.ACCESS_READ)
    if not keep:
        release(ref.path)
    view = memoryview(mapping)
    parts = [view[start : start + length] for start, length in ref.spans]
    return pickle.loads(ref.data, buffers=parts)


def _link_somewhere(signature: object, folders: Sequence[Path]) -> str | None:
    paths = (_new_name(folder, ".arrow") for folder in folders)
    return next((path for path in paths if link_table(signature, path)), None)


def _write_somewhere(
    size: int, folders: Sequence[Path], suffix: str, write: Callable[[str], None]
) -> str:
    """Write a file into the first folder that takes it."""
    failure: OSError | None = None
    for folder in folders:
        if not _has_room(folder, size):
            continue
        path = _new_name(folder, suffix)
        try:
            write(path)
        except OSError as error:
            failure = error
            release(path)
        except BaseException:
            release(path)
            raise
        else:
            return path
    places = ", ".join(map(str, folders))
    raise StorageError(
        f"expected room for a table of {size:,} bytes, found none in {places}",
        hint="free space there, or set the data directory to a larger disk",
    ) from failure


def _has_room(folder: Path, size: int) -> bool:
    """Whether ``size`` bytes fit; in a memory file system they must leave as much memory again."""
    import shutil

    if shutil.disk_usage(folder).free < size + _SPARE_BYTES:
        return False
    available = memory_available_bytes() if folder.is_relative_to("/dev/shm") else None  # noqa: S108
    return available is None or available >= 2 * size


def _write_ipc(table: pa.Table, path: str) -> None:
    import pyarrow as pa

    # write(2), never stores into a mapping: a full disk is then an error and not a SIGBUS.
    with pa.OSFile(path, "wb") as sink:
        _write_ipc_to(table, sink)


def _write_ipc_to(table: pa.Table, sink: object) -> None:
    import pyarrow as pa

    if any(pa.types.is_dictionary(column.type) for column in table.schema):
        table = table.unify_dictionaries()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _write_buffers(
    buffers: Sequence[memoryview], spans: Sequence[tuple[int, int]], path: str
) -> None:
    with Path(path).open("wb", buffering=0) as file:
        for buffer, (start, length) in zip(buffers, spans, strict=True):
            file.seek(start)
            written = 0
            while written < length:
                written += file.write(buffer[written:])


def _map(path: str, access: int) -> mmap.mmap:
    try:
        with Path(path).open("rb", buffering=0) as file:
            return mmap.mmap(file.fileno(), 0, access=access)
    except FileNotFoundError as error:
        raise StorageError(
            f"expected a table handed over in {path!r}, found no such file",
            hint="another program removed it; run the task again",
        ) from error


def _as_kind(kind: str, reader: pa.RecordBatchFileReader) -> object:
    import pyarrow as pa

    if kind == "pyarrow.RecordBatch":
        if reader.num_record_batches:
            return reader.get_batch(0)
        return pa.RecordBatch.from_pylist([], schema=reader.schema)
    table = reader.read_all()
    if kind == "pyarrow.Table":
        return table
    import polars as pl

    return pl.from_arrow(table, rechunk=False)


def _adopted(path: str) -> str:
    if not getattr(_adoption, "is_on", False):
        return path
    source = Path(path)
    target = str(source.parent.parent / source.name)
    with contextlib.suppress(OSError):
        source.rename(target)
        return target
    return path


def _new_name(folder: Path, suffix: str) -> str:
    return str(folder / f"{os.getpid()}-{next(_names)}{suffix}")
