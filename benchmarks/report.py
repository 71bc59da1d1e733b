"""Tables for people: results spliced into README.md under the command that made them."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.definition import Benchmark, Column
from benchmarks.judgement import Verdict, judge
from benchmarks.measurement import Measured, Samples
from benchmarks.statistics import ratios, summarise

__all__ = ["describe_machine", "render", "splice", "splice_file"]

README = Path(__file__).parent / "README.md"
_LIBRARIES = ("flowbuilder", "apsw", "dask", "sf-hamilton", "PyYAML")


def describe_machine() -> str:
    """Say what the numbers were taken on: cores, system, Python and library versions; no names of
    machines."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    libraries = ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES)
    python = f"Python {platform.python_version()}"
    return f"{cores} cores, {platform.system()} {platform.machine()}, {python}, {libraries}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def render(benchmark: Benchmark, measured: Measured) -> str:
    """Write question, tables, verdicts and how to read them as Markdown."""
    how = f"{benchmark.mode}; {measured.rounds} rounds, one process per sample"
    parts = [f"**{benchmark.question}** ({how})", ""]
    for variant, samples in measured.samples.items():
        if variant:
            parts += [f"*{variant}*", ""]
        parts += [*_table(benchmark, samples), ""]
    for label, reason in measured.failures.items():
        parts += [f"{label}: not measured ({reason})", ""]
    parts += _verdicts(judge(benchmark, measured))
    return "\n".join([*parts, "", benchmark.analysis.strip()])


def _table(benchmark: Benchmark, samples: dict[str, Samples]) -> list[str]:
    heads = ["entrant"]
    for column in benchmark.columns:
        heads.append(column.title)
        if _is_compared(benchmark, column):
            heads += ["MAD", "min", f"x {benchmark.floor}"]
    lines = [_row([*heads, "n"]), _row(["---", *["---:"] * len(heads)])]
    labels = [entrant.label for entrant in benchmark.entrants if entrant.label in samples]
    return [*lines, *(_row(_cells(benchmark, samples, label)) for label in labels)]


def _cells(benchmark: Benchmark, samples: dict[str, Samples], label: str) -> list[str]:
    cells, count = [label], 0
    floor = samples.get(benchmark.floor, {})
    for column in benchmark.columns:
        values = samples[label].get(column.metric, [])
        is_compared = _is_compared(benchmark, column)
        if not values:
            cells += ["-"] * (4 if is_compared else 1)
            continue
        summary = summarise([value * column.scale for value in values])
        count = max(count, summary.n)
        cells.append(_number(summary.median))
        if is_compared:
            against = ratios(values, floor.get(column.metric, []))
            ratio = _number(summarise(against).median) if against else "-"
            cells += [_number(summary.mad), _number(summary.minimum), ratio]
    return [*cells, str(count)]


def _is_compared(benchmark: Benchmark, column: Column) -> bool:
    return bool(benchmark.floor) and column.ratio


def _verdicts(verdicts: Sequence[Verdict]) -> list[str]:
    lines = []
    for verdict in verdicts:
        mark = verdict.word if verdict.is_tolerated else f"**{verdict.word}**"
        found = f"found {_number(verdict.found)}" if verdict.found is not None else verdict.reason
        variant = f" ({verdict.variant})" if verdict.variant else ""
        lines.append(f"- {mark}: {verdict.wanted}{variant}; {found}")
    return lines


def _number(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def splice(text: str, name: str, command: str, body: str) -> str:
    """Replace what stands between the markers of ``name``.

    Raises
    ------
    ValueError
        If the text has no such markers.
    """
    pattern = re.compile(
        rf"(<!-- results: {re.escape(name)} -->\n).*?(<!-- end: {re.escape(name)} -->)", re.DOTALL
    )
    if not pattern.search(text):
        raise ValueError(f"expected the markers 'results: {name}' and 'end: {name}', found none")
    block = f"```\n{command}\n```\n\n{body}\n"
    return pattern.sub(lambda match: match[1] + block + match[2], text)


def splice_file(sections: dict[str, tuple[str, str]], path: Path = README) -> None:
    """Rewrite the sections ``name -> (command, body)`` of the README, and the line about the
    machine."""
    text = path.read_text(encoding="utf-8")
    for name, (command, body) in sections.items():
        text = splice(text, name, command, body)
    machine = f"<!-- machine -->{describe_machine()}<!-- end machine -->"
    text = re.sub(
        r"<!-- machine -->.*?<!-- end machine -->", lambda _: machine, text, flags=re.DOTALL
    )
    path.write_text(text, encoding="utf-8")
