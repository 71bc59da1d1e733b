"""Two kernels and the command line on one store, and one of them is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

import flowbuilder as fb
from flowbuilder.api.container import close_containers
from flowbuilder.vocabulary import RunState

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")

STEPS = """
import os

def number(by=1):
    return by

def double(number):
    return 2 * number

def large(double):
    return {"of": double, "text": "x" * 20_000}
"""

# A notebook that runs and runs; after `hold` exists, its next run stays in its second task.
KERNEL = """
import os
import sys
from pathlib import Path

import flowbuilder as fb
from steps import double, large, number

folder, name = Path(sys.argv[1]), sys.argv[2]
fb.configure(data_dir=folder / "store")

def hold(number):
    if (folder / f"hold-{name}").exists():
        os.write(1, b"held\\n")  # past the capture of what tasks print
        sys.stdin.read()
    return 2 * number

flow = fb.Workflow(f"kernel-{name}")
flow = flow.add("number", number).add("hold", hold, inputs={"number": "number"}, executor="inline")
flow = flow.add("large", large, inputs={"double": "hold"}, persist="always")
print("ready", flush=True)
while True:
    run = flow.run(echo=False, durability=sys.argv[3])
    print(run.id, flush=True)
"""

FLOW = """
name: command-line
tasks:
  - {name: number, type: python, config: {function: "steps:number"}}
  - {name: double, type: python, inputs: {number: number}, config: {function: "steps:double"}}
"""


class Kernel:
    """A process that runs workflows until it is killed."""

    def __init__(self, folder, name, durability):
        self.ran = []
        self.folder, self.name = folder, name
        self.process = subprocess.Popen(
            [sys.executable, "-c", KERNEL, str(folder), name, durability],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def await_runs(self, count):
        """Read acknowledgements until there are so many more."""
        for _ in range(count):
            line = self.process.stdout.readline().strip()
            assert line, "the kernel ended"
            self.ran.append(line)

    def hold(self):
        """Wait until a run is in the middle of its second task."""
        (self.folder / f"hold-{self.name}").touch()
        while (line := self.process.stdout.readline().strip()) != "held":
            assert line, "the kernel ended"
            self.ran.append(line)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        rest = self.process.stdout.read()
        self.process.wait()
        self.ran += [line for line in rest.split("\n")[:-1] if line != "held"]

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "steps.py").write_text(STEPS)
    (tmp_path / "cli.flow.yaml").write_text(FLOW)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    yield tmp_path
    close_containers()
    sys.modules.pop("steps", None)


def command_line(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "flowbuilder", *arguments, "--data-dir", str(folder / "store")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize(("durability", "is_held"), [("run", True), ("task", True), ("run", False)])
def test_kernel_killed_beside_another_and_the_command_line(folder, durability, is_held):
    victim, other = Kernel(folder, "a", durability), Kernel(folder, "b", "run")
    try:
        victim.await_runs(20)
        other.await_runs(20)
        first = command_line(folder, "run", "cli.flow.yaml", "--json")
        if is_held:
            victim.hold()
        victim.kill()
        # Those who are left do not notice: they go on at once, and know what is over.
        other.await_runs(20)
        second = command_line(folder, "run", "cli.flow.yaml", "--json")
        listed = command_line(folder, "runs", "list", "--json", "--limit", "10000")
        other.kill()
        checked = command_line(folder, "store", "check", "--json")
    finally:
        victim.end()
        other.end()

    for done in (first, second):
        assert json.loads(done.stdout)["outputs"] == {"double": 2}
    assert listed.returncode == 0
    assert checked.returncode == 0, checked.stdout
    past = {run.id: run for run in fb.runs(data_dir=folder / "store", limit=10_000)}
    for run_id in victim.ran + other.ran:
        assert past[run_id].state is RunState.SUCCEEDED, "an acknowledged run is lost"
        assert past[run_id]["large"]["of"] == 2
    interrupted = [run for run in past.values() if run.state is RunState.INTERRUPTED]
    mine = [run for run in interrupted if run.summary.workflow == "kernel-a"]
    assert len(mine) <= 1
    if is_held and durability == "task":
        assert mine, "an acknowledged start is lost"
    for run in mine:
        resume_elsewhere(folder, run)


def resume_elsewhere(folder, run):
    """This process takes the run over; what was settled is not executed again."""
    before = {task.name: task.state for task in run.task_runs}
    again = fb.resume(run.id, functions={"__main__:hold": double}, data_dir=folder / "store")
    assert again["large"]["of"] == 2
    if before.get("number") == "succeeded":
        after = {
            task.name: task.attempt for task in fb.run(run.id, data_dir=folder / "store").task_runs
        }
        assert after["number"] == 1


def double(number):
    return 2 * number
