"""Paths such as ``tasks.clean.output.rows[0]``: read, written, followed into a value.

Following a path never touches attributes of an object: only keys of mappings, positions of
sequences, and columns of tables. So ``__class__`` is just a key that is not there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from flowbuilder.errors import ExpressionError
from flowbuilder.expressions.scope import ROOTS, TASK_FIELDS
from flowbuilder.expressions.spelling import spelling_hint
from flowbuilder.expressions.tables import column_names, is_table, table_facts
from flowbuilder.expressions.tokens import Token, shorten

__all__ = ["Path", "PathStep", "follow", "format_path", "path_at", "read_path", "take_step"]

PathStep = str | int
Path = tuple[PathStep, ...]
"""A root, a name, and steps into the value."""

_FACTS: Final = ("num_rows", "columns", "size_bytes")
_STEP = r"""\.(?:[A-Za-z_]\w*)|\[(?:[0-9]{1,9}|'[^'\\\n]*'|"[^"\\\n]*")\]"""
_PLAIN = re.compile(rf"\s*([a-z]+)((?:{_STEP})+)\s*", re.ASCII)
_STEPS = re.compile(_STEP, re.ASCII)
_CEL_WORDS = frozenset({"true", "false", "null", "in"})


def read_path(text: str) -> Path | None:
    """Read an expression that is only a path; the fast way, for paths in ASCII without white space.

    Parameters
    ----------
    text : str
        An expression.

    Returns
    -------
    tuple or None
        The root and its steps; None if ``text`` is, or may be, something else.

    Raises
    ------
    ExpressionError
        If it is a path that leads nowhere, such as ``tasks.clean``.
    """
    match = _PLAIN.fullmatch(text)
    if match is None or match[1] not in ROOTS:
        return None
    steps = [_step_of(step) for step in _STEPS.findall(match[2])]
    return _checked((match[1], *steps), text)


def _step_of(text: str) -> PathStep:
    if text[0] == ".":
        return text[1:]
    inner = text[1:-1]
    return inner[1:-1] if inner[0] in "'\"" else int(inner)


def path_at(tokens: Sequence[Token], at: int, source: str) -> tuple[Path, int]:
    """Read the longest path that begins at a root.

    Parameters
    ----------
    tokens : sequence of Token
        Words of an expression.
    at : int
        Index of a root's name.
    source : str
        The expression, for messages.

    Returns
    -------
    path : tuple
        The root and its steps, without a method called at the end.
    after : int
        Index of the first word behind the path.
    """
    steps: list[PathStep] = [tokens[at].text]
    after = at + 1
    while after < len(tokens):
        step, width = _step_at(tokens, after)
        if step is None:
            break
        steps.append(step)
        after += width
    dashed = [token.text for token in tokens[after : after + 2]]
    hint = ""
    if len(dashed) == 2 and dashed[0] == "-" and len(steps) == 2:
        hint = f"a name with '-' is written {steps[0]}['{steps[1]}-{dashed[1][:40]}']"
    return _checked(tuple(steps), source, hint), after


def _step_at(tokens: Sequence[Token], at: int) -> tuple[PathStep | None, int]:
    """Read one step; None and 0 if what stands there is an operator, a method or a computed key."""
    words = tokens[at : at + 3]
    if len(words) < 2:
        return None, 0
    if words[0].text == "." and words[1].kind == "name":
        is_method = len(words) == 3 and words[2].text == "("
        return (None, 0) if is_method else (words[1].text, 2)
    if words[0].text == "[" and len(words) == 3 and words[2].text == "]":
        literal = words[1]
        if literal.kind == "string" and literal.text[0] in "'\"" and "\\" not in literal.text:
            quotes = 3 if literal.text[:3] in {"'''", '"""'} else 1
            return literal.text[quotes:-quotes], 3
        if literal.kind == "number" and literal.text.isdecimal() and len(literal.text) < 10:
            return int(literal.text), 3
    return None, 0


def _checked(path: Path, source: str, hint: str = "") -> Path:
    """Make sure the path names something; bring names to the Unicode form tasks are stored in."""
    root = path[0]
    if len(path) < 2 or not isinstance(path[1], str):
        raise ExpressionError(
            f"expected a name after {root!r} in {shorten(source)}",
            hint=f"e.g. {root}.{'clean.output' if root == 'tasks' else 'name'}",
        )
    if not path[1].isascii():
        path = (root, unicodedata.normalize("NFC", path[1]), *path[2:])
    if root == "tasks" and (len(path) < 3 or path[2] not in TASK_FIELDS):
        shown = format_path(path[:2])
        if len(path) > 2:
            found, other = f"found {path[2]!r}", spelling_hint(str(path[2]), TASK_FIELDS)
        else:
            found, other = "found nothing", f"write {shown}.output"
        raise ExpressionError(
            f"expected '.output' or '.state' after {shorten(shown)}, {found}", hint=hint or other
        )
    return path


def format_path(path: Iterable[PathStep]) -> str:
    """Write a path as an expression.

    Parameters
    ----------
    path : iterable of str or int
        A root and its steps. Text steps hold no line break, no backslash, and not both kinds of
        quotes.

    Returns
    -------
    str
        Text that is read as the same path.
    """
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif not parts:
            parts.append(step)
        elif step.isidentifier() and step not in _CEL_WORDS:
            parts.append(f".{step}")
        else:
            quote = '"' if "'" in step else "'"
            parts.append(f"[{quote}{step}{quote}]")
    return "".join(parts)


def follow(value: object, path: Iterable[PathStep], *, start: Path = ()) -> object:
    """Walk from a value along a path.

    Parameters
    ----------
    value : object
        Where the path starts.
    path : iterable of str or int
        Keys, positions, column names.
    start : tuple
        How ``value`` is called, for messages.

    Returns
    -------
    object
        What is there, by reference.

    Raises
    ------
    ExpressionError
        If there is no such key, position or column; the hint lists what is there.
    """
    walked = list(start)
    for step in path:
        try:
            value = take_step(value, step)
        except LookupError:
            raise _nothing_there(value, step, walked) from None
        walked.append(step)
    return value


def take_step(value: object, step: PathStep) -> object:
    """Take one step into a value.

    Parameters
    ----------
    value : object
        A mapping, a sequence, a table or a column.
    step : str or int
        A key, a position, or a column's name.

    Returns
    -------
    object
        By reference.

    Raises
    ------
    LookupError
        If there is no such thing.
    """
    if isinstance(value, dict):
        if step not in value:  # asking first, because a defaultdict would make the key
            raise LookupError(step)
        return value[step]
    if isinstance(value, Mapping):
        return value[step]
    if isinstance(step, str):
        if is_table(value):
            if step in column_names(value):
                return value[step]  # type: ignore[index]
            if step in _FACTS:
                return table_facts(value)[step]
        raise LookupError(step)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return value[step]
    return _element(value, step)


def _element(value: object, position: int) -> object:
    """Index arrays and columns, which are not registered as sequences."""
    kind = type(value)
    if isinstance(value, str | bytes) or is_table(value):
        raise LookupError(position)
    if hasattr(kind, "iloc"):
        return value.iloc[position]  # type: ignore[attr-defined]
    if hasattr(kind, "__getitem__") and hasattr(kind, "__len__"):
        return value[position]  # type: ignore[index]
    raise LookupError(position)


def _nothing_there(value: object, step: PathStep, walked: Sequence[PathStep]) -> ExpressionError:
    place = shorten(format_path(walked)) if walked else "the value"
    kind = type(value).__name__
    if isinstance(value, Mapping):
        keys = [key for key in value if isinstance(key, str)]
        return ExpressionError(f"{place} has no {step!r}", hint=spelling_hint(str(step), keys))
    if isinstance(step, str) and is_table(value):
        hint = spelling_hint(step, column_names(value))
        return ExpressionError(f"{place} has no column {step!r}", hint=hint)
    if isinstance(step, int) and hasattr(type(value), "__len__") and not isinstance(value, str):
        found = f"{len(value)} elements"  # type: ignore[arg-type]
        return ExpressionError(f"expected an element {step} in {place}, found {found}")
    return ExpressionError(
        f"{place} is of type {kind}, it has no {step!r}",
        hint="paths go through mappings, sequences and columns of tables",
    )
