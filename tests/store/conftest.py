"""Builders for the store's tests: tiny plans, runs that record on demand, journals on disk and in memory."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from flowbuilder.ids import new_run_id
from flowbuilder.records import AttemptBlock, Event, RunCreated, RunHeader, VersionHeader
from flowbuilder.store.sqlite_journal import SqliteJournal
from flowbuilder.vocabulary import TASK_STATE_CODES, TaskState


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


@pytest.fixture(params=["sqlite", "memory"])
def journal(
    request: pytest.FixtureRequest, tmp_path: Path, alive: set[str]
) -> Iterator[SqliteJournal]:
    """A journal of each kind."""
    path = tmp_path / "journal.db" if request.param == "sqlite" else None
    opened = SqliteJournal(path, is_owner_alive=alive.__contains__)
    yield opened
    opened.close()


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
