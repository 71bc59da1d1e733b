"""From text to a workflow, with all problems at once."""

from __future__ import annotations

import time

import pytest

from flowbuilder.definition import Limits, read_tree, read_workflow
from flowbuilder.errors import WorkflowSyntaxError, WorkflowValidationError
from flowbuilder.model.spec import Parameter, Resources, Retry, Selector
from flowbuilder.vocabulary import Backoff, Durability, Effects, ExecutorKind, JoinRule, Persist

FULL = """\
name: full
version: 1.10
title: A title
description: |
  Two
  lines
note: 2024
params:
  url: {type: string, default: "http://x"}
  limit: 5
  ratio: 0.5
  flag: true
  names: [a]
  needed: {type: integer, minimum: 1}
  anything:
  frame: {type: table}
  nothing: {default: null}
env: [HOME]
secrets: {TOKEN: MY_TOKEN, OTHER: }
durability: task
timeout: 1h
layout: {a: {x: 1, y: 2}}
x-anchors: &unused {a: b}
defaults:
  retry: {max_attempts: 3, delay: 2s}
  timeout: 5m
  env: {A: 1, B: x}
  join: all_done
  resources: {cpu: 2}
tasks:
  - name: fetch
    type: http
    config: {url: "${{ params.url }}"}
  - name: everything
    type: script
    title: T
    note: N
    group: G
    depends_on: fetch
    inputs: {raw: fetch.body, "x": "fetch['a-b'][0]"}
    when: ${{ params.flag }}
    join: one_success
    retry: {max_attempts: 4, backoff: linear, max_delay: 1m, jitter: 0, on: [timeout, ValueError]}
    timeout: 90
    executor: process
    effects: none
    persist: never
    resources: {cpu: 4, memory: 2GiB}
    pool: db
    priority: -3
    env: {B: 0o17, C: true}
    cache: false
    config: {code: "x = 1"}
  - name: bare
    type: shell
    retry: null
    timeout:
    env:
    inputs: [fetch, everything]
  - {name: inner, type: workflow, config: {file: sub.flow.yaml}}
"""


def task(fields, head="name: x\n"):
    lines = "".join(f"    {line}\n" for line in fields.strip("\n").split("\n") if fields)
    return f"{head}tasks:\n  - name: a\n    type: t\n{lines}"


def problems(text):
    return list(read_workflow(text, file="f.yaml").problems)


def only(text):
    found = problems(text)
    assert len(found) == 1, [str(each) for each in found]
    return found[0]


def test_workflow_is_read_with_every_field():
    spec = read_workflow(FULL, directory="/d").require()

    assert (spec.name, spec.version, spec.title, spec.note) == ("full", "1.10", "A title", "2024")
    assert spec.description == "Two\nlines\n"
    assert spec.env == {"HOME": None}
    assert spec.secrets == {"TOKEN": "MY_TOKEN", "OTHER": "OTHER"}
    assert (spec.durability, spec.timeout_s, spec.directory) == (Durability.TASK, 3600.0, "/d")
    assert spec.layout == {"a": {"x": 1, "y": 2}}
    assert [each.name for each in spec.tasks] == ["fetch", "everything", "bare", "inner"]


def test_parameters_are_read_from_schemas_and_defaults():
    spec = read_workflow(FULL).require()

    assert spec.params == (
        Parameter(name="url", schema={"type": "string"}, is_required=False, default="http://x"),
        Parameter(name="limit", schema={"type": "integer"}, is_required=False, default=5),
        Parameter(name="ratio", schema={"type": "number"}, is_required=False, default=0.5),
        Parameter(name="flag", schema={"type": "boolean"}, is_required=False, default=True),
        Parameter(name="names", schema={"type": "array"}, is_required=False, default=["a"]),
        Parameter(name="needed", schema={"type": "integer", "minimum": 1}),
        Parameter(name="anything"),
        Parameter(name="frame", schema={"type": "table"}),
        Parameter(name="nothing", is_required=False),
    )
    assert spec.params[7].is_table


