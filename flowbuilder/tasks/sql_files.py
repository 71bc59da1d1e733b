"""Whether a query reads files, as far as its text tells."""

from __future__ import annotations

import re

from flowbuilder.tasks.sql_names import sql_outline
from flowbuilder.tasks.sql_tokens import SqlToken, TokenKind, sql_tokens

__all__ = ["reads_files"]

_READERS = re.compile(
    r"(read|sniff)_\w+|\w+_(scan|metadata|schema)|glob|query|query_table", re.IGNORECASE
)
_BEFORE_TABLE = frozenset({"FROM", "JOIN", "DESCRIBE", "SUMMARIZE", "TABLE"})


def reads_files(query: str) -> bool:
    """Tell whether a query names files: by a function that reads them, or in place of a table.

    In doubt it says yes.
    """
    if any("." in name or "/" in name for name in sql_outline(query).tables):
        return True
    places = _Places()
    before: SqlToken | None = None
    for token in sql_tokens(query):
        if places.is_file(before, token):
            return True
        places.follow(token)
        before = token
    return False


class _Places:
    """Knows, token by token, whether a table may stand here."""

    def __init__(self) -> None:
        self._depth = 0
        self._from_depths = [-1]

    def is_file(self, before: SqlToken | None, token: SqlToken) -> bool:
        if before is None:
            return False
        if token.kind is TokenKind.STRING:
            return self._expects_table(before)
        is_call = token.kind is TokenKind.SYMBOL and token.text == "("
        is_name = before.kind is TokenKind.WORD
        return is_call and is_name and _READERS.fullmatch(before.text) is not None

    def _expects_table(self, before: SqlToken) -> bool:
        if before.kind is TokenKind.WORD:
            return before.text.upper() in _BEFORE_TABLE
        is_comma = before.kind is TokenKind.SYMBOL and before.text == ","
        return is_comma and self._depth == self._from_depths[-1]

    def follow(self, token: SqlToken) -> None:
        if token.kind is TokenKind.WORD and token.text.upper() in _BEFORE_TABLE:
            self._from_depths.append(self._depth)
        elif token.kind is TokenKind.SYMBOL and token.text == "(":
            self._depth += 1
        elif token.kind is TokenKind.SYMBOL and token.text == ")":
            self._depth -= 1
            while self._from_depths[-1] > self._depth >= 0:
                self._from_depths.pop()
