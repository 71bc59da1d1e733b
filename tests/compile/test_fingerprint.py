"""Fingerprints: the same for the same meaning, different for anything that changes a run."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.compile.fingerprint import canonical_json, plan_identity, workflow_fingerprint
from flowbuilder.definition import read_workflow
from flowbuilder.model import Parameter, Resources, Retry, Selector, WorkflowSpec
from flowbuilder.vocabulary import Durability, Effects, ExecutorKind, JoinRule, Persist

BASE = {"a": {"config": {"x": 1}}, "b": {"depends_on": ("a",)}}


@pytest.fixture
def fingerprint(expand):
    return lambda *args, **fields: workflow_fingerprint(expand(*args, **fields))


@pytest.mark.parametrize(
    "change",
    [
        {"title": "T"},
        {"note": "n"},
        {"group": "g"},
        {"path": ("tasks", 9)},
        {"config": {"x": 1.0}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_fingerprint_ignores_what_changes_no_run(fingerprint, change):
    assert fingerprint(tasks=BASE | {"a": BASE["a"] | change}) == fingerprint(tasks=BASE)


def test_fingerprint_ignores_texts_and_places_of_the_workflow(fingerprint):
    other = fingerprint(
        tasks=BASE, version="2", description="d", layout={"a": [1, 2]}, directory="/elsewhere"
    )

    assert other == fingerprint(tasks=BASE)


def test_fingerprint_ignores_the_order_of_tasks_params_and_retry_names(fingerprint):
    def shuffled(step):
        retry = Retry(max_attempts=2, on=("A", "B")[::step])
        tasks = dict(list(({"r": {"retry": retry}} | BASE).items())[::step])
        params = (Parameter(name="p"), Parameter(name="q"))[::step]
        return fingerprint(tasks=tasks, params=params)

    assert shuffled(1) == shuffled(-1)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "pure"},
        {"config": {"x": 2}},
        {"config": {"x": True}},
        {"inputs": {"p": Selector("b")}, "depends_on": ()},
        {"when": "params.x"},
        {"join": JoinRule.ALL_DONE},
        {"retry": Retry(max_attempts=3)},
        {"retry": Retry(delay_s=2.0)},
        {"timeout_s": 5.0},
        {"executor": ExecutorKind.THREAD},
        {"effects": Effects.NONE},
        {"persist": Persist.NEVER},
        {"resources": Resources(cpu=2)},
        {"pool": "p"},
        {"priority": 1},
        {"env": {"A": "b"}},
    ],
    ids="-".join,
)
def test_fingerprint_sees_every_setting_of_a_task(fingerprint, change):
    assert fingerprint(tasks=BASE | {"a": BASE["a"] | change}) != fingerprint(tasks=BASE)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"durability": Durability.NONE},
        {"timeout_s": 9.0},
        {"env": {"HOME": None}},
        {"secrets": {"T": "TOKEN"}},
        {"params": (Parameter(name="p"),)},
        {"params": (Parameter(name="p", is_required=False),)},
        {"params": (Parameter(name="p", schema={"type": "string"}),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_fingerprint_sees_every_setting_of_the_workflow(fingerprint, change):
    assert fingerprint(tasks=BASE, **change) != fingerprint(tasks=BASE)


def test_every_field_of_a_workflow_is_accounted_for():
    """A new field must be added to the canonical form, or to the texts that take no part."""
    texts = {"title", "note", "version", "description", "layout", "directory", "source"}
    seen = {"name", "tasks", "params", "env", "secrets", "durability", "timeout_s"}

    assert {field.name for field in msgspec.structs.fields(WorkflowSpec)} == texts | seen


def test_canonical_json_is_sorted_json_with_a_format_version(expand):
    data = json.loads(canonical_json(expand("b -> a")))

    assert data["format"] == 1
    assert [task["name"] for task in data["tasks"]] == ["a", "b"]
    assert data["tasks"][0] == {"name": "a", "type": "work", "depends_on": ["b"]}


def test_plan_identity_is_the_fingerprint_unless_something_was_selected():
    assert plan_identity("f", {}) == "f"
    assert plan_identity("f", {"to": ["a"]}) != plan_identity("f", {"from": ["a"]}) != "f"
    assert plan_identity("f", {"to": ["a"]}) == plan_identity("f", {"to": ("a",)})


DEFAULTS = {
    "timeout": None,
    "join": "all_success",
    "executor": "auto",
    "priority": 0,
    "persist": "auto",
    "retry": {"max_attempts": 1},
    "depends_on": [],
    "inputs": {},
    "env": {},
}


@st.composite
def spellings(draw):
    """Write one workflow as YAML with drawn key order, defaults, durations, quotes and comments."""
    task = {
        "name": "fetch",
        "type": "work",
        "config": {"url": "x", "limit": 5, "deep": {"b": 1, "a": 2}},
    }
    task["retry"] = {"max_attempts": 3, "delay": draw(st.sampled_from([90, "90s", "1m30s", 90.0]))}
    last = {
        "name": "last",
        "type": "work",
        "depends_on": draw(st.sampled_from(["fetch", ["fetch"]])),
    }
    for name in draw(st.sets(st.sampled_from(sorted(DEFAULTS.keys() - {"retry", "timeout"})))):
        task.setdefault(name, DEFAULTS[name])
    tasks = draw(st.permutations([shuffle(draw, task), shuffle(draw, last)]))
    document = {"name": "w", "tasks": tasks}
    if draw(st.booleans()):
        document |= {"durability": "run", "description": "words"}
    indent = draw(st.sampled_from([None, 1, 2, 4]))
    text = json.dumps(shuffle(draw, document), indent=indent)
    return draw(st.sampled_from(["", "# a comment\n", "\n\n"])) + text


def shuffle(draw, mapping):
    return {key: mapping[key] for key in draw(st.permutations(sorted(mapping)))}


@given(spellings(), spellings())
def test_fingerprint_does_not_depend_on_the_spelling(one, other):
    specs = [read_workflow(text).spec for text in (one, other)]

    assert canonical_json(specs[0]) == canonical_json(specs[1])
