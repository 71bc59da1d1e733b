"""The composition root: settings, journal, artifacts, engine and registry of this process for one
store, wired in one place.

The original design's ``ServiceContainer``. Nothing else constructs stores, executors or clocks.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from pathlib import Path
from threading import get_ident
from typing import Any

from flowbuilder.config import Settings, find_data_dir, load_settings
from flowbuilder.plugins.registry import Registry
from flowbuilder.runtime.capture import slots, task_slot
from flowbuilder.runtime.engine import Engine, EngineOptions
from flowbuilder.runtime.machine import cpu_budget
from flowbuilder.runtime.services import ErrorReport
from flowbuilder.store.local_artifacts import LocalArtifactStore
from flowbuilder.store.opening import open_journal
from flowbuilder.store.ownership import Owners
from flowbuilder.store.sqlite_journal import SqliteJournal

__all__ = ["ServiceContainer", "container_for", "forget_containers", "session_settings"]

session_settings: dict[str, Any] = {}
"""What `configure` set for this process."""

_containers: dict[tuple[Path, str], ServiceContainer] = {}
_lock = threading.Lock()
_places: dict[object, tuple[int, ServiceContainer]] = {}
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
        self.journal: SqliteJournal = open_journal(
            data_dir, flush_interval_s=settings.flush_interval_s
        )
        self.is_in_memory = self.journal.path is None
        self._owner = Owners(None if self.is_in_memory else data_dir).acquire()
        scratch = self._scratch()
        self.artifacts = LocalArtifactStore(
            scratch if self.is_in_memory else data_dir, max_bytes=settings.max_artifact_bytes
        )
        self.engine = Engine(
            self.journal,
            None if self.is_in_memory else self.artifacts,
            EngineOptions(
                engine_id=self._owner.engine_id,
                workers=settings.workers or cpu_budget(),
                scratch=scratch,
                pools=settings.pools,
                explain_error=_explain_error,
            ),
        )
        self._registry: Registry | None = None
        self._endpoint: Callable[[], None] | None = None
        self._is_closed = False

    def _scratch(self) -> Path:
        if self.is_in_memory:
            import tempfile

            return Path(tempfile.gettempdir()) / f"flowbuilder-{os.getpid()}"
        return self.data_dir / "scratch"

    @property
    def registry(self) -> Registry:
        """The task types that can be used here."""
        if self._registry is None:
            from flowbuilder.tasks import default_registry

            self._registry = default_registry(self.project)
        return self._registry

    def parent_run_id(self) -> str:
        """Give the run whose task is executing on this thread, for runs nested in it."""
        slot = slots.get(get_ident()) or task_slot.get()
        return slot.run.run_id if slot is not None else ""

    def open_endpoint(self) -> None:
        """Let other processes control and read the runs of this one. Does nothing the second
        time.
        """
        if self._endpoint is None:
            from flowbuilder.api.host import serve_endpoint

            self._endpoint = serve_endpoint(self)

    def close(self) -> None:
        """End the engine, flush the journal, give up the owner lock."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._endpoint is not None:
            self._endpoint()
        self.engine.close()
        self.journal.close()
        self._owner.release()


def container_for(
    flow_file: Path | None, data_dir: str | Path | None = None, **settings: object
) -> ServiceContainer:
    """Give the container of this process for a workflow file, a store directory, or the working
    directory.

    Parameters
    ----------
    flow_file : Path or None
        A workflow file; its folder is where the search for the store begins.
    data_dir : path, optional
        The store directory itself.
    **settings
        Explicit settings, as for `flowbuilder.configure`. Different ones make a different
        container.

    Raises
    ------
    ConfigurationError, StorageError
        If the settings or the store cannot be used.
    """
    place = (
        flow_file,
        None if data_dir is None else str(data_dir),
        Path.cwd(),
        tuple(sorted(settings.items(), key=str)),
    )
    known = _places.get(place)
    # A fast path: the same question was answered before, in this process and under these settings.
    if known is not None and known[0] == _generation and not known[1].engine.is_stale:
        return known[1]
    start = flow_file if flow_file is not None else Path.cwd()
    loaded = load_settings(
        start, **{**session_settings, **({"data_dir": data_dir} if data_dir else {}), **settings}
    )
    store = find_data_dir(flow_file, loaded.data_dir)
    key = (store, repr(loaded))
    with _lock:
        found = _containers.get(key)
        if found is None or found.engine.is_stale:
            project = (
                store.parent
                if store.name == ".flowbuilder"
                else (start if start.is_dir() else start.parent)
            )
            found = _containers[key] = ServiceContainer(store, project, loaded)
        _places[place] = (_generation, found)
    return found


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


@atexit.register
def _close_all() -> None:
    for container in list(_containers.values()):
        if not container.engine.is_stale:
            container.close()


def _forget_inherited() -> None:
    _containers.clear()
    _places.clear()
    session_settings.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)
