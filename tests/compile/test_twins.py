"""Twins: merged exactly when nothing that decides the output differs."""

from __future__ import annotations

import pytest

from flowbuilder.compile.planned_tasks import task_effects
from flowbuilder.compile.static_order import static_order
from flowbuilder.compile.twins import find_twins
from flowbuilder.model import Resources, Retry, Selector
from flowbuilder.vocabulary import Effects, ExecutorKind, JoinRule, Persist

READ = {"type": "pure", "config": {"path": "a.csv", "limit": 5}}


@pytest.fixture
def twins_of(expand, registry):
    def find(*args, fixed=(), **fields):
        expansion = expand(*args, **fields)
        order = static_order([[edge.parent for edge in task.edges] for task in expansion.tasks])
        keys = [task.key for task in expansion.tasks]
        found = find_twins(
            expansion,
            order,
            task_effects(expansion, registry),
            fixed=[keys.index(each) for each in fixed],
        )
        return {keys[twin]: keys[first] for twin, first in found.items()}

    return find


def test_twins_share_config_whatever_their_names_and_notes(twins_of):
    later = READ | {"config": {"limit": 5.0, "path": "a.csv"}, "title": "again", "note": "x"}

    assert twins_of(tasks={"a": READ, "b": later}) == {"b": "a"}


def test_twins_of_twins_merge_too(twins_of):
    def clean(source):
        return {"type": "pure", "inputs": {"raw": Selector(source)}}

    tasks = {"a": READ, "b": READ, "x": clean("a"), "y": clean("b")}
    assert twins_of(tasks=tasks) == {"b": "a", "y": "x"}


@pytest.mark.parametrize(
    "difference",
    [
        {"config": {"path": "b.csv", "limit": 5}},
        {"type": "work"},
        {"effects": Effects.IDEMPOTENT},
        {"when": "params.x"},
        {"retry": Retry(max_attempts=2)},
        {"timeout_s": 1.0},
        {"executor": ExecutorKind.THREAD},
        {"persist": Persist.ALWAYS},
        {"pool": "p"},
        {"resources": Resources(cpu=2)},
        {"env": {"A": "1"}},
        {"join": JoinRule.ALL_DONE},
        {"depends_on": ("root",)},
        {"inputs": {"x": Selector("root")}},
    ],
    ids=lambda difference: next(iter(difference)),
)
def test_tasks_that_differ_are_not_twins(twins_of, difference):
    tasks = {"root": {}, "a": READ | {"depends_on": ()}, "b": READ | difference}

    assert twins_of(tasks=tasks) == {}


def test_input_paths_tell_tasks_apart(twins_of):
    def pick(path):
        return {"type": "pure", "inputs": {"raw": Selector("a", path)}}

    tasks = {"a": READ, "x": pick(("k",)), "y": pick(("k",)), "z": pick(("other",))}
    assert twins_of(tasks=tasks) == {"y": "x"}


def test_tasks_with_effects_run_each_time(twins_of):
    assert twins_of(tasks={"a": {"config": {"x": 1}}, "b": {"config": {"x": 1}}}) == {}


def test_authors_may_declare_that_a_task_has_no_effects(twins_of):
    task = {"config": {"x": 1}, "effects": Effects.NONE}

    assert twins_of(tasks={"a": task, "b": task}) == {"b": "a"}


def test_tasks_judged_by_a_join_rule_stay_themselves(twins_of):
    judge = {"join": JoinRule.ONE_FAILED, "depends_on": ("b",)}

    assert twins_of(tasks={"a": READ, "b": READ, "judge": judge}) == {}


def test_preloaded_tasks_are_neither_twin_nor_representative(twins_of):
    assert twins_of(tasks={"a": READ, "b": READ, "c": READ}, fixed=["a"]) == {"c": "b"}


def test_configs_without_a_comparable_form_are_left_alone(twins_of):
    task = {"type": "pure", "config": {"x": object()}}

    assert twins_of(tasks={"a": task, "b": task}) == {}
