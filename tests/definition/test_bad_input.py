"""Hostile and careless files: a clear error with its place, quickly, and nothing executed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbuilder.definition import read_workflow, write_workflow

HEAD = "name: x\ntasks:\n- {name: a, type: t}\n"
ALIAS_BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)
)
MERGE_BOMB = "a0: &a0 {k: v}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: {{<<: *a{n - 1}}}}}\n"
    for n in range(1, 20)
)


@pytest.mark.parametrize(
    "text",
    [
        ALIAS_BOMB,
        MERGE_BOMB,
        "[" * 60_000,
        "{" * 60_000,
        "[" * 30_000 + "]" * 30_000,
        "- " * 100_000,
        "".join(" " * depth + "a:\n" for depth in range(2_000)),
        "a: &a [*a]\n",
        "a: &a {<<: *a}\n",
        "a: !!python/object/apply:os.system ['touch /tmp/owned']\n" + HEAD,
        "!!python/object/new:type [x]\n",
        HEAD + "name: y\n",
        HEAD + "---\n" + HEAD,
        HEAD.replace(" {", "\t{").replace("- ", "\t- "),
        HEAD.encode("utf-16-le"),
        HEAD.encode("utf-32"),
        HEAD.encode() + b"\xff",
        HEAD.encode() + b"\0",
        HEAD + "\ud800",
        HEAD + "x-big: '" + "x" * (100 * 1024 * 1024) + "'\n",
        "",
        "\ufeff",
        "   \n\n",
        "text",
        "5",
        "[]",
        "{}",
        "\x1b]0;title\x07",
        "<html></html>",
        '{"name": "x"}',
        "%TAG ! tag:x,2000:\n---\n!a {}\n",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_bad_text_is_refused_quickly_and_in_one_printable_sentence(text):
    started = time.perf_counter()
    reading = read_workflow(text, file="f.yaml")

    assert time.perf_counter() - started < 3
    assert reading.spec is None
    for problem in reading.problems:
        assert str(problem).startswith("f.yaml:")
        assert str(problem).isprintable()
        assert len(str(problem)) < 1000


@pytest.mark.parametrize(
    "name",
    [
        "a\u202eb", "a\u200bb", "🚀", "x" * 10_000, "../x", "a/b", "$(id)", ";rm -rf /", "{{7*7}}",
        "<img src=x onerror=alert(1)>", "javascript:alert(1)", "a\nINFO forged", "\x1b[31mred", "=cmd()", "e\u0301",
    ],
)  # fmt: skip
def test_bad_name_is_refused_without_being_echoed_raw(name):
    quoted = '"' + "".join(f"\\U{ord(character):08x}" for character in name) + '"'
    (problem,) = read_workflow(f"name: x\ntasks: [{{name: {quoted}, type: t}}]\n").problems

    assert problem.code == "bad-name"
    assert problem.task is None
    assert str(problem).isprintable()
    assert len(str(problem)) < 400


@pytest.mark.parametrize(
    "name", ["con", "class", "None_", "__proto__", "__class__", "no", "数据", "é"]
)
def test_unusual_but_harmless_name_is_just_a_name(name):
    spec = read_workflow(f"name: {name}\ntasks: [{{name: {name}, type: t}}]\n").require()

    assert spec.tasks[0].name == spec.name == name


def test_twins_in_other_unicode_forms_cannot_both_be_there():
    found = read_workflow(
        'name: x\ntasks: [{name: "\u00e9", type: t}, {name: "e\u0301", type: t}]\n'
    ).problems

    assert {problem.code for problem in found} == {"bad-name", "duplicate-name"}


PIECES = st.sampled_from(
    ["name: x\n", "tasks:\n", "  - name: a\n", "    type: t\n", "- ", "[", "]", "{", "}", ": ", ", ", "&a ", "*a", "<<: ",
     "!!str ", "!x ", "|\n", ">-\n", "'", '"', "\n", "  ", "\t", "# ", "? ", "---\n", "...\n", "%", "é", "1", "~", "a", "config: ",
     "env: ", "params: ", "retry: ", "inputs: ", "\x00", "\ufeff", "\u2028", "@"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join))
@settings(max_examples=500, deadline=None)
def test_any_text_gives_a_workflow_or_placed_problems(text):
    reading = read_workflow(text, file="f.yaml")

    assert (reading.spec is None) == any(each.severity == "error" for each in reading.problems)
    assert all(each.location is not None and each.location.line >= 1 for each in reading.problems)
    if reading.spec is not None:
        assert read_workflow(write_workflow(reading.spec)).spec == reading.spec


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_give_placed_problems(data):
    reading = read_workflow(data, file="f.yaml")

    assert reading.spec is None
    assert all(each.location is not None for each in reading.problems)
