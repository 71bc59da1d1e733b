"""What a careful person writes with asyncio: one `asyncio.Task` per task, awaiting its parents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from benchmarks.task_bench import Graph

__all__ = ["AsyncioTasks"]


class AsyncioTasks:
    """Tasks of one event loop that is kept between runs.

    ``task_each=False`` waits with one coroutine a workflow instead: the least that asyncio can do.
    """

    def __init__(self, *, task_each: bool = True) -> None:
        self._is_task_each = task_each
        self._runner = asyncio.Runner()

    def prepare(self, graph: Graph, function: Callable[..., object]) -> Callable[[], list[object]]:
        parents, sinks = graph.parents, graph.sinks

        async def body(tasks: list[asyncio.Task[object]], needs: tuple[int, ...]) -> object:
            return function(*[await tasks[parent] for parent in needs])

        async def main() -> list[object]:
            tasks: list[asyncio.Task[object]] = []
            for needs in parents:
                tasks.append(asyncio.create_task(body(tasks, needs)))
            await asyncio.gather(*tasks)
            return [tasks[sink].result() for sink in sinks]

        return lambda: self._runner.run(main())

    def prepare_waits(self, count: int, wait_s: float) -> Callable[[], int]:
        async def wait(before: asyncio.Task[int]) -> int:
            value = await before
            await asyncio.sleep(wait_s)
            return value

        async def in_tasks() -> int:
            first = asyncio.create_task(_value(1))
            second = asyncio.create_task(wait(first))
            return await asyncio.create_task(_value(second))

        async def in_one() -> int:
            value = await _value(1)
            await asyncio.sleep(wait_s)
            return await _value(value)

        one = in_tasks if self._is_task_each else in_one

        async def main() -> int:
            return sum(await asyncio.gather(*(one() for _ in range(count))))

        return lambda: self._runner.run(main())

    def close(self) -> None:
        self._runner.close()


async def _value(value: int | asyncio.Task[int]) -> int:
    return value if isinstance(value, int) else await value
