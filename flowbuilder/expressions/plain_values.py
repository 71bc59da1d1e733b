"""Values as CEL may have them: bounded plain data, tables as facts, else the type's name."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from flowbuilder.errors import ExpressionError
from flowbuilder.expressions.tables import is_table, table_facts

__all__ = ["MAX_INTEGER", "MAX_ITEMS", "Weight", "to_plain"]

MAX_ITEMS: Final = 10_000
"""Longest list or mapping."""

MAX_INTEGER: Final = 2**63 - 1
"""Largest absolute value of an integer; beyond it CEL would silently continue in floating point."""

_MAX_DEPTH: Final = 32
_MAX_UNITS: Final = 100_000
_MAX_TEXT: Final = 1_000_000
_CHARACTERS_PER_UNIT: Final = 128


class Weight:
    """What copying values costs, in units of one small value (about 50 ns).

    ``spread`` is the most that visiting every element of one list costs, ``square`` the most that
    building a new list of them costs, which CEL does by copying the list once per element.
    """

    __slots__ = ("longest", "spread", "square", "units")

    def __init__(self) -> None:
        self.units = 0
        self.longest = 0
        self.spread = 0
        self.square = 0

    def add(self, other: Weight) -> None:
        """Count what ``other`` counted, too."""
        self.units += other.units
        self.longest = max(self.longest, other.longest)
        self.spread = max(self.spread, other.spread)
        self.square = max(self.square, other.square)

    def note_collection(self, length: int, heaviest: int) -> None:
        """Count a list or mapping whose heaviest element costs ``heaviest`` units."""
        self.longest = max(self.longest, length)
        self.spread = max(self.spread, length * heaviest)
        self.square = max(self.square, length * length * heaviest)


def to_plain(value: object, weight: Weight) -> object:
    """Copy a value as plain data.

    Parameters
    ----------
    value : object
        Whatever a task returned or a parameter holds.
    weight : Weight
        Counts what was copied.

    Returns
    -------
    object
        None, bool, int, float, str, bytes, datetime, timedelta, list or dict of these.

    Raises
    ------
    ExpressionError
        If it is too large, too deep, or not representable.
    """
    return _convert(value, weight, 0)


def _convert(value: object, weight: Weight, depth: int) -> object:
    weight.units += 1
    if weight.units > _MAX_UNITS:
        raise ExpressionError(
            f"expected at most {_MAX_UNITS} values in an expression",
            hint="mention only the part you need, or compute it in a task",
        )
    if value is None or value is True or value is False or type(value) is float:
        return value
    if isinstance(value, int):
        return _integer(int(value))
    if isinstance(value, str):
        return _text(value, weight)
    if isinstance(value, bytes | datetime | timedelta):
        return _opaque(value, weight)
    return _compound(value, weight, depth)


def _compound(value: object, weight: Weight, depth: int) -> object:
    if isinstance(value, Mapping):
        return _mapping(value, weight, depth)
    if is_table(value):
        return _mapping(table_facts(value), weight, depth)
    if isinstance(value, Sequence) and not isinstance(value, bytearray | memoryview):
        return _sequence(value, weight, depth)
    if isinstance(value, numbers.Integral):
        return _integer(int(value))
    if isinstance(value, numbers.Real):
        return float(value)
    return _scalar(value)


def _scalar(value: object) -> object:
    """Unwrap a scalar of an array library, such as its own boolean; else give the type's name."""
    if hasattr(type(value), "item") and getattr(value, "shape", None) == ():
        item = value.item()  # type: ignore[attr-defined]
        if isinstance(item, bool):
            return item
    return type(value).__qualname__


def _integer(value: int) -> int:
    if abs(value) > MAX_INTEGER:
        raise ExpressionError(
            f"expected an integer below 2**63, found one of {value.bit_length()} bits",
            hint="pass it as text, or compute it in a task",
        )
    return value


def _text(value: str, weight: Weight) -> str:
    if len(value) > _MAX_TEXT:
        raise ExpressionError(
            f"expected a text of at most {_MAX_TEXT} characters, found {len(value)}",
            hint="test a part of it, or compute it in a task",
        )
    weight.units += len(value) // _CHARACTERS_PER_UNIT
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ExpressionError(
            "expected Unicode text in an expression, found a lone surrogate"
        ) from None
    return str.__str__(value)


def _opaque(value: bytes | datetime | timedelta, weight: Weight) -> object:
    if isinstance(value, bytes):
        if len(value) > _MAX_TEXT:
            raise ExpressionError(f"expected at most {_MAX_TEXT} bytes, found {len(value)}")
        weight.units += len(value) // _CHARACTERS_PER_UNIT
    return value


def _check_collection(value: Mapping[object, object] | Sequence[object], depth: int) -> None:
    if len(value) > MAX_ITEMS:
        raise ExpressionError(
            f"expected at most {MAX_ITEMS} elements in an expression, found {len(value)}",
            hint="mention only the part you need, or compute it in a task",
        )
    if depth >= _MAX_DEPTH:
        raise ExpressionError(
            f"expected data nested at most {_MAX_DEPTH} deep in an expression",
            hint="mention only the part you need, or compute it in a task",
        )


def _sequence(value: Sequence[object], weight: Weight, depth: int) -> list[object]:
    _check_collection(value, depth)
    heaviest = 0
    items: list[object] = []
    for item in value:
        before = weight.units
        items.append(_convert(item, weight, depth + 1))
        heaviest = max(heaviest, weight.units - before)
    weight.note_collection(len(items), heaviest)
    return items


def _mapping(value: Mapping[str, object], weight: Weight, depth: int) -> dict[object, object]:
    _check_collection(value, depth)  # type: ignore[arg-type]
    heaviest = 0
    plain: dict[object, object] = {}
    for key, item in value.items():
        before = weight.units
        plain[_key(key, weight)] = _convert(item, weight, depth + 1)
        heaviest = max(heaviest, weight.units - before)
    weight.note_collection(len(plain), heaviest)
    return plain


def _key(key: object, weight: Weight) -> object:
    if isinstance(key, bool):
        return key
    if isinstance(key, int):
        return _integer(int(key))
    return _text(key if isinstance(key, str) else str(key), weight)
