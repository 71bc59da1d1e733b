"""Which Arrow types a dataset keeps, and how one type may become a wider one.

A column is stored as the type Parquet gives back exactly, so what is read has one type whatever
path it took.
"""

from __future__ import annotations

from typing import Any, Final

from flowbuilder.datasets.libraries import arrow
from flowbuilder.errors import StorageError

__all__ = ["is_text", "storable_type", "wider_type"]

_SIGNED: Final = ("int8", "int16", "int32", "int64")
_UNSIGNED: Final = ("uint8", "uint16", "uint32", "uint64")
_MAX_DECIMAL: Final = 38


def storable_type(kind: Any, column: str) -> Any:
    """Give the type a column is kept as.

    Parameters
    ----------
    kind : pyarrow.DataType
        The type it comes with.
    column : str
        Its name, for the message.

    Returns
    -------
    pyarrow.DataType
        The same, or one that holds every value of it: half floats become floats, seconds
        milliseconds, dictionaries of anything but text plain values.

    Raises
    ------
    StorageError
        If Parquet or SQL has no such type.
    """
    pa = arrow()
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return storable_type(kind.storage_type, column)
    if types.is_dictionary(kind):
        return _storable_dictionary(kind, column)
    if types.is_run_end_encoded(kind):
        return storable_type(kind.value_type, column)
    if types.is_decimal(kind):
        return _storable_decimal(kind, column)
    if types.is_nested(kind):
        return _storable_nested(kind, column)
    if types.is_interval(kind) or types.is_union(kind):
        raise _refused(kind, column)
    return _storable_plain(kind)


def _storable_plain(kind: Any) -> Any:
    pa = arrow()
    types = pa.types
    if types.is_float16(kind):
        return pa.float32()
    if types.is_date64(kind):
        return pa.date32()
    if types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", kind.tz)
    return pa.time32("ms") if types.is_time32(kind) and kind.unit == "s" else kind


def _storable_dictionary(kind: Any, column: str) -> Any:
    pa = arrow()
    value = storable_type(kind.value_type, column)
    return pa.dictionary(pa.int32(), pa.string()) if is_text(value) else value


def _storable_decimal(kind: Any, column: str) -> Any:
    if kind.precision > _MAX_DECIMAL:
        raise _refused(kind, column)
    return arrow().decimal128(kind.precision, kind.scale)


def _storable_nested(kind: Any, column: str) -> Any:
    pa = arrow()
    types = pa.types
    if types.is_struct(kind):
        return pa.struct(
            [
                pa.field(field.name, storable_type(field.type, f"{column}.{field.name}"))
                for field in kind
            ]
        )
    if types.is_map(kind):
        return pa.map_(storable_type(kind.key_type, column), storable_type(kind.item_type, column))
    if (
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    ):
        element = pa.field("element", _plain_element(storable_type(kind.value_type, column)))
        return pa.large_list(element) if types.is_large_list(kind) else pa.list_(element)
    raise _refused(kind, column)


def _plain_element(kind: Any) -> Any:
    """Text inside lists is kept plain: Parquet restores dictionaries at the top only."""
    pa = arrow()
    return pa.string() if pa.types.is_dictionary(kind) else kind


def _refused(kind: Any, column: str) -> StorageError:
    return StorageError(
        f"column {column!r} has type {kind}, which a dataset cannot keep",
        hint="cast it first, for example to a decimal of at most 38 digits, numbers or text",
    )


def is_text(kind: Any) -> bool:
    """Tell text of any layout."""
    types = arrow().types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_bytes(kind: Any) -> bool:
    types = arrow().types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def wider_type(old: Any, new: Any) -> Any | None:
    """Give the type that holds every value of both exactly, None if there is none.

    Parameters
    ----------
    old, new : pyarrow.DataType
        Storable types; where both would do, ``old`` stays.

    Returns
    -------
    pyarrow.DataType or None
        Integers widen to larger ones and, up to 32 bits, to doubles; floats to doubles; decimals to
        more digits; a column of nulls to anything. Layouts of text and bytes are all one.
    """
    pa = arrow()
    types = pa.types
    if old.equals(new) or types.is_null(new):
        return old
    if types.is_null(old):
        return new
    if types.is_dictionary(old) or types.is_dictionary(new):
        values = [k.value_type if types.is_dictionary(k) else k for k in (old, new)]
        return old if all(is_text(value) for value in values) else None
    if (is_text(old) and is_text(new)) or (_is_bytes(old) and _is_bytes(new)):
        return old
    if types.is_integer(old) and types.is_integer(new):
        return _wider_integer(str(old), str(new))
    if types.is_floating(old) and types.is_floating(new):
        return pa.float64()
    if types.is_floating(old) or types.is_floating(new):
        return _wider_float(old, new)
    if types.is_decimal(old) and types.is_decimal(new):
        return _wider_decimal(old, new)
    return None


def _wider_integer(old: str, new: str) -> Any | None:
    pa = arrow()
    for family in (_SIGNED, _UNSIGNED):
        if old in family and new in family:
            return getattr(pa, max(old, new, key=family.index))()
    signed, unsigned = (old, new) if old in _SIGNED else (new, old)
    # A signed type holds an unsigned one of half its size.
    needed = _UNSIGNED.index(unsigned) + 1
    if needed >= len(_SIGNED):
        return None
    return getattr(pa, _SIGNED[max(needed, _SIGNED.index(signed))])()


def _wider_float(old: Any, new: Any) -> Any | None:
    pa = arrow()
    number, other = (old, new) if pa.types.is_floating(old) else (new, old)
    if not pa.types.is_integer(other) or other.bit_width > 32:
        return None
    return number if other.bit_width <= 16 else pa.float64()


def _wider_decimal(old: Any, new: Any) -> Any | None:
    scale = max(old.scale, new.scale)
    digits = max(old.precision - old.scale, new.precision - new.scale) + scale
    return arrow().decimal128(digits, scale) if digits <= _MAX_DECIMAL else None
