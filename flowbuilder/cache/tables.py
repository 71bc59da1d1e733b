"""Content hashes of tables and arrays: equal for equal content, however it is chunked or sliced.

Nothing is imported to recognise a value: a value of a library exists only if the library is loaded
already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flowbuilder.cache.owned_memory import owned_memory
from flowbuilder.cache.parts import UncacheableError

__all__ = ["find_table_hash"]

Update = Callable[[object], None]
"""Takes bytes, or anything with a buffer."""
Values = Callable[[object, Update], None]
"""Hashes any Python value."""
TableHash = Callable[[Any, Update, Values], None]


def find_table_hash(cls: type) -> TableHash | None:
    """Find how values of a type are hashed; None if they are no table or array.

    Parameters
    ----------
    cls : type
        The exact type; subclasses count as their base, and are named in the hash by the caller.
    """
    for base in cls.__mro__:
        found = _HASHES.get((base.__module__.partition(".")[0], base.__name__))
        if found is not None:
            return found
    return None


def _new_hash() -> Any:
    import xxhash

    return xxhash.xxh3_128()


def _count(number: int) -> bytes:
    return number.to_bytes(8, "little")


# -- Arrow ---------------------------------------------------------------------------------------


def _hash_table(table: Any, update: Update, values: Values) -> None:
    del values
    # Names, types, nullability and metadata, all of which a function can see.
    update(table.schema.serialize())
    update(_count(table.num_rows))
    for column in table.columns:
        update(_column_digest(column))


def _hash_batch(batch: Any, update: Update, values: Values) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]

    _hash_table(pa.Table.from_batches([batch]), update, values)


def _hash_chunked(column: Any, update: Update, values: Values) -> None:
    del values
    update(str(column.type).encode())
    update(_column_digest(column))


def _hash_array(array: Any, update: Update, values: Values) -> None:
    import pyarrow as pa

    _hash_chunked(pa.chunked_array([array]), update, values)


def _column_digest(column: Any) -> bytes:
    return owned_memory.column_digest(column, lambda: _ColumnHash().digest(column))


class _ColumnHash:
    """Hashes one column as streams that know nothing of chunks: values, lengths, null positions."""

    def __init__(self) -> None:
        self._streams: dict[str, Any] = {}

    def digest(self, column: Any) -> bytes:
        import pyarrow as pa

        kind = column.type
        if pa.types.is_dictionary(kind):
            column = column.unify_dictionaries()
            if column.num_chunks:
                dictionary = column.chunk(0).dictionary
                self._stream("dictionary").update(
                    _ColumnHash().digest(pa.chunked_array([dictionary]))
                )
        self._stream("type").update(str(kind).encode())
        start = 0
        for chunk in column.chunks:
            self._feed("", chunk, start)
            start += len(chunk)
        total = _new_hash()
        total.update(_count(start))
        for name in sorted(self._streams):
            total.update(_count(len(name)) + name.encode())
            total.update(self._streams[name].digest())
        found: bytes = total.digest()
        return found

    def _stream(self, name: str) -> Any:
        found = self._streams.get(name)
        if found is None:
            found = self._streams[name] = _new_hash()
        return found

    def _feed(self, path: str, array: Any, start: int) -> None:
        """Hash an array whose first row is row ``start`` of the stream ``path``."""
        import pyarrow as pa

        kind = array.type
        if pa.types.is_null(kind) or not len(array):
            return
        if isinstance(kind, pa.ExtensionType):
            self._feed(f"{path}.storage", array.storage, start)
        elif pa.types.is_dictionary(kind):
            if path:  # inside another type dictionaries are not unified: compare what they mean
                self._feed(f"{path}.decoded", array.dictionary_decode(), start)
            else:
                self._feed(f"{path}.index", array.indices, start)
        elif pa.types.is_run_end_encoded(kind):
            import pyarrow.compute as pc  # type: ignore[import-untyped]

            self._feed(f"{path}.runs", pc.run_end_decode(array), start)
        else:
            self._feed_nulls(path, array, start)
            self._feed_values(path, array, start)

    def _feed_values(self, path: str, array: Any, start: int) -> None:
        import pyarrow as pa

        kind = array.type
        if _is_text(kind):
            self._feed_text(path, array)
        elif pa.types.is_struct(kind):
            for index, child in enumerate(array.flatten()):
                self._feed(f"{path}.{index}", child, start)
        elif _is_list(kind):
            self._feed_list(path, array)
        elif pa.types.is_union(kind):
            self._feed_objects(path, array)
        else:
            self._feed_fixed(path, array)

    def _feed_nulls(self, path: str, array: Any, start: int) -> None:
        if array.null_count:
            import pyarrow.compute as pc

            rows = pc.indices_nonzero(array.is_null()).to_numpy().astype("<u8")
            rows += start
            self._stream(f"{path}.nulls").update(rows)

    def _feed_fixed(self, path: str, array: Any) -> None:
        import pyarrow as pa

        if pa.types.is_boolean(array.type):
            array = array.cast(pa.uint8())  # bits need not begin at a byte
        if array.null_count:
            array = array.drop_null()  # what stands in an empty slot is nobody's business
        if not len(array):
            return
        width = array.type.bit_width // 8
        data = array.buffers()[1]
        self._stream(f"{path}.values").update(
            memoryview(data)[array.offset * width : (array.offset + len(array)) * width]
        )

    def _feed_text(self, path: str, array: Any) -> None:
        import pyarrow as pa

        if str(array.type) in {"string_view", "binary_view"}:
            is_text = str(array.type) == "string_view"
            array = array.cast(pa.large_string() if is_text else pa.large_binary())
        if array.null_count:
            array = array.drop_null()
        if not len(array):
            return
        offsets = _offsets(array)
        self._stream(f"{path}.lengths").update(_lengths(offsets))
        data = array.buffers()[2]
        if data is not None:
            text = memoryview(data)[int(offsets[0]) : int(offsets[-1])]
            self._stream(f"{path}.values").update(text)

    def _feed_list(self, path: str, array: Any) -> None:
        import numpy as np
        import pyarrow as pa

        if array.null_count:
            array = array.drop_null()
        if pa.types.is_map(array.type):
            entry = pa.struct([array.type.key_field, array.type.item_field])
            array = array.cast(pa.list_(entry))
        if not pa.types.is_fixed_size_list(array.type):
            lengths = array.value_lengths().to_numpy().astype("<i8")
            self._stream(f"{path}.lengths").update(np.ascontiguousarray(lengths))
        inner = array.flatten()
        count = self._stream_rows(f"{path}[]", len(inner))
        self._feed(f"{path}[]", inner, count)

    def _stream_rows(self, path: str, added: int) -> int:
        rows: dict[str, int] = self.__dict__.setdefault("_rows", {})
        before = rows.get(path, 0)
        rows[path] = before + added
        return before

    def _feed_objects(self, path: str, array: Any) -> None:
        for value in array.to_pylist():
            text = repr((type(value).__name__, value)).encode("utf-8", "surrogatepass")
            self._stream(f"{path}.objects").update(_count(len(text)) + text)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or str(kind) in {"string_view", "binary_view"}
    )


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_map(kind)
        or str(kind).startswith(("list_view", "large_list_view"))
    )


def _offsets(array: Any) -> Any:
    import numpy as np
    import pyarrow as pa

    is_large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    all_offsets = np.frombuffer(array.buffers()[1], dtype="<i8" if is_large else "<i4")
    return all_offsets[array.offset : array.offset + len(array) + 1]


def _lengths(offsets: Any) -> Any:
    return offsets[1:] - offsets[:-1]


# -- polars --------------------------------------------------------------------------------------


def _hash_polars(frame: Any, update: Update, values: Values) -> None:
    import polars as pl

    if any(dtype == pl.Object for dtype in frame.dtypes):
        raise UncacheableError("has a column of Python objects, which cannot be compared")
    update(repr(list(frame.schema.items())).encode())
    _hash_table(frame.to_arrow(compat_level=pl.CompatLevel.newest()), update, values)


def _hash_polars_series(series: Any, update: Update, values: Values) -> None:
    _hash_polars(series.to_frame(), update, values)


def _refuse_lazy(_frame: Any, _update: Update, _values: Values) -> None:
    raise UncacheableError(
        "is a lazy frame, whose sources may change unseen; collect() it, or pass the frame"
    )


# -- numpy ---------------------------------------------------------------------------------------


def _hash_numpy(array: Any, update: Update, values: Values) -> None:
    import numpy as np

    update(repr(array.dtype.descr if array.dtype.names else array.dtype.str).encode())
    update(repr(array.shape).encode())
    if isinstance(array, np.ma.MaskedArray):
        update(b"mask")
        _hash_numpy(np.ma.getmaskarray(array), update, values)
        values(array.fill_value, update)
        array = array.filled(0) if not array.dtype.hasobject else array.data
    array = np.asarray(array)
    if array.dtype.hasobject:
        values(array.tolist(), update)
        return
    if array.dtype.names:
        for name in array.dtype.names:  # what lies between the fields is nobody's business
            _hash_numpy(array[name], update, values)
        return
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        update(b"F")  # sums over such an array may differ in the last bit
        array = array.T
    if array.dtype.kind in "mM":
        array = array.view("i8")
    update(np.ascontiguousarray(array).reshape(-1).view("u1").data)


# -- pandas --------------------------------------------------------------------------------------


def _hash_pandas(frame: Any, update: Update, values: Values) -> None:
    update(_count(len(frame)) + _count(frame.shape[1]))
    _hash_index(frame.index, update, values)
    _hash_index(frame.columns, update, values)
    values(dict(frame.attrs), update)
    for position in range(frame.shape[1]):
        _hash_pandas_values(frame.iloc[:, position].array, update, values)


def _hash_series(series: Any, update: Update, values: Values) -> None:
    _hash_index(series.index, update, values)
    values(series.name, update)
    _hash_pandas_values(series.array, update, values)


def _hash_index(index: Any, update: Update, values: Values) -> None:
    update(type(index).__name__.encode())
    values(list(index.names), update)
    if type(index).__name__ == "RangeIndex":
        update(repr((index.start, index.stop, index.step)).encode())
        return
    values(str(getattr(index, "freq", None)), update)
    if index.nlevels > 1:
        for level, codes in zip(index.levels, index.codes, strict=True):
            _hash_index(level, update, values)
            _hash_numpy(codes, update, values)
        return
    _hash_pandas_values(index.array, update, values)


def _hash_pandas_values(array: Any, update: Update, values: Values) -> None:
    import numpy as np
    import pandas as pd

    update(repr(array.dtype).encode())
    if isinstance(array.dtype, np.dtype) and array.dtype.kind in "biufc":
        _hash_numpy(np.asarray(array), update, values)
    elif isinstance(array, pd.Categorical):
        _hash_index(array.categories, update, values)
        _hash_numpy(np.asarray(array.codes), update, values)
    elif isinstance(array.dtype, pd.StringDtype | pd.ArrowDtype):
        import pyarrow as pa

        found = pa.array(array) if isinstance(array.dtype, pd.ArrowDtype) else _strings(array)
        chunked = found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])
        update(_column_digest(chunked))
    elif array.dtype.kind in "mM" and hasattr(array, "asi8"):
        _hash_numpy(array.asi8, update, values)
    elif array.dtype.kind == "O" and isinstance(array.dtype, np.dtype):
        _hash_object_column(np.asarray(array), update, values)
    else:  # nullable integers, intervals, periods, types of others
        values(list(array), update)


def _strings(array: Any) -> Any:
    import pyarrow as pa

    return pa.array(array.to_numpy(dtype=object), pa.large_string(), from_pandas=True)


def _hash_object_column(array: Any, update: Update, values: Values) -> None:
    import pyarrow as pa

    try:
        texts = pa.array(array, pa.large_string(), from_pandas=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        values(array.tolist(), update)
        return
    update(b"text")
    update(_column_digest(pa.chunked_array([texts])))


_HASHES: Final[dict[tuple[str, str], TableHash]] = {
    ("pyarrow", "Table"): _hash_table,
    ("pyarrow", "RecordBatch"): _hash_batch,
    ("pyarrow", "ChunkedArray"): _hash_chunked,
    ("pyarrow", "Array"): _hash_array,
    ("polars", "DataFrame"): _hash_polars,
    ("polars", "Series"): _hash_polars_series,
    ("polars", "LazyFrame"): _refuse_lazy,
    ("numpy", "ndarray"): _hash_numpy,
    ("pandas", "DataFrame"): _hash_pandas,
    ("pandas", "Series"): _hash_series,
    ("pandas", "Index"): _hash_index,
}
