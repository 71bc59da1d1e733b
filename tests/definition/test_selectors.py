"""Origins of inputs as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.definition.selectors import format_selector, parse_selector
from flowbuilder.model.spec import Selector


@pytest.mark.parametrize(
    ("text", "task", "path"),
    [
        ("fetch", "fetch", ()),
        ("fetch-data.body", "fetch-data", ("body",)),
        ("数据.é-x", "数据", ("é-x",)),
        ("a['x-y'][0].z", "a", ("x-y", 0, "z")),
        ('a["it\'s"]', "a", ("it's",)),
        (r"a['it\'s \\']", "a", ("it's \\",)),
        ("a[-1]", "a", (-1,)),
        ("a.0.b", "a", (0, "b")),
        ("a['']", "a", ("",)),
    ],
)
def test_selector_is_split_at_the_first_dot_or_bracket(text, task, path):
    assert parse_selector(text) == Selector(task, path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".a",
        "a.",
        "a..b",
        "a[",
        "a[x]",
        "a['x]",
        "a b",
        "a.b c",
        "a[1",
        "a[9999999999]",
        "a.b/c",
        "a]",
    ],
)
def test_selector_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        parse_selector(text)


@given(st.lists(st.text(max_size=8) | st.integers(-999, 999), max_size=4))
def test_selector_is_read_back_as_written(path):
    selector = Selector("a-b", tuple(path))

    assert parse_selector(format_selector(selector)) == selector


@given(st.text("ab.[]'\"\\0-", max_size=12))
def test_selector_parser_accepts_or_refuses_any_text(text):
    try:
        selector = parse_selector(text)
    except ValueError:
        return
    assert parse_selector(format_selector(selector)) == selector
