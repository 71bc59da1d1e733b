"""What a SQL text mentions: tables, bound parameters, anything beyond its own tables.

Works on tokens with an explicit stack, so that planning a workflow needs no database and no deep
nesting can overflow.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from flowbuilder.tasks.sql_tokens import SqlToken, TokenKind, sql_tokens

__all__ = ["SqlOutline", "sql_outline"]

_QUERY_STARTS = frozenset({"SELECT", "WITH", "FROM", "VALUES", "TABLE"})
_DESCRIBERS = frozenset({"DESCRIBE", "DESC", "SUMMARIZE", "SHOW", "PIVOT", "UNPIVOT"})
_TABLE_STARTS = _DESCRIBERS | {"TABLE", "COPY"}
_FROM_ENDS = frozenset(
    {
        "SELECT",
        "WHERE",
        "GROUP",
        "ORDER",
        "HAVING",
        "LIMIT",
        "OFFSET",
        "WINDOW",
        "QUALIFY",
        "UNION",
        "EXCEPT",
        "INTERSECT",
        "SET",
        "RETURNING",
        "VALUES",
        "FETCH",
    }
)
_NOT_TABLES = _FROM_ENDS | frozenset(
    {
        "FROM",
        "WITH",
        "JOIN",
        "ON",
        "USING",
        "AS",
        "INNER",
        "LEFT",
        "RIGHT",
        "FULL",
        "OUTER",
        "CROSS",
        "NATURAL",
        "POSITIONAL",
        "ASOF",
        "SEMI",
        "ANTI",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "AND",
        "OR",
        "NOT",
        "NULL",
        "TRUE",
        "FALSE",
        "DISTINCT",
        "ALL",
        "IN",
        "IS",
    }
)
_FROM_FUNCTIONS = frozenset({"EXTRACT", "SUBSTRING", "TRIM", "OVERLAY", "POSITION"})
_PRIVATE_STARTS = _QUERY_STARTS | frozenset(
    {
        "DESCRIBE",
        "DESC",
        "SUMMARIZE",
        "SHOW",
        "PIVOT",
        "UNPIVOT",
        "CREATE",
        "INSERT",
        "UPDATE",
        "DELETE",
        "DROP",
        "ALTER",
        "TRUNCATE",
        "SET",
        "RESET",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
    }
)
_CTE_HEAD_AFTER = frozenset({"AS", "(", "USING"})
_CTE_BODY_AFTER = frozenset({"AS", "MATERIALIZED"})
_PASSED = frozenset({"LATERAL", "ONLY", "AS"})
_OPENERS, _CLOSERS = frozenset("([{"), frozenset(")]}")
_CREATE_WORDS = frozenset(
    {
        "OR",
        "REPLACE",
        "TEMP",
        "TEMPORARY",
        "TABLE",
        "VIEW",
        "MACRO",
        "FUNCTION",
        "RECURSIVE",
        "IF",
        "NOT",
        "EXISTS",
    }
)


class SqlOutline(msgspec.Struct, frozen=True, kw_only=True):
    """What planning needs to know of a SQL text.

    Parameters
    ----------
    tables : tuple of str
        Unqualified names in table position that nothing in the text defines, in order, each once.
    parameters : tuple of tuple
        ``(name, line)`` of each ``$name``, first mention; ``?`` and ``$1`` appear as written.
    statements : int
        How many statements there are, empty ones not counted.
    is_contained : bool
        Whether every statement only reads, or changes tables that vanish with the query. False for
        ``COPY``, ``ATTACH`` and everything unknown.
    ends_in_query : bool
        Whether the last statement returns rows.
    """

    tables: tuple[str, ...] = ()
    parameters: tuple[tuple[str, int], ...] = ()
    statements: int = 0
    is_contained: bool = True
    ends_in_query: bool = False


@dataclass(slots=True)
class _Frame:
    """One level of parentheses."""

    expects_table: bool = False
    in_from: bool = False
    allows_from: bool = True
    """False inside ``extract(... FROM x)`` and its kin."""
    at_start: bool = True
    cte: str = "off"
    """Progress in a WITH clause: off, name, head (after the name), body (inside), next."""
    cte_name: str = ""
    is_recursive: bool = False
    names: set[str] = field(default_factory=set)


class _Walker:
    """Follows the tokens of one text."""

    def __init__(self) -> None:
        self.tables: dict[str, str] = {}
        self.parameters: dict[str, int] = {}
        self.created: set[str] = set()
        self.creating = ""
        self.leads: list[str] = []
        self.frames = [_Frame()]
        self.visible: Counter[str] = Counter()
        """How many open frames define a name."""

    def walk(self, tokens: list[SqlToken]) -> None:
        """Take every token once."""
        index = 0
        while index < len(tokens):
            index = self._step(tokens, index)

    def _step(self, tokens: list[SqlToken], index: int) -> int:
        token, frame = tokens[index], self.frames[-1]
        if token.kind is TokenKind.PARAMETER:
            self.parameters.setdefault(token.text, token.line)
        if token.kind is TokenKind.SYMBOL:
            self._symbol(tokens, index)
            return index + 1
        starts, frame.at_start = frame.at_start, False
        if token.kind is TokenKind.QUOTED or token.kind is TokenKind.WORD:
            if starts and len(self.frames) == 1 and (after := self._lead(tokens, index)):
                return after
            return self._name(tokens, index, starts=starts)
        frame.expects_table = False
        return index + 1

    def _symbol(self, tokens: list[SqlToken], index: int) -> None:
        frame, text = self.frames[-1], tokens[index].text
        if text in _OPENERS:
            self._open(tokens, index)
        elif text in _CLOSERS:
            self._close()
        elif text == ";":
            self.frames = [_Frame()]
            self.visible.clear()
            self.created.add(self.creating)
        elif text == ",":
            if frame.cte == "next":
                frame.cte = "name"
            elif frame.in_from:
                frame.expects_table = True

    def _open(self, tokens: list[SqlToken], index: int) -> None:
        frame, before = self.frames[-1], tokens[index - 1] if index else None
        if frame.at_start and len(self.frames) == 1:
            self.leads.append("SELECT")
        inner = _Frame(expects_table=frame.expects_table, in_from=frame.expects_table)
        if before is not None and before.kind is TokenKind.WORD:
            inner.allows_from = before.text.upper() not in _FROM_FUNCTIONS
        if frame.cte == "head" and before is not None and before.text.upper() in _CTE_BODY_AFTER:
            frame.cte = "body"
            if frame.is_recursive:
                self._define(frame)
        frame.expects_table = False
        frame.at_start = False
        self.frames.append(inner)

    def _close(self) -> None:
        if len(self.frames) == 1:
            return
        self.visible.subtract(self.frames.pop().names)
        frame = self.frames[-1]
        if frame.cte == "body":
            self._define(frame)
            frame.cte = "next"

    def _define(self, frame: _Frame) -> None:
        if frame.cte_name not in frame.names:
            frame.names.add(frame.cte_name)
            self.visible[frame.cte_name] += 1

    def _name(self, tokens: list[SqlToken], index: int, *, starts: bool) -> int:
        frame, token = self.frames[-1], tokens[index]
        word = token.text.upper() if token.kind is TokenKind.WORD else ""
        if frame.cte == "name":
            frame.cte, frame.cte_name = "head", token.text.casefold()
            return index + 1
        if frame.cte == "next":
            frame.cte = "off"
            starts = True
        if word == "WITH" and (after := self._with(tokens, index + 1)):
            return after
        if word == "JOIN" or (word == "FROM" and self._is_clause(tokens, index)):
            frame.expects_table = frame.in_from = True
        elif word in _TABLE_STARTS and starts:
            frame.expects_table = True
        elif word in _FROM_ENDS:
            frame.expects_table = frame.in_from = False
        elif frame.expects_table and word not in _PASSED:
            return self._table(tokens, index, word)
        return index + 1

    def _lead(self, tokens: list[SqlToken], index: int) -> int:
        """Note how a statement begins; return where to go on if it was ``CREATE``, else 0."""
        word = tokens[index].text.upper()
        if word != "CREATE":
            self.leads.append(word)
            return 0
        after = index + 1
        while after < len(tokens) and tokens[after].text.upper() in _CREATE_WORDS:
            after += 1
        is_kept = after < len(tokens) and tokens[after].text.upper() in {"PERSISTENT", "SECRET"}
        self.leads.append("CREATE SECRET" if is_kept else word)
        if after < len(tokens) and tokens[after].kind in {TokenKind.WORD, TokenKind.QUOTED}:
            self.creating = tokens[after].text.casefold()
            after += 1
        return after

    def _with(self, tokens: list[SqlToken], after: int) -> int:
        """Enter a WITH clause; return the index of its first name, 0 if it is another WITH."""
        is_recursive = after < len(tokens) and tokens[after].text.upper() == "RECURSIVE"
        after += is_recursive
        heads = [token.text.upper() for token in tokens[after + 1 : after + 2]]
        if not heads or heads[0] not in _CTE_HEAD_AFTER:
            return 0
        frame = self.frames[-1]
        frame.cte, frame.is_recursive = "name", is_recursive
        frame.expects_table = frame.in_from = False
        return after

    def _is_clause(self, tokens: list[SqlToken], index: int) -> bool:
        before = [token.text.upper() for token in tokens[max(0, index - 2) : index]]
        is_comparison = before[-1:] == ["DISTINCT"] and before[0] in {"IS", "NOT"}
        return self.frames[-1].allows_from and not is_comparison

    def _table(self, tokens: list[SqlToken], index: int, word: str) -> int:
        """Take a table name, qualified or not; return the index after it."""
        after = index + 1
        if _is_symbol(tokens, after, ":"):  # DuckDB's `FROM alias: table`
            return after + 1
        self.frames[-1].expects_table = False
        is_plain = True
        while _is_symbol(tokens, after, ".") and after + 1 < len(tokens):
            after, is_plain = after + 2, False
        if is_plain and word not in _NOT_TABLES and not _is_symbol(tokens, after, "("):
            self._mention(tokens[index].text)
        return after

    def _mention(self, name: str) -> None:
        folded = name.casefold()
        if folded not in self.created and self.visible[folded] <= 0:
            self.tables.setdefault(folded, name)


def _is_symbol(tokens: list[SqlToken], index: int, text: str) -> bool:
    return (
        index < len(tokens)
        and tokens[index].kind is TokenKind.SYMBOL
        and tokens[index].text == text
    )


def sql_outline(text: str) -> SqlOutline:
    """Read what a SQL text mentions.

    Parameters
    ----------
    text : str
        One or several statements; any text at all is accepted.

    Returns
    -------
    SqlOutline
        Common table expressions, created tables, functions, qualified names and aliases are not
        among ``tables``.

    Notes
    -----
    Linear in the text, about 4 us per token.
    """
    walker = _Walker()
    walker.walk(list(sql_tokens(text)))
    last = walker.leads[-1] if walker.leads else ""
    return SqlOutline(
        tables=tuple(walker.tables.values()),
        parameters=tuple(walker.parameters.items()),
        statements=len(walker.leads),
        is_contained=all(lead in _PRIVATE_STARTS for lead in walker.leads),
        ends_in_query=last in _QUERY_STARTS or last in _DESCRIBERS,
    )
