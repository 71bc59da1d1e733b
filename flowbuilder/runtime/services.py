"""What drivers need from their engine: executors, limits, measured durations, storage and time."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from flowbuilder.clock import Clock
from flowbuilder.runtime.admission import Admission
from flowbuilder.runtime.capture import OutputRouter, process_router
from flowbuilder.runtime.choice import MeanDurations
from flowbuilder.runtime.executors.io_loop import IoLoop
from flowbuilder.runtime.executors.processes import ProcessExecutor
from flowbuilder.runtime.executors.threads import ThreadExecutor
from flowbuilder.store.ports import ArtifactStore

__all__ = ["ErrorReport", "Services"]


class ErrorReport(msgspec.Struct, frozen=True):
    """A task's failure in the user's terms: the traceback trimmed to their code, the place in
    their text.
    """

    traceback: str
    location: str


class Services(msgspec.Struct, kw_only=True):
    """The engine's shared parts; built in one place, `flowbuilder.runtime.engine`."""

    clock: Clock
    threads: ThreadExecutor
    io: IoLoop
    processes: ProcessExecutor
    admission: Admission
    artifacts: ArtifactStore | None
    forget: Callable[[str], None]
    """Called with the id of every run that ended."""
    explain_error: Callable[[BaseException, str], ErrorReport]
    router: OutputRouter = msgspec.field(default_factory=lambda: process_router)
    means: MeanDurations = msgspec.field(default_factory=MeanDurations)
