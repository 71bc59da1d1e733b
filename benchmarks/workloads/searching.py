"""Searching log lines."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from statistics import median

__all__ = ["measure_search"]

_COMMON = [
    *("clean", "load", "rows", "KeyError", "user_id", "retry", "timeout", "http", "connection"),
    *("refused", "value", "None", "数据", "清洗", "失败", "用户", "pandas.DataFrame", "flow.yaml"),
    *("0.97", "loss", "epoch"),
]


def measure_search(subject: object, params: Mapping[str, object]) -> dict[str, float]:
    """Index lines of twenty words, a third of them common; then find a rare word, a common one, a
    phrase, and make one more line searchable.
    """
    generator = random.Random(1)
    rare = [f"w{number}" for number in range(20_000)]
    texts = [
        " ".join(generator.choice(_COMMON if generator.random() < 0.3 else rare) for _ in range(20))
        for _ in range(int(params["lines"]))
    ]
    size_mb = sum(len(text.encode()) for text in texts) / 1e6
    begin = time.perf_counter_ns()
    index = subject.prepare_search(texts)
    indexing = time.perf_counter_ns() - begin
    queries = {"rare": "w123", "common": "KeyError", "phrase": '"connection refused"'}
    found = {
        name: _median(lambda query=query: index.find(query)) for name, query in queries.items()
    }
    adding = _median(lambda: index.add("one more line"))
    return {
        "per_mb_ns": indexing / size_mb,
        "add_ns": adding,
        **{f"{name}_ns": value for name, value in found.items()},
    }


def _median(call: object) -> float:
    times = []
    for _ in range(12):
        begin = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - begin)
    return float(median(times[2:]))
