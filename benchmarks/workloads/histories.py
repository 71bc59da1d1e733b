"""Questions to a store of everything that ran."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from statistics import median

from benchmarks.subjects.histories import TASKS_PER_RUN, run_id_of

__all__ = ["measure_history"]


def measure_history(subject: object, params: Mapping[str, object]) -> dict[str, float]:
    """Time every answer of a dashboard, and the attempts of one run; the first of each warms up."""
    tasks, repeat = int(params["tasks"]), int(params.get("repeat", 5))
    prepared = subject.prepare_history(tasks)
    answers = {name: _median(ask, repeat) for name, ask in prepared.dashboards.items()}
    generator = random.Random(1)
    runs = [generator.randrange(tasks // TASKS_PER_RUN) for _ in range(4 * repeat + 1)]
    points = []
    for run in runs:
        begin = time.perf_counter_ns()
        found = prepared.one_run(run_id_of(run))
        points.append(time.perf_counter_ns() - begin)
        assert found == TASKS_PER_RUN, f"expected {TASKS_PER_RUN} attempts of a run, found {found}"
    return {
        "slowest_answer_ns": max(answers.values()),
        "all_answers_ns": sum(answers.values()),
        "one_run_ns": float(median(points[1:])),
    }


def _median(ask: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat + 1):
        begin = time.perf_counter_ns()
        ask()
        times.append(time.perf_counter_ns() - begin)
    return float(median(times[1:]))
