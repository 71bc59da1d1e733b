"""Statistics of columns: gathered while a file is written, merged over files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from flowbuilder.datasets.libraries import arrow, arrow_compute
from flowbuilder.datasets.manifest import ColumnFacts, Manifest, Ordinal
from flowbuilder.datasets.names import fold_identifier
from flowbuilder.datasets.ordinals import MAX_TEXT, ordinal_array, ordinal_to_scalar, sort_class
from flowbuilder.datasets.sketch import count_distinct, merge_sketches, sketch_columns
from flowbuilder.datasets.sql_session import SqlSession

__all__ = ["ColumnStatistics", "FactsCollector", "merge_statistics"]


class ColumnStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a column of a dataset without reading it.

    Parameters
    ----------
    name, type : str
        The column, and its Arrow type as text.
    count : int
        Rows with a value.
    nulls, nans : int
        Rows without one, and rows with NaN.
    minimum, maximum : object
        Smallest and largest value other than NaN; None if unknown (types without an order that is
        the same everywhere, long texts).
    distinct : int or None
        How many different values, within about 3 %; None if unknown (nested types, sketches of
        different DuckDB versions).
    """

    name: str
    type: str
    count: int
    nulls: int
    nans: int
    minimum: object
    maximum: object
    distinct: int | None


class FactsCollector:
    """Gathers the facts of one file from the tables written to it.

    Parameters
    ----------
    session : SqlSession
        The DuckDB that counts distinct values.
    schema : pyarrow.Schema
        That of the file.
    """

    def __init__(self, session: SqlSession, schema: Any) -> None:
        self._session, self._schema = session, schema
        self._facts = {field.name: ColumnFacts() for field in schema}
        self._sketches: dict[str, list[bytes]] = {}
        self._counted = [field.name for field in schema if _is_countable(field.type)]

    def add(self, table: Any) -> None:
        """Take rows into account."""
        for field in self._schema:
            seen = _facts_of(table.column(field.name), field.type)
            self._facts[field.name] = merge_facts([self._facts[field.name], seen])
        for name, sketch in sketch_columns(self._session, table, self._counted).items():
            known = self._sketches.setdefault(name, [])
            known.append(sketch)
            merged = merge_sketches(known)
            assert merged is not None  # made by one library
            known[:] = [merged]

    def facts(self) -> dict[str, ColumnFacts]:
        """Give the facts so far, without texts too long to keep."""
        return {name: _shortened(facts) for name, facts in self._facts.items()}

    def sketches(self) -> dict[str, bytes]:
        """Give the sketches so far."""
        return {name: sketches[0] for name, sketches in self._sketches.items()}


def _is_countable(kind: Any) -> bool:
    types = arrow().types
    return not (types.is_nested(kind) or types.is_null(kind) or types.is_duration(kind))


def _facts_of(column: Any, kind: Any) -> ColumnFacts:
    pc, pa = arrow_compute(), arrow()
    group = sort_class(kind)
    nulls = int(column.null_count)
    if not group or nulls == len(column):
        return ColumnFacts(nulls=nulls)
    values, nans = ordinal_array(column), 0
    if group == "float":
        is_nan = pc.is_nan(values)
        nans = pc.sum(is_nan).as_py() or 0
        if nans:
            values = values.filter(pc.invert(is_nan))
    elif pa.types.is_string_view(values.type):
        values = values.cast(pa.large_string())
    ends = pc.min_max(values).as_py()
    return ColumnFacts(nulls=nulls, nans=nans, low=ends["min"], high=ends["max"])


def _shortened(facts: ColumnFacts) -> ColumnFacts:
    if any(isinstance(end, str) and len(end) > MAX_TEXT for end in (facts.low, facts.high)):
        return ColumnFacts(nulls=facts.nulls, nans=facts.nans)
    return facts


def merge_facts(parts: Iterable[ColumnFacts]) -> ColumnFacts:
    """Give the facts of all rows together. A part without ends must have no values."""
    parts = list(parts)
    lows = [part.low for part in parts if part.low is not None]
    highs = [part.high for part in parts if part.high is not None]
    return ColumnFacts(
        nulls=sum(part.nulls for part in parts),
        nans=sum(part.nans for part in parts),
        low=_least(lows),
        high=_greatest(highs),
    )


def _least(values: list[Ordinal]) -> Ordinal | None:
    return min(values) if values else None


def _greatest(values: list[Ordinal]) -> Ordinal | None:
    return max(values) if values else None


def merge_statistics(
    manifest: Manifest, schema: Any, sketches: Mapping[int, Mapping[str, bytes]]
) -> dict[str, ColumnStatistics]:
    """Merge the facts of a version's files.

    Parameters
    ----------
    manifest : Manifest
        The version.
    schema : pyarrow.Schema
        Its schema.
    sketches : mapping
        Sketches by file and column.

    Returns
    -------
    dict
        By column, in the order of the schema.
    """
    return {field.name: _merge_column(manifest, field, sketches) for field in schema}


def _merge_column(
    manifest: Manifest, field: Any, sketches: Mapping[int, Mapping[str, bytes]]
) -> ColumnStatistics:
    key = fold_identifier(field.name)
    parts, missing, registers = [], 0, []
    is_known = True
    for file in manifest.files:
        names = {fold_identifier(name): name for name in file.body.columns}
        if key not in names:
            missing += file.body.num_rows
            continue
        facts = file.body.columns[names[key]]
        parts.append(facts)
        has_values = file.body.num_rows > facts.nulls + facts.nans
        is_known &= facts.low is not None or not has_values
        registers.append(sketches.get(file.file_id, {}).get(names[key], b""))
    merged = merge_facts(parts)
    nulls = merged.nulls + missing
    ends = [merged.low, merged.high] if is_known else [None, None]
    low, high = (None if end is None else ordinal_to_scalar(end, field.type) for end in ends)
    sketch = merge_sketches(registers) if all(registers) else None
    return ColumnStatistics(
        name=field.name,
        type=str(field.type),
        count=manifest.version.num_rows - nulls,
        nulls=nulls,
        nans=merged.nans,
        minimum=low,
        maximum=high,
        distinct=count_distinct(sketch) if sketch else (None if registers else 0),
    )
