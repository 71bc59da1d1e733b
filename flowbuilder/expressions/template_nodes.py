"""Compiled config trees: what is constant is handed out as it is, only the rest is built anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

from flowbuilder.errors import ExpressionError
from flowbuilder.expressions.expression import Expression
from flowbuilder.expressions.interpolation import OPENING, TextPart, parse_text, render_text
from flowbuilder.expressions.scope import Scope

__all__ = ["MAX_DEPTH", "Constant", "Node", "Reading", "Site", "SitePath"]

MAX_DEPTH: Final = 100
"""Deepest tree a template may be; deeper ones are not written by people."""

SitePath = tuple[str | int, ...]
Site = tuple[SitePath, Expression]
"""Where an expression stands in the tree, and the expression."""


class Node(Protocol):
    """A compiled part of a tree."""

    def render(self, scope: Scope) -> object:
        """Give the part with values in place of expressions."""
        ...


class Constant:
    """A part without expressions."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def render(self, scope: Scope) -> object:
        """Give the original object."""
        del scope
        return self.value


class _Text:
    """Text with expressions inside."""

    __slots__ = ("_parts",)

    def __init__(self, parts: list[TextPart]) -> None:
        self._parts = parts

    def render(self, scope: Scope) -> object:
        return render_text(self._parts, scope)


class _Whole:
    """Text that is one expression, whose value keeps its type."""

    __slots__ = ("render",)

    def __init__(self, expression: Expression) -> None:
        self.render = expression.evaluate


class _Mapping:
    """A mapping, of which the ``changing`` members are rendered."""

    __slots__ = ("_base", "_changing")

    def __init__(self, base: dict[object, object], changing: list[tuple[object, Node]]) -> None:
        self._base = base
        self._changing = changing

    def render(self, scope: Scope) -> object:
        tree = self._base.copy()
        for key, node in self._changing:
            tree[key] = node.render(scope)
        return tree


class _Sequence:
    """A sequence, of which the ``changing`` members are rendered."""

    __slots__ = ("_base", "_changing")

    def __init__(self, base: list[object], changing: list[tuple[int, Node]]) -> None:
        self._base = base
        self._changing = changing

    def render(self, scope: Scope) -> object:
        tree = self._base.copy()
        for position, node in self._changing:
            tree[position] = node.render(scope)
        return tree


class Reading:
    """Compiles one tree; shared parts once, so a tree of aliases costs what it weighs in memory.

    Parameters
    ----------
    raw : collection of str
        Top-level keys whose values are left as written.
    """

    def __init__(self, raw: Collection[str]) -> None:
        self.sites: list[Site] = []
        self.problems: list[tuple[SitePath, ExpressionError]] = []
        self._raw = raw
        self._known: dict[int, Node | None] = {}

    def node(self, value: object, path: SitePath) -> Node:
        """Compile the part at ``path``; what cannot be read becomes a problem and stays."""
        if isinstance(value, str):
            return self._text(value, path) if OPENING in value else Constant(value)
        if not isinstance(value, dict | list | tuple | Mapping):  # the usual kinds first
            return Constant(value)
        if id(value) not in self._known:
            self._known[id(value)] = None
            self._known[id(value)] = self._collection(value, path)
        known = self._known[id(value)]
        if known is None:
            self.problems.append((path[:8], ExpressionError("expected a tree, found a cycle")))
            return Constant(value)
        return known

    def _collection(
        self, value: Mapping[object, object] | Sequence[object], path: SitePath
    ) -> Node:
        if len(path) >= MAX_DEPTH:
            problem = ExpressionError(
                f"expected data nested at most {MAX_DEPTH} deep around ${{{{ }}}}"
            )
            self.problems.append((path[:8], problem))
            return Constant(value)
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        return self._sequence(value, path)

    def _mapping(self, value: Mapping[object, object], path: SitePath) -> Node:
        base = dict(value)
        changing: list[tuple[object, Node]] = []
        has_changed = False
        for key, member in value.items():
            if not path and key in self._raw:
                continue
            place = (*path, key if isinstance(key, int) else str(key))
            self._check_key(key, place)
            node = self.node(member, place)
            if not isinstance(node, Constant):
                changing.append((key, node))
            elif node.value is not member:
                base[key], has_changed = node.value, True
        if changing:
            return _Mapping(base, changing)
        return Constant(base if has_changed else value)

    def _sequence(self, value: Sequence[object], path: SitePath) -> Node:
        base = list(value)
        changing: list[tuple[int, Node]] = []
        has_changed = False
        for position, member in enumerate(value):
            node = self.node(member, (*path, position))
            if not isinstance(node, Constant):
                changing.append((position, node))
            elif node.value is not member:
                base[position], has_changed = node.value, True
        if changing:
            return _Sequence(base, changing)
        return Constant(base if has_changed else value)

    def _check_key(self, key: object, place: SitePath) -> None:
        if isinstance(key, str) and OPENING in key:
            problem = ExpressionError(
                "expected ${{ }} in a value, found it in a key", hint="write the key as plain text"
            )
            self.problems.append((place, problem))

    def _text(self, text: str, path: SitePath) -> Node:
        try:
            parts = parse_text(text)
        except ExpressionError as error:
            self.problems.append((path, error))
            return Constant(text)
        found = [part for part in parts if isinstance(part, Expression)]
        self.sites += ((path, expression) for expression in found)
        if not found:
            return Constant("".join(part for part in parts if isinstance(part, str)))
        return _Whole(found[0]) if len(parts) == 1 else _Text(parts)
