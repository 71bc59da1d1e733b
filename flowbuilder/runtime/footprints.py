"""How much memory a table or array holds: about, in less than a microsecond, or by its buffers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

__all__ = ["about_bytes", "buffers_of", "mapped_ranges"]

Span = tuple[int, int]
"""Address and length of a buffer."""

_PANDAS_CELL_BYTES: Final = 16
"""Asking pandas takes 0.1 ms; a cell of text or of an object takes more than a number."""
_MOST_CHUNKS: Final = 20_000


def about_bytes(value: object) -> int:
    """Estimate what a value holds; 0 if it is neither table nor array. Imports nothing."""
    kind = type(value)
    weigh = _WEIGHTS.get((kind.__module__.partition(".")[0], kind.__name__))
    return 0 if weigh is None else weigh(value)


def _weigh_arrow(table: Any) -> int:
    return int(table.get_total_buffer_size())


def _weigh_polars(frame: Any) -> int:
    return int(frame.estimated_size())


def _weigh_pandas(frame: Any) -> int:
    columns = getattr(frame, "columns", None)
    return len(frame.index) * (1 if columns is None else len(columns)) * _PANDAS_CELL_BYTES


def _weigh_numpy(array: Any) -> int:
    return int(array.nbytes)


_WEIGHTS: Final[dict[tuple[str, str], Callable[[Any], int]]] = {
    ("pyarrow", "Table"): _weigh_arrow,
    ("pyarrow", "RecordBatch"): _weigh_arrow,
    ("polars", "DataFrame"): _weigh_polars,
    ("pandas", "DataFrame"): _weigh_pandas,
    ("pandas", "Series"): _weigh_pandas,
    ("numpy", "ndarray"): _weigh_numpy,
}


def buffers_of(value: object) -> list[Span]:
    """List the buffers of a table or array, so that what two values share is counted once.

    Notes
    -----
    About 1 us a buffer. A value with very many chunks counts as one buffer of its own.
    """
    kind = type(value)
    library, name = kind.__module__.partition(".")[0], kind.__name__
    try:
        spans = list(_spans(value, library, name))
    except Exception:  # a subclass, or a library that changed: it still takes memory
        spans = []
    return spans or [(id(value), about_bytes(value))]


def _spans(value: Any, library: str, name: str) -> Iterator[Span]:
    if library == "numpy":
        yield from _numpy_spans(value)
    elif library == "pandas":
        yield from _pandas_spans(value, name)
    elif library == "polars":
        yield from _polars_spans(value)
    elif name == "RecordBatch":
        for column in value.columns:
            yield from _arrow_spans(column)
    elif not value.num_columns or value.num_columns * value.column(0).num_chunks <= _MOST_CHUNKS:
        for column in value.columns:
            for chunk in column.chunks:
                yield from _arrow_spans(chunk)


def _numpy_spans(array: Any) -> Iterator[Span]:
    # The buffer belongs to the array at the end of a chain of views.
    while getattr(array, "base", None) is not None and hasattr(array.base, "__array_interface__"):
        array = array.base
    yield array.__array_interface__["data"][0], array.nbytes


def _polars_spans(frame: Any) -> Iterator[Span]:
    polars = sys.modules["polars"]
    level = polars.CompatLevel.newest()
    for series in frame.get_columns():
        if series.dtype in {polars.Categorical, polars.Enum, polars.Object}:
            yield id(series), int(series.estimated_size())
        else:
            yield from _arrow_spans(series.to_arrow(compat_level=level))


def _pandas_spans(value: Any, name: str) -> Iterator[Span]:
    columns = [value] if name == "Series" else [value[column] for column in value.columns.unique()]
    for series in columns:
        if getattr(series, "ndim", 1) != 1:
            yield id(series), int(series.memory_usage(deep=True).sum())
        elif type(series.dtype).__module__.partition(".")[0] == "numpy":
            if series.dtype.hasobject:
                yield id(series.array), int(series.memory_usage(index=False, deep=True))
            else:
                yield from _numpy_spans(series.to_numpy())
        elif hasattr(series.array, "__arrow_array__"):
            arrow = series.array.__arrow_array__()
            for chunk in getattr(arrow, "chunks", [arrow]):
                yield from _arrow_spans(chunk)
        else:
            yield id(series.array), int(series.memory_usage(index=False, deep=True))


def _arrow_spans(chunk: Any) -> Iterator[Span]:
    for buffer in chunk.buffers():
        if buffer is not None and buffer.size:
            yield buffer.address, buffer.size
    if hasattr(chunk, "dictionary"):
        yield from _arrow_spans(chunk.dictionary)


def mapped_ranges() -> list[tuple[int, int]]:
    """List the address ranges of this process that are files, whose pages the system can drop.

    Returns
    -------
    list of (int, int)
        Start and end, ascending; empty where the system does not say.
    """
    found: list[tuple[int, int]] = []
    try:
        lines = Path("/proc/self/maps").read_text("utf-8", "replace").splitlines()
    except OSError:
        return found
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/") and not fields[5].startswith("/dev/shm"):  # noqa: S108
            start, _, end = fields[0].partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found
