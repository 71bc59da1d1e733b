"""Stored tables that nobody read for long, packed: Parquet with zstd, or Arrow IPC with zstd where
Parquet would change a type.

A packed file stands beside the name of the one it replaces. Its own name carries two digests: that
of the file it was made from, so that damage from before is not passed off as content, and that of
its own bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial as partial_call
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flowbuilder.errors import StorageError
from flowbuilder.store.artifact_files import ByteSink, digest_of, write_file
from flowbuilder.store.disk import current_disk

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["coldest", "find_packed", "open_packed", "pack", "packed_problem", "unpacked_name"]

_DIGEST_CHARS: Final = 32
_LEVEL: Final = 9
_BATCH_ROWS: Final = 122_880
_ARROW: Final = ".arrow"
_PACKED: Final = re.compile(r"(.+\.arrow)\.[0-9a-f]{32}(?:-[0-9a-f]{32})?\.(?:parquet|zstd)")
_FORMS: Final = (".parquet", ".zstd")


def coldest(outputs: Path) -> Iterator[Path]:
    """List the stored tables that could be packed, longest unused first."""
    found = []
    for path in outputs.glob(f"*/*{_ARROW}"):
        with suppress(OSError):
            status = path.stat()
            found.append((max(status.st_atime_ns, status.st_mtime_ns), path))
    return (path for _, path in sorted(found))


def pack(path: Path, partial: Path) -> int:
    """Pack a stored table and remove the file it was in.

    Parameters
    ----------
    path : Path
        An Arrow IPC file.
    partial : Path
        Folder for the new file until it is complete.

    Returns
    -------
    int
        Bytes that were freed; 0 if it is not a readable table, or would not become smaller.

    Notes
    -----
    Complete before the old file goes; who has that mapped keeps it. What was written is read again
    and compared. Two processes may pack one file: the names are the same.
    """
    try:
        import pyarrow as pa

        size, source = path.stat().st_size, digest_of(path)
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (ImportError, OSError, pa.ArrowException):
        return 0
    for form, write in zip(_FORMS, (_write_parquet, _write_ipc), strict=True):
        named = path.with_name(f"{path.name}.{source[:_DIGEST_CHARS]}")
        packed = _write(named, partial, form, partial_call(write, table))
        if packed is None:
            continue
        freed = size - packed.stat().st_size
        is_good = freed > 0 and _is_same(packed, table)
        with suppress(FileNotFoundError):
            current_disk().unlink(path if is_good else packed)
        if is_good:
            return freed
    return 0


def _write(
    path: Path,
    partial: Path,
    form: str,
    write: Callable[[ByteSink], None],
) -> Path | None:
    """Write a file, and put its digest into its name."""
    import pyarrow as pa

    draft = path.with_name(f"{path.name}{form}")
    try:
        written = write_file(draft, 2**62, write, partial=partial)
    except (pa.ArrowException, NotImplementedError):  # a type the format does not have
        return None
    final = path.with_name(f"{path.name}-{written.digest[:_DIGEST_CHARS]}{form}")
    current_disk().rename(draft, final)
    current_disk().sync_folder(final.parent)
    return final


def _write_parquet(table: pa.Table, sink: ByteSink) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    with pa.PythonFile(sink, mode="w") as file:
        parquet.write_table(
            table, file, compression="zstd", compression_level=_LEVEL, row_group_size=_BATCH_ROWS
        )


def _write_ipc(table: pa.Table, sink: ByteSink) -> None:
    import pyarrow as pa

    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", _LEVEL))
    with (
        pa.PythonFile(sink, mode="w") as file,
        pa.ipc.new_file(file, table.schema, options=options) as writer,
    ):
        writer.write_table(table)


def _is_same(packed: Path, table: pa.Table) -> bool:
    import pyarrow as pa

    try:
        found = _read(packed)
    except (OSError, pa.ArrowException):
        return False
    return bool(found.schema.equals(table.schema, check_metadata=True)) and _equals(found, table)


def _equals(found: pa.Table, table: pa.Table) -> bool:
    import pyarrow as pa

    if found.num_rows != table.num_rows:
        return False
    for mine, theirs in zip(found.columns, table.columns, strict=True):
        is_float = pa.types.is_floating(mine.type)
        if _differ(mine, theirs) if is_float else not mine.equals(theirs):
            return False
    return True


def _differ(mine: Any, theirs: Any) -> bool:
    """Whether two columns of floats differ; NaN equals NaN, which `equals` denies."""
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    if mine.null_count != theirs.null_count:
        return True
    same = pc.or_kleene(pc.equal(mine, theirs), pc.and_(pc.is_nan(mine), pc.is_nan(theirs)))
    both_null = pc.and_(mine.is_null(), theirs.is_null())
    return not pc.all(pc.or_kleene(pc.fill_null(same, False), both_null)).as_py()


def find_packed(path: Path) -> Path | None:
    """Find the packed form of a stored table that is not there any more."""
    for form in _FORMS:
        for found in path.parent.glob(f"{path.name}.*-*{form}"):
            return found
    return None


def open_packed(packed: Path, digest: str) -> pa.Table:
    """Read a packed table whose digests are right.

    Parameters
    ----------
    packed : Path
        The file.
    digest : str
        That of the file it was made from, as the record has it.

    Raises
    ------
    StorageError
        If it was made from something else, or is damaged.
    """
    if packed_problem(packed, digest):
        raise StorageError(f"the packed output {packed.name} is damaged", hint="run it again")
    return _read(packed)


def packed_problem(packed: Path, digest: str, *, with_content: bool = True) -> str:
    """Compare a packed file with the record of what it was made from.

    Parameters
    ----------
    packed : Path
        The file.
    digest : str
        That of the file it was made from.
    with_content : bool
        Whether to read it all, or only its name.

    Returns
    -------
    str
        What is wrong; empty if nothing is.
    """
    source, _, own = packed.name.removesuffix(packed.suffix).rpartition(".")[2].partition("-")
    if source != digest[:_DIGEST_CHARS]:
        return "it was packed from something else"
    if with_content and own != digest_of(packed)[:_DIGEST_CHARS]:
        return "its content does not match its digest"
    return ""


def unpacked_name(name: str) -> str:
    """Give the name of the file a packed one stands for; any other name as it is."""
    match = _PACKED.fullmatch(name)
    return name if match is None else match[1]


def _read(packed: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet

    if packed.suffix == ".parquet":
        return parquet.read_table(packed, partitioning=None)
    return pa.ipc.open_file(pa.memory_map(str(packed))).read_all()
