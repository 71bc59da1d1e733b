"""What a query mentions, read from DuckDB's own parse tree: tables, and filters on them.

Nothing here decides anything: `filters` says what a filter means for a column, and whoever prunes
or uses an index keeps the query's own filters in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from flowbuilder.datasets.names import fold_identifier
from flowbuilder.datasets.sql_session import SqlSession
from flowbuilder.errors import StorageError

__all__ = ["Condition", "Literal", "Mention", "QueryText", "read_query"]

_MAX_VALUES: Final = 256
_MIRRORED: Final = {
    "COMPARE_EQUAL": "COMPARE_EQUAL",
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
}
_KNOWN_TABLE_FUNCTIONS: Final = frozenset({"range", "generate_series", "unnest"})
_LOOKS_BY_NAME: Final = frozenset({"query", "query_table"})


class Literal(msgspec.Struct, frozen=True):
    """A constant as written: ``kind`` is INTEGER, NUMERIC, STRING, PARAMETER, or the type of a cast
    such as TIMESTAMP; ``text`` its text, or the parameter's name.
    """

    kind: str
    text: str


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """``column <operator> values``, one of the conditions all of which rows must meet.

    Parameters
    ----------
    path : tuple of str
        The column as written, qualified or not.
    operator : str
        ``=``, ``<``, ``<=``, ``>``, ``>=``, ``between`` or ``in``.
    """

    path: tuple[str, ...]
    operator: str
    values: tuple[Literal, ...]


class Mention(msgspec.Struct, frozen=True, kw_only=True):
    """A table the query names.

    Parameters
    ----------
    schema, name : str
        As written, without quotes.
    alias : str
        What its columns may be qualified with.
    location, length : int
        The name with its alias, in bytes of the text's UTF-8 form.
    conditions : tuple of Condition
        What every row of it must meet to matter; empty on any doubt.
    is_alone : bool
        Whether it is the only table of its SELECT, so that bare column names are its own.
    is_scan : bool
        Whether the query is nothing but a scan of it: rows come out in the order they are read.
    aliases : frozenset of str
        Names the SELECT gives its results, folded.
    """

    schema: str
    name: str
    alias: str
    location: int
    length: int
    is_aliased: bool
    conditions: tuple[Condition, ...] = ()
    is_alone: bool = False
    is_scan: bool = False
    aliases: frozenset[str] = frozenset()


class QueryText(msgspec.Struct, frozen=True, kw_only=True):
    """A query, read.

    Parameters
    ----------
    mentions : tuple of Mention
        Every table name in it; names of its own WITH clauses among them.
    is_transparent : bool
        False if it may reach tables by names that are computed: then no mention may be narrowed.
    has_bare_limit : bool
        Whether there is a LIMIT without ORDER BY, which picks rows by the order they come in.
    """

    text: str
    mentions: tuple[Mention, ...]
    is_transparent: bool
    has_bare_limit: bool

    def mentions_of(self, name: str) -> list[Mention]:
        """List the mentions of an unqualified name."""
        folded = fold_identifier(name)
        return [
            mention
            for mention in self.mentions
            if not mention.schema and fold_identifier(mention.name) == folded
        ]


def read_query(session: SqlSession, cursor: Any, text: str) -> QueryText:
    """Read a query with DuckDB's parser.

    Raises
    ------
    StorageError
        If it is not one SELECT.
    """
    known = session.recall(("query", text))
    if known is not None:
        return known  # type: ignore[no-any-return]
    answer = cursor.sql("SELECT json_serialize_sql($text)", params={"text": text}).fetchall()
    try:
        tree = msgspec.json.decode(answer[0][0])
    except RecursionError as error:
        raise StorageError(
            "the query is nested too deeply", hint="use WITH clauses instead of nesting"
        ) from error
    if tree.get("error"):
        raise StorageError(
            f"the query could not be read: {tree.get('error_message', 'unknown error')}",
            hint="a store answers one SELECT; it changes through append(), overwrite(), delete()",
        )
    statements = tree["statements"]
    if len(statements) != 1:
        raise StorageError(
            f"expected one SELECT, found {len(statements)} statements",
            hint="ask them one by one",
        )
    walker = _Walker()
    walker.walk(statements[0]["node"])
    found = QueryText(
        text=text,
        mentions=tuple(walker.mentions),
        is_transparent=walker.is_transparent,
        has_bare_limit=walker.has_bare_limit,
    )
    return session.remember(("query", text), found)  # type: ignore[no-any-return]


class _Walker:
    """Visits every node of the tree once, with a stack of its own: texts may nest deeply."""

    def __init__(self) -> None:
        self.mentions: list[Mention] = []
        self.is_transparent = True
        self.has_bare_limit = False
        self._root: object = None

    def walk(self, root: object) -> None:
        self._root = root
        stack: list[object] = [root]
        taken: set[int] = set()
        while stack:
            node = stack.pop()
            if isinstance(node, list):
                stack.extend(node)
            elif isinstance(node, Mapping):
                self._visit(node, taken)
                stack.extend(node.values())

    def _visit(self, node: Mapping[str, Any], taken: set[int]) -> None:
        kind = node.get("type")
        self.has_bare_limit |= _has_bare_limit(node)
        if kind == "SELECT_NODE" and isinstance(node.get("from_table"), Mapping):
            self._visit_select(node, taken)
        elif kind == "BASE_TABLE" and id(node) not in taken:
            self.mentions.append(_mention(node))
        elif kind == "SHOW_REF" and node.get("table_name"):
            self.mentions.append(_shown(node))
        elif kind == "TABLE_FUNCTION":
            name = (node.get("function") or {}).get("function_name", "")
            self.is_transparent &= str(name).lower() in _KNOWN_TABLE_FUNCTIONS
        if str(node.get("function_name", "")).lower() in _LOOKS_BY_NAME:
            self.is_transparent = False

    def _visit_select(self, node: Mapping[str, Any], taken: set[int]) -> None:
        tables = _plain_tables(node["from_table"])
        if tables is None or node.get("sample"):
            return  # its tables are met on the way down, without conditions
        conditions = tuple(_conditions(node.get("where_clause")))
        aliases = frozenset(
            fold_identifier(str(item.get("alias")))
            for item in node.get("select_list") or ()
            if isinstance(item, Mapping) and item.get("alias")
        )
        is_alone = node["from_table"].get("type") == "BASE_TABLE"
        is_scan = is_alone and node is self._root and _keeps_order(node)
        for table in tables:
            taken.add(id(table))
            is_plain = not (
                table.get("sample") or table.get("column_name_alias") or table.get("at_clause")
            )
            found = _mention(table)
            if is_plain:
                found = msgspec.structs.replace(
                    found,
                    conditions=conditions,
                    is_alone=is_alone,
                    is_scan=is_scan,
                    aliases=aliases,
                )
            self.mentions.append(found)


def _modifiers(node: Mapping[str, Any]) -> set[str]:
    return {str(item.get("type")) for item in node.get("modifiers") or ()}


def _has_bare_limit(node: Mapping[str, Any]) -> bool:
    modifiers = _modifiers(node)
    return any("LIMIT" in kind for kind in modifiers) and "ORDER_MODIFIER" not in modifiers


def _keeps_order(node: Mapping[str, Any]) -> bool:
    """Whether rows of a SELECT come in the order of its table: no groups, no duplicates dropped."""
    is_grouped = node.get("group_expressions") or node.get("group_sets")
    has_names = (node.get("cte_map") or {}).get("map")
    return not (is_grouped or has_names or any("DISTINCT" in kind for kind in _modifiers(node)))


def _plain_tables(tree: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """List the tables of a FROM whose joins only ever drop or multiply rows; None for any other."""
    found = []
    stack: list[Any] = [tree]
    while stack:
        node = stack.pop()
        kind = node.get("type") if isinstance(node, Mapping) else None
        if kind == "BASE_TABLE":
            found.append(node)
        elif kind == "JOIN":
            is_regular = node.get("ref_type") in {"REGULAR", "CROSS"}
            is_inner = node.get("join_type") == "INNER"
            if not is_regular or not is_inner or node.get("using_columns") or node.get("sample"):
                return None
            stack += [node.get("left"), node.get("right")]
        elif kind not in {"SUBQUERY", "TABLE_FUNCTION", "EMPTY"} or node.get("sample"):
            return None
    return found


def _mention(node: Mapping[str, Any]) -> Mention:
    name, alias = str(node.get("table_name", "")), str(node.get("alias") or "")
    path = (node.get("qualified_name") or {}).get("path") or [name]
    return Mention(
        schema=".".join(str(part) for part in path[:-1]),
        name=name,
        alias=alias or name,
        is_aliased=bool(alias),
        location=int(node.get("query_location", 0)),
        length=int(node.get("query_location_length", 0)),
    )


def _shown(node: Mapping[str, Any]) -> Mention:
    name = str(node["table_name"])
    return Mention(schema="", name=name, alias=name, is_aliased=False, location=0, length=0)


def _conditions(tree: object) -> Iterator[Condition]:
    stack = [tree]
    while stack:
        node = stack.pop()
        if not isinstance(node, Mapping):
            continue
        kind = str(node.get("type"))
        if kind == "CONJUNCTION_AND":
            stack.extend(node.get("children") or ())
        elif kind == "COMPARE_BETWEEN":
            yield from _condition(
                "between", node.get("input"), [node.get("lower"), node.get("upper")]
            )
        elif kind == "COMPARE_IN":
            children = node.get("children") or [None]
            yield from _condition("in", children[0], children[1:])
        elif kind in _MIRRORED:
            yield from _comparison(kind, node.get("left"), node.get("right"))


_OPERATORS: Final = {
    "COMPARE_EQUAL": "=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
}


def _comparison(kind: str, left: Any, right: Any) -> Iterator[Condition]:
    if isinstance(right, Mapping) and right.get("type") == "COLUMN_REF":
        kind, left, right = _MIRRORED[kind], right, left
    yield from _condition(_OPERATORS[kind], left, [right])


def _condition(operator: str, column: Any, values: list[Any]) -> Iterator[Condition]:
    if not isinstance(column, Mapping) or column.get("type") != "COLUMN_REF":
        return
    literals = [_literal(value) for value in values[: _MAX_VALUES + 1]]
    if not literals or len(literals) > _MAX_VALUES or None in literals:
        return
    yield Condition(
        path=tuple(str(part) for part in column.get("column_names") or ()),
        operator=operator,
        values=tuple(literal for literal in literals if literal is not None),
    )


def _literal(node: Any) -> Literal | None:
    if not isinstance(node, Mapping):
        return None
    kind = node.get("type")
    if kind == "VALUE_CONSTANT":
        literal = node.get("literal") or {}
        return Literal(str(literal.get("kind")), str(literal.get("text")))
    if kind == "VALUE_PARAMETER":
        return Literal("PARAMETER", str(node.get("identifier")))
    if kind == "OPERATOR_CAST" and not node.get("try_cast"):
        inner, target = _literal(node.get("child")), node.get("type_expr") or {}
        if inner is not None and inner.kind == "STRING" and not target.get("children"):
            return Literal(str(target.get("type_name", "")).upper(), inner.text)
    return None
