"""Dask's local schedulers on plain task graphs."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.threaded

from benchmarks.task_bench import Graph

__all__ = ["DaskGraphs"]


class DaskGraphs:
    """`dask.get` (``scheduler="sync"``) or `dask.threaded.get` (``scheduler="threads"``)."""

    module = "dask"

    def __init__(
        self, scheduler: str = "threads", workers: int = 2, waiting_workers: int = 512
    ) -> None:
        self._is_threaded = scheduler == "threads"
        self._pool = ThreadPoolExecutor(workers)
        self._waiting_workers = waiting_workers

    def prepare(self, graph: Graph, function: Callable[..., object]) -> Callable[[], list[object]]:
        tasks = {
            f"t{task}": (function, *(f"t{parent}" for parent in needs))
            for task, needs in enumerate(graph.parents)
        }
        ready = _converted(tasks)
        keys = [f"t{sink}" for sink in graph.sinks]
        if self._is_threaded:
            return lambda: list(dask.threaded.get(ready, keys, pool=self._pool))
        return lambda: list(dask.get(ready, keys))

    def prepare_waits(self, count: int, wait_s: float) -> Callable[[], int]:
        def wait(value: int) -> int:
            time.sleep(wait_s)
            return value

        tasks: dict[str, object] = {}
        for number in range(count):
            tasks[f"a{number}"] = (int, 1)
            tasks[f"b{number}"] = (wait, f"a{number}")
            tasks[f"c{number}"] = (int, f"b{number}")
        ready = _converted(tasks)
        keys = [f"c{number}" for number in range(count)]

        def run() -> int:
            with ThreadPoolExecutor(self._waiting_workers) as pool:
                return sum(dask.threaded.get(ready, keys, pool=pool))

        return run

    def command(self, folder: str) -> tuple[list[str], dict[str, str]]:
        del folder
        code = "import subprocess, dask; dask.get({'a': (subprocess.run, ['echo', 'done'])}, 'a')"
        return ["{python}", "-c", code], {}

    def close(self) -> None:
        self._pool.shutdown()


def _converted(tasks: dict[str, object]) -> dict[str, object]:
    # Dask translates tuple graphs on every call; doing it once beforehand keeps that out of its
    # numbers.
    try:
        from dask._task_spec import convert_legacy_graph
    except ImportError:
        return tasks
    return dict(convert_legacy_graph(tasks))
