"""The cyclic garbage collector while the program starts and ends.

Starting makes tens of thousands of objects that all stay. Walking them again and again, and once
more at exit, is a tenth of the time of a short command.
"""

from __future__ import annotations

import gc
import sys

__all__ = ["begin_start_up", "end_start_up", "leave_rest"]

_STARTING = 100_000
"""New objects between two collections. A bound, because some commands watch for hours."""
_usual = gc.get_threshold()


def begin_start_up() -> None:
    """Let the collector wait. Only for a process that is ours alone."""
    gc.set_threshold(_STARTING)


def end_start_up() -> None:
    """Let the collector work as ever, apart from what exists by now; for before user code runs."""
    if gc.get_threshold()[0] == _STARTING:
        gc.freeze()
        gc.set_threshold(*_usual)


def leave_rest() -> None:
    """Let the interpreter exit without a search for garbage in what the process held.

    Not where DuckDB was used: its extension module takes what is left for leaks and lists it.
    """
    if "duckdb" not in sys.modules:
        gc.freeze()
