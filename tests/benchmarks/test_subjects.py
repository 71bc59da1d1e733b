"""Every subject computes what the bare loop computes, on every dependency pattern."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.subjects import load_subject
from benchmarks.subjects.loop import Loop
from benchmarks.task_bench import SHAPES, make_graph
from benchmarks.workloads.compiling import workflow_text

PEERS = [
    ("asyncio", {}, ""),
    ("threads", {}, ""),
    ("dask", {"scheduler": "sync"}, "dask"),
    ("dask", {"scheduler": "threads"}, "dask"),
    ("hamilton", {}, "hamilton"),
    ("flowbuilder", {}, ""),
]


def depth(*inputs: int) -> int:
    return 1 + max(inputs, default=0)


@pytest.fixture(params=PEERS, ids=lambda peer: f"{peer[0]} {' '.join(peer[1].values())}".strip())
def subject(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[object]:
    monkeypatch.setenv("BENCH_SCRATCH", str(tmp_path))
    name, options, library = request.param
    if library:
        pytest.importorskip(library)
    made = load_subject(name, options)
    yield made
    getattr(made, "close", lambda: None)()


@pytest.mark.filterwarnings("ignore")  # of the peers, not ours to mend
def test_subject_computes_what_the_bare_loop_computes(subject: object):
    for shape in SHAPES:
        graph = make_graph(shape, tasks=60, width=8)

        assert list(subject.prepare(graph, depth)()) == Loop().prepare(graph, depth)(), shape


@pytest.mark.filterwarnings("ignore")
def test_subject_finishes_every_waiting_workflow(subject: object):
    assert subject.prepare_waits(20, 0.001)() == 20


@pytest.mark.parametrize("shape", SHAPES)
def test_graph_is_in_topological_order_with_its_parents_ascending(shape: str):
    graph = make_graph(shape, tasks=64, width=8)

    assert 1 <= len(graph) <= 64
    for task, parents in enumerate(graph.parents):
        assert all(parent < task for parent in parents)
        assert list(parents) == sorted(set(parents))


def test_graph_patterns_follow_their_definition():
    def parents(shape: str, step: int, point: int, width: int = 8) -> list[int]:
        graph = make_graph(shape, tasks=width * 6, width=width, radius=5)
        return [parent - (step - 1) * width for parent in graph.parents[step * width + point]]

    assert parents("stencil_1d", 1, 0) == [0, 1]
    assert parents("stencil_1d_periodic", 2, 0) == [0, 1, 7]
    assert parents("fft", 1, 3) == [2, 3, 4]
    assert parents("fft", 2, 3) == [1, 3, 5]
    assert parents("fft", 3, 3) == [3, 7]
    assert parents("nearest", 1, 4) == [2, 3, 4, 5, 6]
    assert parents("no_comm", 1, 4) == [4]
    assert parents("all_to_all", 1, 4) == list(range(8))
    assert parents("trivial", 3, 4) == []
    assert len(make_graph("tree", tasks=16, width=4).parents) == 1 + 2 + 4 + 4


def test_graph_of_an_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="found 'circle'"):
        make_graph("circle", tasks=3)


def test_workflow_text_has_the_promised_expressions():
    text = workflow_text(100)

    assert text.count("  - name: t") == 100
    assert text.count("${{") == 100
    assert text.count("${{ params.limit * ") == 10
    assert workflow_text(100, salt=1) != text
