"""Several processes on one store: who owns a run, who may resume it, what dies with an engine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import flowbuilder as fb
from flowbuilder.api.container import close_containers
from flowbuilder.vocabulary import RunState

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")

STEPS = """
import os
import threading
from pathlib import Path

HERE = Path(__file__).parent


def note(name):
    with (HERE / "trace").open("a") as file:
        file.write(f"{name} {os.getpid()}\\n")


def first():
    note("first")
    return 1


def hold(first, gate):
    note("hold")
    while not (HERE / gate).exists():
        threading.Event().wait(0.01)
    return first + 1


def last(hold):
    note("last")
    return hold + 1
"""

FLOW = """
name: held
params: {gate: {type: string, default: go}}
tasks:
  - {name: first, type: python, config: {function: "steps:first"}}
  - name: hold
    type: python
    executor: EXECUTOR
    inputs: {first: first}
    config: {function: "steps:hold", args: {gate: "${{ params.gate }}"}}
  - {name: last, type: python, inputs: {hold: hold}, config: {function: "steps:last"}}
"""

# Two of these plan the same resume, meet, and try to begin it at the same moment.
RIVAL = """
import sys, threading
from pathlib import Path
from flowbuilder.api.container import container_for
from flowbuilder.api.resuming import prepare_resume
from flowbuilder.errors import RecoveryError

folder, name = Path(sys.argv[1]), sys.argv[2]
prepared = prepare_resume(container_for(None, folder / ".flowbuilder"), "latest")
(folder / name).touch()
while not (folder / "now").exists():
    pass
try:
    run = prepared.open(echo=False)
except RecoveryError as error:
    print("refused", error, flush=True)
else:
    print("won", flush=True)
    run.drive()
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a workflow whose second task waits for a file; everything spawned dies with it."""
    place = Project(tmp_path)
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield place
    (tmp_path / "go").touch()
    place.end()
    close_containers()
    sys.modules.pop("steps", None)


class Project:
    def __init__(self, folder):
        self.folder = folder
        self.store = folder / ".flowbuilder"
        self.store.mkdir()
        self.spawned = []
        (folder / "steps.py").write_text(STEPS)
        self.flow = self.write("held.flow.yaml", executor="thread")

    def write(self, name, *, executor):
        path = self.folder / name
        path.write_text(FLOW.replace("EXECUTOR", executor))
        return path

    def spawn(self, *command):
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.spawned.append(process)
        return process

    def run(self, *arguments):
        return self.spawn("-m", "flowbuilder", "run", *arguments)

    def trace(self):
        path = self.folder / "trace"
        rows = path.read_text().splitlines() if path.exists() else []
        return [(name, int(pid)) for name, pid in map(str.split, rows)]

    def times(self, name):
        return Counter(found for found, _ in self.trace())[name]

    def await_task(self, name, times=1):
        wait_until(lambda: self.times(name) >= times)
        # Long enough for the records of what went before to be on disk.
        threading.Event().wait(0.1)

    def end(self):
        for process in self.spawned:
            process.kill()
            process.communicate()


def wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.01)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def test_resume_of_a_run_alive_elsewhere_names_its_process(project):
    owner = project.run(str(project.flow))
    project.await_task("hold")

    rival = project.run("--resume", "latest")
    _, told = rival.communicate(timeout=30)

    assert rival.returncode == 1
    assert f" {owner.pid} on {socket.gethostname()} " in told
    assert project.times("hold") == 1
    (project.folder / "go").touch()
    owner.communicate(timeout=30)
    assert owner.returncode == 0


def test_killed_run_is_resumed_by_a_process_that_runs_its_own(project):
    victim = project.run(str(project.flow))
    project.await_task("hold")
    own = fb.load(project.flow, data_dir=project.store).start(gate="open-sesame", echo=False)
    project.await_task("hold", times=2)
    kill(victim)
    (interrupted,) = [
        past for past in fb.runs(data_dir=project.store) if past.state is RunState.INTERRUPTED
    ]
    (project.folder / "go").touch()

    resumed = fb.resume(interrupted.id, data_dir=project.store)

    assert resumed.state is RunState.SUCCEEDED
    assert resumed["last"] == 3
    assert own.state is RunState.RUNNING
    (project.folder / "open-sesame").touch()
    assert own.result(30) == {"last": 3}
    assert project.times("first") == 2, "each run executed its first task once"
    assert project.times("hold") == 3


def test_two_resumes_at_once_have_one_winner(project):
    owner = project.run(str(project.flow))
    project.await_task("hold")
    kill(owner)
    for attempt in range(3):
        for name in ("now", "a", "b"):
            (project.folder / name).unlink(missing_ok=True)
        rivals = [project.spawn("-c", RIVAL, str(project.folder), name) for name in ("a", "b")]
        wait_until(lambda: (project.folder / "a").exists() and (project.folder / "b").exists())
        (project.folder / "now").touch()

        answers = [rival.stdout.readline() for rival in rivals]

        winner, loser = sorted(range(2), key=lambda at: answers[at], reverse=True)
        assert answers[winner] == "won\n"
        assert f"is alive in process {rivals[winner].pid} on" in answers[loser]
        project.await_task("hold", times=attempt + 2)
        kill(rivals[winner])
    assert project.times("first") == 1
    assert project.times("hold") == 4


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes through /proc")
def test_worker_process_dies_with_its_engine(project):
    engine = project.run(str(project.write("apart.flow.yaml", executor="process")))
    project.await_task("hold")
    worker = dict(project.trace())["hold"]
    assert worker != engine.pid
    assert is_alive(worker)

    kill(engine)

    wait_until(lambda: not is_alive(worker), seconds=10)
    assert os.listdir(project.store / "owners"), "the owner's file tells that it was killed"  # noqa: PTH208
