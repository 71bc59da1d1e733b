"""The composition root: settings, journal, artifacts, engine and registry of this process for one
store, wired in one place.

The original design's ``ServiceContainer``. Nothing else constructs stores, executors or clocks.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from flowbuilder.config import DATA_DIR_NAME, Settings, find_data_dir, load_settings
from flowbuilder.errors import StorageError
from flowbuilder.history.months import Months
from flowbuilder.history.whole_journal import WholeJournal
from flowbuilder.plugins.registry import Registry
from flowbuilder.runtime.capture import slots, task_slot
from flowbuilder.runtime.engine import Engine, EngineOptions
from flowbuilder.runtime.machine import cpu_budget, memory_limit_bytes
from flowbuilder.runtime.services import ErrorReport
from flowbuilder.runtime.transport_folder import sweep_transport
from flowbuilder.store.artifact_opening import open_artifacts
from flowbuilder.store.janitor import Swept, sweep_partial, sweep_scratch
from flowbuilder.store.local_artifacts import LocalArtifactStore
from flowbuilder.store.opening import open_store
from flowbuilder.store.ports import ArtifactStore
from flowbuilder.tasks.cache_site import CacheSite

if TYPE_CHECKING:
    from flowbuilder.cache.task_cache import TaskCache
    from flowbuilder.history.history import History
    from flowbuilder.history.search import Search

__all__ = [
    "ServiceContainer",
    "container_for",
    "forget_containers",
    "live_containers",
    "memory_budget",
    "session_settings",
]

session_settings: dict[str, Any] = {}
"""What `configure` set for this process."""

_containers: dict[tuple[Path, str], ServiceContainer] = {}
_lock = threading.Lock()
_generation = 0


class ServiceContainer:
    """Everything runs need, for one store directory. One per process and store.

    Parameters
    ----------
    data_dir : Path
        The store directory.
    project : Path
        Folder whose plugins may be used.
    settings : Settings
        Checked settings.
    """

    def __init__(self, data_dir: Path, project: Path, settings: Settings) -> None:
        self.data_dir = data_dir
        self.project = project
        self.settings = settings
        opened = open_store(
            data_dir,
            "" if settings.journal is None else settings.journal.text,
            flush_interval_s=settings.flush_interval_s,
        )
        self.months = Months(data_dir / "months")
        self.journal = WholeJournal(opened.journal, self.months)
        self.is_in_memory = opened.is_in_memory
        self._owners = opened.owners
        self._owner = opened.owners.acquire()
        scratch = self._scratch()
        self.artifacts: ArtifactStore = open_artifacts(
            "" if settings.artifacts is None else settings.artifacts.text,
            scratch if self.is_in_memory else data_dir,
            max_bytes=settings.max_artifact_bytes,
            max_store_bytes=settings.max_store_bytes,
        )
        self._is_alive = opened.owners.is_alive
        self.swept = self.sweep()
        """What killed processes had left when this one began."""
        memory_bytes = memory_budget(settings)
        self.engine = Engine(
            self.journal,
            None if self.is_in_memory else self.artifacts,
            EngineOptions(
                engine_id=self._owner.engine_id,
                workers=settings.workers or cpu_budget(),
                scratch=scratch,
                pools=settings.pools,
                explain_error=_explain_error,
                kept_bytes=memory_bytes // 2,
                query_bytes=memory_bytes // 2,
            ),
        )
        self._registry: Registry | None = None
        self._cache: TaskCache | None = None
        self._cache_lock = threading.Lock()
        self.cache_site = CacheSite(self.open_cache, self._parent_of)
        self._history: History | None = None
        self._search: Search | None = None
        self._history_lock = threading.Lock()
        self._endpoint: Callable[[], None] | None = None
        self._endpoint_lock = threading.Lock()
        self._is_closed = False
        self.generation = _generation

    def sweep(self) -> Swept:
        """Remove what killed processes left in this store, and in shared memory."""
        found = sweep_scratch(self._scratch(), self._is_alive)
        found += sweep_transport(self._scratch())
        if isinstance(self.artifacts, LocalArtifactStore):
            found += sweep_partial(self.artifacts.folder)
        return found

    def _scratch(self) -> Path:
        if self.is_in_memory:
            import tempfile

            return Path(tempfile.gettempdir()) / f"flowbuilder-{os.getpid()}"
        return self.data_dir / "scratch"

    @property
    def is_current(self) -> bool:
        """Whether it may be used for new runs: same settings, usable engine."""
        return self.generation == _generation and not self.engine.is_stale

    @property
    def registry(self) -> Registry:
        """The task types that can be used here."""
        if self._registry is None:
            from flowbuilder.tasks import default_registry

            self._registry = default_registry(self.project)
        return self._registry

    def open_cache(self) -> TaskCache:
        """Give the cache of this store, opened at its first use.

        Raises
        ------
        StorageError
            If runs are only kept in memory, or the cache cannot be opened.
        """
        found = self._cache
        if found is not None:
            return found
        if self.is_in_memory:
            raise StorageError("this place cannot be written, so no outputs are kept")
        from flowbuilder.cache.task_cache import TaskCache

        with self._cache_lock:
            if self._cache is None:
                self._cache = TaskCache(
                    self.data_dir,
                    max_bytes=self.settings.max_cache_bytes,
                    max_value_bytes=self.settings.max_artifact_bytes,
                )
            return self._cache

    def _parent_of(self, run_id: str) -> str:
        live = self.engine.live.get(run_id)
        return live.header.parent_run_id if live is not None else ""

    @property
    def history(self) -> History:
        """Every run of the store as tables.

        Raises
        ------
        PluginError
            If the libraries it needs are not installed.
        """
        from flowbuilder.history.history import History

        with self._history_lock:
            if self._history is None:
                self._history = History(
                    self.journal.recent,
                    self.months,
                    self._derived_folder(),
                    self._owners.is_alive,
                )
            return self._history

    @property
    def search_index(self) -> Search:
        """The texts of every run of the store."""
        from flowbuilder.history.search import Search

        with self._history_lock:
            if self._search is None:
                self._search = Search(self.journal.recent, self.months, self._derived_folder())
            return self._search

    def _derived_folder(self) -> Path | None:
        """Give the folder of what can be rebuilt from the journal and the months."""
        if self.is_in_memory:
            return None
        folder = self.data_dir / "history"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            return None
        return folder

    def parent_run_id(self) -> str:
        """Give the run whose task is executing on this thread, for runs nested in it."""
        slot = slots.get(get_ident()) or task_slot.get()
        return slot.run.run_id if slot is not None else ""

    def open_endpoint(self) -> None:
        """Let other processes control and read the runs of this one. Does nothing the second
        time.
        """
        if self._endpoint is not None:
            return
        from flowbuilder.api.host import serve_endpoint

        with self._endpoint_lock:
            if self._endpoint is None:
                self._endpoint = serve_endpoint(self)

    def close(self) -> None:
        """End the engine, flush the journal, give up the owner lock."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._endpoint is not None:
            self._endpoint()
        if self._history is not None:
            self._history.close()
        if self._search is not None:
            self._search.close()
        try:
            self.engine.close()
            self.journal.close()
            if self._cache is not None:
                self._cache.close()
        finally:
            self._owner.release()


