"""Texts with ``${{ expression }}`` inside: taken apart, and put together again."""

from __future__ import annotations

import json
import numbers
from collections.abc import Iterable, Mapping
from typing import Final

from flowbuilder.errors import ExpressionError
from flowbuilder.expressions.expression import Expression, read_expression, read_lookup
from flowbuilder.expressions.scope import Scope
from flowbuilder.expressions.tokens import MAX_SOURCE_BYTES, read_tokens, shorten

__all__ = ["OPENING", "TextPart", "parse_text", "render_text", "to_text"]

OPENING: Final = "${{"
"""What begins an expression inside a text; ``$`` before it makes it literal."""

TextPart = str | Expression


def parse_text(text: str) -> list[TextPart]:
    """Take a text apart.

    Parameters
    ----------
    text : str
        ``"id-${{ params.id }}"``. An expression ends at the first ``}}`` outside its own brackets
        and quotes.

    Returns
    -------
    list of str or Expression
        In order; a single `Expression` if there is nothing but white space around it. CEL has not
        been asked about the expressions yet.

    Raises
    ------
    ExpressionError
        If an expression is malformed or does not end.
    """
    parts: list[TextPart] = []
    copied = 0
    at = text.find(OPENING)
    while at >= 0:
        after = at + len(OPENING)
        if at > copied and text[at - 1] == "$":
            parts += text[copied : at - 1], OPENING
        else:
            expression, closing = _expression_at(text, after)
            parts += text[copied:at], expression
            after = closing + 2
        copied = after
        at = text.find(OPENING, after)
    parts.append(text[copied:])
    return _trimmed(parts)


def _expression_at(text: str, start: int) -> tuple[Expression, int]:
    """Read the expression at ``start`` and find its ``}}``; a path needs no scan of its words."""
    closing = text.find("}}", start, start + MAX_SOURCE_BYTES)
    if closing >= 0:
        lookup = read_lookup(text[start:closing])
        if lookup is not None:
            return lookup, closing
    _, closing = read_tokens(text, start, is_embedded=True)
    return read_expression(text[start:closing].strip()), closing


def _trimmed(parts: list[TextPart]) -> list[TextPart]:
    if len(parts) == 3 and not parts[0] and not parts[2]:
        return parts[1:2]
    expressions = [part for part in parts if isinstance(part, Expression)]
    words = "".join(part for part in parts if isinstance(part, str))
    if len(expressions) == 1 and not words.strip():
        return [expressions[0]]
    return [part for part in parts if part != ""]


def render_text(parts: Iterable[TextPart], scope: Scope) -> str:
    """Put a text together.

    Parameters
    ----------
    parts : iterable of str or Expression
        From `parse_text`.
    scope : Scope
        Gives the expressions their values.

    Returns
    -------
    str
        With every value in its text form, see `to_text`.

    Raises
    ------
    ExpressionError
        If an expression fails or its value has no text form.
    """
    return "".join(
        part if isinstance(part, str) else to_text(part.evaluate(scope), part.text)
        for part in parts
    )


def to_text(value: object, shown: str) -> str:
    """Write a value inside a text.

    Parameters
    ----------
    value : object
        Text as it is; numbers, ``true``, ``false``, ``null``, mappings and sequences as JSON;
        dates and times in ISO 8601.
    shown : str
        The expression it came from, for messages.

    Returns
    -------
    str
        The text form.

    Raises
    ------
    ExpressionError
        If it has none: a table, bytes, an object.
    """
    if isinstance(value, str):
        return str.__str__(value)
    try:
        plain = value if isinstance(value, bool | int | float | dict | list) else _to_json(value)
        return (
            plain
            if isinstance(plain, str)
            else json.dumps(plain, ensure_ascii=False, default=_to_json)
        )
    except (TypeError, ValueError, RecursionError):
        raise ExpressionError(
            f"expected text, a number or plain data inside a text, found a "
            f"{type(value).__name__} from {shorten(shown)}",
            hint="use the expression alone, or select a part of it",
        ) from None


def _to_json(value: object) -> object:
    if value is None or isinstance(value, tuple):
        return value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if hasattr(type(value), "isoformat"):
        return value.isoformat()  # type: ignore[attr-defined]
    raise TypeError(f"{type(value).__name__} has no text form")
