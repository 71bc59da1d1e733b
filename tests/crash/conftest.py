"""Chains of lives: processes that run workflows on one store and are killed one after the other."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flowbuilder.records import AttemptFinished, AttemptStarted, TaskReset, TaskSkipped
from flowbuilder.store.local_artifacts import LocalArtifactStore
from flowbuilder.store.opening import open_journal
from flowbuilder.vocabulary import FINAL_TASK_STATES, RunState, TaskState

HERE = Path(__file__).parent
DRIVER = HERE / "crash_driver.py"
FINAL = {state.value for state in FINAL_TASK_STATES}
EXECUTED = {"succeeded", "failed"}
DONE = {TaskState.SUCCEEDED, TaskState.CACHED}


def _load_flows():
    spec = importlib.util.spec_from_file_location("crash_flows", HERE / "crash_flows.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


crash_flows = _load_flows()


@dataclass
class Settled:
    """What the journal held just after a kill, by run: tasks that must never execute again."""

    kill_ns: int
    keys: dict[str, set[str]]


@dataclass
class Chain:
    """The lives on one store."""

    folder: Path
    seed: int
    mode: str
    kills: list[int] = field(default_factory=list)
    lives: list[tuple[int, int]] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    lost: dict[tuple[str, str], int] = field(default_factory=dict)
    lost_ages_ns: list[int] = field(default_factory=list)

    # -- living ------------------------------------------------------------------------------------

    def live(self, seconds, *, is_early=False):
        """Let one life run for a while after it is ready (or has begun), then kill it."""
        with (self.folder / "stderr").open("ab") as stderr:
            process = self._spawn(self.mode, stderr)
            try:
                if not is_early:
                    assert process.stdout.readline() == b"ready\n", self.stderr()
                threading.Event().wait(seconds)
                assert process.poll() is None, self.stderr()
            finally:
                killed_ns = time.monotonic_ns()
                process.send_signal(signal.SIGKILL)
                process.wait()
                process.stdout.close()
        self.kills.append(killed_ns)

    def finish(self):
        """Resume everything in a last life that may end by itself."""
        with (self.folder / "stderr").open("ab") as stderr:
            process = self._spawn("final", stderr)
            try:
                process.communicate(timeout=100)
            finally:
                process.kill()
                process.wait()
        assert process.returncode == 0, self.stderr()

    def _spawn(self, mode, stderr):
        command = [sys.executable, str(DRIVER), str(self.folder), str(self.seed)]
        self.lives.append((time.monotonic_ns(), len(self.lives)))
        return subprocess.Popen(
            [*command, str(len(self.lives)), mode],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "FLOWBUILDER_HOME": str(self.folder / "home")},
        )

    def stderr(self):
        return (self.folder / "stderr").read_text()[-4000:]

    # -- evidence ----------------------------------------------------------------------------------

    def acks(self):
        path = self.folder / "acks"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def runs(self):
        """Run id -> (tag, durability) of every run that was begun."""
        return {words[1]: (words[2], words[3]) for words in self.acks() if words[0] == "begun"}

    def trace(self, tag):
        """What the tasks of a run noted: (what, key, pid, ns), in order of time."""
        path = self.folder / f"{tag}.side"
        if not path.exists():
            return []
        rows = [line.split() for line in path.read_text().splitlines()]
        return sorted(((w, key, int(pid), int(ns)) for w, key, pid, ns in rows), key=lambda r: r[3])

    def shape(self, tag):
        return crash_flows.shape(f"{self.seed}-{tag}", has_processes=self.mode == "processes")[0]

    def journal(self):
        return open_journal(self.folder / "store")

    @staticmethod
    def _states_once_dead(journal):
        # A child that was being started shares the lock until its exec, so wait a moment for it.
        deadline = time.monotonic() + 2.0
        while True:
            states = {summary.run_id: summary.state for summary in journal.list_runs(limit=10_000)}
            if RunState.RUNNING not in states.values() or time.monotonic() > deadline:
                return states
            threading.Event().wait(0.01)

    def examine_kill(self):
        """Look at the journal between two lives."""
        if not (self.folder / "store" / "journal.db").exists() and not self.runs():
            return
        journal = self.journal()
        artifacts = LocalArtifactStore(self.folder / "store")
        begun, kill_ns = self.runs(), self.kills[-1]
        found = Settled(kill_ns, {})
        try:
            states = self._states_once_dead(journal)
            assert RunState.RUNNING not in states.values(), "a killed owner counts as alive"
            self._check_acknowledged_ends(states)
            for run_id, (tag, durability) in begun.items():
                if run_id not in states:
                    assert durability != "task" or not self.trace(tag), (
                        "an acknowledged start is lost"
                    )
                    continue
                saved = journal.load_run(run_id)
                keys = saved.version.keys
                found.keys[run_id] = {
                    keys[instance]
                    for instance, state in enumerate(saved.states)
                    if state in DONE
                    and (instance in saved.outputs or _is_readable(artifacts, saved, instance))
                }
                if states[run_id] is RunState.INTERRUPTED:
                    self._check_interrupted(
                        run_id, tag, durability, saved, list(journal.events(run_id))
                    )
        finally:
            journal.close()
        self.settled.append(found)

    def _check_acknowledged_ends(self, states):
        durable = {run for run, (_, durability) in self.runs().items() if durability != "none"}
        ends = {}
        for words in self.acks():
            if words[0] in {"begun", "resumed"}:
                ends.pop(words[1], None)
            elif words[0] == "ended":
                ends[words[1]] = words[2]
        for run_id, state in ends.items():
            if run_id in durable:
                assert states[run_id] == state, f"the acknowledged end of {run_id} is lost"

    def _check_interrupted(self, run_id, tag, durability, saved, events):
        keys, trace = saved.version.keys, self.trace(tag)
        place = {key: instance for instance, key in enumerate(keys)}
        started = Counter(keys[e.instance] for e in events if isinstance(e, AttemptStarted))
        ended = Counter(
            keys[e.instance]
            for e in events
            if isinstance(e, AttemptFinished) and e.state in EXECUTED and e.start_ns != e.end_ns
        )
        over = {event.instance for event in events if isinstance(event, AttemptFinished)}
        settings = {task["name"]: task for task in self.shape(tag)}
        for key in {key for _, key, _, _ in trace}:
            begins = [row for row in trace if row[0] == "S" and row[1] == key]
            ends = [row for row in trace if row[0] != "S" and row[1] == key]
            if settings[key]["effects"] == "external" or durability == "task":
                assert started[key] >= len(begins), f"the start of {run_id} {key} is not on record"
            if durability == "task":
                for parent in saved.version.parents[place[key]]:
                    told = f"{key} began, the end of {keys[parent]} is not on record"
                    assert parent in over, told
            missing = len(ends) - ended[key] - self.lost.get((run_id, key), 0)
            if missing > 0:
                self.lost[run_id, key] = self.lost.get((run_id, key), 0) + missing
                for _, _, _, ended_ns in ends[-missing:]:
                    # A worker process may outlive its engine for a moment and still finish.
                    killed_ns = min(
                        (kill for kill in self.kills if kill > ended_ns), default=ended_ns
                    )
                    self.lost_ages_ns.append(killed_ns - ended_ns)

    # -- judgement ---------------------------------------------------------------------------------

    def judge(self):
        """Check the invariants over all lives; return what was counted."""
        counts = Counter(kills=len(self.kills), lost=len(self.lost_ages_ns))
        journal = self.journal()
        begun = self.runs()
        try:
            summaries = {summary.run_id: summary for summary in journal.list_runs(limit=10_000)}
            assert summaries.keys() <= begun.keys()
            for run_id, summary in summaries.items():
                tag, _ = begun[run_id]
                assert summary.state is RunState.SUCCEEDED, f"{run_id} ended {summary.state}"
                saved, trace = journal.load_run(run_id), self.trace(tag)
                events = list(journal.events(run_id))
                self._judge_run(run_id, tag, saved, trace, events)
                begins = [row[1] for row in trace if row[0] == "S"]
                counts.update(runs=1, tasks=len(saved.states), executions=len(begins))
                counts["reruns"] += len(begins) - len(set(begins))
        finally:
            journal.close()
        self._judge_pools(begun)
        return counts

    def _judge_run(self, run_id, tag, saved, trace, events):
        keys, tasks = saved.version.keys, self.shape(tag)
        settings = {task["name"]: task for task in tasks}
        self._judge_settled(run_id, trace)
        assumed = {
            key for words in self.acks() if words[:2] == ["done", run_id] for key in words[2:]
        }
        self._judge_order(saved, trace, settings, assumed)
        _judge_records(keys, saved.version.parents, events, settings)
        self._judge_external(run_id, keys, trace, events, settings)
        if assumed:
            return  # what was assumed has no output, so later values differ
        for key, (state, value) in crash_flows.expected(tasks).items():
            instance = keys.index(key)
            assert saved.states[instance] == state, f"{run_id} {key}"
            output = saved.outputs.get(instance)
            assert output is None or output["v"] == value, f"{run_id} {key}"

    def _judge_settled(self, run_id, trace):
        for settled in self.settled:
            for key in settled.keys.get(run_id, ()):
                late = [row for row in trace if row[1] == key and row[3] > settled.kill_ns]
                assert not late, f"{run_id} {key} was settled and ran again: {late}"

    def _judge_order(self, saved, trace, settings, assumed):
        """No task starts while a parent runs in the same life, nor before it has ended once."""
        keys = saved.version.keys
        for instance, key in enumerate(keys):
            for parent in saved.version.parents[instance]:
                for what, name, _, ns in trace:
                    if what != "S" or name != key:
                        continue
                    life = max((kill for kill in self.kills if kill < ns), default=0)
                    before = [r for r in trace if r[1] == keys[parent] and life < r[3] <= ns]
                    assert not before or before[-1][0] != "S", f"{key} ran beside {keys[parent]}"
                    is_strict = settings[key]["join"] == "all_success"
                    if is_strict and not before and keys[parent] not in assumed:
                        done = [r for r in trace if r[:2] == ("E", keys[parent]) and r[3] <= ns]
                        assert done, f"{key} ran, {keys[parent]} had never succeeded"

    def _judge_external(self, run_id, keys, trace, events, settings):
        """An effect happens again only after a recorded failure, or on the user's word."""
        allowed = Counter(
            keys[event.instance]
            for event in events
            if isinstance(event, AttemptFinished) and event.state in EXECUTED
        )
        for words in self.acks():
            if words[0] == "rerun" and words[1] == run_id:
                allowed.update(words[2:])
        begins = Counter(key for what, key, _, _ in trace if what == "S")
        for key, count in begins.items():
            if settings[key]["effects"] == "external":
                assert count <= allowed[key], f"the effect of {run_id} {key} was repeated unasked"

    def _judge_pools(self, begun):
        changes = {pool: [] for pool in crash_flows.POOLS}
        for tag, _ in begun.values():
            pools = {task["name"]: task["pool"] for task in self.shape(tag)}
            running = {}
            for what, key, _, ns in self.trace(tag):
                if pools[key] is None:
                    continue
                if what == "S":
                    running[key] = ns
                    continue
                changes[pools[key]] += [(running.pop(key), 1), (ns, -1)]
            for key, ns in running.items():
                ends = [kill for kill in self.kills if kill > ns]
                if ends:
                    changes[pools[key]] += [(ns, 1), (min(ends), -1)]
        for pool, steps in changes.items():
            level = 0
            for ns, step in sorted(steps):
                level += step
                assert level <= crash_flows.POOLS[pool], f"pool {pool} held {level} at {ns}"


