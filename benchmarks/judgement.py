"""Do the numbers say what the definition expects?"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from benchmarks.definition import Benchmark, Expectation
from benchmarks.measurement import Measured, Samples
from benchmarks.statistics import ratios

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One expectation of one variant: what was wanted and what was found."""

    benchmark: str
    variant: str
    wanted: str
    found: float | None
    """None: not measured."""
    is_met: bool
    is_tolerated: bool
    """Met, or missed by no more than the tolerance."""
    reason: str = ""

    @property
    def word(self) -> str:
        """Say the verdict in a word or two."""
        if self.found is None:
            return "not measured"
        if self.is_met:
            return "met"
        return "within tolerance" if self.is_tolerated else "missed"


def judge(benchmark: Benchmark, measured: Measured) -> list[Verdict]:
    """Compare every expectation with every variant it speaks about."""
    return [
        _judge_one(benchmark, measured, variant, expectation)
        for expectation in benchmark.expectations
        for variant in measured.samples
        if not expectation.variants or variant in expectation.variants
    ]


def _judge_one(
    benchmark: Benchmark, measured: Measured, variant: str, expectation: Expectation
) -> Verdict:
    wanted = describe(expectation)
    values = _found(measured.samples[variant], expectation)
    if not values:
        absent = [
            name for name in (expectation.entrant, expectation.versus) if name in measured.failures
        ]
        reason = (
            "; ".join(f"{name}: {measured.failures[name]}" for name in absent) or "not measured"
        )
        return Verdict(
            benchmark.name, variant, wanted, None, is_met=False, is_tolerated=False, reason=reason
        )
    found = median(values)
    if expectation.at_most is not None:
        met, tolerated = (
            found <= expectation.at_most,
            found <= expectation.at_most * (1 + expectation.tolerance),
        )
    else:
        least = expectation.at_least or 0.0
        met, tolerated = found >= least, found >= least * (1 - expectation.tolerance)
    return Verdict(benchmark.name, variant, wanted, found, is_met=met, is_tolerated=tolerated)


def _found(samples: dict[str, Samples], expectation: Expectation) -> list[float]:
    values = samples.get(expectation.entrant, {}).get(expectation.metric, [])
    if not expectation.versus:
        return values
    metric = expectation.versus_metric or expectation.metric
    return ratios(values, samples.get(expectation.versus, {}).get(metric, []))


def describe(expectation: Expectation) -> str:
    """Say an expectation in words: ``flowbuilder per_task_ns <= 4 x loop``."""
    sign, bound = (
        ("<=", expectation.at_most)
        if expectation.at_most is not None
        else (">=", expectation.at_least)
    )
    versus = f" x {expectation.versus}" if expectation.versus else ""
    metric = f" {expectation.versus_metric}" if expectation.versus_metric else ""
    return f"{expectation.entrant}: {expectation.metric} {sign} {bound:g}{versus}{metric}"
