"""What is run on a disk with faults: short workflows of every durability, and what they must give.

Whatever it learns it writes to ``acks`` at once, beside the store and past the faults: ``begun RUN
TAG``, ``ended RUN STATE``, ``removed RUN``, ``closed``. Tasks write ``S KEY`` and ``E KEY`` to
``TAG.side``.
"""

from __future__ import annotations

import os
import random
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import apsw

import flowbuilder as fb
from flowbuilder.errors import FlowBuilderError
from flowbuilder.store.connection import open_connection
from flowbuilder.vocabulary import RunState

WIDE = [
    ("a", "", "small"),
    *((f"w{n}", "a", "small") for n in range(3)),
    ("z", "w0 w1 w2", "small"),
]
GRAPHS = {
    "small": [("a", "", "small"), ("b", "a", "small"), ("c", "b", "small")],
    "large": [("a", "", "bytes"), ("b", "a", "array"), ("c", "a b", "text"), ("d", "c", "small")],
    "chatty": [("a", "", "chatty"), ("b", "a", "small")],
    "wide": WIDE,
    "flaky": [("a", "", "small"), ("b", "a", "flaky"), ("c", "b", "small")],
    "failing": [("a", "", "bytes"), ("b", "a", "failing"), ("c", "b", "small")],
}
STEPS = (
    "run small run",
    "run large run",
    "run wide task",
    "run flaky task",
    "run chatty none",
    "checkpoint passive",
    "run large task",
    "run failing run",
    "resume",
    "remove",
    "checkpoint truncate",
    "start wide none",
    "run large run",
    "run small task",
)
"""A little of everything, in an order that gives each something to lose."""


def random_steps(rng, count=10):
    """Other orders of the same."""
    durability = ("run", "task", "none")
    choices = [
        f"{how} {graph} {d}" for how in ("run", "start") for graph in GRAPHS for d in durability
    ]
    more = ["checkpoint passive", "checkpoint truncate", "resume", "remove"]
    return [rng.choice(more if rng.random() < 0.35 else choices) for _ in range(count)]


def work(key, trace, kind, **inputs):
    """The body of every task."""
    note(f"{trace}.side", "S", key)
    tries = f"{trace}.{key}.tries"
    with Path(tries).open("ab", buffering=0) as file:
        file.write(b"x")
        count = os.fstat(file.fileno()).st_size
    if (kind == "flaky" and count < 3) or (kind == "failing" and count < 2):
        raise RuntimeError(f"try {count} of {key} fails")
    if kind == "chatty":
        sys.stdout.write("line of text\n" * 500)
    value = value_of(key, kind, {name: seed_of(given) for name, given in inputs.items()})
    note(f"{trace}.side", "E", key)
    return value


def note(path, *words):
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (" ".join(words) + "\n").encode())
    finally:
        os.close(descriptor)


def value_of(key, kind, seeds):
    """What a task makes of what its inputs stand for."""
    seed = zlib.crc32(f"{key} {sorted(seeds.items())}".encode())
    if kind == "bytes":
        return seed.to_bytes(4, "little") * 3000
    if kind == "text":
        return {"seed": seed, "text": "long " * 2000}
    if kind == "array":
        import numpy as np

        return np.full(2000, seed, dtype=np.int64)
    return seed


def seed_of(value):
    """The number a value stands for."""
    if isinstance(value, bytes):
        assert value == value[:4] * 3000
        return int.from_bytes(value[:4], "little")
    if isinstance(value, dict):
        assert value["text"] == "long " * 2000
        return value["seed"]
    if isinstance(value, int):
        return value
    assert (value == value[0]).all()
    assert len(value) == 2000
    return int(value[0])


def expected(graph):
    """Key -> the number its output stands for."""
    seeds = {}
    for key, parents, kind in GRAPHS[graph]:
        seeds[key] = seed_of(value_of(key, kind, {name: seeds[name] for name in parents.split()}))
    return seeds


