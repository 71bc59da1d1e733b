"""From a workflow's text to something that can run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median

__all__ = ["measure_compiling", "workflow_text"]


def workflow_text(tasks: int, salt: int = 0) -> str:
    """Write a workflow: every task has one path expression, every tenth one a real expression, and
    up to three parents."""
    lines = ["name: generated", "params:", "  limit: {type: integer, default: 3}", "tasks:"]
    for task in range(tasks):
        parents = [f"t{task - back}" for back in (1, 7, 31) if task >= back]
        value = (
            f"${{{{ params.limit * {task} + {salt} }}}}"
            if task % 10 == 0
            else "${{ params.limit }}"
        )
        lines += [
            f"  - name: t{task}",
            "    type: shell",
            f"    depends_on: [{', '.join(parents)}]",
            "    config:",
            f"      command: echo {task}",
            f'      env: {{VALUE: "{value}"}}',
        ]
    return "\n".join(lines) + "\n"


def measure_compiling(subject: object, params: Mapping[str, object]) -> dict[str, float]:
    """Time the first pass (with whatever it imports) and the median of the following ones.

    Every pass has other expressions, so that none is remembered from the one before.
    """
    times = []
    for salt in range(1 + int(params.get("repeat", 5))):
        text = workflow_text(int(params["tasks"]), salt)
        begin = time.perf_counter_ns()
        subject.compile_text(text)
        times.append(time.perf_counter_ns() - begin)
    return {"first_ns": float(times[0]), "warm_ns": float(median(times[1:]))}
