"""What a conversion to Arrow copied, told by buffer addresses: bytes, and why.

Only addresses are compared, so looking costs microseconds a column and never the data.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from flowbuilder.tasks.tables import require

__all__ = ["buffer_spans", "conversion_copies"]

Span = tuple[int, int]
"""Address and length of a buffer."""

_TEXT: Final = "NumPy's texts and Python objects become columns"
_BITS: Final = "a byte for each bool becomes a bit"
_NULLS: Final = "missing values get a bitmap"
_CATEGORIES: Final = "polars keeps categories in a form of its own"
_GATHERED: Final = "values that do not lie side by side are gathered"
_ROWS: Final = "rows and lists become columns"
_LAZY: Final = "a lazy frame is computed"
_OTHER: Final = "its library hands out a copy"


def conversion_copies(value: object, table: Any) -> dict[str, int]:
    """Tell what `to_arrow` had to copy.

    Parameters
    ----------
    value : object
        What was converted.
    table : pyarrow.Table
        What came of it, while ``value`` is alive.

    Returns
    -------
    dict of str to int
        Reason -> bytes; empty if every buffer is shared.
    """
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    if library == "pyarrow" and kind.__name__ in {"Table", "RecordBatch"}:
        return {}
    found: Counter[str] = Counter()
    columns = dict(zip(table.column_names, table.columns, strict=False))
    tell = _judge(value, library, kind.__name__)
    for name, column in columns.items():
        spans, reason = tell(name, column)
        missed = _bytes_outside(buffer_spans([column]), spans)
        if missed:
            found[reason] += missed
    return dict(found)


def buffer_spans(columns: Iterable[Any]) -> list[Span]:
    """List the buffers of Arrow columns, dictionaries included; a shared one appears once."""
    spans: dict[int, int] = {}
    waiting = [chunk for column in columns for chunk in column.chunks]
    while waiting:
        chunk = waiting.pop()
        for buffer in chunk.buffers():
            if buffer is not None and buffer.size:
                spans[buffer.address] = buffer.size
        # `buffers` of a nested array holds those of its children, but no dictionaries.
        waiting.extend(_dictionaries(chunk))
    return sorted(spans.items())


def _dictionaries(chunk: Any) -> list[Any]:
    pa = require("pyarrow", "a table")
    kind = chunk.type
    if pa.types.is_dictionary(kind):
        return [chunk.dictionary]
    if pa.types.is_struct(kind):
        return [
            part for place in range(kind.num_fields) for part in _dictionaries(chunk.field(place))
        ]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _dictionaries(chunk.values)
    return []


def _bytes_outside(spans: list[Span], shared: list[Span]) -> int:
    starts = [address for address, _ in shared]
    missed = 0
    for address, size in spans:
        place = bisect.bisect_right(starts, address) - 1
        is_inside = place >= 0 and address < shared[place][0] + max(1, shared[place][1])
        missed += 0 if is_inside else size
    return missed


_Judge = Callable[[str, Any], tuple[list[Span], str]]
"""Gives what of a column is shared, and why the rest is not."""


def _judge(value: Any, library: str, kind: str) -> _Judge:
    if library == "polars" and kind == "DataFrame":
        return _of_polars
    if library == "polars":
        return lambda _name, _column: ([], _LAZY)
    if library == "pandas":
        return lambda name, column: _of_pandas(value, name, column)
    if library == "numpy" and value.dtype.names:
        return lambda name, _column: _of_numpy(value[name])
    if isinstance(value, Mapping):
        by_name = {str(key): column for key, column in value.items()}
        return lambda name, _column: _of_any(by_name[name])
    if isinstance(value, list | tuple):
        return lambda _name, _column: ([], _ROWS)
    return lambda _name, column: (buffer_spans([column]), _OTHER)


def _of_polars(_name: str, column: Any) -> tuple[list[Span], str]:
    # Every type is shared but those with a dictionary, at any depth; the copy matrix proves it.
    return ([] if "dictionary" in str(column.type) else buffer_spans([column])), _CATEGORIES


def _of_pandas(frame: Any, name: str, column: Any) -> tuple[list[Span], str]:
    series = frame[name] if name in frame.columns else None
    if series is None:  # the index, which is a column now
        return _of_any(frame.index.get_level_values(name).to_numpy())
    if getattr(series, "ndim", 1) != 1:
        return [], _OTHER
    if type(series.dtype).__module__.partition(".")[0] != "numpy":
        return _of_extension(series, column)
    spans, reason = _of_numpy(series.to_numpy())
    return spans, _NULLS if reason == _OTHER else reason


def _of_extension(series: Any, column: Any) -> tuple[list[Span], str]:
    """Convert once more: what has the same address both times is shared, the rest made anew."""
    pa = require("pyarrow", "a table")
    again = pa.array(series.array, from_pandas=True)
    chunked = again if isinstance(again, pa.ChunkedArray) else pa.chunked_array([again])
    seen = set(buffer_spans([column]))
    return [span for span in buffer_spans([chunked]) if span in seen], _NULLS


def _of_any(column: Any) -> tuple[list[Span], str]:
    pa = require("pyarrow", "a table")
    if isinstance(column, pa.Array | pa.ChunkedArray):
        chunks = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
        return buffer_spans([chunks]), _OTHER
    if type(column).__module__.partition(".")[0] == "numpy":
        return _of_numpy(column)
    if type(column).__module__.partition(".")[0] == "pandas":
        return _of_extension(column, pa.chunked_array([pa.array(column)]))
    return [], _ROWS


def _of_numpy(array: Any) -> tuple[list[Span], str]:
    if array.dtype.kind == "b":
        return [], _BITS
    if array.dtype.kind in "OSUTV":
        return [], _TEXT
    if not array.flags.c_contiguous:
        return [], _GATHERED
    return [(array.__array_interface__["data"][0], array.nbytes)], _OTHER
