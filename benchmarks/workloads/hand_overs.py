"""A table down a chain of tasks: bytes copied between them, and time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median

__all__ = ["derive", "make_frame", "measure_hand_overs", "summarise"]


def make_frame(rows: int) -> object:
    """Make a pandas frame of numbers, times and texts."""
    import numpy as np
    import pandas as pd

    numbers = np.arange(rows)
    words = np.array([f"carrier {number}" for number in range(20)], dtype=object)
    return pd.DataFrame(
        {
            "id": numbers,
            "delay": (numbers % 1000) * 0.5,
            "distance": (numbers % 337) * 10.0,
            "at": numbers.astype("datetime64[s]"),
            "carrier": pd.Series(words[numbers % 20], dtype="str"),
        }
    )


def derive(frame: object, stage: int) -> object:
    """Do a little work: one more column."""
    return frame.assign(**{f"c{stage}": frame["delay"] * stage})


def summarise(frame: object) -> float:
    """End with a number that shows whether all stages ran."""
    return float(frame.filter(like="c", axis=1).select_dtypes("number").sum().sum())


def measure_hand_overs(subject: object, params: Mapping[str, object]) -> dict[str, float]:
    """Run the chain several times and take medians."""
    rows, stages = int(params["rows"]), int(params["stages"])
    run = subject.prepare_chain(rows, stages)
    run()  # processes started, libraries imported
    times, copied, results = [], [], set()
    for _ in range(int(params["repeat"])):
        begin = time.perf_counter_ns()
        result, size_bytes = run()
        times.append(time.perf_counter_ns() - begin)
        copied.append(size_bytes)
        results.add(result)
    assert len(results) == 1, results
    return {"chain_ns": float(median(times)), "copied_bytes": float(median(copied))}
