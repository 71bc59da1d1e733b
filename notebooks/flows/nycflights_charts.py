"""Charts as plain HTML and SVG: no scripts, no files, colours from the page's style sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape
from itertools import groupby

__all__ = [
    "Bar",
    "Interval",
    "calendar",
    "columns",
    "intervals",
    "percent",
    "ranking",
    "signed",
]

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class Bar:
    """One bar: its label, its length (a share from 0 to 1), and what to say on pointing at it."""

    label: str
    share: float
    note: str = ""


@dataclass(frozen=True)
class Interval:
    """A number with its uncertainty."""

    label: str
    value: float
    low: float
    high: float


def percent(share: float, digits: int = 0) -> str:
    """Show a share, such as ``24 %``."""
    return f"{share * 100:.{digits}f}\u202f%"


def ranking(bars: Sequence[Bar]) -> str:
    """Draw horizontal bars, the longest in the signal colour.

    Parameters
    ----------
    bars : sequence of Bar
        In the order to show.

    Returns
    -------
    str
        A table, so that screen readers get the numbers.
    """
    top = max((bar.share for bar in bars), default=0.0) or 1.0
    rows = [
        f'<tr title="{escape(bar.note)}"><th scope="row">{escape(bar.label)}</th>'
        f'<td class="track"><i class="{"peak" if bar.share == top else ""}" '
        f'style="width:{bar.share / top * 100:.1f}%"></i></td>'
        f"<td>{percent(bar.share, 1)}</td></tr>"
        for bar in bars
    ]
    return f'<table class="ranking"><tbody>{"".join(rows)}</tbody></table>'


def columns(bars: Sequence[Bar], *, title: str) -> str:
    """Draw upright bars over a scale in percent.

    Parameters
    ----------
    bars : sequence of Bar
        From left to right.
    title : str
        What a screen reader says.

    Returns
    -------
    str
        An SVG element that fills its place.
    """
    width, height, left, bottom, top = 960, 300, 44, 30, 22
    peak = max((bar.share for bar in bars), default=0.0) or 1.0
    step = 0.1 if peak > 0.2 else 0.05
    ceiling = step * (int(peak / step) + 1)
    plot = height - bottom - top
    slot = (width - left) / max(len(bars), 1)
    parts = []
    for tick in range(round(ceiling / step) + 1):
        y = height - bottom - plot * tick * step / ceiling
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{left - 8}" y="{y + 4:.1f}" class="end">{percent(tick * step)}</text>'
        )
    for position, bar in enumerate(bars):
        place = _Place(left + slot * position, slot, height - bottom, plot / ceiling)
        parts.append(_column(bar, place, is_peak=bar.share == peak))
    return _svg(width, height, title, parts)


@dataclass(frozen=True)
class _Place:
    """Where a column stands: left edge, slot width, height of the floor, pixels per whole."""

    x: float
    slot: float
    floor: float
    scale: float


def _column(bar: Bar, place: _Place, *, is_peak: bool) -> str:
    tall, middle = bar.share * place.scale, place.x + place.slot / 2
    outline = _rounded(place.x + place.slot * 0.14, place.floor - tall, place.slot * 0.72, tall)
    return (
        f'<g class="bar{" peak" if is_peak else ""}"><title>{escape(bar.note)}</title>'
        f'<rect class="hit" x="{place.x:.1f}" y="0" width="{place.slot:.1f}" '
        f'height="{place.floor}"/>'
        f'<path d="{outline}"/>'
        f'<text class="mid value" x="{middle:.1f}" y="{place.floor - tall - 7:.1f}">'
        f"{percent(bar.share)}</text>"
        f'<text class="mid" x="{middle:.1f}" y="{place.floor + 20}">{escape(bar.label)}</text></g>'
    )


def _rounded(x: float, y: float, width: float, height: float) -> str:
    """Outline a bar with round upper corners."""
    radius = min(4.0, height, width / 2)
    return (
        f"M{x:.1f} {y + height:.1f}V{y + radius:.1f}q0 {-radius:.1f} {radius:.1f} {-radius:.1f}"
        f"H{x + width - radius:.1f}q{radius:.1f} 0 {radius:.1f} {radius:.1f}V{y + height:.1f}Z"
    )


def calendar(days: Sequence[tuple[date, float, str]], *, title: str) -> str:
    """Draw one cell per day, weeks from left to right.

    Parameters
    ----------
    days : sequence of tuple
        Day, share from 0 to 1, and what to say on pointing at it; in order.
    title : str
        What a screen reader says.

    Returns
    -------
    str
        An SVG element; cells have the classes ``heat0`` to ``heat6``.
    """
    if not days:
        return ""
    first = days[0][0] - timedelta(days=days[0][0].weekday())
    weeks = (days[-1][0] - first).days // 7 + 1
    cell, gap, left, top = 15.0, 3.0, 36, 22
    parts = [
        f'<text class="end" x="{left - 8}" y="{top + row * (cell + gap) + 12:.0f}">{name}</text>'
        for row, name in enumerate(WEEKDAYS)
        if row % 2 == 0
    ]
    for day, share, note in days:
        week = (day - first).days // 7
        x, y = left + week * (cell + gap), top + day.weekday() * (cell + gap)
        parts.append(
            f'<rect class="cell heat{_heat(share)}" x="{x:.0f}" y="{y:.0f}" width="{cell:.0f}" '
            f'height="{cell:.0f}" rx="3"><title>{escape(note)}</title></rect>'
        )
    for month, week in _month_starts([day for day, _, _ in days], first):
        parts.append(f'<text x="{left + week * (cell + gap):.0f}" y="12">{month}</text>')
    return _svg(int(left + weeks * (cell + gap)), int(top + 7 * (cell + gap)), title, parts)


def _heat(share: float) -> int:
    """Put a share into one of seven steps of ten percent."""
    return min(int(share * 10), 6)


def _month_starts(days: Sequence[date], first: date) -> Iterator[tuple[str, int]]:
    for _, group in groupby(days, key=lambda day: (day.year, day.month)):
        start = next(group)
        yield start.strftime("%b"), (start - first).days // 7 + (start.weekday() > 0)


@dataclass(frozen=True)
class _Scale:
    """Places numbers between two ends, in percent."""

    least: float
    most: float

    def place(self, value: float) -> float:
        reach = self.most - self.least
        return (value - self.least) / reach * 100 if reach > 0 else 0.0

    def span(self, begin: float, end: float) -> str:
        left = self.place(begin)
        return f"left:{left:.2f}%;width:{self.place(end) - left:.2f}%"


def intervals(items: Sequence[Interval], *, unit: str) -> str:
    """Draw numbers with their uncertainty around zero.

    Parameters
    ----------
    items : sequence of Interval
        From top to bottom.
    unit : str
        Written after each number.

    Returns
    -------
    str
        A table with one small drawing per row.
    """
    least = min((item.low for item in items), default=0.0)
    scale = _Scale(min(least, 0.0), max((item.high for item in items), default=1.0))
    rows = []
    for item in items:
        begin, end = sorted((0.0, item.value))
        uncertain = item.low <= 0.0 <= item.high
        note = f"between {item.low:+.1f} and {item.high:+.1f} {unit}"
        rows.append(
            f'<tr title="{escape(note)}"><th scope="row">{escape(item.label)}</th>'
            f'<td class="track zero" style="--zero:{scale.place(0.0):.2f}%">'
            f'<i class="{_tone(item.value, uncertain=uncertain)}" '
            f'style="{scale.span(begin, end)}"></i>'
            f'<b style="{scale.span(item.low, item.high)}"></b></td>'
            f"<td>{signed(item.value)}\u202f{escape(unit)}</td></tr>"
        )
    return f'<table class="ranking wide"><tbody>{"".join(rows)}</tbody></table>'


def _tone(value: float, *, uncertain: bool) -> str:
    if uncertain:
        return "faint"
    return "peak" if value > 0 else ""


def signed(value: float, digits: int = 1) -> str:
    """Show a number with its sign, minus as a minus."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "\u2212")


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<div class="scroll"><svg viewBox="0 0 {width} {height}" role="img" '
        f'style="min-width:{min(width, 720)}px;max-width:{width * 1.15:.0f}px" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg></div>'
    )
