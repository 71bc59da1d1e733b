"""Durable completions a second, beside bare commits on the same disk at the same moment."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.statistics import percentile
from benchmarks.task_bench import make_graph
from benchmarks.workloads.graphs import no_op
from benchmarks.workloads.latency import bare_commit

__all__ = ["measure_acknowledging"]

_COMMITS = 20


def measure_acknowledging(subject: object, params: Mapping[str, object]) -> dict[str, float]:
    """Time ``repeat`` passes over a graph, each between two handfuls of bare commits."""
    shape, tasks, width = str(params["shape"]), int(params["tasks"]), int(params["width"])
    commit = bare_commit(Path(os.environ["BENCH_SCRATCH"]))
    subject.prepare(make_graph(shape, tasks=min(tasks, 200), width=20), no_op)()
    graph = make_graph(shape, tasks=tasks, width=width)
    run = subject.prepare(graph, no_op)
    run()
    gc.collect()
    gc.freeze()
    walls, commits = [], []
    for _ in range(int(params["repeat"])):
        for _ in range(_COMMITS):
            begin = time.perf_counter_ns()
            commit()
            commits.append(time.perf_counter_ns() - begin)
        begin = time.perf_counter_ns()
        run()
        walls.append((time.perf_counter_ns() - begin) / len(graph))
    per_task_ns, commit_ns = percentile(walls, 0.5), percentile(commits, 0.5)
    return {
        "per_task_ns": per_task_ns,
        "tasks_per_s": 1e9 / per_task_ns,
        "commit_ns": commit_ns,
        "tasks_per_commit": commit_ns / per_task_ns,
    }
