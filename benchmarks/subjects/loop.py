"""The floor: nothing but the calls, in topological order."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.task_bench import Graph

__all__ = ["Loop"]


class Loop:
    """``results[t] = function(*parents)`` for every task; no scheduling, no recording, no errors
    handled."""

    def prepare(self, graph: Graph, function: Callable[..., object]) -> Callable[[], list[object]]:
        parents, sinks = graph.parents, graph.sinks

        def run() -> list[object]:
            results: list[object] = [None] * len(parents)
            for task, needs in enumerate(parents):
                results[task] = function(*[results[parent] for parent in needs])
            return [results[sink] for sink in sinks]

        return run
