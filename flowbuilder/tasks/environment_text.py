"""Values as the text of environment variables: the one way data reaches a shell."""

from __future__ import annotations

import json

from flowbuilder.errors import TaskFailedError

__all__ = ["environment_text"]


def environment_text(value: object, what: str) -> str:
    """Write a value as text.

    Parameters
    ----------
    value : object
        None is empty, booleans are ``true`` and ``false``, lists and mappings JSON.
    what : str
        Names the value in the message: ``environment variable 'X'``.

    Raises
    ------
    TaskFailedError
        If it is not plain data, or holds a NUL character.
    """
    text = _text(value, what)
    if "\0" in text:
        raise TaskFailedError(
            f"expected text without NUL characters for {what}, found {text[:40]!r}"
        )
    return text


def _text(value: object, what: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | dict):
        try:
            return json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            pass
    raise TaskFailedError(
        f"expected text, a number or JSON data for {what}, found {type(value).__name__}",
        hint="write large or binary data to a file and pass its path",
    )
