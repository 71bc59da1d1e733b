import time

import pytest

from flowbuilder.expressions import nearest, spelling_hint


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("ulr", ["url", "user"], "url"),
        ("URL", ["url"], "url"),
        ("depend_on", ["depends_on", "inputs"], "depends_on"),
        ("清先表", ["清洗表"], "清洗表"),
        ("zzz", ["url"], None),
        ("x" * 200, ["x" * 199], None),
        ("a", [], None),
    ],
)
def test_nearest_finds_what_was_probably_meant(name, known, expected):
    assert nearest(name, known) == expected


def test_hint_lists_the_first_names_if_nothing_is_near():
    assert spelling_hint("zzz", ["b", "a"]) == "known: 'a', 'b'"
    assert spelling_hint("zzz", []) == ""
    assert spelling_hint("zzz", [f"name{i}" for i in range(20)]).endswith(", ...")


def test_nearest_is_quick_among_many_names():
    known = {f"task_{i}": None for i in range(100_000)}
    began = time.perf_counter()

    nearest("tusk_12345", known)

    assert time.perf_counter() - began < 1
