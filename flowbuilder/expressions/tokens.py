"""The words of an expression: a bounded scan that decides what CEL may see at all.

Everything CEL's own parser would recurse on is counted here first, because that parser cannot be
trusted with text it has not been told is small.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from flowbuilder.errors import ExpressionError

__all__ = ["MAX_NESTING", "MAX_SOURCE_BYTES", "Token", "check_size", "read_tokens", "shorten"]

MAX_SOURCE_BYTES: Final = 4_096
"""Longest expression, in bytes of UTF-8."""

MAX_NESTING: Final = 32
"""Deepest nesting of brackets."""

_PAIRS: Final = {")": "(", "]": "[", "}": "{"}
_WORD = r"""
    (?P<space>(?:\s|//[^\n]*)+)
  | (?P<string>
        (?:[rR][bB]?|[bB][rR]) (?: \"\"\"[\s\S]*?\"\"\" | '''[\s\S]*?'''
                                 | "[^"\n]*" | '[^'\n]*' )
      | [bB]? (?: \"\"\"(?:[^\\]|\\.)*?\"\"\" | '''(?:[^\\]|\\.)*?'''
                | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' )
    )
  | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[uU]?)
  | (?P<name>[^\W\d]\w*)
  | (?P<operator>&&|\|\||[=!<>]=|[<>+\-*/%!?:.,()\[\]{}])
"""
_PYTHON_OPERATORS = {"=": "compare with '=='", "&": "write '&&'", "|": "write '||'"}


class Token(NamedTuple):
    """One word; ``kind`` is string, number, name or operator."""

    kind: str
    text: str
    start: int
    end: int


def shorten(text: str, limit: int = 60) -> str:
    """Quote ``text`` for a message: on one line, cut to ``limit`` characters, nothing invisible."""
    words = " ".join(text[: 4 * limit].split())
    flat = "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}" for character in words
    )
    return f"`{flat}`" if len(flat) <= limit else f"`{flat[: limit - 3]}...`"


def check_size(text: str) -> None:
    """Raise `ExpressionError` if ``text`` is too long, empty, or not Unicode."""
    if len(text) > MAX_SOURCE_BYTES or len(text.encode("utf-8", "replace")) > MAX_SOURCE_BYTES:
        raise ExpressionError(
            f"expected an expression of at most {MAX_SOURCE_BYTES} bytes, found {len(text)} "
            f"characters: {shorten(text)}",
            hint="compute it in a task instead",
        )
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ExpressionError(f"expected Unicode text, found a lone surrogate in {shorten(text)}")
    if not text.strip():
        raise ExpressionError("expected an expression, found nothing", hint="e.g. params.url")


def read_tokens(text: str, start: int = 0, *, is_embedded: bool = False) -> tuple[list[Token], int]:
    """Split an expression into words, checking that its brackets match.

    Parameters
    ----------
    text : str
        The expression, or a text that contains one.
    start : int
        Where the expression begins.
    is_embedded : bool
        Whether the expression ends at the first ``}}`` outside its own brackets and strings.

    Returns
    -------
    tokens : list of Token
        Without white space and comments.
    end : int
        Index of the closing ``}}``, or the length of ``text``.

    Raises
    ------
    ExpressionError
        For a character that cannot occur, brackets that do not match or nest too deeply, or
        (embedded) no end.
    """
    tokens: list[Token] = []
    open_brackets: list[str] = []
    limit = min(len(text), start + MAX_SOURCE_BYTES + 2)
    at = start
    # Compiled at the first use, by `re` itself: most workflows hold paths only.
    pattern = re.compile(_WORD, re.VERBOSE | re.DOTALL)
    while at < limit:
        if is_embedded and not open_brackets and text.startswith("}}", at):
            return tokens, at
        match = pattern.match(text, at, limit)
        if match is None:
            raise _unreadable(text, start, at)
        kind, at = str(match.lastgroup), match.end()
        if kind == "space":
            continue
        if kind == "name":
            at = _end_of_name(text, at, limit)
        token = Token(kind, text[match.start() : at], match.start(), at)
        if kind == "operator":
            _track_brackets(token, open_brackets, text[start:])
        tokens.append(token)
    if is_embedded:
        raise ExpressionError(
            f"expected '}}}}' after {shorten(text[start:])}",
            hint=f"close it within {MAX_SOURCE_BYTES} bytes, or write $${{{{ for a literal ${{{{",
        )
    if open_brackets:
        raise ExpressionError(f"{open_brackets[-1]!r} is never closed in {shorten(text)}")
    return tokens, at


def _end_of_name(text: str, at: int, limit: int) -> int:
    # Marks belong to the letters of many scripts, but `\w` leaves them out.
    while at < limit and not text[at].isascii() and ("a" + text[at]).isidentifier():
        at += 1
    return at


def _track_brackets(token: Token, open_brackets: list[str], source: str) -> None:
    if token.text in "([{":
        open_brackets.append(token.text)
        if len(open_brackets) > MAX_NESTING:
            raise ExpressionError(
                f"expected brackets nested at most {MAX_NESTING} deep in {shorten(source)}",
                hint="compute it in a task instead",
            )
    elif token.text in _PAIRS and (not open_brackets or open_brackets.pop() != _PAIRS[token.text]):
        raise ExpressionError(f"{token.text!r} closes nothing in {shorten(source)}")


def _unreadable(text: str, start: int, at: int) -> ExpressionError:
    character = text[at]
    if character in "'\"":
        return ExpressionError(f"the text that begins at {shorten(text[at:], 30)} is never closed")
    shown = repr(character) if character.isprintable() else f"U+{ord(character):04X}"
    return ExpressionError(
        f"unexpected {shown} in {shorten(text[start:])}", hint=_PYTHON_OPERATORS.get(character, "")
    )
