"""Tracebacks as the author wants them: their own lines, none of ours, and where to look first."""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType

from flowbuilder.errors import FlowBuilderError, Location

__all__ = ["INTERNAL_FOLDERS", "MAX_TRACEBACK_CHARS", "user_traceback"]

INTERNAL_FOLDERS: tuple[str, ...] = (str(Path(__file__).absolute().parents[1]),)
"""Frames of files below these folders are never shown."""

MAX_TRACEBACK_CHARS = 65_536
"""A longer text keeps its beginning and its end."""

_MAX_CHAIN = 64


def user_traceback(
    error: BaseException, *, internal: Sequence[str] = INTERNAL_FOLDERS
) -> tuple[str, Location | None]:
    """Write a traceback without our frames, and find the user's deepest line.

    Parameters
    ----------
    error : BaseException
        What a task raised, with its traceback.
    internal : sequence of str
        Folders whose frames are left out.

    Returns
    -------
    text : str
        As Python prints it, causes and notes included; only the last line if no frame is the
        user's. Values of variables are never shown.
    location : Location or None
        Where the error itself says it is; else the deepest frame that is neither ours, nor the
        standard library's, nor an installed package's; else the deepest that is not ours.
    """
    if isinstance(error, FlowBuilderError) and error.location is not None:
        location: Location | None = error.location
    else:
        location = _syntax_location(error) or _deepest_location(error.__traceback__, internal)
    return _text(error, internal), location


def _is_own_words(error: BaseException, internal: Sequence[str]) -> bool:
    """Whether we raised it ourselves and no line of the user's was on the way: then the frames of
    the libraries we called say nothing to anybody.
    """
    if not isinstance(error, FlowBuilderError):
        return False
    foreign = (*internal, *_library_folders())
    frame = error.__traceback__
    while frame is not None:
        name = frame.tb_frame.f_code.co_filename
        if not _is_in(name, foreign) and not name.startswith("<frozen "):
            return False
        frame = frame.tb_next
    return True


def _text(error: BaseException, internal: Sequence[str]) -> str:
    try:
        if _is_own_words(error, internal):
            return "".join(traceback.format_exception_only(error))
        shown = traceback.TracebackException.from_exception(error, compact=True)
        for part in _parts(shown):
            part.stack[:] = [frame for frame in part.stack if not _is_in(frame.filename, internal)]
        text = "".join(_without_empty_headers(shown.format()))
    except Exception:  # the error's own __str__ may raise, or the source may be unreadable
        text = f"{type(error).__name__}: (its text cannot be shown)\n"
    if len(text) <= MAX_TRACEBACK_CHARS:
        return text
    half = MAX_TRACEBACK_CHARS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters ...]\n{text[-half:]}"


def _parts(shown: traceback.TracebackException) -> Iterable[traceback.TracebackException]:
    """Walk causes, contexts and groups, without recursion and without going round in circles."""
    pending, seen = [shown], set[int]()
    while pending and len(seen) < _MAX_CHAIN:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        pending += [linked for linked in (part.__cause__, part.__context__) if linked is not None]
        pending += part.exceptions or ()


def _without_empty_headers(lines: Iterable[str]) -> Iterable[str]:
    """Drop "Traceback ..." where no frame follows."""
    header = ""
    for line in lines:
        if header and line.startswith("  File "):
            yield header
        header = ""
        if line.startswith("Traceback (most recent call last):"):
            header = line
        else:
            yield line


def _syntax_location(error: BaseException) -> Location | None:
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return Location(error.filename, error.lineno, max(error.offset or 1, 1))
    return None


def _deepest_location(first: TracebackType | None, internal: Sequence[str]) -> Location | None:
    own: Location | None = None
    any_frame: Location | None = None
    library = _library_folders()
    frame = first
    while frame is not None:
        name = frame.tb_frame.f_code.co_filename
        if not _is_in(name, internal) and not name.startswith("<frozen "):
            any_frame = Location(name, frame.tb_lineno)
            if not _is_in(name, library):
                own = any_frame
        frame = frame.tb_next
    return own or any_frame


def _is_in(name: str, folders: Sequence[str]) -> bool:
    return any(name.startswith(folder + os.sep) for folder in folders)


@cache
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {os.path.realpath(paths[name]) for name in names if name in paths}
    found |= {paths[name] for name in names if name in paths}
    found.add(os.path.join(sys.base_prefix, "lib"))  # noqa: PTH118
    return tuple(sorted(found))