def _is_readable(artifacts, saved, instance):
    if instance not in saved.artifacts:
        return False
    artifacts.load(saved.artifacts[instance])
    return True


def _judge_records(keys, parents, events, settings):
    """Completions once an attempt, never ahead of their parents', attempts within the limit."""
    states = dict.fromkeys(range(len(keys)), "pending")
    seen, failures = set(), Counter()
    for event in events:
        instance = getattr(event, "instance", -1)
        if isinstance(event, AttemptStarted | AttemptFinished):
            executed = isinstance(event, AttemptStarted) or event.state in EXECUTED
            if executed:
                early = [parent for parent in parents[instance] if states[parent] not in FINAL]
                assert not early, f"{keys[instance]} came before {[keys[p] for p in early]}"
        if isinstance(event, AttemptStarted):
            states[instance] = "running"
        elif isinstance(event, AttemptFinished):
            states[instance] = event.state
            if event.state in EXECUTED:
                assert (instance, event.attempt) not in seen, f"{keys[instance]} ended twice"
                seen.add((instance, event.attempt))
            failures[instance] += event.state == "failed"
            limit = settings[keys[instance]]["max_attempts"]
            assert failures[instance] <= limit, (
                f"{keys[instance]} failed {failures[instance]} times"
            )
        elif isinstance(event, TaskSkipped):
            states[instance] = "skipped"
        elif isinstance(event, TaskReset):
            if states[instance] in FINAL:
                failures[instance] = 0
            states[instance] = "pending"


