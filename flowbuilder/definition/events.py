"""YAML syntax: libyaml's events one by one, and its complaints in our words.

Only events are used, never ``compose`` or ``load``: those recurse and crash the process on deep
nesting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol, cast

from yaml.error import MarkedYAMLError, YAMLError
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from flowbuilder.definition.text import Lines
from flowbuilder.errors import Location, WorkflowSyntaxError

try:
    from yaml._yaml import CParser
except ImportError:  # a platform without the compiled wheel: the same events, 20 times slower
    CParser = None  # type: ignore[assignment, misc]

__all__ = ["Mark", "YamlEvent", "open_events"]


class Mark(Protocol):
    """A place in the text."""

    index: int


class YamlEvent(Protocol):
    """What events carry; which of it is there depends on the class."""

    anchor: str | None
    tag: str | None
    style: str | None
    value: str
    start_mark: Mark


class EventParser(Protocol):
    """What both of PyYAML's parsers offer."""

    def get_event(self) -> YamlEvent | None:
        """Give the next event; None after the last."""
        ...


class PurePythonParser(Reader, Scanner, Parser):
    """PyYAML's own parser without its composer."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


def open_events(text: str, *, file: str, pure: bool = False) -> Iterator[YamlEvent]:
    """Iterate over the parsing events of a text.

    Parameters
    ----------
    text : str
        Without a byte order mark and forbidden characters.
    file : str
        For the error.
    pure : bool
        Use the pure Python parser even if libyaml is there.

    Yields
    ------
    YamlEvent
        With offsets in code points as ``start_mark.index``.

    Raises
    ------
    WorkflowSyntaxError
        Where the text stops being YAML.
    """
    parser = _parser(text, pure=pure)
    # A loop over iter() with a sentinel keeps the 10,000 calls of a usual file in C.
    events = iter(parser.get_event, None)
    try:
        yield from events
    except YAMLError as error:
        raise _explain(error, text, file) from None


def _parser(text: str, *, pure: bool) -> EventParser:
    if CParser is None or pure:
        return cast("EventParser", PurePythonParser(text))
    return cast("EventParser", CParser(text))


def _explain(error: YAMLError, text: str, file: str) -> WorkflowSyntaxError:
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return WorkflowSyntaxError(
            f"expected YAML, found something else: {error}", location=Location(file, 1)
        )
    lines = Lines(text)
    offset = min(error.problem_mark.index, len(text))
    context = error.context or ""
    problem = error.problem or "syntax error"
    if "quoted scalar" in context and "end of" in problem and error.context_mark:
        offset = error.context_mark.index
        return WorkflowSyntaxError(
            "expected a closing quote, found the end of the file",
            location=lines.location(file, offset),
            hint="the quoted text that starts here never ends",
        )
    place = lines.location(file, offset)
    message, hint = _reword(problem, context, text[offset : offset + 1], lines.line(place.line))
    return WorkflowSyntaxError(message, location=place, hint=hint)


def _reword(problem: str, context: str, character: str, line: str) -> tuple[str, str]:
    if "cannot start any token" in problem:
        if character == "\t":
            return "expected spaces, found a tab", "YAML is indented with spaces, never with tabs"
        return f"expected a value, found {character!r}", "put a text that starts with it in quotes"
    if "${{" in line and ("flow" in context or "flow" in problem):
        return (
            "expected ',' or a closing bracket after '${{'",
            'inside { } and [ ] write the expression in quotes: "${{ ... }}"',
        )
    if "mapping values are not allowed" in problem:
        return (
            "expected the end of the value, found a second ': '",
            "put a text that holds ': ' in quotes, or check the indentation",
        )
    if "could not find expected ':'" in problem:
        return "expected ':' after a key", "write 'key: value', or indent the line like its text"
    message = re.sub(r"^(did not find|could not find) ", "", problem)
    message = message if message.startswith(("expected", "found")) else f"syntax error: {message}"
    where = f" ({context})" if context else ""
    hint = "check the indentation" if "block" in context or "key" in problem else ""
    return f"{message}{where}", hint
