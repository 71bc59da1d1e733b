"""What a careful person writes with the standard library: graphlib and a thread pool."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from graphlib import TopologicalSorter
from queue import SimpleQueue

from benchmarks.task_bench import Graph

__all__ = ["Threads"]


class Threads:
    """A pool of ``workers`` threads fed by `graphlib.TopologicalSorter`."""

    def __init__(self, workers: int = 2, waiting_workers: int = 512) -> None:
        self._pool = ThreadPoolExecutor(workers)
        self._waiting_workers = waiting_workers

    def prepare(self, graph: Graph, function: Callable[..., object]) -> Callable[[], list[object]]:
        edges = dict(enumerate(graph.parents))
        sinks, pool = graph.sinks, self._pool

        def run() -> list[object]:
            sorter = TopologicalSorter(edges)
            sorter.prepare()
            results: list[object] = [None] * len(edges)
            done: SimpleQueue[tuple[int, Future[object]]] = SimpleQueue()
            while sorter.is_active():
                for task in sorter.get_ready():
                    arguments = [results[parent] for parent in edges[task]]
                    future = pool.submit(function, *arguments)
                    future.add_done_callback(lambda future, task=task: done.put((task, future)))
                task, future = done.get()
                results[task] = future.result()
                sorter.done(task)
            return [results[sink] for sink in sinks]

        return run

    def prepare_waits(self, count: int, wait_s: float) -> Callable[[], int]:
        def one() -> int:
            value = 1
            time.sleep(wait_s)
            return value

        def run() -> int:
            with ThreadPoolExecutor(self._waiting_workers) as pool:
                return sum(pool.map(lambda _: one(), range(count)))

        return run

    def close(self) -> None:
        self._pool.shutdown()