def parents_of(graph):
    return {key: parents.split() for key, parents, _ in GRAPHS[graph]}


def build(graph, trace, data_dir):
    flow = fb.Workflow(f"sweep-{graph}", data_dir=data_dir)
    for key, parents, kind in GRAPHS[graph]:
        flow = flow.add(
            key,
            work,
            config={"key": key, "trace": trace, "kind": kind},
            inputs={parent: parent for parent in parents.split()},
            persist="always" if kind in {"bytes", "array", "text"} else "auto",
            executor="inline",
            retry={"max_attempts": 3, "delay": 0} if kind == "flaky" else None,
        )
    return flow


class Scenario:
    """One process's life on a store; ``end_fault`` is called when a run was failed by it."""

    def __init__(self, folder, steps, end_fault, before_close):
        self.folder, self.steps, self.end_fault = folder, steps, end_fault
        self.before_close = before_close
        self.store = folder / "store"
        self.failed = []
        self.ended = []
        self.number = 0

    def say(self, *words):
        note(self.folder / "acks", *map(str, words))

    def play(self):
        for step in self.steps:
            what, *rest = step.split()
            try:
                getattr(self, what)(*rest)
            except FlowBuilderError as error:
                self.met(error)
        self.guarded(self.join)
        self.before_close()
        try:
            container().close()
            self.say("closed")
        except FlowBuilderError as error:
            self.met(error)

    def guarded(self, action):
        try:
            action()
        except FlowBuilderError as error:
            self.met(error)

    def met(self, error):
        """A fault reached us, as an error of ours with words a person can use."""
        self.say("met", type(error).__name__, str(error).replace("\n", " "))
        self.end_fault()

    # -- steps -------------------------------------------------------------------------------------

    def run(self, graph, durability):
        self.begin(graph, durability).drive()
        self.finish(self.last)

    def start(self, graph, durability):
        self.begin(graph, durability).begin()
        self.started.append(self.last)

    started: list = []  # noqa: RUF012 - one life in a process

    def join(self):
        while self.started:
            run = self.started.pop()
            run.wait()
            self.finish(run)

    def begin(self, graph, durability):
        from flowbuilder.api.run_request import RunRequest

        tag = f"t{self.number}-{graph}-{durability}"
        self.number += 1
        flow = build(graph, str(self.folder / tag), self.store)
        self.last = flow.open_run(RunRequest(durability=durability, echo=False), {})
        self.say("begun", self.last.id, tag)
        return self.last

    def finish(self, run):
        self.say("ended", run.id, run.state.value)
        if run.state is RunState.SUCCEEDED:
            self.ended.append(run.id)
            return
        error = run.error
        if type(error).__name__ == "TaskFailedError" and "fails" in str(error):
            self.failed.append(run)
        else:
            self.met(error)

    def resume(self):
        if self.failed:
            run = self.failed.pop()
            self.say("resumed", run.id)
            again = run.retry_failed(check=False)
            self.finish(again)

    def remove(self):
        if self.ended:
            run_id = self.ended.pop(0)
            self.say("removing", run_id)
            found = container()
            assert found.journal.remove_runs([run_id]) == 1
            self.say("removed", run_id)
            found.artifacts.remove_run(run_id)

    def checkpoint(self, mode):
        if not (self.store / "journal.db").exists():
            return  # nothing was run yet
        connection = None
        try:
            connection = open_connection(self.store / "journal.db")
            connection.wal_checkpoint(mode=getattr(apsw, f"SQLITE_CHECKPOINT_{mode.upper()}"))
        except apsw.Error as error:
            self.say("checkpoint", type(error).__name__, error)
            self.end_fault()
        finally:
            with suppress(apsw.Error):
                if connection is not None:
                    connection.close()


def container():
    from flowbuilder.api.container import container_for

    return container_for(None)


def rng_of(seed):
    return random.Random(seed)
