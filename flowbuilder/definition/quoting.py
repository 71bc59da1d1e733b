"""How texts and numbers are written so that YAML 1.1 and 1.2 readers both give them back."""

from __future__ import annotations

import json
import math
import re

from flowbuilder.definition.scalars import MAX_INTEGER, MIN_INTEGER

__all__ = ["literal_block", "scalar_text", "text_in_quotes"]

# Starts with a letter, so it can be no number, date or indicator in any version of YAML.
# The patterns are compiled at their first use, by `re` itself: only writing needs them.
_PLAIN = r"[^\W\d][\w./@%+=()-]*(?: [\w./@%+=()-]+)*|/[\w./-]*"
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_LONGEST_PLAIN = 120
# Line breaks of YAML 1.1, characters nobody sees, and those YAML forbids.
_ESCAPED = (
    "[\x7f-\xa0\xad\u0600-\u0605\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff0-\uffff\U000e0000-\U000e0fff]"
)
_NOT_IN_BLOCK = "[\x00-\x08\x0b-\x1f]"


def scalar_text(value: object) -> str:
    """Write a scalar on one line.

    Parameters
    ----------
    value : None, bool, int, float or str
        What to write.

    Returns
    -------
    str
        Plain where that is safe, else in double quotes.

    Raises
    ------
    ValueError
        If it cannot be written: a whole number over 64 bits, or text with a lone surrogate.
    TypeError
        If it is of another type.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise ValueError("a whole number of more than 64 bits")
        return str(int(value))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return str(value) if _is_plain(value) else text_in_quotes(value)
    raise TypeError(f"a Python {type(value).__name__}")


def _float(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = float.__repr__(value)
    # YAML 1.1 takes 1e+16 for text: its numbers need a point.
    return text if "." in text else text.replace("e", ".0e", 1)


def _is_plain(text: str) -> bool:
    if len(text) > _LONGEST_PLAIN or not re.fullmatch(_PLAIN, text):
        return False
    return text.lower() not in _WORDS and not re.search(_ESCAPED, text)


def text_in_quotes(text: str) -> str:
    """Write a text in double quotes, everything invisible as an escape."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("text with a lone surrogate")
    return re.sub(_ESCAPED, _escape, json.dumps(text, ensure_ascii=False))


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


def literal_block(text: str, indent: str) -> str | None:
    """Write a text of several lines as a ``|`` block.

    Parameters
    ----------
    text : str
        What to write.
    indent : str
        Spaces before each line.

    Returns
    -------
    str or None
        Header and lines without the last line break; None if a block would not give the text back
        exactly.
    """
    body = text.removesuffix("\n")
    if "\n" not in text or not body or re.search(_ESCAPED, text) or re.search(_NOT_IN_BLOCK, text):
        return None
    lines = body.split("\n")
    # What a reader would take for indentation or for the end is safer in quotes.
    if text[0] in "\n\t " or not lines[-1].strip():
        return None
    written = [f"{indent}{line}" if line else "" for line in lines]
    return "\n".join(["|-" if body == text else "|", *written])
