"""A live process controlled and read from this one, whatever its main thread is doing."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from flowbuilder.endpoint.client import connect
from flowbuilder.endpoint.registry import find_engines
from flowbuilder.errors import EndpointError

FLOW = """
name: steps
params: {seconds: {type: number, default: 30}, table: {default: null}}
tasks:
  - name: quick
    type: script
    config: {language: python, code: "result = 1"}
  - name: nap
    type: sleep
    depends_on: [quick]
    config: {duration: "${{ params.seconds }}"}
  - name: after
    type: script
    depends_on: [nap]
    config: {language: python, code: "result = 3"}
"""

PROGRAM = """
import sys, time
import flowbuilder as fb
from flowbuilder.errors import RunCancelledError

flow, mode, way = sys.argv[1:4]
steps = fb.load(flow)


class Holder:
    pass


if mode != "empty":
    import pyarrow as pa

    table = pa.table({"x": list(range(20_000)), "name": ["a"] * 20_000})
    _private = table
    number = 7


@fb.task
def make():
    import pyarrow as pa

    return pa.table({"y": [1, 2, 3]})


@fb.task
def scalar():
    return 5


@fb.workflow
def tables():
    make()
    scalar()


if way == "inline":

    @fb.task(executor="inline")
    def spin():
        while True:
            pass

    @fb.workflow
    def spinning():
        spin()

    made = tables.start(echo=False)
    made.wait()
    print(made.id, flush=True)
    try:
        spinning.run(echo=False)
    except RunCancelledError:
        print("cancelled", flush=True)
    sys.exit()

made = tables.start(echo=False)
made.wait()
run = steps.start(echo=False)
print(made.id, run.id, flush=True)
if mode == "busy":
    while True:
        pass
if mode == "sleep":
    time.sleep(600)
