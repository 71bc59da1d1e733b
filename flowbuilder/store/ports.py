"""What the engine asks of storage. The embedded implementations are `sqlite_journal` and
`local_artifacts`; `postgres_journal` and `object_artifacts` can replace them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from flowbuilder.records import (
    ArtifactStored,
    Event,
    LogChunk,
    RecordSource,
    RunCreated,
    RunHeader,
    VersionHeader,
)
from flowbuilder.vocabulary import RunState, TaskState

__all__ = [
    "ArtifactInspector",
    "ArtifactStore",
    "EngineHold",
    "Journal",
    "JournalRun",
    "LiveSource",
    "OwnerRegistry",
    "RunSummary",
    "SavedRun",
    "StoredFile",
    "TailPage",
]


class LiveSource(RecordSource, Protocol):
    """A record source that can say whether more will come without a notification."""

    @property
    def is_streaming(self) -> bool:
        """True while the driver records without notifying (static segments): keep polling every 5
        ms.
        """
        ...


class JournalRun(Protocol):
    """The journal's hold on one live run."""

    def notify(self) -> None:
        """Say that the source has something; it will be on disk within 5 ms plus one commit.
        Cheap, thread-safe, never blocks.
        """
        ...

    def sync(self) -> None:
        """Return once everything recorded before the call is on disk (group commit: one caller
        commits for all that wait).

        Raises
        ------
        StorageError
            If it could not be written; the run must fail, nothing earlier is lost.
        """
        ...

    def confirm(self) -> None:
        """Make sure that what was notified before another run's `sync` is on disk after it.

        Raises
        ------
        StorageError
            If a commit of this run's records failed; once per failure.
        """
        ...

    def close(self) -> None:
        """Write what is left without waiting, and forget the source. The run's final state must
        have been recorded.
        """
        ...


class TailPage(NamedTuple):
    """Facts of all runs after a position, and the position to go on from."""

    events: list[Event]
    next_pos: int


class RunSummary(msgspec.Struct, kw_only=True):
    """One line of ``runs list``. ``state`` is ``interrupted`` if the run is not final and its
    owner is gone.
    """

    run_id: str
    workflow: str
    fingerprint: str
    plan_id: str
    state: RunState
    started_wall_ns: int
    duration_s: float
    counts: dict[str, int]
    """TaskState -> number of TaskRuns in it."""
    task_count: int
    path: str = ""
    params: dict[str, object] = {}
    error: str = ""
    error_task: str = ""
    owner: str = ""
    owner_host: str = ""
    owner_pid: int = 0
    parent_run_id: str = ""
    last_seq: int = -1
    durability: str = "run"


class SavedRun(msgspec.Struct, kw_only=True):
    """Everything resume needs: the version, and per instance what is known of it."""

    summary: RunSummary
    version: VersionHeader
    header: RunHeader
    states: list[TaskState]
    attempts: list[int]
    outputs: dict[int, object]
    """Settled small outputs by instance."""
    artifacts: dict[int, ArtifactStored]
    """Settled stored outputs by instance."""
    started: set[int]
    """Instances with an attempt that began and has no recorded end."""
    failures: dict[int, int] = {}
    """Failed attempts of instances since they were last started afresh, lost workers included."""
    lost: dict[int, int] = {}
    """Lost workers among them."""


