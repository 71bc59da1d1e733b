"""What a condition says about a column, as ranges of ordinals that are never too narrow.

Whoever uses these ranges only leaves rows out that the query's own WHERE would drop, and that WHERE
stays. So a range may be wider than the condition, wherever SQL rounds or casts, and any doubt means
no range at all.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from flowbuilder.datasets.manifest import ColumnFacts, Ordinal
from flowbuilder.datasets.names import fold_identifier
from flowbuilder.datasets.ordinals import sort_class
from flowbuilder.datasets.query_text import Condition, Literal, Mention

__all__ = ["ColumnFilter", "Range", "filters_of", "may_match"]

_DAY: Final = 86_400
_UNITS: Final = {"ms": 10**3, "us": 10**6, "ns": 10**9}
_INSTANT = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?)?"
)
_INSTANT_KINDS: Final = frozenset({"STRING", "DATE", "TIMESTAMP", "DATETIME", "TIMESTAMPTZ"})
_NUMBER_KINDS: Final = frozenset({"INTEGER", "NUMERIC"})
# How far SQL may round when it compares with a double, or with a float.
_DOUBLE_SLACK: Final = 2.0**-50
_FLOAT_SLACK: Final = 2.0**-21


class Range(msgspec.Struct, frozen=True):
    """Values from ``low`` to ``high``, both included; None is no limit. NaN lies above all."""

    low: Ordinal | None
    high: Ordinal | None


class ColumnFilter(msgspec.Struct, frozen=True, kw_only=True):
    """A row matters only if its value lies in one of the ranges.

    Parameters
    ----------
    column : str
        As the dataset spells it.
    ranges : tuple of Range
        NULL lies in none.
    is_point : bool
        Whether the query asked for single values.
    """

    column: str
    ranges: tuple[Range, ...]
    is_point: bool


def filters_of(
    mention: Mention, schema: Any, params: Mapping[str, object] | Sequence[object] | None
) -> list[ColumnFilter]:
    """Give the filters a query puts on a table.

    Parameters
    ----------
    mention : Mention
        The table in the query.
    schema : pyarrow.Schema
        Its columns.
    params : mapping or sequence, optional
        Values of the query's parameters.

    Returns
    -------
    list of ColumnFilter
        Conditions that are not understood to the last detail are left out.
    """
    columns = {fold_identifier(field.name): field for field in schema}
    found = []
    for condition in mention.conditions:
        field = _column(condition, mention, columns)
        if field is None:
            continue
        ranges = _ranges(condition, field.type, params)
        if ranges:
            found.append(
                ColumnFilter(
                    column=field.name, ranges=ranges, is_point=condition.operator in {"=", "in"}
                )
            )
    return found


def _column(condition: Condition, mention: Mention, columns: Mapping[str, Any]) -> Any | None:
    """Find the column a name stands for; None unless it can stand for nothing else."""
    path = [fold_identifier(part) for part in condition.path]
    if len(path) == 1 and mention.is_alone and path[0] not in mention.aliases:
        return columns.get(path[0])
    is_qualified = len(path) == 2 and path[0] == fold_identifier(mention.alias)
    return columns.get(path[1]) if is_qualified and path[0] not in columns else None


def _ranges(
    condition: Condition, kind: Any, params: Mapping[str, object] | Sequence[object] | None
) -> tuple[Range, ...]:
    literals = [_bound(literal, params) for literal in condition.values]
    if any(literal is None for literal in literals):
        return ()
    kinds = {literal.kind for literal in literals if literal is not None}
    if len(kinds) > 1 and not kinds <= _NUMBER_KINDS:
        return ()
    points = [_point(literal, kind) for literal in literals if literal is not None]
    known = [point for point in points if point is not None]
    if len(known) < len(points):
        return ()
    if condition.operator == "between":
        return (Range(known[0].low, known[1].high),)
    if condition.operator in {"<", "<="}:
        return (Range(None, known[0].high),)
    if condition.operator in {">", ">="}:
        return (Range(known[0].low, None),)
    return tuple(known)


def _bound(
    literal: Literal, params: Mapping[str, object] | Sequence[object] | None
) -> Literal | None:
    """Put a parameter's value in its place; its type is that of the value, as DuckDB binds it."""
    if literal.kind != "PARAMETER":
        return literal
    value: object = None
    if isinstance(params, Mapping):
        value = params.get(literal.text)
    elif params is not None and literal.text.isdecimal() and 0 < int(literal.text) <= len(params):
        value = params[int(literal.text) - 1]
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return Literal("INTEGER", str(value))
    if isinstance(value, float):
        return Literal("NUMERIC", repr(value))
    if isinstance(value, str):
        return Literal("TEXT", value)
    if isinstance(value, dt.datetime):
        return Literal("TIMESTAMP", value.isoformat(" ")) if value.tzinfo is None else None
    return Literal("DATE", value.isoformat()) if isinstance(value, dt.date) else None


