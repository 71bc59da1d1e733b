"""Keeping secret values out of what the engine writes."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from urllib.parse import quote, quote_plus

__all__ = ["make_redactor"]

_SHORTEST = 4
"""Shorter values are not redacted: they would blank out half of every log."""


def make_redactor(secrets: Mapping[str, str]) -> Callable[[str], str] | None:
    """Make a function that replaces secret values, also URL-quoted, JSON-escaped and in base64, by
    ``***``.

    Parameters
    ----------
    secrets : mapping
        Secret name -> environment variable.

    Returns
    -------
    callable or None
        None if none of the variables is set.
    """
    values = [os.environ.get(variable, "") for variable in secrets.values()]
    forms = {form for value in values if len(value) >= _SHORTEST for form in _forms(value)}
    if not forms:
        return None
    ordered = sorted(forms, key=len, reverse=True)

    def redact(text: str) -> str:
        for form in ordered:
            if form in text:
                text = text.replace(form, "***")
        return text

    return redact


def _forms(value: str) -> set[str]:
    """Give the ways a value is usually written: plain, in code and JSON, in a URL, in base64."""
    data = value.encode(errors="surrogateescape")
    parts = {part for offset in range(3) if len(part := _in_base64(data, offset)) >= _SHORTEST}
    return {
        value,
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        quote(data),
        quote(data, safe=""),
        quote_plus(data),
        *parts,
        *(part.replace("+", "-").replace("/", "_") for part in parts),
    }


def _in_base64(data: bytes, offset: int) -> str:
    """Give the characters that stand for ``data`` behind ``offset`` other bytes (modulo 3),
    whatever surrounds it, as in ``user:password``.
    """
    text = base64.b64encode(bytes(offset) + data).decode()
    return text[-(-offset * 8 // 6) : (offset + len(data)) * 8 // 6]
