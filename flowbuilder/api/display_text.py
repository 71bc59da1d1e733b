"""Text of users on a screen: control characters made visible, columns measured in screen cells.

Task names are checked when a workflow is read, but messages, outputs and logs are whatever a task
made of them: an escape sequence in an error must not repaint a terminal or forge a line.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["cell_width", "fit_cells", "one_line", "visible_text"]

# C0 and C1 controls, DEL, line and paragraph separators, everything that reorders or hides text,
# and lone surrogates.
_UNSAFE = (
    "\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
    "\ufff9-\ufffb"
)
# Compiled at their first use, by `re` itself: most commands print nothing of the kind.
_IN_LINE = f"[{_UNSAFE}]"
_IN_TEXT = f"(?![\t\n])[{_UNSAFE}]"
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def one_line(text: str) -> str:
    r"""Make text one safe line: line breaks become ``\n``, other control characters ``\x1b``."""
    return re.sub(_IN_LINE, _escape, text)


def visible_text(text: str) -> str:
    r"""Make text safe but keep its lines and tabs: escape sequences become ``\x1b[31m``."""
    return re.sub(_IN_TEXT, _escape, text.replace("\r\n", "\n"))


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    return _NAMES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def cell_width(text: str) -> int:
    """Count the screen cells of one line: wide East Asian characters take two, marks none."""
    if text.isascii():
        return len(text)
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit_cells(text: str, width: int) -> str:
    """Cut or pad one line to exactly ``width`` cells; what was cut is shown as ``…``."""
    used = cell_width(text)
    if used > width:
        used, kept = 0, []
        for character in text:
            cells = _cells(character)
            if used + cells > width - 1:
                break
            kept.append(character)
            used += cells
        text, used = "".join(kept) + "…", used + 1
    return text + " " * (width - used)
