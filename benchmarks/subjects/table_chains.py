"""The same chain of pandas functions: with pickles between processes, and as FlowBuilder tasks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.workloads.hand_overs import derive, make_frame, summarise

__all__ = ["CalledDirectly", "FlowBuilderChain", "PickledBetweenProcesses"]

Chain = Callable[[], tuple[float, int]]


class CalledDirectly:
    """The floor: one function after the other."""

    def prepare_chain(self, rows: int, stages: int) -> Chain:
        def run() -> tuple[float, int]:
            frame = make_frame(rows)
            for stage in range(stages):
                frame = derive(frame, stage)
            return summarise(frame), 0

        return run


class PickledBetweenProcesses:
    """Every stage in a process of a pool, its input and output pickled, as `concurrent.futures`
    does it.
    """

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(2, mp_context=get_context("forkserver"))

    def prepare_chain(self, rows: int, stages: int) -> Chain:
        sizes = _pickled_sizes(rows, stages)

        def run() -> tuple[float, int]:
            frame = self._pool.submit(make_frame, rows).result()
            for stage in range(stages):
                frame = self._pool.submit(derive, frame, stage).result()
            # Each frame is dumped and loaded on its way back, and again on its way on.
            return self._pool.submit(summarise, frame).result(), 4 * sum(sizes)

        return run

    def close(self) -> None:
        self._pool.shutdown()


class FlowBuilderChain:
    """A task for each stage, in this process or in worker processes; copies as `run.copies()` tells
    them.
    """

    def __init__(self, executor: str) -> None:
        self._executor = executor

    def prepare_chain(self, rows: int, stages: int) -> Chain:
        import flowbuilder as fb

        fb.configure(data_dir=tempfile.mkdtemp(prefix="flowbuilder-bench-"))
        never = {"executor": self._executor, "persist": "never"}
        flow = fb.Workflow("chain").add("frame0", make_frame, config={"rows": rows}, **never)
        for stage in range(stages):
            ports = {"frame": f"frame{stage}"}
            config = {"stage": stage}
            flow = flow.add(f"frame{stage + 1}", derive, config=config, inputs=ports, **never)
        flow = flow.add("sum", summarise, inputs={"frame": f"frame{stages}"}, **never)

        def run() -> tuple[float, int]:
            done = flow.run()
            return done["sum"], done.copies().total_bytes

        return run


def _pickled_sizes(rows: int, stages: int) -> list[int]:
    import pickle

    frame = make_frame(rows)
    sizes = [len(pickle.dumps(frame, protocol=5))]
    for stage in range(stages):
        frame = derive(frame, stage)
        sizes.append(len(pickle.dumps(frame, protocol=5)))
    return sizes
