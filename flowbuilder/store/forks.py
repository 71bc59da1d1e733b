"""A forked child lets go of what it inherited, neither using nor closing its parent's files.

Closing an inherited SQLite connection could delete the parent's write-ahead log, so a child leaks
it on purpose.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol
from weakref import WeakSet

__all__ = ["Inheritable", "leak", "watch_forks"]


class Inheritable(Protocol):
    """Something with files or locks that a forked child must not touch."""

    def abandon(self) -> None:
        """Become unusable without touching a file. Runs in the child, which has one thread."""
        ...


count = 0
"""Forks between the first process and this one: tells a child from its parent, without asking the
system for the number of the process."""

_watched: WeakSet[Inheritable] = WeakSet()


def watch_forks(owner: Inheritable) -> None:
    """Call ``owner.abandon()`` in every process forked from now on."""
    _watched.add(owner)


def leak(objects: Iterable[object]) -> None:
    """Keep objects alive for ever: no finaliser runs, not even when the interpreter ends."""
    import ctypes

    for item in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))


def _abandon_all() -> None:
    global count  # noqa: PLW0603
    count += 1
    for owner in list(_watched):
        owner.abandon()
    _watched.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