def test_task_is_read_with_every_field():
    found = read_workflow(FULL).require().tasks[1]

    assert found.depends_on == ("fetch",)
    assert found.inputs == {"raw": Selector("fetch", ("body",)), "x": Selector("fetch", ("a-b", 0))}
    assert found.when == "params.flag"
    assert (found.join, found.executor) == (JoinRule.ONE_SUCCESS, ExecutorKind.PROCESS)
    assert (found.effects, found.persist) == (Effects.NONE, Persist.NEVER)
    assert (found.pool, found.priority, found.timeout_s) == ("db", -3, 90.0)
    assert found.resources == Resources(cpu=4, memory_bytes=2 * 1024**3)
    assert (found.title, found.note, found.group) == ("T", "N", "G")
    assert found.path == ("tasks", 1)


def test_defaults_are_laid_below_each_task_field_by_field():
    fetch, everything, bare, inner = read_workflow(FULL).require().tasks

    assert fetch.retry == Retry(max_attempts=3, delay_s=2.0)
    assert everything.retry == Retry(
        max_attempts=4,
        delay_s=2.0,
        backoff=Backoff.LINEAR,
        max_delay_s=60.0,
        jitter=0.0,
        on=("timeout", "ValueError"),
    )
    assert fetch.env == {"A": "1", "B": "x"}
    assert everything.env == {"A": "1", "B": "0o17", "C": "true"}
    assert (fetch.timeout_s, fetch.join, fetch.resources.cpu) == (300.0, JoinRule.ALL_DONE, 2)
    # null asks for the built-in default
    assert (bare.retry, bare.timeout_s, bare.env) == (Retry(), None, {})
    # a sub-workflow has no attempts of its own
    assert (inner.retry, inner.timeout_s, inner.join) == (Retry(), None, JoinRule.ALL_DONE)


def test_inputs_may_be_a_list_of_tasks():
    assert read_workflow(FULL).require().tasks[2].inputs == {
        "fetch": Selector("fetch"),
        "everything": Selector("everything"),
    }


@pytest.mark.parametrize("text", ["no", "on", "12:30:45", "1_000", "2024-01-02", "0b1"])
def test_words_that_other_yaml_versions_mangle_stay_text(text):
    spec = read_workflow(task(f"config: {{x: {text}}}\ntitle: {text}")).require()

    assert spec.tasks[0].config == {"x": text}
    assert spec.tasks[0].title == text


@pytest.mark.parametrize("text", ["1.10", "0x1F", "1e3", "True", "007", "~x", ".5"])
def test_text_field_keeps_a_number_as_written(text):
    assert read_workflow(task(f"env: {{V: {text}}}")).require().tasks[0].env == {"V": text}


def test_alias_gives_tasks_the_same_config():
    text = "name: x\ntasks:\n- {name: a, type: t, config: &c {k: [1]}}\n- {name: b, type: t, config: *c}\n"

    first, second = read_workflow(text).require().tasks
    assert first.config is second.config


def test_merge_key_shares_task_settings():
    text = "name: x\nx-t: &t {type: shell, timeout: 3}\ntasks:\n- {name: a, <<: *t}\n- {<<: *t, name: b, timeout: 4}\n"

    spec = read_workflow(text).require()
    assert [(each.type, each.timeout_s) for each in spec.tasks] == [("shell", 3.0), ("shell", 4.0)]


