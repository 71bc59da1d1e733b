"""Names people give to workflows, tasks and parameters: any script, but nothing invisible.

A name is in Unicode form NFC, starts with a letter or ``_``, goes on with letters, digits, ``_``
and ``-``, and has at most `MAX_NAME_LENGTH` characters. Two names are the same if their folded
forms are.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["MAX_NAME_LENGTH", "fold_name", "name_problem", "suggest_name"]

MAX_NAME_LENGTH = 128
"""Longest name, in characters."""

_ASCII = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")
# Letters and marks by category that show nothing, so two different names would look the same.
_INVISIBLE = frozenset(
    [
        *map(chr, range(0xFE00, 0xFE10)),
        *map(chr, range(0xE0100, 0xE01F0)),
        *map(chr, range(0x180B, 0x1810)),
        *"\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0",
    ]
)


def name_problem(name: str) -> str | None:
    """Say what is wrong with a name.

    Parameters
    ----------
    name : str
        Any text, however long.

    Returns
    -------
    str or None
        A clause such as ``it holds a space``, safe to print; None if the name is fine.

    Notes
    -----
    A plain ASCII name costs 0.2 us.
    """
    if _ASCII.fullmatch(name):
        return None
    if not name:
        return "it is empty"
    if len(name) > MAX_NAME_LENGTH:
        return f"it has {len(name)} characters, {MAX_NAME_LENGTH} are allowed"
    if not _may_start(name[0]):
        return f"it starts with {_show(name[0])}, a name starts with a letter or '_'"
    for character in name:
        if not _may_continue(character):
            return f"it holds {_show(character)}; letters, digits, '_' and '-' are allowed"
    if not unicodedata.is_normalized("NFC", name):
        return "its accents are written as separate characters (Unicode form NFC is needed)"
    return None


def fold_name(name: str) -> str:
    """Give the form under which names are compared: NFKC and case folded.

    Parameters
    ----------
    name : str
        A valid name.

    Returns
    -------
    str
        Equal for names that differ only in case, width or compatibility forms.
    """
    if name.isascii():
        return name.lower()
    folded = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", folded)


def suggest_name(name: str) -> str:
    """Turn any text into a valid name close to it.

    Parameters
    ----------
    name : str
        Any text.

    Returns
    -------
    str
        A valid name, or an empty text if nothing of it can be kept.
    """
    text = unicodedata.normalize("NFC", name[: 4 * MAX_NAME_LENGTH])
    kept = "".join(character if _may_continue(character) else " " for character in text)
    words = "_".join(kept.split()).strip("-")[:MAX_NAME_LENGTH]
    if words and not _may_start(words[0]):
        words = f"_{words}"[:MAX_NAME_LENGTH]
    return words if words.strip("_") and name_problem(words) is None else ""


def _may_start(character: str) -> bool:
    return character == "_" or (
        unicodedata.category(character)[0] == "L" and character not in _INVISIBLE
    )


def _may_continue(character: str) -> bool:
    # Marks (Mn, Mc) are parts of letters in many scripts: Hindi and Thai need them.
    if character in "_-":
        return True
    category = unicodedata.category(character)
    return (category[0] == "L" or category in {"Nd", "Mn", "Mc"}) and character not in _INVISIBLE


def _show(character: str) -> str:
    if character == " ":
        return "a space"
    known = unicodedata.name(character, "")
    shown = repr(character) if character.isprintable() else f"U+{ord(character):04X}"
    return f"{shown} ({known.lower()})" if known and not character.isascii() else shown
