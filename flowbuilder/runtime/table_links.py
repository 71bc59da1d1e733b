"""Tables that are in a file already, so that a second name can replace a second copy."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["forget_file", "link_table", "record_file", "table_signature"]

# Tables whose bytes are in a file right now: path and owner of the buffers, by where these are. An
# entry counts only while the owner lives, because memory is used again. Plain dictionaries without
# a lock: finalizers change them, and a finalizer may run inside any locked region.
_files: dict[object, tuple[str, weakref.ref[object]]] = {}
_signature_by_path: dict[str, object] = {}


def link_table(signature: object, path: str) -> bool:
    """Give a table that is in a file the name ``path`` too; False if it is in none.

    Parameters
    ----------
    signature : object
        As `table_signature` made it.
    path : str
        A new name on the same file system.
    """
    known, owner = _files.get(signature, ("", None)) if signature is not None else ("", None)
    if owner is None or owner() is None:
        return False
    try:
        os.link(known, path)
    except OSError:
        return False
    return True


def forget_file(path: str) -> None:
    """Stop handing a file out by link, because its name now belongs to somebody else."""
    signature = _signature_by_path.pop(path, None)
    if signature is not None and _files.get(signature, ("",))[0] == path:
        _files.pop(signature, None)


def record_file(signature: object, path: str, owner: object) -> None:
    """Remember that a table is in a file, as long as ``owner`` keeps its buffers alive."""
    if signature is not None:
        _files[signature] = path, weakref.ref(owner)
        _signature_by_path[path] = signature


def table_signature(table: pa.Table) -> object:
    """Identify a table by where its bytes are; None if `buffers` does not show all of them."""
    import pyarrow as pa

    flat = (
        pa.types.is_primitive,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_decimal,
    )
    if not all(any(check(kind) for check in flat) for kind in table.schema.types):
        return None
    chunks = tuple(
        (
            chunk.offset,
            len(chunk),
            *(buffer.address if buffer else 0 for buffer in chunk.buffers()),
        )
        for column in table.columns
        for chunk in column.chunks
    )
    return table.schema.serialize().to_pybytes(), table.num_rows, chunks
