"""Tables and arrays as files, and back exactly: same library, same types, same values.

Nothing is imported to recognise a value: a value of a library exists only if the library is loaded
already.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flowbuilder.store.artifact_files import ByteSink

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import polars as pl
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["TableWriter", "load_table", "table_as", "table_writer"]

ARROW: Final = "arrow"
NPY: Final = "npy"
_PYARROW: Final = "pyarrow.Table"
_POLARS: Final = "polars.DataFrame"
_PANDAS: Final = "pandas.DataFrame"
_NUMPY: Final = "numpy.ndarray"


class TableWriter(NamedTuple):
    """How to write one value."""

    format: str
    type_name: str
    num_rows: int
    size_bytes: int
    """About what it will take."""
    write: Callable[[ByteSink], None]


def table_writer(value: object) -> TableWriter | None:
    """Find the exact way to write a table or array; None if it should be pickled."""
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    module = sys.modules.get(library)
    if module is None:
        return None
    make = _WRITERS.get((library, kind.__name__))
    return make(value) if make is not None else None


def load_table(source: Path | memoryview, file_format: str, type_name: str) -> object:
    """Read a table or array back from a file, memory-mapped where its library allows, or from
    bytes.

    Raises
    ------
    Exception
        Whatever the library raises for a file it cannot read.
    """
    if file_format == NPY:
        return _load_array(source)
    if type_name == _POLARS and not _has("pyarrow"):
        import polars as pl

        return pl.read_ipc(source if isinstance(source, Path) else bytes(source))
    return table_as(_open_table(source), type_name)


def table_as(table: pa.Table, type_name: str) -> object:
    """Give an Arrow table as the library's own that was stored.

    Raises
    ------
    ValueError
        If the type is not known.
    """
    if type_name == _PYARROW:
        return table
    if type_name == _POLARS:
        import polars as pl

        return pl.from_arrow(table)
    if type_name == _PANDAS:
        return _to_pandas(table)
    raise ValueError(f"unknown table type {type_name!r}")


def _has(name: str) -> bool:
    from importlib.util import find_spec

    return name in sys.modules or find_spec(name) is not None


def _open_table(source: Path | memoryview) -> pa.Table:
    import pyarrow as pa

    opened = pa.memory_map(str(source)) if isinstance(source, Path) else pa.BufferReader(source)
    return pa.ipc.open_file(opened).read_all()


def _write_arrow(table: pa.Table, sink: ByteSink) -> None:
    import pyarrow as pa

    with pa.PythonFile(sink, mode="w") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _pyarrow_writer(table: pa.Table) -> TableWriter:
    return TableWriter(
        ARROW, _PYARROW, table.num_rows, table.nbytes, lambda sink: _write_arrow(table, sink)
    )


def _polars_writer(frame: pl.DataFrame) -> TableWriter | None:
    if not _has("pyarrow"):
        return _polars_writer_alone(frame)
    import polars as pl

    try:
        table = frame.to_arrow(compat_level=pl.CompatLevel.newest())
        empty = pl.from_arrow(table.schema.empty_table())
    except Exception:  # columns of Python objects, or a type the other side does not know
        return None
    if not isinstance(empty, pl.DataFrame) or empty.schema != frame.schema:
        return None
    return _pyarrow_writer(table)._replace(type_name=_POLARS)


def _polars_writer_alone(frame: pl.DataFrame) -> TableWriter | None:
    import polars as pl

    if any(dtype.is_nested() or isinstance(dtype, pl.Object) for dtype in frame.schema.dtypes()):
        return None

    def write(sink: ByteSink) -> None:
        frame.write_ipc(sink, compression="uncompressed")  # type: ignore[call-overload]

    return TableWriter(ARROW, _POLARS, frame.height, int(frame.estimated_size()), write)


def _pandas_writer(frame: pd.DataFrame) -> TableWriter | None:
    if not _has("pyarrow") or not all(map(_is_exact_dtype, frame.dtypes)):
        return None
    if not frame.columns.is_unique or not _is_exact_index(frame.index):
        return None
    import pyarrow as pa

    try:
        table = pa.Table.from_pandas(frame)
        restored = _to_pandas(table.slice(0, 0))
    except Exception:
        return None
    return _pyarrow_writer(table)._replace(type_name=_PANDAS) if _same(frame, restored) else None


def _same(frame: pd.DataFrame, restored: pd.DataFrame) -> bool:
    """Compare everything but the values, which the allowed types give back exactly."""
    return (
        restored.dtypes.equals(frame.dtypes)
        and type(restored.columns) is type(frame.columns)
        and restored.columns.dtype == frame.columns.dtype
        and restored.columns.equals(frame.columns)
        and restored.columns.names == frame.columns.names
        and type(restored.index) is type(frame.index)
        and restored.index.dtype == frame.index.dtype
        and restored.index.names == frame.index.names
        and restored.attrs == frame.attrs
        and restored.flags.allows_duplicate_labels == frame.flags.allows_duplicate_labels
    )


def _is_exact_index(index: pd.Index[Any]) -> bool:
    # A frequency would be lost, and an index of objects may hold anything.
    has_frequency = getattr(index, "freq", None) is not None
    return index.nlevels == 1 and not has_frequency and _is_exact_dtype(index.dtype)


def _is_exact_dtype(dtype: object) -> bool:
    import numpy as np
    import pandas as pd

    if isinstance(dtype, np.dtype):
        return dtype.kind in "biufmM" and dtype.itemsize <= 8
    if isinstance(dtype, pd.StringDtype):
        # Only where a missing value has one representation.
        return dtype.na_value is not pd.NA or dtype.storage == "pyarrow"
    return isinstance(dtype, pd.DatetimeTZDtype)


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    # Split, so that columns alias the mapped file and are copied once, below, not twice. Left so,
    # they would refuse to be changed, unlike the frame that was stored.
    frame: pd.DataFrame = table.to_pandas(split_blocks=True)
    return frame.copy()


def _numpy_writer(array: np.ndarray[Any, Any]) -> TableWriter | None:
    if array.dtype.hasobject or array.dtype.metadata:
        return None
    import numpy as np

    def write(sink: ByteSink) -> None:
        np.lib.format.write_array(sink, array, allow_pickle=False)

    rows = array.shape[0] if array.ndim else -1
    return TableWriter(NPY, _NUMPY, rows, array.nbytes, write)


def _load_array(source: Path | memoryview) -> object:
    import numpy as np

    if not isinstance(source, Path):
        return np.load(io.BytesIO(source), allow_pickle=False)
    try:
        mapped = np.load(source, mmap_mode="r", allow_pickle=False)
    except ValueError:  # an empty array cannot be mapped
        return np.load(source, allow_pickle=False)
    # A plain array, as it was stored; it keeps the mapping alive.
    return mapped.view(np.ndarray) if mapped.ndim else np.array(mapped)


_Maker = Callable[[Any], "TableWriter | None"]
_WRITERS: Final[dict[tuple[str, str], _Maker]] = {
    ("pyarrow", "Table"): _pyarrow_writer,
    ("polars", "DataFrame"): _polars_writer,
    ("pandas", "DataFrame"): _pandas_writer,
    ("numpy", "ndarray"): _numpy_writer,
}
