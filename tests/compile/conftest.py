"""Tiny builders: a workflow from ``"a -> b, a -> c"``, its expansion, and a handful of task types."""

from __future__ import annotations

from itertools import pairwise

import pytest

from flowbuilder.compile.expansion import Edge, EdgeKind, Expansion, FlatTask, Scope
from flowbuilder.model import Selector, TaskSpec, WorkflowSpec
from flowbuilder.plugins.task_type import TaskType
from flowbuilder.vocabulary import Effects, ExecutorKind


class Work(TaskType):
    name = "work"


class Pure(TaskType):
    name = "pure"

    def effects(self, config):
        return Effects.NONE


class Wait(TaskType):
    name = "wait"
    is_async = True

    def effects(self, config):
        return Effects.EXTERNAL


class Fussy(TaskType):
    name = "fussy"
    executor = ExecutorKind.THREAD

    def effects(self, config):
        raise ValueError(config)


class Included(TaskType):
    name = "workflow"
    raw_fields = frozenset({"tasks"})


class FakeTypes:
    """A registry without plugins."""

    def __init__(self):
        self._types = {cls.name: cls() for cls in (Work, Pure, Wait, Fussy, Included)}

    def find(self, name):
        return self._types.get(name)

    def names(self):
        return sorted(self._types)

    def unloaded(self, name):
        return None


def build_workflow(graph="", *, name="w", tasks=None, **fields):
    """Make a workflow; ``tasks`` gives fields of some or all tasks by name."""
    given = dict(tasks or {})
    needs = {task: [] for task in given}
    for part in filter(None, (piece.strip() for piece in graph.split(","))):
        names = [each.strip() for each in part.split("->")]
        for each in names:
            needs.setdefault(each, [])
        for parent, child in pairwise(names):
            needs[child].append(parent)
    specs = []
    for task, parents in needs.items():
        settings = {"type": "work", "depends_on": tuple(parents)} | given.get(task, {})
        specs.append(TaskSpec(name=task, **settings))
    return WorkflowSpec(name=name, tasks=tuple(specs), **fields)


def expand_flat(spec):
    """Unfold a workflow without sub-workflows, seeing only written dependencies."""
    members = {task.name: index for index, task in enumerate(spec.tasks)}
    flat = []
    for task in spec.tasks:
        kinds = {members[name]: EdgeKind.ORDER for name in task.depends_on}
        kinds |= {members[item.task]: EdgeKind.DATA for item in task.inputs.values()}
        edges = tuple(Edge(parent, kind) for parent, kind in kinds.items())
        flat.append(FlatTask(key=task.name, spec=task, scope=0, edges=edges))
    root = Scope(index=0, parent=-1, prefix="", workflow=spec, enter=-1, members=members)
    return Expansion(root=spec, tasks=tuple(flat), scopes=(root,))


@pytest.fixture(scope="session")
def workflow():
    return build_workflow


@pytest.fixture(scope="session")
def expand():
    return lambda *args, **fields: expand_flat(build_workflow(*args, **fields))


@pytest.fixture(scope="session")
def selector():
    return Selector


@pytest.fixture(scope="session")
def registry():
    return FakeTypes()
