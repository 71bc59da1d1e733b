"""Killed at any point: the history says the same afterwards, and no run is ever lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flowbuilder.history.pruning import prune
from flowbuilder.history.search import Search
from tests.history.conftest import DAY, MAY, everything

DRIVER = Path(__file__).with_name("history_driver.py")
JULY = MAY + 70 * DAY


def drive(action, store, *more):
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, str(DRIVER), action, str(store.folder), *map(str, more)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


def end(process):
    process.stdin.close()
    process.stdout.close()
    process.wait()


def fill(store, runs):
    for place in range(runs):
        run = store.run(workflow=f"w{place % 3}", place=place)
        run.finished(0, output={"value": place}).block([1, 2]).logged(1, "text " * 20).stored(1)
        run.failed(3).finished(3, attempt=2).skipped(4).ended()


def killed_when(process, watched, is_reached):
    """Kill the process as soon as a condition on the store's files holds, or it has ended."""
    assert process.stdout.readline() == "begin\n"
    tick = threading.Event()
    while process.poll() is None and not is_reached(watched):
        tick.wait(0.0005)
    was_alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    end(process)
    return was_alive


def files_of(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def size_of(folder):
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


@pytest.mark.slow
def test_kill_while_pruning_never_loses_a_run(store):
    fill(store, 300)
    told = everything(store.history)
    runs = {run.run_id: run.last_seq for run in store.whole.list_runs(limit=1000)}
    sample = random.Random(1).sample(sorted(runs), 20)
    events = {run_id: list(store.whole.events(run_id)) for run_id in sample}
    folder = store.months.folder
    steps = [
        lambda f: any(name.endswith(".parquet") for name in files_of(f)),
        lambda f: size_of(f) > 4,
        lambda f: size_of(f) > 30_000,
        lambda f: size_of(f) > 60_000,
        lambda f: any("partial" in name for name in files_of(f)),
        lambda f: "manifest.json" in files_of(f),
        lambda _: len(store.journal.run_ids()) < len(runs),
    ]
    kills = 0
    for step in [*steps, steps[-1]]:
        kills += killed_when(drive("prune", store, JULY), folder, step)
        held = {run.run_id: run.last_seq for run in store.whole.list_runs(limit=1000)}
        assert held == runs
        assert set(store.months.run_ids()) | store.journal.run_ids() == set(runs)
        for run_id in sample:
            assert list(store.whole.events(run_id)) == events[run_id]

    prune(store.journal, store.months, now_ns=JULY, grace_s=1.0)

    assert kills >= 2
    assert store.journal.run_ids() == set()
    assert {run.run_id: run.last_seq for run in store.whole.list_runs(limit=1000)} == runs
    assert everything(store.history) == told
    assert everything(store.open_history("rebuilt")) == told


@pytest.mark.slow
def test_kill_while_projecting_leaves_a_history_that_goes_on(store):
    fill(store, 400)
    folder = store.folder / "history"
    steps = [
        lambda f: "history.duckdb" in files_of(f),
        lambda f: "history.duckdb.wal" in files_of(f),
        lambda f: size_of(f) > 300_000,
        lambda f: size_of(f) > 600_000,
    ]
    kills = 0
    for step in steps:
        kills += killed_when(drive("project", store), folder, step)
        assert store.rows("SELECT count(*) FROM runs") == [(400,)]
        assert everything(store.history) == everything(store.open_history(in_memory=True))
        store.history._place[0].remove()

    assert kills >= 2


@pytest.mark.slow
def test_kill_while_indexing_leaves_an_index_that_goes_on(store):
    fill(store, 400)
    folder = store.folder / "history"
    steps = [
        lambda f: "search.db-journal" in files_of(f),
        lambda f: size_of(f) > 60_000,
        lambda f: size_of(f) > 200_000,
    ]
    kills = 0
    search = Search(store.journal, store.months, folder)
    for step in steps:
        kills += killed_when(drive("index", store), folder, step)
        assert len(search.search("text kind:log", limit=10_000)) == 400
        search.check()
        (folder / "search.db").unlink()
    search.close()

    assert kills >= 1


@pytest.mark.parametrize("seed", range(6))
def test_damaged_file_gives_the_same_answers(store, seed):
    fill(store, 30)
    told = everything(store.history)
    path = store.folder / "history" / "history.duckdb"
    generator = random.Random(seed)
    content = bytearray(path.read_bytes())
    for _ in range(40):
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content if seed % 3 else content[: generator.randrange(len(content))])

    assert everything(store.history) == told


@pytest.mark.parametrize("junk", [b"", b"not a database", b"\x00" * 4096])
def test_foreign_file_in_its_place_is_replaced(store, junk):
    fill(store, 3)
    (store.folder / "history" / "history.duckdb").write_bytes(junk)

    assert store.rows("SELECT count(*) FROM runs") == [(3,)]


def test_stray_log_of_the_file_does_no_harm(store):
    fill(store, 3)
    told = everything(store.history)
    (store.folder / "history" / "history.duckdb.wal").write_bytes(b"rubbish" * 100)

    assert everything(store.history) == told
