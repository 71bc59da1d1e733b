"""Canonical text of workflows, and that reading gives them back."""

from __future__ import annotations

import math
import unicodedata

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbuilder.definition import read_workflow, write_workflow
from flowbuilder.errors import WorkflowError
from flowbuilder.model.names import fold_name, name_problem
from flowbuilder.model.spec import Parameter, Resources, Retry, Selector, TaskSpec, WorkflowSpec
from flowbuilder.vocabulary import Backoff, Durability, Effects, ExecutorKind, JoinRule, Persist

NASTY = [
    "", " ", "  lead", "trail  ", "\n", "\n\n", "a\n", "a\n\n", "a\n\n\n", "\na", " a\nb", "a\n b\n", "a\n  \nb", "a\n  ",
    "a\n\t\nb\n", "\ta\nb", "a\tb", "a\n\tb", "a\r\nb", "a\rb", "a\u0085b", "a\u2028b\n", "a\u2029b", "\ufeffa", "a\x00b", "a\x1b[0m",
    "0o17", "0x1F", "1_000", "12:30", "12:30:45", "1e3", ".5", "5.", "-.inf", ".nan", "007", "2024-01-02",
    "no", "No", "y", "N", "on", "OFF", "yes", "true", "TRUE", "null", "~", "=", "<<", "nan", "inf",
    "- a", "-", "--- a", "...", "---\na\n", "? a", ": a", "a: b", "a:", "a #b", "#a", "a#b", "&a", "*a", "!a", "!!str a", "%a", "@a", "`a",
    "[a]", "{a}", "a, b", "a]", "'a'", '"a"', "'", '"', "\\", "\\n", "|", ">", "|\n a", "> a\nb",
    "${{ params.x }}", "a ${{ b }} c", "🚀", "a\u200db", "\u202eabc", "数据\n处理\n", "e\u0301", "x" * 5000, "a\n# b\n", "a\n...\nb",
    "\xa0", "a\xa0b\nc", "a  b", "a -", "a (b)", "= x", "\U0001fffe", "\x7f", "\xad",
]  # fmt: skip


def spec_with(config):
    return WorkflowSpec(
        name="x", tasks=(TaskSpec(name="a", type="t", config=config, path=("tasks", 0)),)
    )


def round_trip(spec):
    return read_workflow(write_workflow(spec)).require()


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize(
    "wrap", [lambda t: t, lambda t: [t], lambda t: [[t], t], lambda t: {"k": t}, lambda t: {t: 1}]
)
def test_nasty_text_is_read_back_exactly(text, wrap):
    spec = spec_with({"x": wrap(text), "z": 1})

    assert round_trip(spec) == spec


@pytest.mark.parametrize("text", [text for text in NASTY if "\0" not in text])
def test_nasty_text_means_the_same_to_yaml_1_1(text):
    written = write_workflow(spec_with({"x": text}))

    assert yaml.safe_load(written)["tasks"][0]["config"]["x"] == text


texts = st.text(max_size=12) | st.text(" \n\t-:#|a'\"", max_size=10) | st.sampled_from(NASTY)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
names = (
    st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,10}", fullmatch=True)
    | st.sampled_from(["数据", "no", "null", "y", "é", "True"])
    | st.text(st.characters(categories=["Ll", "Lu", "Lo"]), min_size=1, max_size=4)
    .map(lambda text: unicodedata.normalize("NFC", text))
    .filter(lambda text: name_problem(text) is None)
)
variables = st.from_regex(r"[A-Z_][A-Z0-9_]{0,6}", fullmatch=True)
free_texts = texts.map(lambda text: text.replace("\0", ""))
seconds = st.floats(0.001, 1e6) | st.integers(1, 10_000).map(float)
selectors = st.builds(Selector, names, st.lists(texts | st.integers(-9, 99), max_size=3).map(tuple))
conditions = st.sampled_from(["a", "params.x == 'y: z'", "true", "1 < 2", "a &&\n b", "# a"])
retries = st.builds(
    Retry,
    max_attempts=st.integers(1, 1000),
    backoff=st.sampled_from(Backoff),
    delay_s=seconds,
    max_delay_s=seconds,
    jitter=st.floats(0, 1),
    on=st.lists(names, unique=True, max_size=2).map(tuple),
)
tasks = st.builds(
    TaskSpec,
    name=names,
    type=names,
    config=st.dictionaries(texts, values, max_size=4),
    depends_on=st.lists(names, unique=True, max_size=3).map(tuple),
    inputs=st.dictionaries(texts, selectors, max_size=2),
    when=st.none() | conditions,
    join=st.sampled_from(JoinRule),
    retry=retries | st.just(Retry()),
    timeout_s=st.none() | seconds,
    executor=st.sampled_from([each for each in ExecutorKind if each not in {"native", "dask"}]),
    effects=st.none() | st.sampled_from(Effects),
    persist=st.sampled_from(Persist),
    resources=st.builds(Resources, cpu=st.integers(1, 64), memory_bytes=st.integers(0, 2**40)),
    pool=st.none() | names,
    priority=st.integers(-100, 100),
    env=st.dictionaries(variables, free_texts, max_size=2),
    title=texts,
    note=texts,
    group=texts,
)
parameters = st.builds(
    Parameter,
    name=names,
    schema=st.sampled_from(
        [{}, {"type": "integer"}, {"type": "string", "enum": ["no", "y"]}, {"type": "table"}]
    ),
    is_required=st.just(False),
    default=values,
) | st.builds(
    Parameter,
    name=names,
    schema=st.sampled_from([{}, {"type": ["number", "null"], "minimum": 0.5}]),
)