@pytest.mark.parametrize("break_", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_change_nothing(break_, mark):
    data = (mark + FULL.replace("\n", break_)).encode()

    assert read_workflow(data).require() == read_workflow(FULL).require()


@pytest.mark.parametrize(
    ("text", "code", "field", "place", "words"),
    [
        ("", "empty-workflow", "", "1:1", "empty text"),
        ("# only a comment\n", "empty-workflow", "", "1:1", "empty text"),
        ("~", "empty-workflow", "", "1:1", "empty text"),
        ("- a\n", "wrong-type", "", "1:1", "found a list"),
        ("just text", "wrong-type", "", "1:1", "'just text'"),
        ("name: x\n", "missing-field", "", "1:1", "'tasks'"),
        ("name: x\ntasks: []\n", "empty-workflow", "tasks", "2:1", "at least one"),
        ("name: x\ntasks:\n", "wrong-type", "tasks", "2:1", "a list of tasks"),
        ("name: x\ntasks: {a: {type: t}}\n", "wrong-type", "tasks", "2:1", "- name:"),
        ("name: x\ntasks: [5]\n", "wrong-type", "tasks[0]", "2:9", "the number 5"),
        ("name: x\ntasks: [{type: t}]\n", "missing-field", "tasks[0]", "2:9", "'name'"),
        ("name: x\ntasks: [{name: a}]\n", "missing-field", "tasks[0]", "2:9", "'type'"),
        ("tasks: [{name: a, type: t}]\n", "missing-field", "", "1:1", "'name'"),
        ("name: a b\ntasks: [{name: a, type: t}]\n", "bad-name", "name", "1:7", "'a_b'"),
        ("name: 5\ntasks: [{name: a, type: t}]\n", "wrong-type", "name", "1:7", "in quotes"),
        (task("", head="name: x\nsteps: []\n"), "unknown-field", "steps", "2:1", "'tasks'"),
        (task("", head="name: x\nparms: {}\n"), "unknown-field", "parms", "2:1", "'params'"),
        (task("", head="name: x\nenv: 5\n"), "wrong-type", "env", "2:6", "environment"),
        (task("", head="name: x\nenv: [A B]\n"), "bad-name", "env[0]", "2:7", "'A B'"),
        (task("", head="name: x\nsecrets: {A: 'x y'}\n"), "bad-name", "secrets.A", "2:11", "'x y'"),
        (task("", head="name: x\nschedule: '@daily'\n"), "not-supported-yet", "schedule", "2:1", "schedule"),
        (task("", head="name: x\ndurability: both\n"), "wrong-value", "durability", "2:13", "run, task, none"),
        (task("", head="name: x\nparams: [a]\n"), "wrong-type", "params", "2:1", "a mapping"),
        (task("", head="name: x\nparams: {a b: 1}\n"), "bad-name", "params['a b']", "2:10", "a space"),
        (task("", head="name: x\nparams: {a: {type: text}}\n"), "wrong-value", "params.a.type", "2:20", "string"),
        (task("", head="name: x\nparams: {a: {required: true}}\n"), "wrong-type", "params.a.required", "2:24", "without 'default'"),
        (task("", head="name: x\nparams: {a: 1, A: 1}\n"), "duplicate-name", "params.A", "2:16", "too alike"),
        (task("", head="name: x\ndefaults: {type: t}\n"), "unknown-field", "defaults.type", "2:12", "'type'"),
        (task("", head="name: x\ndefaults: {timeout: 0}\n"), "wrong-value", "defaults.timeout", "2:21", "more than 0"),
        (task("needs: [b]"), "unknown-field", "tasks[0].needs", "5:5", "'depends_on'"),
        (task("dependson: b"), "unknown-field", "tasks[0].dependson", "5:5", "'depends_on'"),
        (task("run: ls"), "unknown-field", "tasks[0].run", "5:5", "type: shell"),
        (task("url: x"), "unknown-field", "tasks[0].url", "5:5", "config:"),
        (task("zzz: 1"), "unknown-field", "tasks[0].zzz", "5:5", "known are: name, type"),
        (task("disabled: true"), "unknown-field", "tasks[0].disabled", "5:5", "when"),
        (task("depends_on: 5"), "wrong-type", "tasks[0].depends_on", "5:17", "a list of task names"),
        (task("depends_on: [b, {c: d}]"), "wrong-type", "tasks[0].depends_on[1]", "5:21", "a mapping"),
        (task("inputs: b"), "wrong-type", "tasks[0].inputs", "5:13", "{raw: fetch}"),
        (task("inputs: {x: 'b c'}"), "wrong-value", "tasks[0].inputs.x", "5:17", "'b c'"),
        (task("inputs: {x: '${{ tasks.b.output }}'}"), "wrong-value", "tasks[0].inputs.x", "5:17", "without braces"),
        (task("inputs: [b.c]"), "wrong-type", "tasks[0].inputs[0]", "5:14", "{name: b.c}"),
        (task("when: 5"), "wrong-type", "tasks[0].when", "5:11", "an expression"),
        (task("when: ''"), "wrong-value", "tasks[0].when", "5:5", "empty"),
        (task("when: ${{ a }} && ${{ b }}"), "wrong-value", "tasks[0].when", "5:11", "one expression"),
        (task("join: all"), "wrong-value", "tasks[0].join", "5:11", "all_success"),
        (task("retry: 3"), "wrong-type", "tasks[0].retry", "5:12", "{max_attempts: 3}"),
        (task("retry: {max_attempts: 0}"), "wrong-value", "tasks[0].retry.max_attempts", "5:27", "from 1 to 1000"),
        (task("retry: {max_attempts: 2.5}"), "wrong-type", "tasks[0].retry.max_attempts", "5:27", "2.5"),
        (task("retry: {max_attempts: true}"), "wrong-type", "tasks[0].retry.max_attempts", "5:27", "true"),
        (task("retry: {retries: 2}"), "unknown-field", "tasks[0].retry.retries", "5:13", "max_attempts"),
        (task("retry: {jitter: 2}"), "wrong-value", "tasks[0].retry.jitter", "5:21", "0 to 1"),
        (task("retry: {jitter: .nan}"), "wrong-value", "tasks[0].retry.jitter", "5:21", "0 to 1"),
        (task("retry: {delay: soon}"), "wrong-value", "tasks[0].retry.delay", "5:20", "'5m'"),
        (task("timeout: 0"), "wrong-value", "tasks[0].timeout", "5:14", "more than 0"),
        (task("timeout: -1"), "wrong-value", "tasks[0].timeout", "5:14", "-1"),
        (task("timeout: .inf"), "wrong-value", "tasks[0].timeout", "5:14", "inf"),
        (task("timeout: .nan"), "wrong-value", "tasks[0].timeout", "5:14", "nan"),
        (task("timeout: 99999d"), "wrong-value", "tasks[0].timeout", "5:14", "ten years"),
        (task("timeout: [1]"), "wrong-value", "tasks[0].timeout", "5:5", "duration"),
        (task("executor: dask"), "not-supported-yet", "tasks[0].executor", "5:15", "auto, inline"),
        (task("executor: thred"), "wrong-value", "tasks[0].executor", "5:15", "did you mean 'thread'"),
        (task("foreach: [1]"), "not-supported-yet", "tasks[0].foreach", "5:5", "'foreach'"),
        (task("foreach: 5"), "wrong-type", "tasks[0].foreach", "5:14", "the number 5"),
        (task("cache: 3"), "wrong-type", "tasks[0].cache", "5:12", "true, false or a mapping"),
        (task("cache: {ttl: 0}"), "wrong-value", "tasks[0].cache.ttl", "5:18", "more than 0"),
        (task("cache: {ttk: 1h}"), "unknown-field", "tasks[0].cache.ttk", "5:13", "ttl"),
        (task("on_failure: b"), "not-supported-yet", "tasks[0].on_failure", "5:5", "one_failed"),
        (task("hooks: {a: b}"), "not-supported-yet", "tasks[0].hooks", "5:5", "'hooks'"),
        (task("resources: {cpu: 0}"), "wrong-value", "tasks[0].resources.cpu", "5:22", "from 1"),
        (task("resources: {memory: lots}"), "wrong-type", "tasks[0].resources.memory", "5:25", "512MB"),
        (task("priority: high"), "wrong-type", "tasks[0].priority", "5:15", "'high'"),
        (task("pool: a/b"), "bad-name", "tasks[0].pool", "5:11", "'/'"),
        (task("env: {A: [1]}"), "wrong-type", "tasks[0].env.A", "5:11", "text"),
        (task("env: {A=B: x}"), "bad-name", "tasks[0].env['A=B']", "5:11", "'A=B'"),
        (task('env: {A: "x\\0"}'), "wrong-value", "tasks[0].env.A", "5:14", "NUL"),
        (task("config: [1]"), "wrong-type", "tasks[0].config", "5:5", "a mapping"),
        (task("config: text"), "wrong-type", "tasks[0].config", "5:13", "a mapping"),
        (task("type: u"), "duplicate-key", "tasks[0].type", "5:5", "first at f.yaml:4:5"),
        (task("config: {a: 1, a: 2}"), "duplicate-key", "tasks[0].config.a", "5:20", "first at f.yaml:5:14"),
        (task("config: {a: !!python/name:os.system }"), "bad-tag", "tasks[0].config.a", "5:17", "tag"),
        (task("config: {1: 2}"), "bad-key", "tasks[0].config['1']", "5:14", "'1'"),
        ("a: *b", "syntax", "", "1:4", "anchor"),
    ],
)  # fmt: skip
def test_problem_is_reported_with_code_place_and_advice(text, code, field, place, words):
    found = only(text)

    assert (found.code, found.field) == (code, field)
    assert str(found).startswith(f"f.yaml:{place}: "), str(found)
    assert words in str(found)
    assert found.severity == "error"
    assert read_workflow(text).spec is None


def test_dependency_named_twice_is_a_warning_and_kept_once():
    reading = read_workflow(task("depends_on: [b, c, b]"))

    assert reading.require().tasks[0].depends_on == ("b", "c")
    (found,) = reading.problems
    assert (found.severity, found.code, found.field) == (
        "warning",
        "repeated",
        "tasks[0].depends_on[2]",
    )


@pytest.mark.parametrize("value", ["null", "~", ""])
@pytest.mark.parametrize(
    "name", ["foreach", "cache", "timeout", "config", "retry", "depends_on", "when"]
)
def test_null_is_the_default_of_any_optional_field(name, value):
    expected = read_workflow(task("")).require()

    assert read_workflow(task(f"{name}: {value}")).require() == expected


@pytest.mark.parametrize("when", ["a == 1", "${{ a == 1 }}", "  ${{a == 1}}  ", '"${{ a == 1 }}"'])
def test_condition_is_kept_without_braces(when):
    assert read_workflow(task(f"when: {when}")).require().tasks[0].when == "a == 1"


def test_problems_come_all_at_once_in_the_order_of_the_text():
    text = "name: 5\nfoo: 1\ntasks:\n- {name: a b, type: t, timeout: x}\n- {nam: c}\n- {name: d, type: t, join: x}\n"

    found = problems(text)
    assert [(each.location.line, each.code) for each in found] == [
        (1, "wrong-type"),
        (2, "unknown-field"),
        (4, "bad-name"),
        (4, "wrong-value"),
        (5, "missing-field"),
        (5, "missing-field"),
        (5, "unknown-field"),
        (6, "wrong-value"),
    ]
    assert [each.task for each in found] == [None, None, None, None, None, None, None, "d"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "a"), ("a", "A"), ("straße", "STRASSE"), ("ﬁle", "file"), ("é", "É")],
)
def test_names_that_look_the_same_are_refused_with_both_places(first, second):
    text = f"name: x\ntasks:\n- {{name: {first}, type: t}}\n- {{name: {second}, type: t}}\n"

    found = only(text)
    assert (found.code, found.field) == ("duplicate-name", "tasks[1].name")
    assert "f.yaml:3:10" in found.message


