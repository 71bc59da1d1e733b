"""The JSON Schema of files agrees with the reader."""

from __future__ import annotations

import copy
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbuilder.definition import (
    read_file,
    read_tree,
    read_workflow,
    workflow_schema,
    write_workflow,
)
from flowbuilder.definition.fields import DEFAULTS, RESOURCES, RETRY, TASK, WORKFLOW
from flowbuilder.definition.limits import Limits
from flowbuilder.definition.tree import parse_tree

ROOT = Path(__file__).parents[2]
FLOWS = sorted([*ROOT.glob("tests/flows/*.flow.yaml"), *ROOT.glob("notebooks/flows/*.flow.yaml")])
HTTP = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url"],
    "properties": {
        "url": {"type": "string", "minLength": 1},
        "method": {"enum": ["GET", "POST"], "default": "GET", "description": "Verb."},
        "timeout": {"type": "number"},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "body": {
            "oneOf": [
                {"type": "string"},
                {"type": "object", "properties": {"n": {"type": "integer"}}},
            ]
        },
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
    },
    "$defs": {"tag": {"type": "string", "maxLength": 3}},
}
VALID = """\
name: demo
x-anchor: &a {k: v}
version: 1.0
params: {a: {type: string}, b: 5, c: , d: [1]}
env: {HOME: , PORT: 80}
secrets: [TOKEN]
durability: none
timeout: 1h 30m
layout: {a: {x: 1}}
defaults: {retry: {max_attempts: 2, delay: 250ms, on: timeout}, env: {A: b}}
tasks:
  - {name: a, type: http, config: {url: u, timeout: "${{ params.b }}", method: "${{ x }}", body: {n: "${{ y }}"}}}
  - {name: b, type: http, depends_on: a, config: {url: u, headers: {A: "1"}, tags: [abc, "${{ tag }}"], body: text}}
  - {name: c, type: shell, depends_on: [a, b], inputs: {x: a.b}, when: true, join: all_done, cache: false, config: {z: 1}}
  - {name: d, type: t, inputs: [a], resources: {cpu: 2, memory: 1.5GB}, priority: 2, effects: none, timeout: 3}
  - {name: e, type: t, retry: , timeout: , config: , executor: process, persist: always, pool: p, title: 5, env: {A: 1}}
"""


def validator(types=None):
    return jsonschema_rs.validator_for(workflow_schema(types))


def plain(text):
    return parse_tree(text, file="f", limits=Limits()).root


def test_valid_file_satisfies_reader_and_schema():
    assert read_workflow(VALID).problems == ()
    validator({"http": HTTP}).validate(plain(VALID))
    validator().validate(plain(VALID))


@pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.name)
def test_shipped_flow_satisfies_reader_and_schema_and_is_written_back_equal(path):
    reading = read_file(path)

    assert reading.problems == ()
    validator().validate(plain(path.read_text(encoding="utf-8")))
    again = read_workflow(write_workflow(reading.spec), directory=reading.spec.directory)
    assert again.spec == reading.spec


def test_schema_is_a_schema_and_independent_of_what_it_was_made_of():
    before = copy.deepcopy(HTTP)
    schema = workflow_schema({"http": HTTP})

    jsonschema_rs.meta.validate(schema)
    assert before == HTTP
    assert workflow_schema({"http": HTTP}) == schema


@pytest.mark.parametrize(
    "config",
    [
        "{}",
        "{url: ''}",
        "{url: 5}",
        "{url: u, metod: GET}",
        "{url: u, method: PUT}",
        "{url: u, timeout: soon}",
        "{url: u, tags: [long tag]}",
        "{url: u, headers: {a: 1}}",
    ],
)
def test_config_of_a_known_type_is_checked(config):
    data = plain(f"name: x\ntasks: [{{name: a, type: http, config: {config}}}]\n")

    assert not validator({"http": HTTP}).is_valid(data)
    assert validator().is_valid(data)


def test_config_that_is_needed_must_be_there():
    assert not validator({"http": HTTP}).is_valid(
        plain("name: x\ntasks: [{name: a, type: http}]\n")
    )


def test_unknown_type_is_allowed_for_projects_own():
    assert validator({"http": HTTP}).is_valid(plain("name: x\ntasks: [{name: a, type: mine}]\n"))


def test_type_names_are_proposed():
    assert workflow_schema({"b": {}, "a": {}})["$defs"]["task"]["properties"]["type"]["anyOf"][
        0
    ] == {"enum": ["a", "b"]}


def test_every_field_is_described():
    schema = workflow_schema()
    objects = {
        "task": (TASK, schema["$defs"]["task"]),
        "defaults": (DEFAULTS, schema["$defs"]["defaults"]),
        "retry": (RETRY, schema["$defs"]["retry"]),
        "resources": (RESOURCES, schema["$defs"]["resources"]),
        "workflow": (WORKFLOW, schema),
    }
    for table, described in objects.values():
        assert list(described["properties"]) == [field.name for field in table.fields]
        assert all(
            each["description"].endswith(".") or "not supported" in each["description"]
            for each in described["properties"].values()
        )
    assert schema["$defs"]["retry"]["properties"]["delay"]["default"] == 1


values = st.sampled_from(
    [None, True, False, 0, 1, -1, 2.5, 5, "", "a", "b c", "30s", "1GB", "auto", "thread", "all_done", "none", "fixed",
     [], ["a"], [1], [""], {}, {"a": "b"}, {"a": 1}, {"A": None}, {"cpu": 2}, {"max_attempts": 2}, {"delay": "x"}, {"jitter": 2}]
)  # fmt: skip
task_fields = st.dictionaries(
    st.sampled_from([each.name for each in TASK.fields]), values, max_size=3
)
top_fields = st.dictionaries(
    st.sampled_from([each.name for each in WORKFLOW.fields if each.name not in {"name", "tasks"}]),
    values,
    max_size=3,
)


@given(top_fields, task_fields, st.booleans())
@settings(max_examples=500, deadline=None)
def test_schema_accepts_whatever_the_reader_does(top, fields, is_whole):
    first = {"name": "a", "type": "t", **fields} if is_whole else fields
    data = {"name": "x", **top, "tasks": [first]}
    errors = [each for each in read_tree(data).problems if each.severity == "error"]
    is_valid = SCHEMA.is_valid(data)

    if not errors:
        assert is_valid
    # What the schema cannot say: features to come, names, and repeated wishes.
    beyond = {"not-supported-yet", "bad-name", "duplicate-name"}
    if is_valid:
        assert {each.code for each in errors} <= beyond, [str(each) for each in errors]


SCHEMA = validator()
