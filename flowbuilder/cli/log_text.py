r"""What tasks printed, on a terminal or in a file.

A file or pipe gets the recorded text byte for byte. A terminal gets its lines and colours; every
other control sequence (cursor movement, window titles, backspaces) is shown as text such as
``\x1b[2J``, so that a log can neither repaint the screen nor pretend to be another task's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TextIO

from flowbuilder.api.display_text import visible_text
from flowbuilder.records import LogChunk

__all__ = ["LogPrinter"]

_COLOUR = re.compile(r"(\x1b\[[0-9;:]*m)")
_LINE_END = re.compile(r"\r\n|\n|\r")
_RESET = "\x1b[0m"


class LogPrinter:
    """Prints log chunks; with several tasks, each line says whose it is.

    Parameters
    ----------
    stream : TextIO
        Where to.
    keys : sequence of str
        Task keys by instance.
    task : str or None
        Print only this task, without prefixes.
    is_terminal : bool
        Whether a person looks at it.
    has_colour : bool
        Whether colours may pass on a terminal.
    """

    def __init__(
        self,
        stream: TextIO,
        keys: Sequence[str],
        task: str | None,
        *,
        is_terminal: bool,
        has_colour: bool = True,
    ) -> None:
        self._stream = stream
        self._keys = keys
        self._task = task
        self._is_terminal = is_terminal
        self._has_colour = has_colour
        self._begun: dict[tuple[int, str], str] = {}

    def show(self, chunk: LogChunk) -> None:
        """Print a chunk. Lines that are not complete wait, unless their task is the only one."""
        key = self._keys[chunk.instance] if chunk.instance >= 0 else "run"
        if self._task is not None:
            if key == self._task:
                self._stream.write(self._safe(chunk.text))
            return
        slot = (chunk.instance, chunk.stream)
        *lines, rest = _LINE_END.split(self._begun.pop(slot, "") + chunk.text)
        for line in lines:
            self._stream.write(f"{key} | {self._safe(line)}\n")
        if rest:
            self._begun[slot] = rest

    def end(self) -> None:
        """Print the lines that were never completed."""
        for (instance, _), line in self._begun.items():
            key = self._keys[instance] if instance >= 0 else "run"
            self._stream.write(f"{key} | {self._safe(line)}\n")
        self._begun.clear()

    def _safe(self, text: str) -> str:
        if not self._is_terminal:
            return text
        # A lone carriage return would let a line overwrite itself: it ends the line instead.
        parts = _COLOUR.split(_LINE_END.sub("\n", text))
        shown = "".join(
            part if is_colour and self._has_colour else "" if is_colour else visible_text(part)
            for is_colour, part in zip((False, True) * len(parts), parts, strict=False)
        )
        return shown + _RESET if len(parts) > 1 and self._has_colour else shown
