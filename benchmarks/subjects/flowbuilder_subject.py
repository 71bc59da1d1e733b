"""FlowBuilder itself. Every call the benchmarks make into it is in this file."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.task_bench import Graph

__all__ = ["FlowBuilderSubject"]

_SHELL_FLOW = """\
name: hello
tasks:
  - name: say
    type: shell
    config: {command: echo done}
"""


class FlowBuilderSubject:
    """The engine with a durable journal in the sample's own folder.

    ``wait`` says how `prepare_waits` waits: ``async`` in a coroutine function of the user's,
    ``sleep`` with the task type.
    """

    module = "flowbuilder"

    def __init__(self, durability: str = "none", wait: str = "async") -> None:
        self._durability = durability
        self._wait = wait
        self._store = Path(os.environ.get("BENCH_SCRATCH", ".")) / "store"

    def prepare(
        self, graph: Graph, function: Callable[..., object]
    ) -> Callable[[], Iterable[object]]:
        import flowbuilder as fb
        from flowbuilder.model import Selector, TaskSpec, WorkflowSpec

        widest = max(map(len, graph.parents), default=0)
        function = _with_ports(function, widest)
        reference = f"{function.__module__}:{function.__qualname__}"
        ports = [f"p{number}" for number in range(widest)]
        selectors = [Selector(f"t{task}") for task in range(len(graph))]
        tasks = tuple(
            TaskSpec(
                name=f"t{task}",
                type="python",
                config={"function": reference},
                inputs={ports[port]: selectors[parent] for port, parent in enumerate(parents)},
            )
            for task, parents in enumerate(graph.parents)
        )
        spec = WorkflowSpec(name=f"bench-{graph.name}", tasks=tasks)
        workflow = fb.Workflow.from_spec(
            spec, functions={reference: function}, data_dir=self._store
        )
        workflow.compile()
        sinks = graph.sinks

        def run() -> Iterable[object]:
            done = workflow.run(durability=self._durability)
            return (done[f"t{sink}"] for sink in sinks)

        return run

    def prepare_waits(self, count: int, wait_s: float) -> Callable[[], int]:
        import flowbuilder as fb

        workflow = fb.Workflow("waiting", data_dir=self._store)
        workflow = workflow.add("a", _first)
        if self._wait == "async":
            workflow = workflow.add("b", _wait, inputs={"value": "a"}, config={"wait_s": wait_s})
        else:
            workflow = workflow.add("b", "sleep", depends_on="a", config={"duration": wait_s})
        workflow = workflow.add("c", _last, inputs={"value": "a"}, depends_on="b")
        workflow.compile()

        def run() -> int:
            runs = [workflow.start(durability=self._durability) for _ in range(count)]
            return sum(int(run.result()["c"]) for run in runs)

        return run

    def compile_text(self, text: str) -> object:
        import flowbuilder as fb

        return fb.loads(text, data_dir=self._store).compile()

    def command(self, folder: str) -> tuple[list[str], dict[str, str]]:
        Path(folder, "hello.flow.yaml").write_text(_SHELL_FLOW, encoding="utf-8")
        arguments = ["run", "hello.flow.yaml", "--quiet", "--data-dir", str(Path(folder, "store"))]
        return ["{python}", "-m", "flowbuilder", *arguments], {}


def _first() -> int:
    return 1


async def _wait(value: int, wait_s: float) -> int:
    await asyncio.sleep(wait_s)
    return value


def _last(value: int) -> int:
    return value


def _with_ports(function: Callable[..., object], count: int) -> Callable[..., object]:
    """Give a function that takes ports ``p0``, ``p1``, ... by name; the same one if it does."""
    names = [f"p{number}" for number in range(count)]
    if set(names) <= set(inspect.signature(function).parameters):
        return function
    if not names:
        return lambda: function()  # noqa: PLW0108 - a function of its own, without optional ports
    namespace: dict[str, object] = {"function": function, "absent": object()}
    parameters = ", ".join(f"{name}=absent" for name in names)
    given = f"[p for p in ({', '.join(names)},) if p is not absent]"
    exec(f"def ported({parameters}):\n    return function(*{given})", namespace)
    return namespace["ported"]
