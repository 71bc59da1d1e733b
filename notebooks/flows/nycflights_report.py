"""The report: tables of the flow as one self-contained page, and as a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import pyarrow as pa
from nycflights_charts import Bar, Interval, calendar, columns, intervals, percent, ranking, signed

__all__ = ["render_report", "summarise"]

Row = Mapping[str, Any]
PAGE = Path(__file__).with_name("nycflights_report.html")


def render_report(  # noqa: PLR0917 - one argument per table, passed by name
    totals: Sequence[Row],
    by_hour: pa.Table,
    by_day: pa.Table,
    by_carrier: pa.Table,
    by_weather: pa.Table,
    model: Row,
    late_after: int = 15,
) -> str:
    """Draw the page.

    Parameters
    ----------
    totals : sequence of mapping
        One row of counts and shares.
    by_hour, by_day, by_carrier, by_weather : pyarrow.Table
        Shares of late flights per hour of departure, day, airline and weather.
    model : mapping
        What `nycflights_model.fit_delay` found.
    late_after : int
        Minutes from which a flight counted as late.

    Returns
    -------
    str
        HTML without references to anything outside it.
    """
    total, hours, days = totals[0], by_hour.to_pylist(), by_day.to_pylist()
    carriers, weather = by_carrier.to_pylist(), by_weather.to_pylist()
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        period=escape(_period(total["first_day"], total["last_day"])),
        flights=f"{total['flights']:,}",
        airlines=total["airlines"],
        destinations=total["destinations"],
        late_after=late_after,
        figures=_figures(total, late_after),
        hour_title=escape(_hour_title(hours)),
        hour_chart=columns([_hour_bar(row) for row in hours], title="Late share by hour"),
        day_title=escape(_day_title(days)),
        day_chart=calendar([_day_cell(row) for row in days], title="Late share by day"),
        carrier_title=escape(_extremes(carriers, "airline")),
        carrier_chart=ranking([_bar(row, "airline") for row in carriers]),
        weather_title=escape(_extremes(weather, "conditions")),
        weather_chart=ranking([_bar(row, "conditions") for row in weather]),
        cancel_chart=ranking(_cancelled(weather)),
        effect_title=escape(_effect_title(model)),
        effect_chart=intervals([_interval(row) for row in model["effects"]], unit="min"),
        model_figures=_model_figures(model),
        rows_used=f"{model['rows_used']:,}",
        carrier_rows="".join(_carrier_row(row) for row in carriers),
    )


def summarise(totals: Sequence[Row], by_carrier: pa.Table, model: Row) -> str:
    """Say the result in a few lines.

    Parameters
    ----------
    totals : sequence of mapping
        One row of counts and shares.
    by_carrier : pyarrow.Table
        Delays per airline, most often late first.
    model : mapping
        What `nycflights_model.fit_delay` found.

    Returns
    -------
    str
        A table of the airlines and what the model explains.
    """
    total = totals[0]
    counts = f"{total['flights']:,} flights"
    shares = f"{total['late_share']:.1%} late, {total['cancelled_share']:.1%} cancelled"
    heading = f"{'airline':<28}{'flights':>9}{'late':>8}{'cancelled':>11}{'mean delay':>12}"
    lines = [f"{counts}, {shares}", "", heading]
    lines += [
        f"{row['airline']:<28}{row['flights']:>9,}{row['late_share'] or 0:>8.1%}"
        f"{row['cancelled_share']:>11.1%}{row['mean_delay'] or 0:>8.1f} min"
        for row in by_carrier.to_pylist()
    ]
    before, after = model["r2_before"], model["r2_at_departure"]
    lines += [
        "",
        f"Of the arrival delay on unseen days, schedule and weather explain {before:.0%},",
        f"with the delay at departure {after:.0%}.",
    ]
    return "\n".join(lines)


def _period(first: date, last: date) -> str:
    if (first.year, first.month) == (last.year, last.month):
        return f"{first:%B %Y}"
    return f"{first:%B} to {last:%B %Y}"


def _figures(total: Row, late_after: int) -> str:
    return "".join(
        [
            _figure(f"{total['flights']:,}", "flights scheduled"),
            _figure(percent(total["late_share"], 1), f"late by {late_after} minutes or more"),
            _figure(percent(total["cancelled_share"], 1), "cancelled"),
            _figure(f"{signed(total['median_delay'], 0)} min", "delay of the middle flight"),
            _figure(f"{signed(total['p95_delay'], 0)} min", "delay exceeded by one in twenty"),
        ]
    )


def _model_figures(model: Row) -> str:
    before, after = model["typical_error_before"], model["typical_error_at_departure"]
    return "".join(
        [
            _figure(
                percent(model["r2_before"]),
                f"of the delay is explained before departure; typically {before:.0f} minutes off",
            ),
            _figure(
                percent(model["r2_at_departure"]),
                f"once the delay at departure is known; typically {after:.0f} minutes off",
            ),
        ]
    )


def _figure(value: str, label: str) -> str:
    return f"<div><strong>{escape(value)}</strong><span>{escape(label)}</span></div>"


def _clock(hour: int) -> str:
    return f"{(hour - 1) % 12 + 1} {'am' if hour < 12 else 'pm'}"


def _hour_bar(row: Row) -> Bar:
    note = (
        f"{_clock(row['hour'])}: {row['flights']:,} flights, {percent(row['late_share'], 1)} late, "
        f"one in ten by more than {row['p90_delay']:.0f} min"
    )
    return Bar(_clock(row["hour"]), row["late_share"], note)


def _day_cell(row: Row) -> tuple[date, float, str]:
    late = row["late_share"] or 0.0
    note = (
        f"{row['day']:%a %d %b}: {percent(late)} late, {percent(row['cancelled_share'])} cancelled"
    )
    return row["day"], late, note


def _bar(row: Row, label: str) -> Bar:
    late = row["late_share"] or 0.0
    note = f"{row['flights']:,} flights, {percent(row['cancelled_share'], 1)} cancelled"
    return Bar(row[label], late, note)


def _cancelled(rows: Sequence[Row]) -> list[Bar]:
    ordered = sorted(rows, key=lambda row: -row["cancelled_share"])
    return [
        Bar(row["conditions"], row["cancelled_share"], f"{row['flights']:,} flights")
        for row in ordered
    ]


def _interval(row: Row) -> Interval:
    return Interval(row["label"], row["minutes"], row["low"], row["high"])


def _hour_title(hours: Sequence[Row]) -> str:
    if not hours:
        return "Delays by hour"
    best, worst = _ends(hours)
    return (
        f"At {_clock(best['hour'])} {percent(best['late_share'])} arrive late, "
        f"at {_clock(worst['hour'])} {percent(worst['late_share'])}"
    )


def _day_title(days: Sequence[Row]) -> str:
    _, worst = _ends(days)
    bad = sum(1 for row in days if (row["late_share"] or 0) >= 0.5)
    counted = {0: "On no day", 1: "On one day"}.get(bad, f"On {bad} days")
    return (
        f"{counted} at least half of all flights came late; "
        f"{worst['day']:%B} {worst['day'].day} was the worst, with {percent(worst['late_share'])}"
    )


def _extremes(rows: Sequence[Row], label: str) -> str:
    if not rows:
        return "No records"
    best, worst = _ends(rows)
    return (
        f"{worst[label]}: {percent(worst['late_share'])}\u00a0late. "
        f"{best[label]}: {percent(best['late_share'])}"
    )


def _ends(rows: Sequence[Row]) -> tuple[Row, Row]:
    """Pick the least and the most often late."""
    known = [row for row in rows if row["late_share"] is not None] or list(rows)
    ordered = sorted(known, key=lambda row: row["late_share"] or 0.0)
    return ordered[0], ordered[-1]


def _effect_title(model: Row) -> str:
    hourly = next(row for row in model["effects"] if "hour later" in row["label"])
    return f"Each hour later in the day: {signed(hourly['minutes'])} minutes"


def _carrier_row(row: Row) -> str:
    cells = [
        f"{row['flights']:,}",
        percent(row["late_share"] or 0.0, 1),
        percent(row["cancelled_share"], 1),
        signed(row["mean_delay"] or 0.0),
        signed(row["median_delay"] or 0.0, 0),
    ]
    numbers = "".join(f"<td>{cell}</td>" for cell in cells)
    name = f"{escape(row['airline'])} <small>{escape(row['carrier'])}</small>"
    return f'<tr><th scope="row">{name}</th>{numbers}</tr>'
