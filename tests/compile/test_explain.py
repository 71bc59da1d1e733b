"""Explanations: everything a person asks of a plan, small or large."""

from __future__ import annotations

import json

import pytest

from flowbuilder.compile.compiler import compile_workflow
from flowbuilder.compile.explain import explain_plan
from flowbuilder.model import Retry, Selector
from flowbuilder.vocabulary import Effects, JoinRule


@pytest.fixture
def explain(workflow, registry):
    def made(*args, options=None, **fields):
        compiled = compile_workflow(workflow(*args, **fields), registry, **(options or {}))
        return explain_plan(compiled)

    return made


TASKS = {
    "read": {"type": "pure", "config": {"path": "a"}},
    "again": {"type": "pure", "config": {"path": "a"}},
    "clean": {
        "inputs": {"raw": Selector("read")},
        "retry": Retry(max_attempts=3),
        "timeout_s": 30.0,
    },
    "notify": {
        "type": "wait",
        "depends_on": ("clean", "again"),
        "join": JoinRule.ALL_DONE,
        "when": "tasks.read.output == 1",
    },
}


def test_explanation_counts_and_names(explain):
    made = explain(tasks=TASKS, name="daily")

    assert (made.workflow, made.task_count, made.depth, made.width) == ("daily", 4, 3, 2)
    assert made.critical_path == ("read", "clean", "notify")
    assert made.outputs == ("notify",)


def test_steps_say_what_they_need_and_why(explain):
    steps = {step.task: step for step in explain(tasks=TASKS).steps}

    assert [(need.task, need.kind) for need in steps["clean"].needs] == [("read", "data")]
    kinds = {need.task: need.kind for need in steps["notify"].needs}
    assert kinds == {"read": "implied", "clean": "order", "again": "order"}
    assert steps["read"].is_cacheable
    assert not steps["clean"].is_cacheable
    assert steps["notify"].executor == "async"
    assert steps["notify"].settings == ("when", "join all_done", "effects external")
    assert steps["clean"].settings == ("up to 3 attempts, exponential from 1.0s", "timeout 30.0s")


def test_twins_are_explained(explain):
    tasks = {"a": TASKS["read"], "b": TASKS["read"]}
    made = explain(tasks=tasks)

    assert made.steps[1].twin_of == "a"
    text = made.to_text()
    assert "shares the output of a\n" in text
    assert "runs once      1 task sharing" in text


def test_selections_are_explained(explain):
    made = explain("a -> b -> c -> d", options={"from_": "c"})

    assert made.not_selected == ("a",)
    assert [step.task for step in made.steps if step.is_preloaded] == ["b"]
    text = made.to_text()
    assert "left out       1 task: a" in text
    assert "preloaded      b (from an earlier run)" in text
    assert "from           c" in text


def test_json_is_one_document_with_every_task(explain):
    made = explain(tasks=TASKS)

    data = json.loads(made.to_json())

    assert [step["task"] for step in data["steps"]] == [step.task for step in made.steps]
    assert data["critical_path"] == ["read", "clean", "notify"]


def test_text_shows_every_task_of_a_small_plan_in_aligned_columns(explain):
    text = explain(tasks=TASKS).to_text()

    lines = text.splitlines()
    rows = [line for line in lines if line[:1].isdigit()]
    assert [row.split()[0] for row in rows] == ["1", "2", "3", "4"]
    column = next(line for line in lines if " type " in line).index("type")
    assert {row[column - 1] for row in rows} == {" "}
    assert all(row[column] != " " for row in rows)
    assert "cache          not enabled; it could skip read" in text
    assert "\x1b" not in text


def test_text_of_a_large_plan_is_a_summary(explain):
    text = explain(", ".join(f"a -> b{i}" for i in range(5000))).to_text(limit=20)

    assert len(text.splitlines()) < 80
    assert "and 4,981 more tasks" in text
    assert "5,001 tasks, 5,000 dependencies; depth 2, width 5,000" in text
    assert all(len(line) <= 140 for line in text.splitlines())


def test_text_of_an_empty_plan_has_no_table(explain):
    assert "0 tasks, 0 dependencies" in explain().to_text()


def test_effects_none_is_said_in_words(explain):
    made = explain(tasks={"a": {"effects": Effects.NONE}})

    assert made.steps[0].settings == ("no effects",)


def test_columns_stay_aligned_beside_chinese_names(explain):
    text = explain(tasks={"抓取数据": {}, "plain": {}}).to_text()

    rows = [line for line in text.splitlines() if "work" in line and line[:1].isdigit()]
    assert len(rows[0].encode("gbk").split(b"work")[0]) == len(rows[1].split("work")[0])