run.wait()
print(run.state, flush=True)
"""


@pytest.fixture
def runtime(monkeypatch):
    # The path of a Unix socket is short, and pytest's own folders are not.
    folder = Path(tempfile.mkdtemp(prefix="fb-"))
    monkeypatch.setenv("FLOWBUILDER_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def live(runtime, tmp_path, monkeypatch):
    """Start a process; give its client, what it printed first, and the process."""
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    (tmp_path / "project" / ".flowbuilder").mkdir(parents=True)
    flow = tmp_path / "project" / "steps.flow.yaml"
    flow.write_text(FLOW)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with contextlib.ExitStack() as stack:

        def start(mode="sleep", way="started"):
            process = subprocess.Popen(
                [sys.executable, str(program), str(flow), mode, way],
                cwd=flow.parent,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(end, process)
            line = process.stdout.readline().split()
            assert line, process.stderr.read()
            (entry,) = find_engines(folders=[runtime])
            client = stack.enter_context(connect(entry))
            return client, line, process

        yield start


def end(process):
    process.kill()
    process.communicate()


def rows_of(page):
    import pyarrow as pa

    return pa.ipc.open_stream(io.BytesIO(page)).read_all()


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not become true in time")


@pytest.mark.parametrize("mode", ["sleep", "busy"])
def test_every_method_answers_whatever_the_main_thread_does(live, mode):
    client, (made, run), process = live(mode)

    hello = client.hello()
    assert hello["runs"] == [run]
    assert hello["pid"] == process.pid
    until(lambda: tasks_of(client, run)["quick"] == "succeeded")
    found = client.inspect(run)
    assert (found["workflow"], found["state"]) == ("steps", "running")

    assert client.pause(run)["state"] in {"running", "paused"}
    assert client.resume(run)["state"] == "running"

    assert client.variables() == [
        {"name": "table", "type": "pyarrow.Table", "rows": 20_000, "columns": ["x", "name"]}
    ]
    page = rows_of(client.page({"variable": "table", "offset": 19_998, "limit": 50}))
    assert page.to_pydict() == {"x": [19_998, 19_999], "name": ["a", "a"]}
    assert rows_of(client.page({"run": made, "task": "make"})).to_pydict() == {"y": [1, 2, 3]}

    began = time.monotonic()
    client.cancel(run)
    assert time.monotonic() - began < 5
    until(lambda: client.inspect(run)["state"] == "cancelled")
    assert client.hello()["runs"] == []
    assert tasks_of(client, run)["after"] == "cancelled"


def tasks_of(client, run):
    return {task["key"]: task["state"] for task in client.inspect(run)["tasks"]}


def test_blocking_run_is_cancelled_in_the_middle_of_a_body(live):
    client, _, process = live("sleep", "inline")
    until(lambda: client.hello()["runs"])
    (run,) = client.hello()["runs"]
    until(lambda: tasks_of(client, run))

    client.cancel(run)

    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "cancelled\n"), err


def test_one_task_is_cancelled(live):
    client, (_, run), process = live("empty")
    until(lambda: tasks_of(client, run)["quick"] == "succeeded")

    client.cancel(run, "nap")

    out, _ = process.communicate(timeout=20)
    assert out == "succeeded\n"


def test_pause_holds_until_resumed(live, tmp_path):
    client, _, _ = live("sleep")
    flow = str(tmp_path / "project" / "steps.flow.yaml")
    started = client.start({"path": flow, "params": {"seconds": 0.3}})["run_id"]
    client.pause(started)
    until(lambda: client.inspect(started)["state"] == "paused")
    before = tasks_of(client, started)

    threading.Event().wait(0.1)
    assert tasks_of(client, started) == before
    client.resume(started)

    until(lambda: started not in client.hello()["runs"])


def test_start_takes_parameters_selection_and_variables(live, tmp_path):
    client, _, _ = live("sleep")
    flow = str(tmp_path / "project" / "steps.flow.yaml")

    run = client.start(
        {
            "path": flow,
            "params": {"seconds": 30},
            "to": ["nap"],
            "executor": "thread",
            "bindings": {"table": "table"},
        }
    )["run_id"]

    assert tasks_of(client, run).keys() == {"quick", "nap"}
    client.cancel(run)
    until(lambda: run not in client.hello()["runs"])


@pytest.mark.parametrize(
    ("method", "arguments", "expected"),
    [
        ("cancel", ("no-such-run",), "expected a live run"),
        ("pause", ("no-such-run",), "expected a live run"),
        ("resume", ("",), "expected a live run"),
        ("inspect", ("no-such-run",), "still holds in memory"),
        ("page", ({"variable": "nothing"},), "expected a variable"),
        ("page", ({"variable": "number"},), "expected a table, found a int"),
        ("page", ({"variable": "Holder"},), "expected a table, found a type"),
        ("page", ({"run": "x", "task": "y"},), "still holds in memory"),
        ("page", ({},), "still holds in memory"),
        ("page", ({"variable": "table", "offset": -1},), "'offset' to be a number from 0"),
        ("page", ({"variable": "table", "limit": True},), "'limit' to be a number from 0"),
        ("page", ({"variable": "table", "limit": 1.5},), "'limit' to be a number from 0"),
        ("start", ({},), "'path' to be text"),
        ("start", ({"path": 3},), "'path' to be text"),
        ("start", ({"path": "FLOW", "params": [1]},), "'params' to be a map"),
        ("start", ({"path": "FLOW", "bindings": 1},), "'bindings' to be a map"),
        ("start", ({"path": "FLOW", "bindings": {"table": "no"}},), "expected a variable"),
        ("start", ({"path": "FLOW", "to": 5},), "'to' to be names of tasks"),
        ("start", ({"path": "FLOW", "only": [["nap"]]},), "'only' to be names of tasks"),
        ("start", ({"path": "FLOW", "to": ["nope"]},), "nope"),
        ("start", ({"path": "FLOW", "executor": 5},), "'executor' to be text"),
        ("start", ({"path": "FLOW", "executor": "moon"},), "moon"),
        ("start", ({"path": "FLOW", "params": {"seconds": "x"}},), "seconds"),
        ("start", ({"path": "/no/such/file.flow.yaml"},), "/no/such/file.flow.yaml"),
    ],
)
def test_wrong_request_is_one_clear_sentence(shared_process, method, arguments, expected):
    client, flow = shared_process
    if arguments and isinstance(arguments[0], dict) and arguments[0].get("path") == "FLOW":
        arguments = ({**arguments[0], "path": flow},)

    with pytest.raises(EndpointError) as caught:
        getattr(client, method)(*arguments)

    assert expected in str(caught.value)
    assert "the engine failed" not in str(caught.value)


@pytest.fixture(scope="module")
def shared_process(tmp_path_factory):
    """Start one process for all wrong requests."""
    place = tmp_path_factory.mktemp("shared")
    runtime = Path(tempfile.mkdtemp(prefix="fb-"))
    (place / ".flowbuilder").mkdir()
    flow, program = place / "steps.flow.yaml", place / "program.py"
    flow.write_text(FLOW)
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(program), str(flow), "sleep", "started"],
        cwd=place,
        env={
            **os.environ,
            "FLOWBUILDER_RUNTIME_DIR": str(runtime),
            "FLOWBUILDER_HOME": str(place / "home"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        (entry,) = find_engines(folders=[runtime])
        with connect(entry) as client:
            yield client, str(flow)
    finally:
        end(process)
        shutil.rmtree(runtime, ignore_errors=True)


def test_page_of_what_is_not_a_table(live):
    client, (made, _), _ = live("sleep")

    with pytest.raises(EndpointError, match="expected a table, found a int"):
        client.page({"run": made, "task": "scalar"})
    with pytest.raises(EndpointError, match="found 'nope'"):
        client.page({"run": made, "task": "nope"})


def test_page_is_bounded(live):
    client, _, _ = live("sleep")

    assert rows_of(client.page({"variable": "table", "limit": 10**9})).num_rows == 10_000
    assert rows_of(client.page({"variable": "table"})).num_rows == 100
    assert rows_of(client.page({"variable": "table", "offset": 10**12})).num_rows == 0


def test_many_clients_at_once(live):
    client, (_, run), _ = live("busy")
    (entry,) = [client.entry]
    problems = []

    def ask():
        try:
            with connect(entry) as mine:
                for _ in range(20):
                    assert mine.inspect(run)["run_id"] == run
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not problems


def test_ended_process_leaves_no_entry(live, runtime):
    client, (_, run), process = live("empty")
    client.cancel(run)
    process.communicate(timeout=20)

    assert find_engines(folders=[runtime]) == []
