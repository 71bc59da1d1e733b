"""Plain values from YAML: aliases, merges, limits, and what is refused."""

from __future__ import annotations

import gc

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.definition.limits import Limits
from flowbuilder.definition.tree import parse_tree
from flowbuilder.errors import WorkflowSyntaxError


def parse(text, *, pure=False, **limits):
    return parse_tree(text, file="f.yaml", limits=Limits(**limits), pure=pure)


def refuse(text, **limits):
    with pytest.raises(WorkflowSyntaxError) as caught:
        parse(text, **limits)
    return str(caught.value)


CORPUS = [
    "a: 1\nb: [x, 'y', \"z\\n\", ~]\nc: {d: 0x1F, e: .5}\n",
    "- |\n  one\n   two\n\n- >-\n  folded\n  text\n- |2+\n   x\n\n",
    "base: &b {x: 1, y: [1, 2]}\none:\n  <<: *b\n  y: 3\ntwo: *b\n",
    "# only\n---\n'a b': !!str 5\n? long\n: value\n...\n",
    "é: 数\n🚀: [é, '\u2028']\n",
    "",
    "---\n",
]


@pytest.mark.parametrize("text", CORPUS)
def test_tree_is_the_same_with_and_without_libyaml(text):
    assert parse(text) == parse(text, pure=True)


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text("ab -:#'\"\n{[&*", max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab:", min_size=1, max_size=3), inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_tree_reads_what_another_writer_wrote(value):
    assert parse(yaml.safe_dump(value, allow_unicode=True)).root == value


def test_alias_is_the_very_object_of_its_anchor():
    root = parse("a: &x [1, {b: 2}]\nc: *x\nd: [*x, *x]\n").root

    assert root["c"] is root["a"]
    assert root["d"][1] is root["a"]


def test_alias_may_stand_for_a_key():
    assert parse("a: &k name\nb: {*k : 1}\n").root["b"] == {"name": 1}


def test_merge_gives_way_to_what_is_written():
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  x: 3\n  <<: [*a, *b]\n  w: 4\n"

    assert parse(text).root["c"] == {"x": 3, "y": 1, "z": 2, "w": 4}


def test_merge_in_quotes_is_a_key():
    assert parse("'<<': 1\n").root == {"<<": 1}


def test_merge_of_something_else_is_refused():
    assert "expected a mapping after '<<'" in refuse("a:\n  <<: 5\n")


def test_merge_twice_is_a_duplicate():
    found = parse("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n").misplaced

    assert [each.code for each in found] == ["duplicate-key"]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: *b\n", "f.yaml:1:4", "expected an anchor &b above"),
        ("a: &x [*x]\n", "f.yaml:1:8", "inside itself"),
        ("&x a: &y {b: *y}\n", "f.yaml:1:14", "inside itself"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1", "second document"),
        ("a:\n\tb: 1\n", "f.yaml:2:1", "found a tab"),
        ("a: [1,\n", "f.yaml:2:1", "expected"),
        ("a: b: c\n", "f.yaml:1:5", "second ': '"),
        ("a:\n  - x\n y\n", "f.yaml:3", "expected"),
        ("a: 'x\nb: 1\n", "f.yaml:1:4", "closing quote"),
        ("a: @x\n", "f.yaml:1:4", "'@'"),
        ("{a: ${{ b }}}\n", "f.yaml:1", "in quotes"),
        ("a: {{ b }}\n", "f.yaml:1:5", "found a mapping"),
        ("? [a]\n: 1\n", "f.yaml:1:3", "found a list"),
        ("%YAML 3.0\n---\na: 1\n", "f.yaml:1:1", "incompatible"),
        ('a: "\\q"\n', "f.yaml:1", "escape"),
        ("a\nb: 1\n", "f.yaml:2", "expected"),
        ("- a\nb: 1\n", "f.yaml:2:1", "expected"),
        ("a: 1\n  b: 2\n", "f.yaml:2:4", "second ': '"),
    ],
)
def test_broken_text_is_refused_at_its_place(text, place, words):
    message = refuse(text)

    assert message.startswith(place), message
    assert words in message


