"""Rows by key: single ones, a thousandth of them, and what appending costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

__all__ = ["measure_keyed_rows"]

_CHUNK_ROWS = 250_000


def measure_keyed_rows(subject: object, params: Mapping[str, object]) -> dict[str, float]:
    """Load ``rows`` rows in random order of ``id``, ask ``repeat`` times each way, append."""
    import numpy as np

    rows, repeat = int(params["rows"]), int(params["repeat"])
    random = np.random.default_rng(7)
    index_s = subject.load(_table(random.permutation(rows), random))
    keys = random.integers(0, rows - rows // 1000, 2 * repeat + 2).tolist()

    def point() -> None:
        assert subject.ask(f"id = {keys.pop()}").num_rows == 1

    def span() -> None:
        low = keys.pop()
        assert (
            subject.ask(f"id BETWEEN {low} AND {low + rows // 1000 - 1}").num_rows == rows // 1000
        )

    point_ns, range_ns = _typical(point, repeat), _typical(span, repeat)
    chunks = [
        _table(np.arange(rows + n * _CHUNK_ROWS, rows + (n + 1) * _CHUNK_ROWS), random)
        for n in range(int(params["appends"]))
    ]
    begin = time.perf_counter_ns()
    for chunk in chunks:
        subject.append(chunk)
    append_ns = (time.perf_counter_ns() - begin) / len(chunks)
    return {
        "point_ns": point_ns,
        "range_ns": range_ns,
        "append_ns": append_ns,
        "index_s": index_s,
    }


def _typical(ask: Callable[[], None], repeat: int) -> float:
    ask()  # opens files, reads metadata
    times = []
    for _ in range(repeat):
        begin = time.perf_counter_ns()
        ask()
        times.append(time.perf_counter_ns() - begin)
    return float(median(times))


def _table(ids: object, random: object) -> object:
    import pyarrow as pa

    count = len(ids)
    return pa.table(
        {
            "id": ids,
            "time": random.integers(0, 10**9, count),
            "value": random.random(count),
            "weight": random.random(count),
            "kind": random.integers(0, 100, count).astype("i4"),
            "name": pa.array([f"name {n}" for n in range(1000)]).take(
                pa.array(random.integers(0, 1000, count))
            ),
        }
    )
