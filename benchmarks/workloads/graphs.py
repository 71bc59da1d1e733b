"""One pass over a large graph of tasks that do nothing: what the engine adds to each."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping

from benchmarks.memory import anonymous_bytes
from benchmarks.task_bench import make_graph

__all__ = ["measure_graph", "no_op"]


def no_op(
    p0: object = None,
    p1: object = None,
    p2: object = None,
    p3: object = None,
    p4: object = None,
    p5: object = None,
    p6: object = None,
    p7: object = None,
) -> None:
    """Do nothing with up to eight inputs, by position or by name."""


def measure_graph(subject: object, params: Mapping[str, object]) -> dict[str, float]:
    """Time ``repeat`` passes after one pass over a small graph; the median pass counts.

    Everything made beforehand is frozen out of the garbage collector's sight, for every subject
    alike.
    """
    shape, tasks, width = str(params["shape"]), int(params["tasks"]), int(params.get("width", 1000))
    subject.prepare(make_graph(shape, tasks=min(tasks, 200), width=20), no_op)()
    graph = make_graph(shape, tasks=tasks, width=width)
    run = subject.prepare(graph, no_op)
    gc.collect()
    gc.freeze()
    walls, cpus = [], []
    for _ in range(int(params.get("repeat", 1))):
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        run()
        walls.append((time.perf_counter_ns() - wall) / len(graph))
        cpus.append((time.process_time_ns() - cpu) / len(graph))
    return {
        "per_task_ns": sorted(walls)[len(walls) // 2],
        "cpu_per_task_ns": sorted(cpus)[len(cpus) // 2],
        "tasks": float(len(graph)),
        "anonymous_bytes": float(anonymous_bytes()),
    }