def test_draft_allows_further_checks_and_spec_does_not():
    reading = read_workflow(task("timeout: x\nfoo: 1"))

    assert reading.spec is None
    assert reading.draft is not None
    assert reading.draft.tasks[0].timeout_s is None
    assert read_workflow("name: x\ntasks: [{name: a}]\n").draft is None


def test_require_raises_every_problem():
    with pytest.raises(WorkflowValidationError) as caught:
        read_workflow(task("timeout: x\nfoo: 1")).require()
    assert len(caught.value.problems) == 2

    with pytest.raises(WorkflowSyntaxError, match="anchor"):
        read_workflow("a: *b").require()


def test_number_of_problems_is_bounded():
    text = "name: x\ntasks:\n" + "- {name: a, type: t, foo: 1}\n" * 5000

    assert len(problems(text)) == 1000


def test_source_finds_fields_of_the_workflow():
    spec = read_workflow(FULL, file="f.yaml").require()

    place = spec.source.locate((*spec.tasks[1].path, "config", "code"))
    assert FULL.splitlines()[place.line - 1][place.column - 1 :] == '"x = 1"}'
    assert spec.source.text == FULL


def test_same_workflow_from_other_text_is_equal():
    one = read_workflow("name: x\ntasks: [{name: a, type: t}]\n").require()
    other = read_workflow("# c\ntasks:\n  - type: t\n    name: a\nname: 'x'\n").require()

    assert one == other
    assert one != read_workflow("name: y\ntasks: [{name: a, type: t}]\n").require()


