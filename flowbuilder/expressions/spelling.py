"""Near-misses: which of the known names somebody probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

__all__ = ["nearest", "spelling_hint"]

_LISTED = 8
_SHOWN_CHARACTERS = 40
_COMPARED = 2_000
_SLACK = 3


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name most like ``name``.

    Parameters
    ----------
    name : str
        What was written.
    known : iterable of str
        What would have been right. Only names of similar length are compared, at most 2,000 of
        them.

    Returns
    -------
    str or None
        None if nothing is close.

    Notes
    -----
    At most some 20 ms, whatever the number of names.
    """
    import difflib

    if len(name) > 128:
        return None
    folded = name.casefold()
    similar = (other for other in known if abs(len(other) - len(name)) <= _SLACK)
    by_folded = {other.casefold(): other for other in islice(similar, _COMPARED)}
    if folded in by_folded:
        return by_folded[folded]
    close = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def spelling_hint(name: str, known: Iterable[str]) -> str:
    """Make the hint for an unknown name.

    Parameters
    ----------
    name : str
        What was written.
    known : iterable of str
        What would have been right.

    Returns
    -------
    str
        ``did you mean 'x'?``, else the first few known names, else nothing.
    """
    names = known if isinstance(known, list | tuple | dict | frozenset) else list(known)
    close = nearest(name, names)
    if close is not None:
        return f"did you mean {close!r}?"
    listed = sorted(islice(names, _LISTED + 1))
    if not listed:
        return ""
    shown = ", ".join(repr(item[:_SHOWN_CHARACTERS]) for item in listed[:_LISTED])
    return f"known: {shown}" + (", ..." if len(listed) > _LISTED else "")
