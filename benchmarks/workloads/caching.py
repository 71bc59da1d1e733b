"""What a cache costs a call, and how fast inputs are hashed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median

__all__ = ["measure_cached_calls", "measure_hashing"]


def measure_cached_calls(subject: object, params: Mapping[str, object]) -> dict[str, float]:
    """Time calls of a function that does next to nothing: with new arguments, and once more."""
    count = int(params["calls"])
    call = subject.prepare_cached()
    call(-1)  # whatever is imported, opened and compiled at first
    call(-1)
    misses = [_time(call, number) for number in range(count)]
    hits = [_time(call, number) for number in range(count)]
    return {"miss_ns": float(median(misses)), "hit_ns": float(median(hits))}


def _time(call: object, number: int) -> int:
    begin = time.perf_counter_ns()
    result = call(number)
    took = time.perf_counter_ns() - begin
    assert result == [number, number + 1], result
    return took


def measure_hashing(subject: object, params: Mapping[str, object]) -> dict[str, float]:
    """Time the hash of a table of floats, integers and short texts."""
    table = make_table(int(params["rows"]), str(params["columns"]))
    digest = subject.prepare_digest()
    digest(table.slice(0, 10))
    times = []
    for _ in range(int(params.get("repeat", 5))):
        begin = time.perf_counter_ns()
        digest(table)
        times.append(time.perf_counter_ns() - begin)
    return {"per_gb_ns": median(times) / (table.nbytes / 1e9)}


def make_table(rows: int, columns: str) -> object:
    """Make a table with numbers, or with texts."""
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(1)
    if columns == "numbers":
        return pa.table(
            {"x": random.random(rows), "y": random.integers(0, 1 << 40, rows), "z": np.arange(rows)}
        )
    words = pa.array([f"word {number}" for number in range(1000)])
    taken = random.integers(0, 1000, rows)
    return pa.table({"a": words.take(pa.array(taken)), "b": words.take(pa.array(taken[::-1]))})
