"""What changed between two fingerprints, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flowbuilder.cache.parts import Fingerprint, Part

__all__ = ["differences"]

_MOST: Final = 4
_ORDER: Final = (
    *("version", "code", "global", "closure", "default", "attribute", "argument", "input"),
    *("param", "file", "env", "type", "library"),
)

_WORDS: Final[Mapping[str, str]] = {
    "argument": "argument `{}`",
    "closure": "closure value `{}`",
    "code": "code of `{}`",
    "default": "default value `{}`",
    "env": "environment variable `{}`",
    "file": "file `{}`",
    "global": "global `{}`",
    "input": "upstream `{}`",
    "library": "the version of `{}`",
    "param": "parameter `{}`",
    "type": "the version of task type `{}`",
    "version": "the cache version",
}


def differences(before: Fingerprint, now: Fingerprint) -> str:
    """Say what changed, the most telling first.

    Parameters
    ----------
    before, now : Fingerprint
        Of the same task.

    Returns
    -------
    str
        Such as ``argument `limit` changed 0.5 -> 0.6``; empty if nothing did.
    """
    old = {(part.kind, part.name): part for part in before.parts}
    new = {(part.kind, part.name): part for part in now.parts}
    changed = [
        (_ORDER.index(key[0]) if key[0] in _ORDER else len(_ORDER), key)
        for key in old.keys() | new.keys()
        if key not in old or key not in new or old[key].digest != new[key].digest
    ]
    texts = [_describe(old.get(key), new.get(key)) for _, key in sorted(changed)]
    shown = list(dict.fromkeys(texts))[:_MOST]
    if len(texts) > len(shown) and len(dict.fromkeys(texts)) > _MOST:
        shown.append(f"and {len(dict.fromkeys(texts)) - _MOST} more")
    return "; ".join(shown)


def _describe(old: Part | None, new: Part | None) -> str:
    part = new or old
    assert part is not None
    what = _what(part)
    if old is None:
        return f"{what} is new"
    if new is None:
        return f"{what} is gone"
    if part.kind == "input":
        return f"upstream `{part.name}` gave other content"
    if part.kind == "code":
        line = _changed_line(old, new)
        return f"{what} changed at line {line}" if line else f"{what} changed"
    return f"{what} changed{_values(old, new)}"


def _values(old: Part, new: Part) -> str:
    if not old.shown and not new.shown:
        return ""
    return f" {old.shown or '(not shown)'} -> {new.shown or '(not shown)'}"


def _what(part: Part) -> str:
    name = part.name.rpartition(":")[2]
    if part.kind == "code" and name == "script":
        return "the script"
    if part.kind == "global":
        name = name.rpartition(".")[2]
    return _WORDS.get(part.kind, "`{}`").format(name)


def _changed_line(old: Part, new: Part) -> int:
    """Find the line of the first statement that differs; 0 if it is not known."""
    for index, (line, digest) in enumerate(new.lines):
        if index >= len(old.lines) or old.lines[index][1] != digest:
            return line
    return new.lines[-1][0] if new.lines else 0
