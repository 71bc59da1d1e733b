"""SQL text cut into tokens, in linear time and without a database.

Just enough of DuckDB's lexical rules to tell names from strings, comments and parameters. It never
fails: what is not closed runs to the end of the text, and DuckDB reports the mistake when the query
runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum

import msgspec

__all__ = ["SqlToken", "TokenKind", "sql_tokens"]


class TokenKind(StrEnum):
    """What a token is."""

    WORD = "word"
    """A keyword or a plain name."""
    QUOTED = "quoted"
    """A name in double quotes; the text is the name itself."""
    STRING = "string"
    NUMBER = "number"
    PARAMETER = "parameter"
    """``$name`` (the text is the name), or a positional ``?`` or ``$1`` as written."""
    SYMBOL = "symbol"


class SqlToken(msgspec.Struct, frozen=True):
    """One token; ``line`` is 1-based."""

    kind: TokenKind
    text: str
    line: int


# The alternatives begin with different characters, so no input makes the engine backtrack far.
_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*+(?:'|\Z|\\\Z))
    | (?P<string>'(?:[^']|'')*+(?:'|\Z))
    | (?P<quoted>"(?:[^"]|"")*+(?:"|\Z))
    | (?P<parameter>\$[^\W\d]\w*(?!\w*\$)|\$\d+|\?)
    | (?P<word>[^\W\d][\w]*)
    | (?P<number>\d[\w.]*)
    | (?P<symbol>::|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_DOLLAR_TAG = re.compile(r"\$(?:[^\W\d]\w*)?\$")
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def sql_tokens(text: str) -> Iterator[SqlToken]:
    """Cut ``text`` into tokens, leaving out white space and comments.

    Parameters
    ----------
    text : str
        One or several statements; any text at all is accepted.

    Yields
    ------
    SqlToken
        In order, with the line each begins on.

    Notes
    -----
    Block comments nest and ``$tag$ ... $tag$`` is a string, as in DuckDB.
    """
    position, line = 0, 1
    while position < len(text):
        end, kind, value = _token_at(text, position)
        if kind is not None:
            yield SqlToken(kind, value, line)
        line += text.count("\n", position, end)
        position = end


def _token_at(text: str, position: int) -> tuple[int, TokenKind | None, str]:
    if text.startswith("/*", position):
        return _comment_end(text, position), None, ""
    if text[position] == "$" and (tag := _DOLLAR_TAG.match(text, position)):
        close = text.find(tag[0], tag.end())
        inner_end, end = (len(text), len(text)) if close < 0 else (close, close + len(tag[0]))
        return end, TokenKind.STRING, text[tag.end() : inner_end]
    match = _TOKEN.match(text, position)
    assert match is not None  # `symbol` takes any character
    return match.end(), *_classify(match)


def _classify(match: re.Match[str]) -> tuple[TokenKind | None, str]:
    value = match[0]
    match match.lastgroup:
        case "space":
            return None, ""
        case "escaped":
            return TokenKind.STRING, value[2:-1]
        case "string":
            return TokenKind.STRING, _unquote(value, "'")
        case "quoted":
            return TokenKind.QUOTED, _unquote(value, '"')
        case "parameter":
            is_named = len(value) > 1 and not value[1].isdigit()
            return TokenKind.PARAMETER, value[1:] if is_named else value
        case kind:
            return TokenKind(str(kind)), value


def _unquote(value: str, quote: str) -> str:
    body = value[1:-1] if len(value) > 1 and value.endswith(quote) else value[1:]
    return body.replace(quote * 2, quote)


def _comment_end(text: str, start: int) -> int:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)
