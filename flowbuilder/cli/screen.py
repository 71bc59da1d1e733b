"""What the terminal at hand can show: its width, its characters, whether it is one at all."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

__all__ = ["can_show", "columns_of", "is_terminal", "make_printable", "whole_pipe"]

_FILE_COLUMNS = 100


def make_printable() -> None:
    """Let output that the encoding of stdout or stderr cannot hold be escaped, not fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person looks at the stream."""
    return stream is not None and not stream.closed and stream.isatty()


def columns_of(stream: TextIO) -> int:
    """Give the width to write for: the terminal's, or a fixed one for files and pipes."""
    if not is_terminal(stream):
        return _FILE_COLUMNS
    import shutil  # with every archive format, and only terminals are measured

    return shutil.get_terminal_size().columns


def can_show(characters: str, stream: TextIO) -> bool:
    """Whether the stream's encoding has all the characters."""
    try:
        characters.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


@contextlib.contextmanager
def whole_pipe() -> Iterator[None]:
    """Go on in silence if the reader of our output goes away (``| head``)."""
    try:
        yield
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        # The interpreter flushes at exit, and must not complain again.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
