"""Templates inside shell text become environment variables: data is never parsed as a command.

A shell does not look inside the value of a variable again, whatever quotes or ``$( )`` it holds.
The quotes around the reference are chosen by where it stands, so that a value always stays one
word.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from flowbuilder.errors import ExpressionError
from flowbuilder.expressions import OPENING, Expression, parse_text

__all__ = ["VALUE_PREFIX", "ShellText", "externalise"]

VALUE_PREFIX = "FLOWBUILDER_VALUE_"


class ShellText(msgspec.Struct, frozen=True):
    """A command without templates, and what its variables hold.

    Parameters
    ----------
    text : str
        The command.
    values : mapping of str to Expression
        Environment variable -> what it holds.
    """

    text: str
    values: Mapping[str, Expression] = msgspec.field(default_factory=dict)


def externalise(text: str, *, platform: str = os.name) -> ShellText:
    """Move every ``${{ }}`` of a shell command into an environment variable.

    Parameters
    ----------
    text : str
        The command as the author wrote it; ``$${{`` stands for a literal ``${{``.
    platform : str
        ``os.name``. Only POSIX shells expand variables safely.

    Returns
    -------
    ShellText
        ``echo ${{ params.x }}`` becomes ``echo "${FLOWBUILDER_VALUE_1}"``.

    Raises
    ------
    ExpressionError
        If a template is malformed, or the platform's shell would read the value as commands.
    """
    if OPENING not in text:
        return ShellText(text)
    parts: list[str] = []
    values: dict[str, Expression] = {}
    open_marks = ""
    for part in parse_text(text):
        if isinstance(part, str):
            parts.append(part)
            open_marks = _marks_after(part, open_marks)
            continue
        if platform != "posix":
            raise ExpressionError(
                "a template inside 'command' is not safe in this platform's shell",
                hint="use 'argv' or 'env' for values",
            )
        name = f"{VALUE_PREFIX}{len(values) + 1}"
        values[name] = part
        parts.append(_reference(name, open_marks))
    return ShellText("".join(parts), values)


def _reference(name: str, open_marks: str) -> str:
    innermost = open_marks[-1:]
    if innermost == '"':
        return f"${{{name}}}"
    if innermost == "'":
        return f"'\"${{{name}}}\"'"
    return f'"${{{name}}}"'


def _marks_after(text: str, open_marks: str) -> str:
    """Follow quotes, ``$( )`` and backticks; innermost last.

    A wrong guess (a heredoc, a ``case`` pattern) misplaces quotes but never exposes a value.
    """
    marks = list(open_marks)
    position = 0
    while position < len(text):
        char, inner = text[position], marks[-1] if marks else ""
        if inner == "'":
            if char == "'":
                marks.pop()
        elif char == "\\":
            position += 1
        elif char == inner:
            marks.pop()
        elif char == "(" and (inner != '"' or text[position - 1 : position] == "$"):
            marks.append(")")
        elif char in '"`' or (char == "'" and inner != '"'):
            marks.append(char)
        position += 1
    return "".join(marks)
