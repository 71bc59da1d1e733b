from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.compile.edges import task_edges
from flowbuilder.compile.expansion import Edge, EdgeKind
from flowbuilder.errors import PluginError
from flowbuilder.model import Selector, TaskSpec, WorkflowSpec
from flowbuilder.plugins.task_type import TaskType

DATA, ORDER, IMPLIED = EdgeKind.DATA, EdgeKind.ORDER, EdgeKind.IMPLIED


class Work(TaskType):
    name = "work"


class Query(TaskType):
    """Mentions tasks as words of its text, as SQL does."""

    name = "query"
    raw_fields = frozenset({"text"})

    def references(self, config, tasks):
        return [word for word in str(config.get("text", "")).split() if word in tasks]


class Types:
    def __init__(self):
        self._types = {"work": Work(), "query": Query()}

    def find(self, name):
        if name == "broken":
            raise PluginError("it cannot be imported")
        return self._types.get(name)

    def names(self):
        return sorted(self._types)

    def unloaded(self, name):
        return None


def task(name, kind="work", **fields):
    kind = fields.pop("type", kind)
    inputs = {port: Selector(parent) for port, parent in fields.pop("inputs", {}).items()}
    return TaskSpec(name=name, type=kind, inputs=inputs, **fields)


def edges(*tasks):
    return task_edges(WorkflowSpec(name="w", tasks=tasks), Types())


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"inputs": {"x": "a"}}, DATA),
        ({"depends_on": ("a",)}, ORDER),
        ({"config": {"x": ["${{ tasks.a.output }}"]}}, IMPLIED),
        ({"config": {"x": "text ${{ tasks['a'].output.b + 1 }}"}}, IMPLIED),
        ({"when": "tasks.a.state == 'succeeded'"}, IMPLIED),
        ({"env": {"X": "${{ tasks.a.output }}"}}, IMPLIED),
        ({"type": "query", "config": {"text": "select from a"}}, IMPLIED),
        (
            {"depends_on": ("a", "a"), "inputs": {"x": "a", "y": "a"}, "when": "tasks.a.output"},
            DATA,
        ),
        ({"depends_on": ("a",), "when": "tasks.a.output"}, ORDER),
    ],
)
def test_edge_has_the_strongest_kind(fields, kind):
    assert edges(task("a"), task("b", **fields)) == [(), (Edge(0, kind),)]


@pytest.mark.parametrize(
    "fields",
    [
        {"depends_on": ("nobody",)},
        {"inputs": {"x": "nobody"}},
        {"when": "tasks.nobody.output"},
        {"when": "this is ((( broken"},
        {"config": {"x": "${{ broken"}},
        {"config": {"x": "$${{ tasks.a.output }}"}},
        {"config": {"x": "tasks.a.output"}},
        {"type": "query", "config": {"text": "${{ tasks.a.output }}"}},
        {"type": "missing", "config": {"x": 1}},
        {"type": "broken", "config": {"x": 1}},
    ],
)
def test_no_edge_comes_from(fields):
    assert edges(task("a"), task("b", **fields)) == [(), ()]


@pytest.mark.parametrize(
    "fields",
    [
        {"depends_on": ("b",)},
        {"inputs": {"x": "b"}},
        {"when": "tasks.b.output"},
        {"config": {"x": "${{ tasks.b.output }}"}},
        {"type": "query", "config": {"text": "select from b"}},
    ],
)
def test_task_never_waits_for_itself(fields):
    assert edges(task("a"), task("b", **fields)) == [(), ()]


def test_readable_expressions_count_beside_broken_ones():
    config = {"x": "${{ broken", "y": "${{ tasks.a.output }}"}

    assert edges(task("a"), task("b", config=config))[1] == (Edge(0, IMPLIED),)


def test_inner_tasks_of_a_sub_workflow_imply_nothing_outside():
    inner = {
        "tasks": [{"config": {"x": "${{ tasks.a.output }}"}}],
        "params": {"p": "${{ tasks.c.output }}"},
    }

    found = edges(task("a"), task("b", "workflow", config=inner), task("c"))

    assert found[1] == (Edge(2, IMPLIED),)


def test_names_are_matched_in_their_stored_form():
    found = edges(task("caf\u00e9"), task("b", when="tasks['cafe\u0301'].output == 1"))

    assert found[1] == (Edge(0, IMPLIED),)


@given(st.data())
def test_edges_are_exactly_the_declared_pairs(data):
    size = data.draw(st.integers(1, 8))
    names = [f"t{index}" for index in range(size)]
    declared = {
        (child, parent): data.draw(st.sampled_from([DATA, ORDER, IMPLIED]))
        for child in range(size)
        for parent in data.draw(st.sets(st.integers(0, size - 1), max_size=4))
        if child != parent
    }
    tasks = []
    for child in range(size):
        of_kind = {kind: [] for kind in EdgeKind}
        for (owner, parent), kind in declared.items():
            if owner == child:
                of_kind[kind].append(names[parent])
        tasks.append(
            task(
                names[child],
                inputs={f"p{name}": name for name in of_kind[DATA]},
                depends_on=tuple(of_kind[ORDER]),
                config={"x": [f"${{{{ tasks.{name}.output }}}}" for name in of_kind[IMPLIED]]},
            )
        )

    found = edges(*tasks)

    assert {(child, e.parent): e.kind for child, row in enumerate(found) for e in row} == declared
    assert all(a.parent < b.parent for row in found for a, b in pairwise(row))


def test_large_workflows_are_walked_in_time():
    import time

    tasks = [task("t0")]
    tasks += [
        task(
            f"t{index}", depends_on=(f"t{index - 1}",), config={"n": index, "args": {"a": [1, "x"]}}
        )
        for index in range(1, 100_000)
    ]
    began = time.process_time()

    found = edges(*tasks)

    assert time.process_time() - began < 5
    assert found[99_999] == (Edge(99_998, ORDER),)
