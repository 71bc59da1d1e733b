"""Hamilton: a function per task in a module made for the purpose."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from itertools import count
from types import ModuleType

os.environ["HAMILTON_TELEMETRY_ENABLED"] = "false"

from hamilton import ad_hoc_utils, base, driver

from benchmarks.task_bench import Graph

__all__ = ["HamiltonDriver"]

_NUMBERS = count()


class HamiltonDriver:
    """`hamilton.driver.Driver` with its default (serial) executor; nothing is recorded."""

    module = "hamilton.driver"

    def prepare(self, graph: Graph, function: Callable[..., object]) -> Callable[[], list[object]]:
        lines = [
            f"def t{task}({', '.join(f't{parent}: object' for parent in needs)}) -> object:\n"
            f"    return function({', '.join(f't{parent}' for parent in needs)})\n"
            for task, needs in enumerate(graph.parents)
        ]
        ready = driver.Driver(
            {},
            self._module(lines, function),
            adapter=base.SimplePythonGraphAdapter(base.DictResult()),
        )
        names = [f"t{sink}" for sink in graph.sinks]

        def run() -> list[object]:
            results = ready.execute(names)
            return [results[name] for name in names]

        return run

    def prepare_waits(self, workflows: int, wait_s: float) -> Callable[[], int]:
        from hamilton import async_driver

        async def wait(value: int) -> int:
            await asyncio.sleep(wait_s)
            return value

        lines = [
            "def a() -> int:\n    return 1\n",
            "async def b(a: int) -> int:\n    return await function(a)\n",
            "def c(b: int) -> int:\n    return b\n",
        ]
        module = self._module(lines, wait)

        async def main() -> int:
            ready = await async_driver.Builder().with_modules(module).build()
            results = await asyncio.gather(*(ready.execute(["c"]) for _ in range(workflows)))
            return sum(int(result["c"]) for result in results)

        return lambda: asyncio.run(main())

    @staticmethod
    def _module(lines: list[str], function: Callable[..., object]) -> ModuleType:
        namespace: dict[str, object] = {"function": function}
        exec("".join(lines), namespace)
        made = [item for name, item in namespace.items() if name != "function" and callable(item)]
        return ad_hoc_utils.create_temporary_module(*made, module_name=f"made_{next(_NUMBERS)}")
