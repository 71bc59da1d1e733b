"""Texts as they are indexed: words of every script become words of their own.

SQLite's tokenizer splits at spaces and punctuation, so that ``user_id`` is found by ``user``, and a
query for ``user_id`` is the phrase of both. Chinese and Japanese have no spaces: an invisible
separator between their characters makes each a word, and a query a phrase of them.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = [
    "MARK_END",
    "MARK_START",
    "Snippet",
    "has_words",
    "plain_text",
    "read_snippet",
    "segment",
]

_IDEOGRAPHS = "\u2e80-\u303f\u3040-\u30ff\u3100-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_BOUNDARY = re.compile(
    f"(?<=[{_IDEOGRAPHS}\U00020000-\U0003ffff])(?=[^\\s])"
    f"|(?<=[^\\s])(?=[{_IDEOGRAPHS}\U00020000-\U0003ffff])"
)
_SEPARATOR: Final = "\u200b"
MARK_START: Final = "\x02"
MARK_END: Final = "\x03"
_RESERVED = str.maketrans({MARK_START: " ", MARK_END: " ", "\x00": " "})
_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"\w")


def segment(text: str) -> str:
    """Prepare a text for the index, or for a query."""
    text = text.translate(_RESERVED)
    return text if text.isascii() else _BOUNDARY.sub(_SEPARATOR, text)


def plain_text(text: str) -> str:
    """Give a prepared text as it was."""
    return text.replace(_SEPARATOR, "")


def has_words(text: str) -> bool:
    """Whether there is anything in a text that could be found."""
    return _WORD.search(text.replace("_", " ")) is not None


class Snippet(NamedTuple):
    """A piece of a text, on one line, and where in it the matches are."""

    text: str
    marks: list[tuple[int, int]]
    """Start and end of every match, in characters."""


def read_snippet(marked: str) -> Snippet:
    """Turn what the index cuts out into plain text and places."""
    text = _SPACE.sub(" ", plain_text(marked)).strip()
    pieces: list[str] = []
    marks: list[tuple[int, int]] = []
    start, length = -1, 0
    for piece in re.split(f"([{MARK_START}{MARK_END}])", text):
        if piece == MARK_START:
            start = length
        elif piece == MARK_END:
            # Neighbouring words of a phrase are one match.
            if marks and marks[-1][1] == start:
                start = marks.pop()[0]
            marks.append((start, length))
        else:
            pieces.append(piece)
            length += len(piece)
    return Snippet("".join(pieces), marks)
