"""The few numbers a table shows: median, median absolute deviation, minimum, n, percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Summary", "percentile", "ratios", "summarise"]


@dataclass(frozen=True, slots=True)
class Summary:
    """A sample of a metric."""

    median: float
    mad: float
    minimum: float
    n: int


def summarise(values: Sequence[float]) -> Summary:
    """Describe values by median, median absolute deviation, minimum and count.

    Raises
    ------
    ValueError
        If there are none.
    """
    if not values:
        raise ValueError("expected at least one value to summarise, found none")
    middle = median(values)
    return Summary(
        middle, median(abs(value - middle) for value in values), min(values), len(values)
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least ``share`` of all values do not exceed (nearest
    rank)."""
    if not values:
        raise ValueError("expected at least one value, found none")
    ordered = sorted(values)
    rank = -int(-share * len(ordered) // 1)
    return ordered[min(max(rank, 1), len(ordered)) - 1]


def ratios(values: Sequence[float], floor: Sequence[float]) -> list[float]:
    """Divide round by round: samples of one round ran next to each other, so drift of the machine
    cancels."""
    return [value / base for value, base in zip(values, floor, strict=False) if base > 0]
