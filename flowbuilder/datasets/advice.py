"""Which index would pay: what was observed, priced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from flowbuilder.datasets.catalogue import Catalogue, DatasetRow
from flowbuilder.datasets.index_catalogue import IndexCatalogue, Observation
from flowbuilder.datasets.libraries import arrow_parquet
from flowbuilder.datasets.names import fold_identifier
from flowbuilder.datasets.ordinals import is_sortable
from flowbuilder.datasets.parts import StoreParts
from flowbuilder.datasets.snapshot import Snapshot

__all__ = ["MIN_ROWS", "Recommendation", "recommend"]

MIN_ROWS: Final = 10_000
"""Smaller files are scanned faster than looked up."""
_PACE_S: Final = 8e-8
_QUERY_S: Final = 0.003
_HIT_S: Final = 2e-6
_GROUP_S: Final = 0.01
_MIN_SPEEDUP: Final = 2.0
_ROW_NUMBER_BYTES: Final = 4


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """An index that would have paid for the queries seen so far.

    Parameters
    ----------
    dataset : str
        The dataset.
    columns : tuple of str
        What it would be sorted by.
    kind : str
        ``sorted``: a copy of the rows, for ranges and single values. ``lookup``: keys and row
        numbers only, for single values.
    expected_gain : float
        Seconds it would save if as many queries came again.
    speedup : float
        How much faster each of them would be.
    cost_s, size_bytes : float, int
        What building takes, and the space it needs.
    queries : int
        How many queries asked for it.
    reason : str
        All this in words.
    """

    dataset: str
    columns: tuple[str, ...]
    kind: str
    expected_gain: float
    speedup: float
    cost_s: float
    size_bytes: int
    queries: int
    reason: str


def recommend(
    parts: StoreParts, catalogue: Catalogue, indexes: IndexCatalogue
) -> list[Recommendation]:
    """Price what was observed.

    Returns
    -------
    list of Recommendation
        The largest gain first; nothing for columns that have the index, or small datasets.
    """
    rows = {row.dataset_id: row for row in catalogue.all()}
    grouped: dict[tuple[int, str], list[Observation]] = {}
    for seen in indexes.observations():
        if seen.dataset_id in rows:
            grouped.setdefault((seen.dataset_id, seen.column), []).append(seen)
    pace = indexes.pace() or _PACE_S
    found: list[Recommendation] = []
    for (dataset_id, column), seen_of in grouped.items():
        present = {
            index.kind
            for index in indexes.indexes(dataset_id)
            if fold_identifier(index.column) == fold_identifier(column)
        }
        found += _of_column(parts, _Case(rows[dataset_id], column, seen_of, pace), present)
    return sorted(found, key=lambda each: -each.expected_gain)


class _Case(NamedTuple):
    """One column of a dataset, and what was asked of it."""

    row: DatasetRow
    column: str
    seen: Sequence[Observation]
    pace: float


def _of_column(parts: StoreParts, case: _Case, present: set[str]) -> list[Recommendation]:
    with parts.snapshot(case.row) as snapshot:
        kinds = {field.name: field.type for field in snapshot.schema}
        kind = kinds.get(case.column)
        if kind is None or not is_sortable(kind) or "sorted" in present:
            return []
        covered = sum(
            file.body.num_rows for file in snapshot.manifest.files if file.body.num_rows >= MIN_ROWS
        )
        if not covered:
            return []
        whole, one = _widths(snapshot, case.column)
        found = [_priced(case, "sorted", covered, columns=len(kinds), width=whole)]
        has_only_points = all(each.kind == "point" for each in case.seen)
        if has_only_points and not present:
            found.append(_priced(case, "lookup", covered, columns=1, width=one))
    return [each for each in found if each is not None]


def _widths(snapshot: Snapshot, column: str) -> tuple[float, float]:
    """Measure bytes per row of all columns, and of one, on the first row group."""
    file = max(snapshot.manifest.files, key=lambda each: each.body.num_rows)
    (path,) = snapshot.paths([file])
    with arrow_parquet().ParquetFile(path) as reader:
        table: Any = reader.read_row_group(0)
    key = next(
        (n for n in table.column_names if fold_identifier(n) == fold_identifier(column)), None
    )
    one = table.column(key).nbytes if key is not None else 8 * table.num_rows
    return table.nbytes / table.num_rows, one / table.num_rows


def _priced(
    case: _Case, kind: str, rows: int, *, columns: int, width: float
) -> Recommendation | None:
    seen, column = case.seen, case.column
    scans = sum(each.scans for each in seen)
    if scans < 1:
        return None
    queries = sum(each.queries for each in seen)
    scan_s = sum(each.scan_s for each in seen) / scans
    hits = rows * sum(each.share for each in seen) / queries
    then_s = _QUERY_S + (_GROUP_S if kind == "lookup" else hits * _HIT_S)
    if scan_s < _MIN_SPEEDUP * then_s:
        return None
    asked = "single values" if all(each.kind == "point" for each in seen) else "ranges"
    return Recommendation(
        dataset=case.row.name,
        columns=(column,),
        kind=kind,
        expected_gain=queries * (scan_s - then_s),
        speedup=scan_s / then_s,
        cost_s=rows * (columns + 2) * case.pace,
        size_bytes=round(rows * (width + _ROW_NUMBER_BYTES)),
        queries=round(queries),
        reason=(
            f"{round(queries)} queries asked for {asked} of {column!r}; each scanned {rows:,} rows"
            f" in {scan_s * 1000:.0f} ms, an index needs about {then_s * 1000:.0f} ms"
        ),
    )