def test_tree_of_an_inner_workflow_is_placed_in_the_outer_text():
    text = task("config:\n  tasks:\n    - {name: b, type: t, timeout: 0, env: {A: 1.10}}")
    outer = read_workflow(text, file="f.yaml").require()

    reading = read_tree(
        outer.tasks[0].config,
        source=outer.source,
        path=(*outer.tasks[0].path, "config"),
        name="inner",
    )
    (found,) = reading.problems
    assert str(found.location) == "f.yaml:7:39"
    assert (found.field, found.task) == ("tasks[0].config.tasks[0].timeout", "b")
    assert reading.draft.name == "inner"
    assert reading.draft.tasks[0].path == ("tasks", 0, "config", "tasks", 0)
    assert reading.draft.tasks[0].env == {"A": "1.10"}


def test_tree_of_python_values_is_read():
    data = {"name": "x", "tasks": ({"name": "a", "type": "t", "depends_on": ("b",), 5: 1},)}

    reading = read_tree(data, file="m.py")
    (found,) = reading.problems
    assert (found.code, found.field, str(found.location)) == (
        "unknown-field",
        "tasks[0]['5']",
        "m.py:1:1",
    )
    assert reading.draft.tasks[0].depends_on == ("b",)


def test_reading_is_fast_enough_for_an_editor():
    body = "".join(
        f"  - name: task_{n}\n    type: python\n    depends_on: [task_{max(n - 1, 0)}]\n"
        f"    config: {{function: pk.mod:fn, args: {{n: {n}, x: '${{{{ params.url }}}}'}}}}\n"
        for n in range(1000)
    )
    text = f"name: x\ntasks:\n{body}"
    started = time.perf_counter()
    spec = read_workflow(text).require()

    assert len(spec.tasks) == 1000
    assert time.perf_counter() - started < 0.5  # 0.035 s on a quiet machine


@pytest.mark.slow
def test_hundred_thousand_tasks_are_read_in_seconds():
    text = "name: x\ntasks:\n" + "".join(
        f"  - {{name: t{n}, type: shell, depends_on: [t{max(n - 1, 0)}], config: {{command: echo}}}}\n"
        for n in range(100_000)
    )
    started = time.perf_counter()

    assert len(read_workflow(text).require().tasks) == 100_000
    assert time.perf_counter() - started < 20  # 3 s on a quiet machine


@pytest.mark.slow
def test_million_tasks_are_refused_by_the_limits():
    text = "name: x\ntasks:\n" + "- {name: a, type: t}\n" * 1_000_000

    assert "2,000,000 values" in only(text).message


def test_limits_are_the_callers():
    found = read_workflow(FULL, limits=Limits(max_nodes=10)).problems

    assert [each.code for each in found] == ["syntax"]