@pytest.mark.parametrize(
    ("text", "code", "path", "offset"),
    [
        ("a: 1\nb: 2\na: 3\n", "duplicate-key", ("a",), 10),
        ("a: [{x: 1, x: 2}]\n", "duplicate-key", ("a", 0, "x"), 11),
        ("a: !!python/object/apply:os.system [x]\n", "bad-tag", ("a",), 3),
        ("- !custom x\n", "bad-tag", (0,), 2),
        ("a: !!int x\n", "bad-tag", ("a",), 3),
        ("a: !!set {x}\n", "bad-tag", ("a",), 3),
        ("1: x\n", "bad-key", ("1",), 0),
        ("a: {true: x}\n", "bad-key", ("a", "true"), 4),
        ("~: x\n", "bad-key", ("~",), 0),
        ("a: 99999999999999999999\n", "bad-number", ("a",), 3),
    ],
)  # fmt: skip
def test_what_yaml_allows_and_we_do_not_is_collected(text, code, path, offset):
    (found,) = parse(text).misplaced

    assert (found.code, found.path, found.offset) == (code, path, offset)


def test_first_of_two_equal_keys_wins():
    assert parse("a: 1\na: 2\n").root == {"a": 1}


def test_words_of_other_schemas_are_keys():
    assert parse("on: 1\nno: 2\n").root == {"on": 1, "no": 2}


@pytest.mark.parametrize("bracket", ["[", "{a: ", "- ", "? "])
@pytest.mark.parametrize("pure", [False, True])
def test_deep_nesting_is_refused_without_recursion(bracket, pure):
    text = bracket * (100_000 if not pure else 500)

    with pytest.raises(WorkflowSyntaxError, match=r"64 levels|as a key|expected"):
        parse(text, pure=pure)


def test_nesting_at_the_limit_is_read():
    assert parse("[" * 64 + "]" * 64).root is not None
    assert "64 levels" in refuse("[" * 65 + "]" * 65)


def test_nesting_through_aliases_counts():
    links = "".join(f"- &a{n} [[[*a{n - 1}]]]\n" for n in range(1, 40))

    assert "64 levels" in refuse(f"- &a0 [x]\n{links}")


def test_alias_bomb_is_refused_before_anybody_walks_it():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)]

    assert "2,000,000 values" in refuse("".join(lines))


def test_merge_bomb_is_refused():
    keys = ", ".join(f"k{n}: 1" for n in range(50_000))
    merges = "".join(f"m{n}: {{<<: *base}}\n" for n in range(100))

    assert "2,000,000 values" in refuse(f"base: &base {{{keys}}}\n{merges}")


def test_aliases_of_long_text_are_refused():
    text = f"a: &a {'x' * 200_000}\nb: [{', '.join(['*a'] * 900)}]\n"

    assert "too much" in refuse(text)


def test_many_aliases_are_refused():
    text = "a: &a x\nb: [" + ", ".join(["*a"] * 1001) + "]\n"

    assert "1,000 aliases" in refuse(text)
    assert parse(text, max_aliases=2000).root["b"][0] == "x"


def test_many_values_are_refused():
    assert "at most 1,000 values" in refuse("- x\n" * 2000, max_nodes=1000)


def test_collector_runs_again_after_a_refusal():
    refuse("a: *b\n")

    assert gc.isenabled()


@pytest.mark.parametrize(
    ("text", "odd"),
    [("a: 5\nb: true\nc: 1.5\n", False), ("a: 1.10", True), ("a: 0x1F", True), ("a: True", True)],
)
def test_numbers_that_python_shows_otherwise_are_noticed(text, odd):
    assert parse(text).has_odd_numbers is odd


def test_escape_of_a_lone_surrogate_is_refused_by_both_parsers():
    for pure in (False, True):
        with pytest.raises(WorkflowSyntaxError):
            parse('a: "\\ud800"\n', pure=pure)
