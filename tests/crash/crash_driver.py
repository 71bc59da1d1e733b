"""Runs many short workflows, after resuming what an earlier life left; killed at any moment.

``crash_driver.py FOLDER SEED LIFE MODE``; MODE is ``plain``, ``processes`` or ``final``. Everything
it learns it appends to ``acks`` in the folder, one line each.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import crash_flows

import flowbuilder as fb
from flowbuilder.api.container import container_for
from flowbuilder.api.resuming import prepare_resume
from flowbuilder.api.run_request import RunRequest
from flowbuilder.errors import RecoveryError
from flowbuilder.vocabulary import RunState

folder, seed, life, mode = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
rng = random.Random(f"{seed}-{life}")
acks = os.open(folder / "acks", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def say(*words):
    os.write(acks, (" ".join(map(str, words)) + "\n").encode())


def resume(run_id):
    container = container_for(None)
    prepared = prepare_resume(container, run_id)
    assume = None
    if prepared.recovery.unknown:
        plan = prepared.launch.compiled.plan
        keys = [plan.tasks[instance].key for instance in prepared.recovery.unknown]
        try:
            prepared.open(echo=False)
        except RecoveryError:
            say("asked", run_id, *keys)
        # What is assumed done has no output, which a condition could not do without.
        has_conditions = any(task.has_condition for task in plan.tasks)
        assume = "rerun" if has_conditions else rng.choice(["done", "rerun"])
        prepared = prepare_resume(container, run_id, assume=assume)
    say("resumed", run_id)
    if assume is not None:
        say(assume, run_id, *keys)
    run = prepared.open(echo=False)
    run.drive()
    say("ended", run_id, run.state.value)
    return run


def resume_all(state):
    for past in fb.runs(limit=1000):
        if past.state is state:
            resume(past.id)


def begin(number):
    tag = f"{life}-{number}"
    tasks, durability = crash_flows.shape(f"{seed}-{tag}", has_processes=mode == "processes")
    flow = crash_flows.build(fb, folder, tag, tasks, durability)
    run = flow.open_run(RunRequest(durability=durability, echo=False), {})
    say("begun", run.id, tag, durability)
    return run


def finish(run):
    say("ended", run.id, run.state.value)
    if run.state is RunState.FAILED and rng.random() < 0.5:
        say("resumed", run.id)
        again = run.retry_failed(check=False)
        say("ended", again.id, again.state.value)


def main():
    fb.configure(data_dir=folder / "store", pools=crash_flows.POOLS, workers=3)
    # Everything is imported before the clock of this life starts.
    warm = crash_flows.build(fb, folder, "warm", *crash_flows.shape("warm", has_processes=False))
    warm.compile()
    fb.loads(warm.to_yaml())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    resume_all(RunState.INTERRUPTED)
    if mode == "final":
        for _ in range(50):  # every task stops failing after a few tries
            resume_all(RunState.FAILED)
        return
    number = 0
    while True:
        if rng.random() < 0.5:
            runs = [begin(number)]
            runs[0].drive()
        else:
            runs = [begin(number + offset) for offset in range(3)]
            for run in runs:
                run.begin()
            for run in runs:
                run.wait()
        number += len(runs)
        for run in runs:
            finish(run)


if __name__ == "__main__":
    main()