def fold(each):
    return fold_name(each.name)


workflows = st.builds(
    WorkflowSpec,
    name=names,
    tasks=st.lists(tasks, min_size=1, max_size=3, unique_by=fold).map(
        lambda found: tuple(
            msgspec.structs.replace(each, path=("tasks", index)) for index, each in enumerate(found)
        )
    ),
    version=texts,
    title=texts,
    description=texts,
    note=texts,
    params=st.lists(parameters, max_size=3, unique_by=fold).map(tuple),
    env=st.dictionaries(variables, st.none() | free_texts, max_size=2),
    secrets=st.dictionaries(names, variables, max_size=2),
    durability=st.sampled_from(Durability),
    timeout_s=st.none() | seconds,
    layout=st.dictionaries(texts, values, max_size=2),
)


@given(workflows)
@settings(max_examples=300, deadline=None)
def test_workflow_is_read_back_equal(spec):
    text = write_workflow(spec)
    reading = read_workflow(text)

    assert reading.problems == (), text
    assert reading.spec == spec
    assert write_workflow(reading.spec) == text


@given(values)
@settings(deadline=None)
def test_values_keep_their_types(value):
    found = round_trip(spec_with({"x": value})).tasks[0].config["x"]

    assert repr(found) == repr(value)


def test_text_of_a_workflow_is_canonical():
    spec = WorkflowSpec(
        name="demo",
        version="1.0",
        params=(
            Parameter(name="url", schema={"type": "string"}, is_required=False, default="http://x"),
        ),
        secrets={"TOKEN": "TOKEN"},
        timeout_s=3600.0,
        tasks=(
            TaskSpec(name="fetch", type="http", config={"url": "${{ params.url }}", "headers": {}}),
            TaskSpec(
                name="count",
                type="script",
                inputs={"raw": Selector("fetch", ("body", 0))},
                depends_on=("fetch",),
                retry=Retry(max_attempts=3),
                timeout_s=0.5,
                config={
                    "code": "import json\n\nprint(1)\n",
                    "rows": [{"a": 1, "b": [True, None]}, "no"],
                },
            ),
        ),
        layout={"fetch": {"x": 1.5, "y": 1e300}},
    )

    assert (
        write_workflow(spec)
        == """\
name: demo
version: "1.0"
params:
  url:
    type: string
    default: "http://x"
secrets:
  TOKEN: TOKEN
timeout: 3600

tasks:
  - name: fetch
    type: http
    config:
      url: "${{ params.url }}"
      headers: {}
  - name: count
    type: script
    depends_on: [fetch]
    inputs:
      raw: "fetch.body[0]"
    config:
      code: |
        import json

        print(1)
      rows:
        - a: 1
          b: [true, null]
        - "no"
    retry:
      max_attempts: 3
    timeout: 0.5
layout:
  fetch:
    x: 1.5
    "y": 1.0e+300
"""
    )


def test_long_key_is_read_back():
    spec = spec_with({"k" * 3000: 1, "é" * 1100: {"a": [1]}, "\n" * 900: "a\nb\n"})

    assert round_trip(spec) == spec


def test_deepest_readable_config_is_written():
    value = 1
    for _ in range(60):
        value = {"a": value}

    assert round_trip(spec_with(value)) == spec_with(value)


def test_nan_is_written():
    assert math.isnan(round_trip(spec_with({"x": math.nan})).tasks[0].config["x"])


def loop():
    endless = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "a Python object"),
        (b"x", "a Python bytes"),
        ({1}, "a Python set"),
        (2**63, "64 bits"),
        ("\ud800", "surrogate"),
        ({1: 2}, "the key 1"),
        (loop(), "64 levels"),
    ],
)
def test_what_yaml_cannot_hold_is_refused_with_its_place(value, words):
    with pytest.raises(WorkflowError, match=words) as caught:
        write_workflow(spec_with({"x": value}))
    assert "tasks[0].config" in str(caught.value)


def test_tuple_is_written_as_a_list():
    assert round_trip(spec_with({"x": (1, ("a",))})).tasks[0].config == {"x": [1, ["a"]]}
