"""Keeping secret values out of what the engine writes."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from urllib.parse import quote

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
    return {
        value,
        quote(value),
        quote(value, safe=""),
        json.dumps(value)[1:-1],
        base64.b64encode(value.encode()).decode().rstrip("="),
    }
