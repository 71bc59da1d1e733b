"""Readers of single settings."""

from __future__ import annotations

import pytest

from flowbuilder.config import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (17, 17),
        ("17", 17),
        ("200k", 200_000),
        ("1.5GB", 1_500_000_000),
        (" 64 MiB ", 64 * 2**20),
        ("2tib", 2 * 2**40),
        ("0.5 KiB", 512),
        ("10B", 10),
    ],
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "k", "1 XB", "-1", "1e3", "1..5k", None, 1.5, True, "1k1", "٣"]
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(text)
