"""Python text of a workflow as code objects whose line numbers are those of the workflow file."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType

from flowbuilder.errors import Location

__all__ = ["CodePlace", "compile_script", "place_of_code", "show_source"]


@dataclass(frozen=True, slots=True)
class CodePlace:
    """Where the first line of a script stands.

    Parameters
    ----------
    file : str
        The workflow file, or a name in angle brackets if lines of the script are not lines of a
        file.
    first_line : int
        1-based.
    """

    file: str
    first_line: int = 1


def place_of_code(
    locate: Callable[[tuple[str | int, ...], int], Location | None], code: str, task: str
) -> CodePlace:
    """Find where a script stands.

    Parameters
    ----------
    locate : callable
        See `TaskCall.locate`.
    code : str
        The script.
    task : str
        Name of the task.

    Returns
    -------
    CodePlace
        In the file if its lines follow each other there, as in a ``|`` block; folded or quoted text
        keeps line numbers of its own.
    """
    first = locate(("code",), 1)
    if first is not None:
        count = code.count("\n", 0, len(code.rstrip())) + 1
        last = first if count == 1 else locate(("code",), count)
        if last is not None and last.line == first.line + count - 1:
            return CodePlace(first.file, first.line)
    return CodePlace(f"<code of task {task}>")


@lru_cache(maxsize=512)
def compile_script(code: str, place: CodePlace) -> CodeType:
    """Compile a script once per text and place.

    Raises
    ------
    SyntaxError
        With the line of the workflow file.
    ValueError
        If it holds NUL characters.
    """
    # Blank lines in front shift every line number, also those of syntax errors.
    return compile("\n" * (place.first_line - 1) + code, place.file, "exec", dont_inherit=True)


def show_source(code: str, place: CodePlace) -> None:
    """Let tracebacks show the script's lines, even if the file has changed since."""
    lines = [line + "\n" for line in code.splitlines()]
    known: list[str] = []
    entry = linecache.cache.get(place.file)
    if entry is not None and len(entry) == 4 and entry[1] is None:
        known = list(entry[2])
    end = place.first_line - 1 + len(lines)
    known += ["\n"] * (end - len(known))
    known[place.first_line - 1 : end] = lines
    # No modification time: the entry is ours and linecache never drops it.
    linecache.cache[place.file] = (sum(map(len, known)), None, known, place.file)
