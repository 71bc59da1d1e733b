"""Looking after the cache: what it holds, and forgetting it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flowbuilder.cache.entry import CacheStats
from flowbuilder.errors import FlowBuilderError

if TYPE_CHECKING:
    from flowbuilder.compile.expansion import CompiledWorkflow
    from flowbuilder.plugins.catalogue import TaskTypes

__all__ = ["cache_stats", "clear_cache", "forecast_for"]


def cache_stats(*, data_dir: str | Path | None = None) -> CacheStats:
    """Count what the cache of this place holds and what it was good for.

    Parameters
    ----------
    data_dir : path, optional
        The store directory; by default found from the working directory.

    Returns
    -------
    CacheStats
        Numbers over all processes that use the store.

    Raises
    ------
    StorageError
        If the place has no cache because it cannot be written.
    """
    from flowbuilder.api.container import container_for

    return container_for(None, data_dir).open_cache().stats()


def clear_cache(task: str | None = None, *, data_dir: str | Path | None = None) -> int:
    """Forget kept outputs; tasks then run again.

    Parameters
    ----------
    task : str, optional
        ``workflow/task``, or ``workflow`` for all its tasks; everything by default.
    data_dir : path, optional
        The store directory; by default found from the working directory.

    Returns
    -------
    int
        How many outputs were forgotten.

    Raises
    ------
    FlowBuilderError
        If nothing of ``task`` is kept.
    StorageError
        If the place has no cache because it cannot be written.
    """
    from flowbuilder.api.container import container_for

    cache = container_for(None, data_dir).open_cache()
    if task is None:
        return cache.clear()
    gone = cache.remove(lambda entry: (entry.task + "/").startswith(task + "/"))
    if not gone:
        known = sorted({entry.task for entry in cache.entries()})[:12]
        raise FlowBuilderError(
            f"no cached task or workflow is called {task!r}",
            hint=f"there are {', '.join(known)}" if known else "the cache is empty",
        )
    return len(gone)


def forecast_for(compiled: CompiledWorkflow, registry: TaskTypes, store: Path) -> Mapping[str, str]:
    """Say what the cache of a store would do with the cached tasks of a plan; leaves no trace."""
    if not any(task.spec.cache is not None for task in compiled.expansion.tasks):
        return {}
    from flowbuilder.cache.task_cache import TaskCache
    from flowbuilder.tasks.cache_forecast import forecast_cache

    if not (store / "cache" / "index.sqlite").exists():
        return forecast_cache(compiled, registry, None)
    cache = TaskCache(store)
    try:
        return forecast_cache(compiled, registry, cache)
    finally:
        cache.close()
