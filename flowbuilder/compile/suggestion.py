"""Near-misses: which of the known names the author probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["suggest"]

_LISTED = 8
_COMPARED = 5_000


def suggest(name: str, known: Iterable[str]) -> str:
    """Make the hint for an unknown name.

    Parameters
    ----------
    name : str
        What was written.
    known : iterable of str
        What would have been right; of more than a few thousand only the first are compared.

    Returns
    -------
    str
        ``did you mean 'x'?``, else the known names if they are few, else nothing.
    """
    names = list(known)
    close = difflib.get_close_matches(name[:128], names[:_COMPARED], n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    if names and len(names) <= _LISTED:
        return "known: " + ", ".join(sorted(names))
    return ""
