"""Any value on its way to a worker or back: pickle protocol 5, with tables and arrays set aside."""
# ruff: noqa: S301 - both ends belong to one user, and one started the other

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowbuilder.runtime.table_transport import (
    LIBRARIES,
    TableRef,
    adopting,
    export_table,
    import_table,
    release,
)
from flowbuilder.runtime.worker_channel import Part

__all__ = ["Payload", "dump_payload", "load_payload"]


@dataclass(frozen=True, slots=True)
class Payload:
    """A value ready to be sent.

    Parameters
    ----------
    parts : list of bytes-like
        The pickle and its out-of-band buffers.
    paths : tuple of str
        Files it refers to.
    tables : tuple of (object, int)
        Tables and arrays that were set aside, each with the bytes written for it; zero for one
        whose file has another name now.
    """

    parts: list[Part]
    paths: tuple[str, ...] = ()
    tables: tuple[tuple[object, int], ...] = ()

    @property
    def pipe_bytes(self) -> int:
        """Bytes that go through the pipe."""
        return sum(memoryview(part).nbytes for part in self.parts)

    @property
    def file_bytes(self) -> int:
        """Bytes written to files."""
        return sum(size for _, size in self.tables)

    def discard(self) -> None:
        """Remove the files, because the value has arrived or never will."""
        for path in self.paths:
            release(path)


def dump_payload(value: object, folders: Sequence[Path]) -> Payload:
    """Prepare a value for another process.

    Parameters
    ----------
    value : object
        Tables and large arrays may stand at any depth.
    folders : sequence of Path
        Where their files may go, best first; none keeps everything in the parts.

    Returns
    -------
    Payload
        Parts to send and files to release.

    Raises
    ------
    StorageError
        If a table has no room.
    Exception
        Whatever pickling raises if something in the value cannot be pickled.
    """
    tables = _Tables(tuple(folders))
    try:
        return _dump(value, tables)
    except BaseException:
        Payload([], tables.paths()).discard()
        raise


def load_payload(parts: Sequence[Part], *, adopt: bool = False) -> object:
    """Rebuild a value.

    Parameters
    ----------
    parts : sequence of bytes-like
        As `dump_payload` made them.
    adopt : bool
        Whether files are taken out of the sender's folder, which is removed when the sender ends.

    Raises
    ------
    Exception
        Whatever unpickling raises.
    """
    if not adopt:
        return pickle.loads(parts[0], buffers=parts[1:])
    with adopting():
        return pickle.loads(parts[0], buffers=parts[1:])


@dataclass(slots=True)
class _Tables:
    """The tables met while pickling; remembered, so that a second attempt writes none twice."""

    folders: tuple[Path, ...]
    # The table stays beside its reference, because an id counts only while its object lives.
    refs: dict[int, tuple[object, TableRef]] = field(default_factory=dict)

    def reduce(self, value: object) -> tuple[object, ...] | None:
        if not self.folders or type(value).__module__.partition(".")[0] not in LIBRARIES:
            return None
        _, ref = self.refs.get(id(value), (None, None))
        ref = ref or export_table(value, *self.folders)
        if ref is None:
            return None
        self.refs[id(value)] = value, ref
        return import_table, (ref,)

    def written(self) -> tuple[tuple[object, int], ...]:
        return tuple(
            (value, 0 if ref.is_link else ref.size_bytes)
            for value, ref in self.refs.values()
            if ref.path
        )

    def paths(self) -> tuple[str, ...]:
        return tuple(ref.path for _, ref in self.refs.values() if ref.path)


class _Pickler(pickle.Pickler):
    """The fast pickler; `reducer_override` sees only objects of other than built-in types."""

    def __init__(
        self, file: io.BytesIO, buffers: list[pickle.PickleBuffer], tables: _Tables
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers.append)
        self._tables = tables

    def reducer_override(self, value: object) -> Any:
        return self._tables.reduce(value) or NotImplemented


def _dump(value: object, tables: _Tables) -> Payload:
    file = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    try:
        _Pickler(file, buffers, tables).dump(value)
    except (pickle.PicklingError, AttributeError, TypeError):
        # A function or class that has no importable name; only the slower pickler can send it.
        return _dump_with_code(value, tables)
    data = file.getvalue()
    # What is defined in __main__ pickles by a name that means nothing to the receiver.
    if b"__main__" in data:
        return _dump_with_code(value, tables)
    return Payload([data, *(buffer.raw() for buffer in buffers)], tables.paths(), tables.written())


def _dump_with_code(value: object, tables: _Tables) -> Payload:
    import cloudpickle  # type: ignore[import-untyped]

    class CodePickler(cloudpickle.Pickler):  # type: ignore[misc] # untyped library
        def reducer_override(self, value: object) -> Any:
            return tables.reduce(value) or super().reducer_override(value)

    file = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    CodePickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
    return Payload(
        [file.getvalue(), *(buffer.raw() for buffer in buffers)], tables.paths(), tables.written()
    )
