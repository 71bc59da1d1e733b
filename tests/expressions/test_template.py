import datetime as dt
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.errors import ExpressionError
from flowbuilder.expressions import (
    fold_template,
    holds_template,
    parse_template,
    read_template,
    template_problems,
)

OBJECT = object()
VALUES = {
    "url": "http://host/x",
    "n": 3,
    "f": 1.0,
    "yes": True,
    "none": None,
    "list": [1, "a", None],
    "map": {"k": ["ä"]},
    "object": OBJECT,
    "day": dt.date(2024, 1, 2),
    "raw": b"bytes",
}


class Params:
    def root(self, name):
        return VALUES if name == "params" else {}


SCOPE = Params()


def render(value, **options):
    return parse_template(value, **options).render(SCOPE)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${{ params.n }}", 3),
        ("${{params.list}}", VALUES["list"]),
        ("  ${{ params.n }}\n", 3),
        ("${{ params.n + 1 }}", 4),
        ("${{ {'a': {'b': 1}} }}", {"a": {"b": 1}}),
        ("${{ '}}' }}", "}}"),
        ("id-${{ params.n }}", "id-3"),
        ("${{ params.n }}${{ params.url }}", "3http://host/x"),
        ("${{ params.f }}/${{ params.yes }}/${{ params.none }}", "1.0/true/null"),
        ("x ${{ params.list }}", 'x [1, "a", null]'),
        ("x ${{ params.map }}", 'x {"k": ["ä"]}'),
        ("on ${{ params.day }}", "on 2024-01-02"),
        ("a $${{ params.n }} b", "a ${{ params.n }} b"),
        ("$${{", "${{"),
        ("$${{ x }} ${{ params.n }}", "${{ x }} 3"),
        ("$HOME ${x} {{ y }} $ {{", "$HOME ${x} {{ y }} $ {{"),
        ("", ""),
    ],
)
def test_text_renders(text, value):
    result = render(text)

    assert result == value
    assert type(result) is type(value)


def test_whole_text_gives_the_very_object():
    assert render("${{ params.object }}") is OBJECT


def test_tree_keeps_constant_parts_by_reference():
    constant = {"deep": [1, {"x": "y"}]}
    tree = {"a": constant, "b": ["${{ params.n }}", "z"], "c": 5}

    result = render(tree)

    assert result == {"a": constant, "b": [3, "z"], "c": 5}
    assert result["a"] is constant
    assert tree["b"][0] == "${{ params.n }}"


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8).filter(lambda t: "${{" not in t),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(TREES)
def test_tree_without_expressions_is_returned_itself(tree):
    template = parse_template(tree)

    assert template.render(SCOPE) is tree
    assert template.is_constant


@given(TREES)
def test_only_the_expression_changes_in_a_tree(tree):
    result = render({"constant": tree, "changing": ["${{ params.n }}", tree]})

    assert result == {"constant": tree, "changing": [3, tree]}
    assert result["constant"] is tree


@given(st.text(max_size=30), st.text(max_size=30))
def test_escaped_text_comes_back_as_it_was(before, after):
    text = before + "${{ params.n }}" + after
    escaped = text.replace("${{", "$${{")

    assert render(escaped) == text


@given(st.text(st.characters(exclude_characters="$"), max_size=20), st.integers(-(10**6), 10**6))
def test_interpolation_is_concatenation(around, number):
    class Scope:
        def root(self, name):
            return {"v": number}

    text = f"<{around}${{{{ params.v }}}}{around}>"

    assert parse_template(text).render(Scope()) == f"<{around}{number}{around}>"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
    ).filter(lambda value: not isinstance(value, str))
)
def test_interpolated_data_is_json(value):
    class Scope:
        def root(self, name):
            return {"v": value}

    text = parse_template("${{ params.v }}${{ '' }}").render(Scope())

    assert json.loads(text) == value


@pytest.mark.parametrize("name", ["object", "raw"])
def test_value_without_text_form_is_refused_inside_text(name):
    with pytest.raises(ExpressionError, match="plain data inside a text"):
        render(f"x ${{{{ params.{name} }}}}")


def test_raw_fields_are_left_as_written():
    tree = {
        "code": "${{ params.n }} ${{ broken",
        "x": "${{ params.n }}",
        "in": {"code": "${{ params.n }}"},
    }

    assert render(tree, raw={"code"}) == {"code": tree["code"], "x": 3, "in": {"code": 3}}


def test_references_and_sites_say_what_is_mentioned_and_where():
    template = parse_template({"a": ["x ${{ params.n }}"], "b": "${{ tasks.t.output }}", "c": 1})

    assert template.references == {("params", "n"), ("tasks", "t", "output")}
    assert [path for path, _ in template.sites] == [("a", 0), ("b",)]
    assert not template.is_constant


def test_all_problems_of_a_tree_are_listed_with_their_places():
    tree = {
        "ok": "${{ params.n }}",
        "a": ["${{ 1 + }}", "fine", {"b": "${{ params }}"}],
        "c": "text ${{ unclosed",
        "${{ key }}": 1,
        "d": "${{ }}",
    }

    problems = template_problems(tree)

    assert {path for path, _ in problems} == {
        ("a", 0),
        ("a", 2, "b"),
        ("c",),
        ("${{ key }}",),
        ("d",),
    }
    with pytest.raises(ExpressionError):
        parse_template(tree)


def test_broken_expressions_do_not_hide_the_others():
    template, problems = read_template({"a": "${{ params.n }}", "b": "${{ nope }}"})

    assert template.references == {("params", "n")}
    assert len(problems) == 1


def test_shared_parts_are_compiled_once():
    tree = ["${{ params.n }}"]
    for _ in range(40):
        tree = [tree, tree]

    began = time.perf_counter()
    template = parse_template(tree)

    assert time.perf_counter() - began < 2
    assert len(template.sites) == 1


def test_cyclic_and_deep_trees_are_refused():
    cyclic = {"x": "${{ params.n }}"}
    cyclic["self"] = [cyclic, cyclic]
    deep = "${{ params.n }}"
    for _ in range(5_000):
        deep = [deep]

    for tree, word in ((cyclic, "cycle"), (deep, "deep")):
        assert holds_template(tree)
        with pytest.raises(ExpressionError, match=word):
            parse_template(tree)


def test_cyclic_tree_without_expressions_is_left_alone():
    cyclic = {}
    cyclic["self"] = cyclic

    assert render(cyclic) is cyclic


def test_fold_evaluates_constant_expressions_once():
    folded = fold_template(parse_template({"a": "${{ 1 + 1 }}", "b": "x${{ 'y' }}"}))

    assert folded.sites == ()
    assert folded.render(None) == {"a": 2, "b": "xy"}
    assert folded.render(None) is folded.render(None)


def test_fold_leaves_templates_that_mention_something():
    template = parse_template("${{ params.n }}")

    assert fold_template(template) is template


def test_long_text_with_many_openings_is_read_in_time():
    began = time.perf_counter()

    problems = template_problems("${{ '" * 200_000)
    rendered = render("$${{" * 200_000)

    assert len(problems) == 1
    assert len(rendered) == 600_000
    assert time.perf_counter() - began < 5