def memory_budget(settings: Settings) -> int:
    """Give what outputs and queries may take in memory together; 0 if there is no limit."""
    return settings.memory_limit or (memory_limit_bytes() or 0) * 3 // 4


def container_for(flow_file: Path | None, data_dir: str | Path | None = None) -> ServiceContainer:
    """Give the container of this process for a file, a store, or the working directory.

    Parameters
    ----------
    flow_file : Path or None
        A workflow file; its folder is where the search for the store begins.
    data_dir : path, optional
        The store directory itself.

    Raises
    ------
    ConfigurationError, StorageError
        If the settings or the store cannot be used.
    """
    start = flow_file if flow_file is not None else Path.cwd()
    given = {"data_dir": data_dir} if data_dir else {}
    settings = load_settings(start, **{**session_settings, **given})
    store = find_data_dir(flow_file, settings.data_dir)
    with _lock:
        # Whether somebody named the store or it was found makes no difference.
        key = (store, repr(replace(settings, data_dir=None, sources={})))
        found = _containers.get(key)
        if found is None or found.engine.is_stale:
            folder = start if start.is_dir() else start.parent
            project = store.parent if store.name == DATA_DIR_NAME else folder
            found = _containers[key] = ServiceContainer(store, project, settings)
        found.generation = _generation
        return found


def live_containers() -> list[ServiceContainer]:
    """List the containers of this process that can be used."""
    return [found for found in list(_containers.values()) if not found.engine.is_stale]


def forget_containers() -> None:
    """Let the next question make containers anew; existing ones serve the runs that have them."""
    global _generation  # noqa: PLW0603
    _generation += 1


def _explain_error(error: BaseException, traceback: str) -> ErrorReport:
    from flowbuilder.tasks.tracebacks import user_traceback

    text, location = user_traceback(error)
    if error.__traceback__ is None and traceback:
        # It was raised in another process, whose frames only the text knows.
        text = traceback
    return ErrorReport(traceback=text, location=str(location) if location else "")


def close_containers() -> None:
    """Close every container of this process; the next question makes new ones.

    Raises
    ------
    StorageError
        If records of one could not be written; the others are closed all the same.
    """
    with _lock:
        containers = list(_containers.values())
        _containers.clear()
    failure: StorageError | None = None
    for container in containers:
        if container.engine.is_stale:
            continue
        try:
            container.close()
        except StorageError as error:
            failure = failure or error
    if failure is not None:
        raise failure


@atexit.register
def _close_at_exit() -> None:
    try:
        close_containers()
    except StorageError as error:
        # The run that lost them has failed and said so.
        logging.getLogger(__name__).warning("at the end of the program: %s", error)


def _forget_inherited() -> None:
    _containers.clear()
    session_settings.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)