def _point(literal: Literal, kind: Any) -> Range | None:
    """Give a range that holds everything SQL could find equal to a constant."""
    group = sort_class(kind)
    if group == "text":
        is_same = literal.kind in {"STRING", "TEXT"} and "\0" not in literal.text
        return Range(literal.text, literal.text) if is_same else None
    if group in {"integer", "float"} and literal.kind in _NUMBER_KINDS:
        return _number(literal.text, kind, group)
    if group in {"date", "timestamp"} and literal.kind in _INSTANT_KINDS:
        seconds = _seconds(literal.text)
        is_cut = literal.kind == "DATE" and len(literal.text.strip()) > len("2026-01-01")
        if seconds is None or is_cut:
            return None
        whole, fraction = seconds
        if group == "date":
            day = whole // _DAY
            return Range(day - 1, day + 1)
        unit = _UNITS[kind.unit]
        value = whole * unit + int(fraction * unit)
        # DuckDB may compare in microseconds: one of those either way.
        slack = max(1, unit // 10**6)
        return Range(value - slack, value + slack)
    return None


def _number(text: str, kind: Any, group: str) -> Range | None:
    try:
        value = Decimal(text.replace("_", ""))
    except InvalidOperation:
        return None
    if not value.is_finite() or abs(value.adjusted()) > 300:
        return None
    if group == "integer":
        slack = 1 + int(abs(value) * Decimal(_DOUBLE_SLACK))
        middle = int(value)
        return Range(middle - slack, middle + slack)
    number, is_single = float(value), kind.bit_width == 32
    if is_single and abs(number) > 1e38:
        return None
    room = abs(number) * (_FLOAT_SLACK if is_single else _DOUBLE_SLACK)
    room += 1e-44 if is_single else 5e-324
    return Range(number - room, number + room)


def _seconds(text: str) -> tuple[int, Decimal] | None:
    """Read an instant written out in full, in UTC; None for anything else."""
    match = _INSTANT.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    try:
        instant = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:
        return None
    since = instant - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return since.days * _DAY + since.seconds, Decimal(f"0.{match[7] or 0}")


def may_match(filters: Sequence[ColumnFilter], facts: Mapping[str, ColumnFacts], rows: int) -> bool:
    """Whether a file with these facts can hold a row all filters let through."""
    names = {fold_identifier(name): name for name in facts}
    for each in filters:
        name = names.get(fold_identifier(each.column))
        if name is None:
            return False  # the file was written before the column came: all NULL
        if not any(_overlaps(span, facts[name], rows) for span in each.ranges):
            return False
    return True


def _overlaps(span: Range, facts: ColumnFacts, rows: int) -> bool:
    if facts.nulls >= rows:
        return False
    if facts.nans and span.high is None:
        return True
    if facts.low is None or facts.high is None:
        # Nothing but NaN and NULL, or ends too long to keep.
        return facts.nans + facts.nulls < rows
    return _is_below(span.low, facts.high) and _is_below(facts.low, span.high)


def _is_below(low: Ordinal | None, high: Ordinal | None) -> bool:
    if low is None or high is None:
        return True
    if isinstance(low, str) or isinstance(high, str):
        # Different kinds of value: the schema changed in a way this does not know.
        return not (isinstance(low, str) and isinstance(high, str)) or low <= high
    return not (math.isnan(low) or math.isnan(high)) and low <= high
