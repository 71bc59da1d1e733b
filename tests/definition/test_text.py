"""Bytes to text: encodings, forbidden characters, lines."""

from __future__ import annotations

import pytest

from flowbuilder.definition.limits import Limits
from flowbuilder.definition.text import Lines, decode_text
from flowbuilder.errors import WorkflowSyntaxError


def decode(text, **limits):
    return decode_text(text, file="f.yaml", limits=Limits(**limits))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_decoded_and_loses_its_mark(encoding):
    assert decode("name: é数🚀\n".encode(encoding)) == "name: é数🚀\n"


@pytest.mark.parametrize(
    ("data", "place", "word"),
    [
        (b"a: b\nc: \xff\xfe\n", "f.yaml:2:4", "0xff"),
        (b"a: \xc3\n", "f.yaml:1:4", "0xc3"),
        (b"\xff\xfe\x00\xd8", "f.yaml:1", "UTF-16"),
        (b"\xff\xfe\0\0a\0\0\0", "f.yaml:1:1", "UTF-32"),
        ("a: b".encode("utf-16-le"), "f.yaml:1:2", "NUL"),
        (b"a: b\n\0", "f.yaml:2:1", "NUL"),
        ("é\n a\x1b[0m", "f.yaml:2:3", "U+001B"),
        ("a: \ud800", "f.yaml:1:4", "surrogate"),
        ("a: x\ufeffy", "f.yaml:1:5", "U+FEFF"),
        ("a: \x7f", "f.yaml:1:4", "U+007F"),
        ("a: \uffff", "f.yaml:1:4", "U+FFFF"),
    ],
)
def test_unreadable_text_is_refused_at_its_place(data, place, word):
    with pytest.raises(WorkflowSyntaxError) as caught:
        decode(data)

    assert str(caught.value).startswith(place)
    assert word in str(caught.value)


@pytest.mark.parametrize("text", ["x" * 101, b"x" * 101, "é" * 51])
def test_text_over_the_limit_is_refused(text):
    with pytest.raises(WorkflowSyntaxError, match="at most 100 bytes"):
        decode(text, max_bytes=100)


def test_text_at_the_limit_is_read():
    assert decode("é" * 50, max_bytes=100) == "é" * 50


def test_lines_break_where_editors_break_them():
    lines = Lines("a\r\nb\rc\u2028d\u0085e\nf")

    assert len(lines) == 4
    assert [lines.line(number) for number in range(6)] == ["", "a", "b", "c\u2028d\u0085e", "f", ""]
    assert str(lines.location("x", 3)) == "x:2:1"
    assert str(lines.location("x", 11)) == "x:4:1"
