"""Outputs that hold a secret: never written, so the task runs again after a resume."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

__all__ = ["holds_secret"]


def holds_secret(value: object, redact: Callable[[str], str]) -> bool:
    """Tell whether a secret stands in an output made of text and plain containers.

    Parameters
    ----------
    value : object
        The output. Tables and other objects are not searched.
    redact : callable
        Replaces secrets in text.
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, bytes | bytearray):
        text = bytes(value).decode("utf-8", "replace")
    elif isinstance(value, list | tuple | dict | set | frozenset):
        try:
            # Text stands as it is in msgpack, whatever the shape around it.
            text = msgspec.msgpack.encode(value).decode("utf-8", "replace")
        except (TypeError, ValueError, RecursionError):
            text = repr(value)
    else:
        return False
    return redact(text) != text
