"""What an expression mentions and what it could cost, found without evaluating it.

`outline` walks the words of an expression once. Every static path is cut out and replaced by a
variable, so that CEL sees one flat value per path: it never copies a tree to reach a leaf, and
names that CEL's grammar does not know (``tasks.清洗.output``, ``params.in``) work.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from flowbuilder.errors import ExpressionError
from flowbuilder.expressions.paths import Path, path_at
from flowbuilder.expressions.scope import ROOTS
from flowbuilder.expressions.spelling import nearest
from flowbuilder.expressions.tokens import Token, read_tokens, shorten

__all__ = ["FUNCTIONS", "MACROS", "MAX_OPERATORS", "Outline", "Part", "Variable", "outline"]

MACROS: Final = frozenset({"all", "exists", "exists_one", "map", "filter"})
"""Methods that run their argument once per element."""

FUNCTIONS: Final = frozenset(
    [
        *("size", "type", "dyn", "has", "matches", "contains", "startsWith", "endsWith"),
        *("string", "int", "uint", "double", "bytes", "timestamp", "duration"),
        *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
        *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
    ]
)
"""Functions and methods an expression may call, besides `MACROS`."""

MAX_OPERATORS: Final = 256
"""Most operators in one expression; CEL's parser and evaluator recurse on each."""

_MAX_PATTERN: Final = 256
_MAX_REPEATS: Final = 100
_COUNTED = re.compile(r"\{(\d*),?(\d*)\}")
_OPERATORS: Final = frozenset("+-*/%!?.<>[") | {"&&", "||", "==", "!=", "<=", ">=", "in"}
_LITERALS: Final = frozenset({"true", "false", "null"})
_TYPES: Final = frozenset({"int", "uint", "double", "string", "bytes", "bool", "list", "map"})
_PREFIX: Final = "__ref"
_WORDS: Final = {
    "and": "write '&&'",
    "or": "write '||'",
    "not": "write '!'",
    "True": "write true",
    "False": "write false",
    "None": "write null",
    "if": "write 'condition ? yes : no'",
    "else": "write 'condition ? yes : no'",
    "len": "write size(...)",
}


class Variable(msgspec.Struct, frozen=True):
    """A path, bound to ``name`` when CEL evaluates; with ``is_test`` to whether it is there."""

    name: str
    path: Path
    is_test: bool = False


class Part(msgspec.Struct):
    """How much there is of something outside, or inside, the one macro's argument."""

    operators: int = 0
    joins: int = 0
    words: int = 0
    items: int = 1
    regex_repeats: int = 0
    variables: set[str] = msgspec.field(default_factory=set)


class Outline(msgspec.Struct, frozen=True):
    """An expression, analysed.

    Parameters
    ----------
    source : str
        The expression with paths replaced by variables: what CEL gets.
    variables : tuple of Variable
        What to bind.
    macro : str
        The comprehension it uses, or empty.
    outside, inside : Part
        What stands outside and inside the macro's argument.
    path : tuple or None
        Set if the whole expression is one path.
    """

    source: str
    variables: tuple[Variable, ...]
    macro: str
    outside: Part
    inside: Part
    path: Path | None


def outline(text: str) -> Outline:
    """Analyse an expression.

    Parameters
    ----------
    text : str
        At most `MAX_SOURCE_BYTES` long.

    Returns
    -------
    Outline
        Everything needed to evaluate it within bounds.

    Raises
    ------
    ExpressionError
        For words CEL does not have, unknown names and functions, and whatever exceeds the limits.
    """
    tokens, _ = read_tokens(text)
    return _Walk(text, tokens).result()


