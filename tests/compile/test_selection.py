"""Selections: what ``to``, ``from`` and ``only`` leave in a plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.compile.selection import Selection, ancestors, descendants, select
from flowbuilder.errors import WorkflowValidationError

GRAPH = "read -> clean -> train -> report, read -> stats -> report, other"


def chosen(expand, **words):
    expansion = expand(GRAPH)
    parents = [[edge.parent for edge in task.edges] for task in expansion.tasks]
    asked = Selection.of(words.get("to"), words.get("from_"), words.get("only"))
    result = select(expansion, parents, asked)
    return tuple(
        {expansion.tasks[i].key for i in part}
        for part in (result.run, result.preloaded, result.targets)
    )


@pytest.mark.parametrize(
    ("words", "run", "preloaded", "targets"),
    [
        ({"to": "train"}, {"read", "clean", "train"}, set(), {"train"}),
        ({"to": ["clean", "stats"]}, {"read", "clean", "stats"}, set(), {"clean", "stats"}),
        ({"from_": "train"}, {"train", "report"}, {"clean", "stats"}, set()),
        ({"from_": "clean", "to": "train"}, {"clean", "train"}, {"read"}, {"train"}),
        ({"only": "clean"}, {"clean"}, {"read"}, {"clean"}),
        ({"only": ["read", "train"]}, {"read", "train"}, {"clean"}, {"read", "train"}),
        ({"to": "other"}, {"other"}, set(), {"other"}),
    ],
)
def test_select_keeps_what_was_asked_for(expand, words, run, preloaded, targets):
    assert chosen(expand, **words) == (run, preloaded, targets)


def test_select_reports_every_unknown_name_with_a_suggestion(expand):
    with pytest.raises(WorkflowValidationError) as caught:
        chosen(expand, to=["traim", "zzz"])

    problems = caught.value.problems
    assert [problem.code for problem in problems] == ["unknown-task"] * 2
    assert problems[0].hint == "did you mean 'train'?"
    assert "'zzz'" in problems[1].message


def test_select_refuses_words_that_contradict_each_other(expand):
    with pytest.raises(WorkflowValidationError, match="'only'"):
        chosen(expand, only="read", to="train")
    with pytest.raises(WorkflowValidationError, match="no task lies between"):
        chosen(expand, from_="report", to="read")


def test_selection_options_do_not_depend_on_the_order_of_names():
    assert Selection.of(["b", "a", "b"], None, None).to_options() == {"to": ["a", "b"]}
    assert not Selection.of(None, None, None)


@given(st.data())
def test_ancestors_and_descendants_are_two_views_of_one_relation(data):
    size = data.draw(st.integers(1, 10))
    parents = [
        sorted(data.draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else []
        for i in range(size)
    ]

    for a in range(size):
        for b in range(size):
            assert (a in ancestors(parents, [b])) == (b in descendants(parents, [a]))
