"""How tasks reach the cache of the store their run belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from flowbuilder.cache.task_cache import TaskCache

__all__ = ["CacheSite"]


class CacheSite(msgspec.Struct, frozen=True):
    """The cache of a store, as tasks need it.

    Parameters
    ----------
    open : callable
        Gives the cache, opened at its first use; raises `StorageError` where there is none.
    parent_of : callable
        Gives the id of the run in whose task a run was started, or an empty text.
    """

    open: Callable[[], TaskCache]
    parent_of: Callable[[str], str] = lambda _run_id: ""
