"""Many workflows in flight, each with one wait: what a workflow costs that has nothing to do."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping

from benchmarks.memory import anonymous_bytes

__all__ = ["measure_waiting"]


def measure_waiting(subject: object, params: Mapping[str, object]) -> dict[str, float]:
    """Time ``count`` three-task workflows together, after a small batch."""
    count, wait_s = int(params["count"]), float(params["wait_s"])
    subject.prepare_waits(min(count, 100), wait_s)()
    run = subject.prepare_waits(count, wait_s)
    gc.collect()
    before = anonymous_bytes()
    cpu, wall = time.process_time(), time.perf_counter()
    finished = run()
    total_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    if finished != count:
        raise RuntimeError(f"expected {count} workflows to finish, {finished} did")
    return {
        "total_s": total_s,
        "cpu_s": cpu_s,
        "bytes_per_workflow": max(anonymous_bytes() - before, 0) / count,
    }
