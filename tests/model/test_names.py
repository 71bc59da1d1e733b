"""Names: any script, nothing invisible, nothing that forges a path, a log line or a page."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.model.names import MAX_NAME_LENGTH, fold_name, name_problem, suggest_name

GOOD = [
    "a", "_", "fetch_data", "fetch-data", "Task2", "数据处理", "любой", "été", "हिन्दी", "ข้อมูล", "_2",
    "con", "class", "__proto__", "__class__", "a" * 128,
]  # fmt: skip
BAD = [
    "", "2a", "-a", "a b", " a", "a\n", "a/b", "../x", "$(id)", ";rm", "{{7*7}}", "a.b", "a[0]",
    "<img src=x onerror=alert(1)>", "javascript:alert(1)", "=cmd()", "a\x1b[31m", "a\nb", "a\0", "a\tb",
    "a\u202eb", "a\u200bb", "a\u200db", "a\ufeffb", "a\u00adb", "a\ufe0fb", "a\u3164b", "\u3164", "🚀", "a🚀",
    "e\u0301te\u0301", "x" * 129, "x" * 10_000, "\ud800", "a\u2028b", "a\u0085b", "½", "²a", "ⓐ",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_name_of_any_script_is_accepted(name):
    assert name_problem(name) is None


@pytest.mark.parametrize("name", BAD)
def test_name_that_could_mislead_is_refused_with_a_printable_reason(name):
    problem = name_problem(name)

    assert problem is not None
    assert problem.isprintable()
    assert len(problem) < 200


def test_name_length_is_counted_in_characters():
    assert name_problem("数" * MAX_NAME_LENGTH) is None
    assert name_problem("数" * (MAX_NAME_LENGTH + 1)) == "it has 129 characters, 128 are allowed"


@pytest.mark.parametrize(
    ("one", "other"),
    [("Fetch", "fetch"), ("straße", "STRASSE"), ("ﬁle", "file"), ("ａ", "a"), ("Ω", "Ω")],
)
def test_fold_makes_look_alikes_equal(one, other):
    assert fold_name(one) == fold_name(other)


@given(st.text(max_size=20))
def test_fold_is_idempotent(text):
    assert fold_name(fold_name(text)) == fold_name(text)


@given(st.text(max_size=200))
def test_suggestion_is_a_valid_name_or_nothing(text):
    suggestion = suggest_name(text)

    assert suggestion == "" or name_problem(suggestion) is None


@pytest.mark.parametrize(
    ("text", "expected"), [("my task", "my_task"), ("2nd", "_2nd"), ("a/b", "a_b"), ("🚀", "")]
)
def test_suggestion_stays_close(text, expected):
    assert suggest_name(text) == expected


@given(st.text(min_size=1, max_size=10))
def test_valid_name_is_normalised_text(text):
    if name_problem(text) is None:
        assert unicodedata.normalize("NFC", text) == text
        assert text.isprintable()
