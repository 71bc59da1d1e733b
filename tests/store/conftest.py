"""Builders for the store's tests: tiny plans, runs that record on demand, journals on disk and in memory."""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from flowbuilder.ids import new_run_id
from flowbuilder.records import AttemptBlock, Event, RunCreated, RunHeader, VersionHeader
from flowbuilder.store.ports import Journal
from flowbuilder.store.sqlite_journal import SqliteJournal
from flowbuilder.vocabulary import TASK_STATE_CODES, TaskState
from tests.store.artifact_places import ArtifactPlace, FolderPlace, LocalPlace, ObjectPlace
from tests.store.journal_places import (
    JournalPlace,
    MemoryPlace,
    PostgresPlace,
    SqlitePlace,
)
from tests.store.object_server import object_server
from tests.store.postgres_server import PostgresServer


class ListSource:
    """A live source that gives what was put into it."""

    def __init__(self) -> None:
        self.records: list[AttemptBlock | Event] = []
        self.is_streaming = False
        self._lock = threading.Lock()

    def put(self, *records: AttemptBlock | Event) -> None:
        with self._lock:
            self.records.extend(records)

    def take(self) -> list[AttemptBlock | Event]:
        with self._lock:
            taken, self.records = self.records, []
        return taken


def make_version(task_count: int = 3, plan_id: str = "plan") -> VersionHeader:
    return VersionHeader(
        plan_id=plan_id,
        fingerprint=f"print-{plan_id}",
        name="demo",
        text="name: demo\n",
        path="/flows/demo.flow.yaml",
        spec_json=b"{}",
        keys=tuple(f"t{i}" for i in range(task_count)),
        parents=tuple(() if i == 0 else (i - 1,) for i in range(task_count)),
    )


def make_header(run_id: str = "", plan_id: str = "plan", **more: object) -> RunHeader:
    fields = {"params": {"n": 1}, "durability": "run", "workflow": "demo", **more}
    return RunHeader(run_id=run_id or new_run_id(), plan_id=plan_id, **fields)


def make_created(owner: str = "engine", **more: object) -> RunCreated:
    return RunCreated(
        wall_ns=time.time_ns(),
        monotonic_ns=time.monotonic_ns(),
        owner=owner,
        host="somewhere",
        pid=4711,
        **more,
    )


def make_block(
    instances: list[int],
    state: TaskState | list[TaskState] = TaskState.SUCCEEDED,
    outputs: list[object] | None = None,
    attempts: list[int] | None = None,
) -> AttemptBlock:
    n = len(instances)
    states = state if isinstance(state, list) else [state] * n
    return AttemptBlock(
        instances=array("i", instances),
        ends_ns=array("q", [300 + i for i in range(n)]),
        outputs=outputs,
        attempts=array("i", attempts or [1] * n),
        states=array("B", [TASK_STATE_CODES[s] for s in states]),
        workers=array("h", [i % 3 for i in range(n)]),
        readies_ns=array("q", [100 + i for i in range(n)]),
        starts_ns=array("q", [200 + i for i in range(n)]),
    )


def make_chain(first: int, n: int, outputs: list[object] | None = None) -> AttemptBlock:
    return AttemptBlock(
        instances=array("i", range(first, first + n)),
        ends_ns=array("q", [1000 + 10 * i for i in range(n)]),
        outputs=outputs,
        first_start_ns=990,
    )


@pytest.fixture
def make() -> SimpleNamespace:
    """Builders of versions, headers, blocks and sources."""
    return SimpleNamespace(
        version=make_version,
        header=make_header,
        created=make_created,
        block=make_block,
        chain=make_chain,
        source=ListSource,
    )


@pytest.fixture
def alive() -> set[str]:
    """The engines that count as alive."""
    return {"engine"}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that all tests share, each with a schema of its own."""
    pytest.importorskip("psycopg", reason="needs the extra 'postgres'")
    server = PostgresServer()
    yield server
    server.close()


def _place(request: pytest.FixtureRequest, folder: Path) -> JournalPlace:
    if request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        return PostgresPlace(server.url(schema=f"t_{os.urandom(6).hex()}"), folder)
    return MemoryPlace(folder) if request.param == "memory" else SqlitePlace(folder)


@pytest.fixture(params=["sqlite", "memory", "postgres"])
def journal(request: pytest.FixtureRequest, tmp_path: Path, alive: set[str]) -> Iterator[Journal]:
    """A journal of each kind."""
    opened = _place(request, tmp_path / "store").open(alive.__contains__)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "memory"])
def local_journal(
    request: pytest.FixtureRequest, tmp_path: Path, alive: set[str]
) -> Iterator[SqliteJournal]:
    """A journal on SQLite, in a file and in memory."""
    opened = _place(request, tmp_path / "store").open(alive.__contains__)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> JournalPlace:
    """Where a journal of each kind that processes share is kept."""
    return _place(request, tmp_path / "store")


@pytest.fixture
def open_place(place: JournalPlace, alive: set[str]) -> Iterator[Callable[[], Journal]]:
    """Open the place once more, as another process would; all are closed at the end."""
    opened: list[Journal] = []

    def open_again() -> Journal:
        opened.append(place.open(alive.__contains__))
        return opened[-1]

    yield open_again
    for journal in opened:
        journal.close()


@pytest.fixture
def disk_journal(tmp_path: Path, alive: set[str]) -> Iterator[SqliteJournal]:
    """A journal in a file."""
    opened = SqliteJournal(tmp_path / "journal.db", is_owner_alive=alive.__contains__)
    yield opened
    opened.close()


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Wait for what another thread does, at most ten seconds."""

    def wait(is_true: Callable[[], bool]) -> None:
        tick = threading.Event()
        deadline = time.monotonic() + 10
        while not is_true():
            assert time.monotonic() < deadline, "it did not happen within ten seconds"
            tick.wait(0.001)

    return wait


BUCKET = "flowbuilder-tests"


@pytest.fixture(scope="session")
def object_variables() -> Iterator[Mapping[str, str]]:
    """What leads to a server that speaks the S3 API."""
    pytest.importorskip("moto", reason="needs the extra 'test': pip install 'flowbuilder[test]'")
    pytest.importorskip("obstore", reason="needs the extra 'objects'")
    with object_server(BUCKET) as variables:
        yield variables


@pytest.fixture
def object_url(object_variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty prefix of a bucket, with the credentials for it in the environment."""
    for name, value in object_variables.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{new_run_id()}/a prefix"


@pytest.fixture(params=["local", "file", "s3"])
def artifact_place(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactPlace:
    """Where an artifact store of each kind keeps its files."""
    if request.param == "s3":
        return ObjectPlace(request.getfixturevalue("object_url"), tmp_path)
    return LocalPlace(tmp_path / "store") if request.param == "local" else FolderPlace(tmp_path)
