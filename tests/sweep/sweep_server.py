"""Forks a process for each case it reads: first the scenario on a disk with a fault, then a judge.

Everything is imported once, which makes a case a fraction of a second. A line of JSON in, one out.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import traceback
from pathlib import Path

import numpy as np  # noqa: F401 - imported before the forks
import sweep_scenario
import sweep_verdict
from fault_disk import Fault, FaultDisk, Faults, FaultVfs

import flowbuilder as fb
import flowbuilder.api.container
import flowbuilder.api.resuming
import flowbuilder.api.run_request
import flowbuilder.store.backup
import flowbuilder.tasks.python
from flowbuilder.store.disk import using_disk

PATIENCE_S = 30
HUNG = "it hung: the stacks of its threads are in the server's stderr"


def live(folder, case):
    """Run the scenario; the process may not survive it."""
    fault = Fault(case["kind"], case["at"], case.get("seed", 0))
    faults = Faults(fault, folder, folder.with_name(folder.name + ".image"))
    vfs = FaultVfs(faults)
    if case["steps"] is None:
        steps = sweep_scenario.STEPS
    else:
        steps = sweep_scenario.random_steps(sweep_scenario.rng_of(case["steps"]))

    def end_fault():
        faults.is_full = False

    def before_close():
        if fault.kind == "flip_kill" and faults.fired:
            faults.die()

    with using_disk(FaultDisk(faults)):
        fb.configure(data_dir=folder / "store", flush_interval_s=case.get("flush_s", 0.05))
        life = sweep_scenario.Scenario(folder, steps, end_fault, before_close)
        life.play()
    faults.note()
    with faults.lock:
        if fault.kind in {"error", "short", "enospc", "eio"}:
            faults.lose_power()
    (folder / "counts").write_text(json.dumps(faults.counts))
    del vfs


def judge(folder, case):
    """Look at what is left."""
    kind = case["kind"]
    image = folder.with_name(folder.name + ".image")
    store = (image if image.exists() else folder) / "store"
    fired = Path(f"{image}.fired")
    where = fired.read_text() if fired.exists() else ""
    if kind in {"flip", "flip_kill"}:
        counts = sweep_verdict.judge_flip(
            folder, store, was_killed=kind == "flip_kill", where=where
        )
    else:
        counts = sweep_verdict.judge_loss(folder, store)
        counts["met"] += sweep_verdict.judge_words(folder, kind)
    return {"where": where, "counts": dict(counts)}


def in_child(action, *arguments):
    """Fork, act, and give the wait status and what it had to say."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
        status = 1
        try:
            told = json.dumps(action(*arguments))
            status = 0
        except BaseException:
            told = traceback.format_exc()
        os.write(writer, told.encode()[-60_000:])
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        told = file.read().decode()
    return os.waitpid(child, 0)[1], told


def main():
    # Tasks print, and so does a resume: what is said here must not mix with that.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        case = json.loads(line)
        folder = Path(case["folder"])
        folder.mkdir(parents=True)
        os.chdir(folder)
        status, told = in_child(live, folder, case)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            answer = {"problem": told or HUNG}
        else:
            judged, told = in_child(judge, folder, case)
            answer = {"problem": told or HUNG} if judged else json.loads(told)
        counts = folder / "counts"
        answer["calls"] = json.loads(counts.read_text()) if counts.exists() else {}
        answer["killed"] = os.WIFSIGNALED(status)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
