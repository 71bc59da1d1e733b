"""Expressions: parsed once, evaluated often. A path is looked up; anything more is CEL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from flowbuilder.errors import ExpressionError, FlowBuilderError
from flowbuilder.expressions.outline import Outline, Variable, outline
from flowbuilder.expressions.paths import Path, follow, read_path, take_step
from flowbuilder.expressions.plain_values import Weight, to_plain
from flowbuilder.expressions.scope import Scope
from flowbuilder.expressions.spelling import spelling_hint
from flowbuilder.expressions.tokens import check_size

__all__ = ["Expression", "parse_expression", "read_expression", "read_lookup"]

_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
_QUOTED = re.compile(r"'[^'\\\n]*'|\"[^\"\\\n]*\"")
_WORDS: Final[Mapping[str, object]] = {"true": True, "false": False, "null": None}


class Expression:
    """A parsed expression. Immutable and thread-safe.

    Parameters
    ----------
    text : str
        As written, without surrounding white space.
    """

    __slots__ = ("references", "text")

    is_path: bool = False
    """Whether it is only a path, looked up by reference and without CEL."""

    def __init__(self, text: str, references: frozenset[tuple[str, ...]]) -> None:
        self.text = text
        self.references = references
        """Paths it mentions, up to the first position: ``("tasks", "clean", "output")``."""

    def __repr__(self) -> str:
        return f"<Expression {self.text!r}>"

    @property
    def is_constant(self) -> bool:
        """Whether it mentions nothing, so that its value is always the same."""
        return not self.references

    def verify(self) -> None:
        """Make sure CEL accepts it.

        Raises
        ------
        ExpressionError
            If it does not. Imports the CEL package if the expression needs it.
        """

    def evaluate(self, scope: Scope) -> object:
        """Compute the value.

        Parameters
        ----------
        scope : Scope
            Gives the roots their values; asked only for what the expression mentions.

        Returns
        -------
        object
            For a path the very object it leads to, else plain data.

        Raises
        ------
        ExpressionError
            If a path leads nowhere, an operator does not fit, or a limit is exceeded.
        """
        raise NotImplementedError


class _Literal(Expression):
    """A number, a text or a word; needs no CEL."""

    __slots__ = ("_value",)

    def __init__(self, text: str, value: object) -> None:
        super().__init__(text, frozenset())
        self._value = value

    def evaluate(self, scope: Scope) -> object:
        del scope
        return self._value


class _Lookup(Expression):
    """A path."""

    __slots__ = ("_name", "_path", "_rest", "_root")

    is_path = True

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text, frozenset([_named(path)]))
        self._path = path
        self._root, self._name = str(path[0]), str(path[1])
        self._rest = path[2:]

    def evaluate(self, scope: Scope) -> object:
        try:
            value = scope.root(self._root)[self._name]
            for step in self._rest:
                value = take_step(value, step)
        except LookupError:
            return look_up(scope, self._path)
        return value


class _Computed(Expression):
    """Anything CEL has to evaluate."""

    __slots__ = ("_has_secrets", "_outline")

    def __init__(self, text: str, plan: Outline) -> None:
        super().__init__(text, frozenset(_named(item.path) for item in plan.variables))
        self._outline = plan
        self._has_secrets = any(root == "secrets" for root, *_ in self.references)

    def verify(self) -> None:
        from flowbuilder.expressions.cel_engine import compile_source

        compile_source(self._outline.source, self.text)

    def evaluate(self, scope: Scope) -> object:
        from flowbuilder.expressions.cel_engine import check_cost, compile_source, execute

        program = compile_source(self._outline.source, self.text)
        bound = _Binding(scope)
        for variable in self._outline.variables:
            bound.add(variable)
        check_cost(self._outline, bound.weights, self.text)
        try:
            return execute(program, bound.values, self.text, has_secrets=self._has_secrets)
        except ExpressionError:
            if bound.failures:
                # CEL skips what `||`, `&&` and `?:` do not need, so it needed one of these.
                raise bound.failures[0] from None
            raise


class _Binding:
    """Values of an expression's variables; what is not there stays unbound, its error kept."""

    __slots__ = ("_scope", "failures", "values", "weights")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.values: dict[str, object] = {}
        self.weights: dict[str, Weight] = {}
        self.failures: list[FlowBuilderError] = []

    def add(self, variable: Variable) -> None:
        weight = self.weights[variable.name] = Weight()
        try:
            value = look_up(self._scope, variable.path)
        except FlowBuilderError as error:
            if variable.is_test:
                self.values[variable.name] = False
            else:
                self.failures.append(error)
            return
        self.values[variable.name] = True if variable.is_test else to_plain(value, weight)


def look_up(scope: Scope, path: Path) -> object:
    """Follow a path from its root, with a helpful error if it leads nowhere."""
    root, name = str(path[0]), str(path[1])
    names = scope.root(root)
    try:
        value = names[name]
    except KeyError:
        raise ExpressionError(f"{root} has no {name!r}", hint=spelling_hint(name, names)) from None
    return follow(value, path[2:], start=path[:2])


def _named(path: Path) -> tuple[str, ...]:
    for position, step in enumerate(path):
        if not isinstance(step, str):
            path = path[:position]
            break
    return path  # type: ignore[return-value]


def parse_expression(text: str) -> Expression:
    """Parse an expression completely.

    Parameters
    ----------
    text : str
        A bare expression, without ``${{ }}``, of at most 4 KiB.

    Returns
    -------
    Expression
        Ready to evaluate.

    Raises
    ------
    ExpressionError
        If it is malformed, names an unknown root or function, or exceeds a limit.
    """
    expression = read_expression(text)
    expression.verify()
    return expression


@lru_cache(maxsize=4096)
def read_expression(text: str) -> Expression:
    """Read an expression without asking CEL: enough to know what it mentions.

    Parameters
    ----------
    text : str
        A bare expression.

    Returns
    -------
    Expression
        Cached; `Expression.verify` may still refuse it.

    Raises
    ------
    ExpressionError
        If our own scan refuses it.

    Notes
    -----
    About 3 us for a path.
    """
    check_size(text)
    lookup = read_lookup(text)
    if lookup is not None:
        return lookup
    text = text.strip()
    literal = _literal(text)
    if literal is not None:
        return literal
    plan = outline(text)
    return _Computed(text, plan) if plan.path is None else _Lookup(text, plan.path)


def read_lookup(text: str) -> Expression | None:
    """Read an expression if it is, at first sight, only a path; about 1.5 us.

    Parameters
    ----------
    text : str
        At most `MAX_SOURCE_BYTES` long.

    Returns
    -------
    Expression or None
        None if it is something else, or a path that takes more than a glance.
    """
    path = read_path(text)
    return None if path is None else _Lookup(text.strip(), path)


def _literal(text: str) -> Expression | None:
    if text in _WORDS:
        return _Literal(text, _WORDS[text])
    number = _NUMBER.fullmatch(text)
    if number:
        return _Literal(text, float(text) if number[1] else int(text))
    if _QUOTED.fullmatch(text):
        return _Literal(text, text[1:-1])
    return None
