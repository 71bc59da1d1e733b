"""The core schema of YAML 1.2."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.definition.scalars import resolve_scalar, resolve_tagged


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("NULL", None), ("nUll", "nUll"),
        ("true", True), ("False", False), ("tRue", "tRue"),
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("off", "off"), ("y", "y"), ("N", "N"),
        ("12:30:45", "12:30:45"), ("2024-01-02", "2024-01-02"), ("1_000", "1_000"), ("1,5", "1,5"),
        ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"), ("=", "="), ("<<", "<<"),
        ("0", 0), ("-0", 0), ("+12", 12), ("007", 7), ("0o17", 15), ("0x1F", 31), ("0b11", "0b11"),
        ("-0o17", "-0o17"), ("0o8", "0o8"), ("0xG", "0xG"), ("+", "+"), ("-", "-"), (".", "."),
        ("1.", 1.0), (".5", 0.5), ("-1.5e3", -1500.0), ("1e3", 1000.0), ("1e", "1e"), ("1.2.3", "1.2.3"),
        (".inf", math.inf), ("-.INF", -math.inf), ("inf", "inf"), ("nan", "nan"), ("١٢", "١٢"),
        ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63)),
    ],
)  # fmt: skip
def test_scalar_has_the_value_of_the_core_schema(text, value):
    resolved = resolve_scalar(text)

    assert resolved == value
    assert type(resolved) is type(value)


def test_scalar_nan_is_a_number():
    assert math.isnan(resolve_scalar(".NaN"))


@pytest.mark.parametrize("text", ["9223372036854775808", "-9223372036854775809", "9" * 100_000])
def test_scalar_over_64_bits_is_refused(text):
    with pytest.raises(ValueError, match="64 bits"):
        resolve_scalar(text)


@given(st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False))
def test_scalar_gives_back_what_python_writes(number):
    shown = repr(number).replace("inf", ".inf")

    assert resolve_scalar(shown) == number


@pytest.mark.parametrize(
    ("text", "tag", "value"),
    [
        ("5", "str", "5"),
        ("5", "int", 5),
        ("5", "float", 5.0),
        ("true", "bool", True),
        ("", "null", None),
    ],
)
def test_tag_of_the_core_schema_is_honoured(text, tag, value):
    resolved = resolve_tagged(text, f"tag:yaml.org,2002:{tag}")

    assert resolved == value
    assert type(resolved) is type(value)


@pytest.mark.parametrize(
    ("text", "tag"), [("x", "int"), ("true", "int"), ("1", "bool"), ("a", "float")]
)
def test_tag_with_another_value_is_refused(text, tag):
    with pytest.raises(ValueError, match=f"!!{tag}"):
        resolve_tagged(text, f"tag:yaml.org,2002:{tag}")
