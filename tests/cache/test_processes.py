"""Two kernels and a command line with one cache, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import flowbuilder as fb

ROOT = Path(__file__).parents[2]
KERNEL = """
import sys
import flowbuilder as fb
workflow = fb.load("work.flow.yaml")
print("ready", flush=True)
sys.stdin.readline()
run = workflow.run(check=False)
print({task: run[task] for task in workflow.task_names}, flush=True)
"""
HEAD = """
name: work
tasks:
"""
TASK = """
  - name: t{number}
    type: script
    cache: true
    inputs: {{{inputs}}}
    config:
      code: |
        import os, time
        with open("calls.txt", "a") as file:
            file.write("t{number} " + str(os.getpid()) + "\\n")
        deadline = time.monotonic() + {seconds}
        while time.monotonic() < deadline and not os.path.exists("go"):
            time.sleep(0.005)
        result = [{number}] * 2000 {more}
"""


def write_flow(place, count, seconds):
    tasks = [
        TASK.format(
            number=number,
            inputs=f"before: t{number - 1}" if number % 3 else "",
            more="+ before[:1]" if number % 3 else "",
            seconds=seconds,
        )
        for number in range(count)
    ]
    (place / "work.flow.yaml").write_text(HEAD + "".join(tasks))
    return {
        f"t{number}": [number] * 2000 + ([number - 1] if number % 3 else [])
        for number in range(count)
    }


def start(*command):
    return subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def computed(place):
    lines = (place / "calls.txt").read_text().splitlines()
    return Counter(line.split()[0] for line in lines), lines


@pytest.fixture
def processes():
    made = []
    yield made
    for process in made:
        process.kill()
        process.communicate()


def test_two_kernels_and_a_command_line_compute_each_task_once(place, processes):
    expected = write_flow(place, 6, seconds=0.05)
    kernels = [start("-c", KERNEL) for _ in range(2)]
    processes.extend(kernels)
    assert [kernel.stdout.readline() for kernel in kernels] == ["ready\n", "ready\n"]
    for kernel in kernels:
        kernel.stdin.write("\n")
        kernel.stdin.flush()
    command = start("-m", "flowbuilder", "run", "work.flow.yaml", "--json")
    processes.append(command)

    out, _ = command.communicate(timeout=60)
    document = json.loads(out)
    assert document["state"] == "succeeded"
    assert [eval(kernel.communicate(timeout=60)[0]) for kernel in kernels] == [expected] * 2
    counts, _ = computed(place)
    assert counts == Counter(dict.fromkeys(expected, 1))
    assert fb.cache_stats().entries == 6


def test_a_run_goes_on_with_what_a_killed_kernel_was_computing(place, processes):
    expected = write_flow(place, 2, seconds=60)
    first = start("-c", KERNEL)
    processes.append(first)
    first.stdout.readline()
    first.stdin.write("\n")
    first.stdin.flush()
    while not (place / "calls.txt").exists():
        assert first.poll() is None
        os.sched_yield()
    second = start("-c", KERNEL)
    processes.append(second)
    second.stdout.readline()
    second.stdin.write("\n")
    second.stdin.flush()

    first.send_signal(signal.SIGKILL)
    first.wait()
    (place / "go").touch()

    assert eval(second.communicate(timeout=60)[0]) == expected
    _, lines = computed(place)
    pids = [line.split()[1] for line in lines]
    assert pids == [str(first.pid), str(second.pid), str(second.pid)]
    assert fb.load(place / "work.flow.yaml").run().counts == {"cached": 2}
