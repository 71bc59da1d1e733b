"""Taking samples: one process each, entrants in turn within a round, so that drift hits all of them
alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.definition import Benchmark, Entrant

__all__ = ["Measured", "measure", "take_sample"]

ROOT = Path(__file__).parents[1]
Samples = dict[str, list[float]]


@dataclass(slots=True)
class Measured:
    """Samples of one benchmark: variant -> entrant -> metric -> one value a round; and who could
    not take part, and why."""

    benchmark: str
    rounds: int
    is_quick: bool
    samples: dict[str, dict[str, Samples]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def measure(
    benchmark: Benchmark, *, is_quick: bool, report: Callable[[str], None] = lambda _line: None
) -> Measured:
    """Run every entrant of every variant, round by round. An entrant that fails once is left out
    from there on."""
    rounds = benchmark.quick_rounds if is_quick else benchmark.rounds
    variants = [
        v
        for v in benchmark.variants
        if not is_quick or not benchmark.quick_variants or v in benchmark.quick_variants
    ]
    measured = Measured(benchmark.name, rounds, is_quick)
    for variant in variants:
        by_entrant = measured.samples.setdefault(variant, {})
        for number in range(rounds):
            report(f"{benchmark.name} {variant} round {number + 1}/{rounds}".replace("  ", " "))
            for entrant in benchmark.entrants:
                if entrant.label in measured.failures or (is_quick and entrant.only_full):
                    continue
                try:
                    metrics = take_sample(benchmark, entrant, variant, is_quick=is_quick)
                except SampleError as error:
                    measured.failures[entrant.label] = str(error)
                    report(f"  {entrant.label}: {error}")
                    continue
                samples = by_entrant.setdefault(entrant.label, {})
                for metric, value in metrics.items():
                    samples.setdefault(metric, []).append(value)
    return measured


class SampleError(Exception):
    """A sample could not be taken; the message is the last line of its process."""


def take_sample(
    benchmark: Benchmark, entrant: Entrant, variant: str, *, is_quick: bool
) -> dict[str, float]:
    """Take one sample in a process of its own.

    Raises
    ------
    SampleError
        If the process fails, prints no metrics or exceeds the benchmark's time limit.
    """
    request = {
        "workload": benchmark.workload,
        "subject": entrant.subject,
        "options": dict(entrant.options),
        "params": benchmark.parameters(entrant, variant, is_quick=is_quick),
    }
    scratch = ROOT / "build" / "benchmarks"
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.sample", json.dumps(request)],
                cwd=ROOT,
                env=_environment(folder),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=benchmark.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SampleError(f"took longer than {benchmark.timeout_s:.0f} s") from None
    return _metrics(done)


def _metrics(done: subprocess.CompletedProcess[str]) -> dict[str, float]:
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        raise SampleError(lines[-1][:200])
    try:
        metrics: Mapping[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise SampleError("printed no metrics") from None
    return dict(metrics)


def _environment(folder: str) -> dict[str, str]:
    # The scratch folder lies beside the code: a temporary folder may be in memory, where a commit
    # costs nothing.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FLOWBUILDER_")}
    return {
        **kept,
        "BENCH_SCRATCH": folder,
        "PYTHONHASHSEED": "0",
        "HAMILTON_TELEMETRY_ENABLED": "false",
    }
