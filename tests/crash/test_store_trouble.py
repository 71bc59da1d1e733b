"""Places that fail while runs are recorded: removed, read-only, full, of a newer version, and a
clock that goes backwards.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

import flowbuilder as fb
from flowbuilder.api.container import close_containers
from flowbuilder.errors import FlowBuilderError, StorageError
from flowbuilder.store.schema import SCHEMA_VERSION
from flowbuilder.vocabulary import RunState

SMALL_FLOW = """
name: small
tasks:
  - {name: one, type: script, config: {code: "result = 1"}}
  - {name: two, type: script, inputs: {one: one}, config: {code: "result = inputs['one'] + 1"}}
"""

GREEDY_FLOW = """
name: greedy
tasks:
  - name: fill
    type: script
    config: {code: "result = 1"}
  - name: talk
    type: script
    inputs: {fill: fill}
    config:
      code: |
        import random
        for _ in range(200):
            print(random.randbytes(20_000).hex())
        result = 2
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    (tmp_path / "small.flow.yaml").write_text(SMALL_FLOW)
    yield tmp_path
    with suppress(StorageError):
        close_containers()


@pytest.fixture
def mount(tmp_path):
    """Mount small file systems; they go away with the test."""
    mounted = []

    def mount(name, *options):
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("needs the right to mount")
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("may not mount here")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=False)


def flowbuilder(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "flowbuilder", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def remove(store):
    shutil.rmtree(store)


def mark(place, **_inputs):
    Path(place).touch()


def fail_unless(place):
    if not Path(place).exists():
        raise OSError("not yet")
    return 5


def test_store_removed_under_a_running_engine_fails_the_run_and_says_why(folder):
    store, place = folder / "store", folder / "reached"
    flow = fb.Workflow("removing", data_dir=store)
    flow = flow.add("gone", remove, config={"store": str(store)})
    flow = flow.add("after", mark, config={"place": str(place)}, depends_on="gone")

    run = flow.run(check=False, echo=False, durability="task")

    assert run.state is RunState.FAILED
    with pytest.raises(FlowBuilderError, match="was moved or removed"):
        run.raise_for_state()
    assert not place.exists(), "nothing starts after a completion that could not be recorded"


def test_store_removed_before_the_end_of_a_run_denies_its_success(folder):
    store = folder / "store"
    flow = fb.Workflow("removing", data_dir=store).add("gone", remove, config={"store": str(store)})

    run = flow.run(check=False, echo=False)

    assert run.state is RunState.FAILED
    assert "was moved or removed" in str(run.error)


def test_read_only_place_keeps_the_run_in_memory_and_warns_once(folder, mount):
    place = mount("sealed", "size=1m")
    (place / "small.flow.yaml").write_text(SMALL_FLOW)
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)

    done = flowbuilder("run", "small.flow.yaml", "--json", cwd=place)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"] == {"two": 2}
    assert done.stderr.count("kept in memory only") == 1
    assert str(place) in done.stderr
    assert not (place / ".flowbuilder").exists()


def test_full_disk_fails_the_run_and_spares_the_earlier_ones(folder, mount):
    place = mount("tight", "size=3m")
    (place / "small.flow.yaml").write_text(SMALL_FLOW)
    (place / "greedy.flow.yaml").write_text(GREEDY_FLOW)
    first = flowbuilder("run", "small.flow.yaml", "--json", cwd=place)
    assert first.returncode == 0, first.stderr
    run_id = json.loads(first.stdout)["run_id"]

    full = flowbuilder(
        "run", "greedy.flow.yaml", "--json", cwd=place, FLOWBUILDER_MAX_LOG_BYTES="64MiB"
    )

    assert full.returncode == 1
    assert json.loads(full.stdout)["state"] == "failed"
    assert "Traceback" not in full.stderr
    shown = flowbuilder("runs", "show", run_id, "--json", cwd=place)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["state"] == "succeeded"
    assert [task["state"] for task in json.loads(shown.stdout)["tasks"]] == ["succeeded"] * 2


def test_store_of_a_newer_version_is_readable_and_refuses_runs(folder):
    store = folder / "store"
    flow = fb.load(folder / "small.flow.yaml", data_dir=store)
    flow.run(echo=False)
    flow.container().close()
    connection = apsw.Connection(str(store / "journal.db"))
    connection.pragma("user_version", SCHEMA_VERSION + 1_000_000)
    connection.close()

    listed = flowbuilder("runs", "list", "--json", "--data-dir", store, cwd=folder)
    refused = flowbuilder("run", "small.flow.yaml", "--data-dir", store, cwd=folder)
    resumed = flowbuilder("run", "--resume", "latest", "--data-dir", store, cwd=folder)

    assert listed.returncode == 0, listed.stderr
    assert "succeeded" in listed.stdout
    for done in (refused, resumed):
        assert done.returncode == 1
        assert "newer version of FlowBuilder" in done.stderr or "succeeded" in done.stderr
        assert "Traceback" not in done.stderr


def test_clock_that_goes_backwards_changes_neither_order_nor_durations(folder, monkeypatch):
    store = folder / "store"
    flow = fb.load(folder / "small.flow.yaml", data_dir=store)
    now = time.time_ns()
    years = iter(range(100))
    monkeypatch.setattr(time, "time_ns", lambda: now - next(years) * 31_536_000 * 10**9)

    ids = [flow.run(echo=False).id for _ in range(3)]
    monkeypatch.undo()

    monkeypatch.setenv("FLOWBUILDER_HOME", str(folder / "home"))
    assert [past.id for past in fb.runs(data_dir=store)] == ids[::-1], "newest first, as recorded"
    assert fb.last_run(data_dir=store).id == ids[-1]
    for past in fb.runs(data_dir=store):
        summary = past.summary
        assert summary.state is RunState.SUCCEEDED
        assert 0 <= summary.duration_s < 60
        assert all(0 <= task.duration_s < 60 for task in past.task_runs)
        assert [event.seq for event in past.events()] == list(range(summary.last_seq + 1))


def test_interrupted_run_is_resumed_on_a_clock_that_went_backwards(folder, monkeypatch):
    store = folder / "store"
    marker = Path(folder / "fixed")

    flow = fb.Workflow("late", data_dir=store).add("a", fail_unless, config={"place": str(marker)})
    run = flow.run(check=False, echo=False)
    marker.touch()
    past = time.time_ns() - 86_400 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: past)

    again = run.retry_failed()

    assert again["a"] == 5
    (shown,) = fb.run(run.id, data_dir=store).task_runs
    assert shown.attempt == 2
    assert 0 <= shown.duration_s < 60