class Journal(Protocol):
    """The append-only durable record: the truth for recovery and for every view. Thread-safe; many
    processes share one.
    """

    def open_run(
        self, version: VersionHeader, header: RunHeader, created: RunCreated, source: LiveSource
    ) -> JournalRun:
        """Begin a run. Nothing is written before the first flush; ``version`` is stored if it is
        new to the store.
        """
        ...

    def adopt_run(self, run_id: str, created: RunCreated, source: LiveSource) -> JournalRun:
        """Take over a run whose owner is gone or which ended unsuccessfully, by one durable
        compare-and-set.

        Raises
        ------
        RecoveryError
            If its owner lives; the message names pid and host.
        """
        ...

    def find_run(self, ref: str) -> RunSummary:
        """Resolve a run id, a unique suffix of one, or ``latest``.

        Raises
        ------
        StorageError
            If none or several match; the message lists candidates.
        """
        ...

    def list_runs(
        self, *, limit: int = 50, workflow: str | None = None, state: RunState | None = None
    ) -> list[RunSummary]:
        """List runs, newest first."""
        ...

    def load_run(self, run_id: str) -> SavedRun:
        """Read back everything known of a run."""
        ...

    def version(self, plan_id: str) -> VersionHeader:
        """Read a stored version."""
        ...

    def events(self, run_id: str, *, after_seq: int = -1) -> Iterator[Event]:
        """Iterate over a run's facts in order, blocks unfolded into `AttemptFinished`."""
        ...

    def logs(self, run_id: str, *, instance: int | None = None) -> Iterator[LogChunk]:
        """Iterate over what a run, or one of its tasks, printed and logged."""
        ...

    def tail(self, after_pos: int = 0, *, limit: int = 1000) -> TailPage:
        """Read facts of all runs and processes after a position, in the order they were written."""
        ...

    def last_pos(self) -> int:
        """Give the newest position, to tail from now on."""
        ...

    def artifacts(self, run_id: str) -> list[ArtifactStored]:
        """List the stored outputs of a run, of all attempts."""
        ...

    def snapshot(self, run_id: str) -> tuple[int, bytes] | None:
        """Read a recent (sequence number, state codes) of a long run, for a view to attach with."""
        ...

    def remove_runs(self, run_ids: Sequence[str]) -> int:
        """Delete finished runs with their records and artifact rows; return how many were
        deleted.
        """
        ...

    def close(self) -> None:
        """Flush everything and let go of the files."""
        ...


class EngineHold(Protocol):
    """The sign of life of one engine process."""

    @property
    def engine_id(self) -> str:
        """The name of this engine in the journal."""
        ...

    def release(self) -> None:
        """End it. May be repeated."""
        ...


class OwnerRegistry(Protocol):
    """Which engine processes live: each gives a sign that ends with it, however it ends."""

    def acquire(self) -> EngineHold:
        """Register this process as a new engine.

        Raises
        ------
        StorageError
            If it cannot be registered.
        """
        ...

    def is_alive(self, engine_id: str) -> bool:
        """Tell whether an engine lives."""
        ...


class ArtifactStore(Protocol):
    """Outputs on disk. Files are immutable: written to a temporary name, fsynced, renamed."""

    def save(
        self,
        run_id: str,
        instance: int,
        attempt: int,
        name: str,
        value: object,
        *,
        encrypt: bool = False,
    ) -> ArtifactStored | None:
        """Write a value in the exact format that fits it, sealed under the user's key if
        ``encrypt``; None if it is volatile (cannot be stored and read back equal).
        """
        ...

    def load(self, artifact: ArtifactStored) -> object:
        """Read a value back, tables memory-mapped.

        Raises
        ------
        StorageError
            If the file is missing, damaged, or a pickle without a valid HMAC: the output counts as
            absent.
        """
        ...

    def remove_run(self, run_id: str) -> None:
        """Delete all files of a run."""
        ...


class StoredFile(NamedTuple):
    """A file that is there, whether anything refers to it or not."""

    path: str
    size_bytes: int
    modified_s: float
    """When it was written, in seconds since 1970."""


class ArtifactInspector(Protocol):
    """Sees the files of an artifact store."""

    def inspect(self, artifact: ArtifactStored, *, with_content: bool = True) -> str:
        """Compare a file with its record; say what is wrong, or nothing."""
        ...

    def stored(self) -> Iterator[StoredFile]:
        """Iterate over everything stored, whichever run it belongs to."""
        ...

    def copy_to(self, path: str, target: Path, *, may_link: bool) -> None:
        """Make a stored file appear under another name.

        Raises
        ------
        FileNotFoundError
            If it is missing.
        StorageError
            If it cannot be read or written.
        """
        ...
