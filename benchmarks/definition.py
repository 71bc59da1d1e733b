"""A benchmark as data: the question, how to read the answer, who takes part, and what we expect.

Definitions are the TOML files of ``definitions/``; this module reads and checks them, and knows
nothing of how they are measured.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Benchmark", "Column", "DefinitionError", "Entrant", "Expectation", "load_benchmarks"]

DEFINITIONS = Path(__file__).parent / "definitions"


class DefinitionError(Exception):
    """A definition file is wrong; the message names file and field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A metric as the table shows it."""

    metric: str
    title: str
    scale: float = 1.0
    """Multiplies the metric before display, e.g. 1e-3 for ns shown as us."""
    ratio: bool = True
    """Whether MAD, minimum and the ratio to the floor follow the median."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """Who takes part: a subject with its options, the workload's parameters for it, and a label."""

    label: str
    subject: str
    options: Mapping[str, object] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict)
    quick: Mapping[str, object] = field(default_factory=dict)
    only_full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """``entrant.metric`` is at most ``at_most`` times ``versus.versus_metric``, or ``at_most``
    itself if ``versus`` is empty.

    ``at_least`` turns the comparison round. ``tolerance`` is the share by which a shared machine
    may miss it in `check`.
    """

    entrant: str
    metric: str
    versus: str = ""
    versus_metric: str = ""
    at_most: float | None = None
    at_least: float | None = None
    tolerance: float = 0.15
    variants: tuple[str, ...] = ()
    """Only these; empty means all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One definition file."""

    name: str
    title: str
    question: str
    analysis: str
    workload: str
    mode: str
    floor: str
    columns: tuple[Column, ...]
    entrants: tuple[Entrant, ...]
    expectations: tuple[Expectation, ...]
    params: Mapping[str, object] = field(default_factory=dict)
    quick: Mapping[str, object] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    quick_variants: tuple[str, ...] = ()
    rounds: int = 7
    quick_rounds: int = 3
    timeout_s: float = 300.0

    def entrant(self, label: str) -> Entrant:
        """Find an entrant by label."""
        return next(entrant for entrant in self.entrants if entrant.label == label)

    def parameters(self, entrant: Entrant, variant: str, *, is_quick: bool) -> dict[str, object]:
        """Merge the parameters of one sample; the more particular wins."""
        general = {**self.params, **self.quick} if is_quick else self.params
        merged = {**general, **self.variants.get(variant, {}), **entrant.params}
        return {**merged, **entrant.quick} if is_quick else merged


def load_benchmarks(folder: Path = DEFINITIONS) -> list[Benchmark]:
    """Read every definition, in the order of their file names."""
    return [_read(path) for path in sorted(folder.glob("*.toml"))]


def _read(path: Path) -> Benchmark:
    with path.open("rb") as file:
        data = tomllib.load(file)
    try:
        benchmark = Benchmark(
            **{
                **data,
                "columns": tuple(Column(**column) for column in data["columns"]),
                "entrants": tuple(Entrant(**entrant) for entrant in data["entrants"]),
                "expectations": tuple(
                    Expectation(**{**item, "variants": tuple(item.get("variants", ()))})
                    for item in data["expectations"]
                ),
                "variants": data.get("variants", {"": {}}),
                "quick_variants": tuple(data.get("quick_variants", ())),
            }
        )
    except (KeyError, TypeError) as error:
        raise DefinitionError(f"{path.name}: {error}") from error
    _check(path, benchmark)
    return benchmark


def _check(path: Path, benchmark: Benchmark) -> None:
    labels = [entrant.label for entrant in benchmark.entrants]
    if len(labels) != len(set(labels)):
        raise DefinitionError(f"{path.name}: two entrants have the same label")
    for label in [benchmark.floor, *(e.entrant for e in benchmark.expectations)]:
        if label and label not in labels:
            raise DefinitionError(f"{path.name}: no entrant is called {label!r}")
    for expectation in benchmark.expectations:
        if expectation.versus and expectation.versus not in labels:
            raise DefinitionError(f"{path.name}: no entrant is called {expectation.versus!r}")
        if (expectation.at_most is None) == (expectation.at_least is None):
            raise DefinitionError(f"{path.name}: an expectation needs one of at_most and at_least")
    known = set(benchmark.variants)
    for variant in [
        *benchmark.quick_variants,
        *(v for e in benchmark.expectations for v in e.variants),
    ]:
        if variant not in known:
            raise DefinitionError(f"{path.name}: no variant is called {variant!r}")