class _Walk:
    """One pass over the words, rewriting the source on the way."""

    def __init__(self, text: str, tokens: Sequence[Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._pieces: list[str] = []
        self._copied = 0
        self._variables: dict[tuple[Path, bool], Variable] = {}
        self._macro = ""
        self._macro_variable = ""
        self._depth = 0
        self._macro_depth = 0
        self._outside, self._inside = Part(), Part()
        self._path: Path | None = None

    def result(self) -> Outline:
        at = 0
        while at < len(self._tokens):
            at = self._word(at)
        self._pieces.append(self._text[self._copied :])
        operators = self._outside.operators + self._inside.operators
        if operators > MAX_OPERATORS:
            raise ExpressionError(
                f"expected at most {MAX_OPERATORS} operators, found {operators} in {self._shown}",
                hint="compute it in a task instead",
            )
        return Outline(
            source="".join(self._pieces),
            variables=tuple(self._variables.values()),
            macro=self._macro,
            outside=self._outside,
            inside=self._inside,
            path=self._path,
        )

    @property
    def _shown(self) -> str:
        return shorten(self._text)

    @property
    def _part(self) -> Part:
        return self._inside if self._macro_depth else self._outside

    def _text_at(self, at: int) -> str:
        return self._tokens[at].text if 0 <= at < len(self._tokens) else ""

    def _replace(self, start: int, end: int, text: str) -> None:
        self._pieces += self._text[self._copied : start], text
        self._copied = end

    def _word(self, at: int) -> int:
        """Handle the word at ``at``; return where to go on."""
        token = self._tokens[at]
        part = self._part
        part.words += 1
        part.operators += token.text in _OPERATORS
        part.joins += token.text == "+"
        part.items += token.text == ","
        if token.kind == "name":
            return self._name(at)
        if token.kind == "operator":
            self._bracket(token)
        return at + 1

    def _bracket(self, token: Token) -> None:
        if token.text in "([{":
            self._depth += 1
        elif token.text in ")]}":
            self._depth -= 1
            if self._macro_depth > self._depth:
                self._macro_depth, self._macro_variable = 0, ""

    def _name(self, at: int) -> int:
        token = self._tokens[at]
        is_called = self._text_at(at + 1) == "("
        if self._text_at(at - 1) == ".":
            return self._method(at) if is_called else self._field(at)
        if is_called:
            return self._function(at)
        if token.text in ROOTS:
            return self._reference(at)
        if token.text in _LITERALS or token.text in _TYPES or token.text == "in":
            return at + 1
        if token.text == self._macro_variable:
            return at + 1
        raise self._unknown(at)

    def _field(self, at: int) -> int:
        """Write names CEL's grammar lacks as keys."""
        token = self._tokens[at]
        if not token.text.isascii() or token.text in _LITERALS or token.text == "in":
            self._replace(self._tokens[at - 1].start, token.end, f"['{token.text}']")
        return at + 1

    def _method(self, at: int) -> int:
        name = self._tokens[at].text
        if name in MACROS:
            return self._enter_macro(at)
        if name not in FUNCTIONS:
            raise self._unknown_function(name)
        if name == "matches":
            self._check_pattern(at)
        return at + 1

    def _function(self, at: int) -> int:
        name = self._tokens[at].text
        if name not in FUNCTIONS or name == "matches":
            raise self._unknown_function(name)
        if name == "has" and self._text_at(at + 2) in ROOTS:
            path, after = path_at(self._tokens, at + 2, self._text)
            if self._text_at(after) == ")":
                end = self._tokens[after].end
                self._bind(path, self._tokens[at].start, end, is_test=True)
                return after + 1
        return at + 1

    def _enter_macro(self, at: int) -> int:
        name = self._tokens[at].text
        if self._macro:
            raise ExpressionError(
                f"expected at most one of {', '.join(sorted(MACROS))} in {self._shown}",
                hint="compute it in a task instead",
            )
        variable = self._tokens[at + 2] if at + 2 < len(self._tokens) else None
        if variable is None or variable.kind != "name" or self._text_at(at + 3) != ",":
            raise ExpressionError(
                f"expected a variable and a comma in `{name}(`", hint=f"e.g. list.{name}(x, x > 0)"
            )
        word = variable.text
        if word in ROOTS or word.startswith("__") or not word.isascii() or word in _LITERALS:
            raise ExpressionError(
                f"{word!r} cannot be the variable of `{name}`", hint="use a short name such as x"
            )
        self._macro, self._macro_variable = name, word
        self._depth += 1
        self._macro_depth = self._depth
        return at + 4

    def _check_pattern(self, at: int) -> None:
        """Allow only patterns that are written out and cannot grow large when compiled."""
        pattern, closing = self._tokens[at + 2], self._text_at(at + 3)
        if pattern.kind != "string" or closing != ")":
            raise ExpressionError(
                f"expected a pattern in quotes in `matches(`, found {shorten(pattern.text)}",
                hint="patterns cannot be computed",
            )
        repeats = 1
        for low, high in _COUNTED.findall(pattern.text):
            # Eight digits are enough to be refused, and cheap to read.
            repeats *= max(int(low[:8] or 1), int(high[:8] or 1), 1)
        if len(pattern.text) > _MAX_PATTERN or repeats > _MAX_REPEATS:
            raise ExpressionError(
                f"expected a pattern of at most {_MAX_PATTERN} characters and {_MAX_REPEATS} "
                f"counted repetitions, found {shorten(pattern.text)}",
                hint="match it in a task instead",
            )
        self._part.regex_repeats += repeats

    def _reference(self, at: int) -> int:
        path, after = path_at(self._tokens, at, self._text)
        if at == 0 and after == len(self._tokens):
            self._path = path
        self._bind(path, self._tokens[at].start, self._tokens[after - 1].end)
        return after

    def _bind(self, path: Path, start: int, end: int, *, is_test: bool = False) -> None:
        key = (path, is_test)
        variable = self._variables.get(key)
        if variable is None:
            variable = Variable(f"{_PREFIX}{len(self._variables)}", path, is_test)
            self._variables[key] = variable
        self._part.variables.add(variable.name)
        self._replace(start, end, variable.name)

    def _unknown(self, at: int) -> ExpressionError:
        name = self._tokens[at].text
        hint = _WORDS.get(name, "")
        previous = self._text_at(at - 2)
        if not hint and self._text_at(at - 1) == "-" and previous:
            hint = f"a name with '-' is written in brackets: ['{previous[:40]}-{name[:40]}']"
        if not hint:
            close = nearest(name, ROOTS)
            hint = f"did you mean {close!r}?" if close else "text is written in quotes"
        expected = "expected a name that starts with " + ", ".join(ROOTS)
        return ExpressionError(f"{expected}, found {name[:40]!r} in {self._shown}", hint=hint)

    def _unknown_function(self, name: str) -> ExpressionError:
        close = nearest(name, FUNCTIONS | MACROS)
        hint = _WORDS.get(name) or (f"did you mean {close!r}?" if close else "")
        return ExpressionError(f"unknown function {name[:40]!r} in {self._shown}", hint=hint)
