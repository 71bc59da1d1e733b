"""Constant folding: what mentions nothing is settled by the plan, the rest is left as written."""

from __future__ import annotations

import pytest

from flowbuilder.compile.folding import fold_expansion, fold_value


@pytest.mark.parametrize(
    ("value", "folded"),
    [
        ("${{ 1 + 2 }}", 3),
        ("a-${{ 1 + 2 }}-b", "a-3-b"),
        ("${{ 'x' + 'y' }}", "xy"),
        ({"deep": ["${{ 2 > 1 }}", 7]}, {"deep": [True, 7]}),
    ],
)
def test_fold_value_settles_constant_expressions(value, folded):
    assert fold_value(value) == folded


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "${{ params.x + 1 }}",
        "${{ tasks.a.output }}",
        "${{ 1 / 0 }}",
        "${{ this is not an expression",
        "$${{ 1 + 2 }}",
        "${{ '$' + '{{ params.x }}' }}",
        {"a": ["x", {"b": 1}]},
        12,
        None,
    ],
    ids=repr,
)
def test_fold_value_returns_the_rest_itself(value):
    assert fold_value(value) is value


def test_conditions_that_always_hold_disappear(expand, registry):
    expansion = expand(
        tasks={
            "always": {"when": "1 < 2"},
            "never": {"when": "2 < 1"},
            "asks": {"when": "params.x"},
            "fails": {"when": "1 / 0 == 1"},
        }
    )

    folded = fold_expansion(expansion, registry)

    conditions = {task.key: task.spec.when for task in folded.tasks}
    assert conditions == {
        "always": None,
        "never": "2 < 1",
        "asks": "params.x",
        "fails": "1 / 0 == 1",
    }


def test_fold_expansion_keeps_fields_that_are_passed_as_written(expand, registry):
    tasks = {"t": {"type": "workflow", "config": {"tasks": "${{ 1 + 2 }}", "x": "${{ 1 + 2 }}"}}}

    folded = fold_expansion(expand(tasks=tasks), registry)

    assert folded.tasks[0].spec.config == {"tasks": "${{ 1 + 2 }}", "x": 3}


def test_fold_expansion_without_constants_returns_the_same_object(expand, registry):
    expansion = expand("a -> b", tasks={"a": {"config": {"x": "${{ params.y }}"}}})

    assert fold_expansion(expansion, registry) is expansion
