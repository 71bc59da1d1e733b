"""The datasets of a project: ``fb.store()``."""

from __future__ import annotations

import atexit
import os
import threading
from pathlib import Path
from threading import get_ident

from flowbuilder.api.container import container_for, session_settings
from flowbuilder.config import find_data_dir, load_settings, prepare_data_dir
from flowbuilder.config.settings import Policy
from flowbuilder.datasets.index_builder import Budget
from flowbuilder.datasets.parts import RunPlace
from flowbuilder.datasets.store import Store, StoreOptions
from flowbuilder.runtime.capture import slots, task_slot
from flowbuilder.runtime.machine import cpu_budget

__all__ = ["store"]

_UNASKED = Budget(seconds=60.0, size_bytes=10 * 2**30)
_stores: dict[tuple[int, Path, StoreOptions], Store] = {}
_lock = threading.Lock()


def store(
    *, data_dir: str | Path | None = None, verify: bool = True, adaptive: bool = True
) -> Store:
    """Give the project's datasets: named tables that grow, keep their past, and answer SQL.

    Parameters
    ----------
    data_dir : path, optional
        The store directory; by default found from the working directory, like that of runs.
    verify : bool
        Read each file against its checksum before its first use in this process (about 1 GB/s);
        otherwise only sizes are compared.
    adaptive : bool
        Build indexes in the background once the scans they would have saved took longer than
        building does, a minute of work and 10 GiB at most.

    Returns
    -------
    Store
        One per process and place; closed when the process ends.

    Raises
    ------
    ConfigurationError, StorageError
        If the settings or the place cannot be used.
    """
    given = {"data_dir": data_dir} if data_dir else {}
    settings = load_settings(Path.cwd(), **{**session_settings, **given})
    place = prepare_data_dir(find_data_dir(None, settings.data_dir))
    options = StoreOptions(
        is_thorough=verify,
        threads=settings.workers or cpu_budget(),
        indexing=_UNASKED if adaptive else None,
        is_restricted=settings.policy is Policy.RESTRICTED,
        asking=_asking,
        run_output=_OutputsOf(place),
    )
    # A forked child must not use the files its parent opened.
    key = (os.getpid(), place, options)
    with _lock:
        found = _stores.get(key)
        if found is None:
            found = _stores[key] = Store(place, options)
    return found


class _OutputsOf:
    """Gives outputs of the runs of a place; equal for equal places."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __call__(self, suffix: str, task: str) -> object:
        from flowbuilder.api.history import PastRun

        container = container_for(None, self._place)
        found = container.journal.find_run(suffix)
        return PastRun(container, found.run_id)[task]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _OutputsOf) and other._place == self._place

    def __hash__(self) -> int:
        return hash(self._place)


def _asking() -> RunPlace:
    """Say which run's task is executing on this thread."""
    slot = slots.get(get_ident()) or task_slot.get()
    if slot is None:
        return RunPlace()
    run, instance = slot.run, slot.instance
    tasks = run.plan.tasks
    task = tasks[instance].key if 0 <= instance < len(tasks) else ""
    return RunPlace(run_id=run.run_id, task=task)


@atexit.register
def _close_all() -> None:
    for (pid, _, _), opened in list(_stores.items()):
        if pid == os.getpid():
            opened.close()
    _stores.clear()