@pytest.fixture
def kill_chains(tmp_path, record_property):
    """Run chains of lives in parallel and judge them; returns the counts."""

    def run_chain(number, kills, mode, window_s):
        folder = tmp_path / f"chain{number}"
        folder.mkdir()
        chain = Chain(folder, seed=number, mode=mode)
        rng = random.Random(f"kills-{number}")
        for _ in range(kills):
            is_early = rng.random() < 0.1
            chain.live(rng.uniform(0, 0.3 if is_early else window_s), is_early=is_early)
            if rng.random() < 0.8:
                # Otherwise the next life is the first to see what the killed one left.
                chain.examine_kill()
        chain.finish()
        return chain, chain.judge()

    def run(chains, *, parallel=3):
        total, ages = Counter(), []
        with ThreadPoolExecutor(parallel) as pool:
            for chain, counts in pool.map(lambda arguments: run_chain(*arguments), chains):
                total.update(counts)
                ages += chain.lost_ages_ns
        total["oldest_lost_us"] = max(ages, default=0) // 1000
        record_property("summary", _summary(total))
        return total

    return run


def _summary(counts):
    return (
        f"{counts['kills']} kills, {counts['runs']} runs, {counts['tasks']} tasks,"
        f" {counts['executions']} executions, {counts['reruns']} of them again,"
        f" {counts['lost']} completions lost (the oldest {counts['oldest_lost_us'] / 1000:.1f} ms"
        " before its kill), 0 settled tasks repeated"
    )
