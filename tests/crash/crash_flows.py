"""Random workflows whose tasks leave a trace in a side file; imported by the driver, its worker
processes and the test.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
import zlib
from pathlib import Path

POOLS = {"db": 1, "wide": 2}


class Opaque:
    """An output that cannot be stored."""

    def __init__(self, value):
        self.value = value
        self.lock = threading.Lock()


def shape(seed, *, has_processes):
    """Draw a graph: a list of tasks as plain data, parents first, and the run's durability."""
    rng = random.Random(seed)
    durability = rng.choice(["run", "run", "task", "none"])
    tasks = []
    for number in range(rng.randint(4, 14)):
        earlier = rng.sample(range(number), min(number, rng.choice([0, 1, 1, 2, 2, 3])))
        executor = rng.choice(["inline", "auto", "thread", "thread", "async"])
        if has_processes and rng.random() < 0.3:
            executor = "process"
        kind = rng.choice(["small", "small", "large", "opaque"])
        join = rng.choice(["all_success"] * 6 + ["all_done", "none_failed"])
        tasks.append(
            {
                "name": f"t{number}",
                "parents": [f"t{parent}" for parent in sorted(earlier)],
                "join": join,
                "executor": executor,
                "kind": "large" if executor == "process" and kind == "opaque" else kind,
                "effects": rng.choice(["none", "idempotent", "external"]),
                "ms": rng.choice([0, 0, 1, 3, 8, 15, 60]),
                "fails": rng.choice([0, 0, 0, 0, 1, 2, 3, 4]),
                "delay": rng.choice([0.002, 0.002, 0.04]),
                "max_attempts": rng.randint(1, 3),
                "pool": rng.choice([None, None, "db", "wide"]),
                "persist": rng.choice(["auto", "auto", "auto", "always", "never"]),
                "when": None,
            }
        )
        # Without durability a start may be forgotten, and with it the question about its effect.
        if durability == "none" and tasks[-1]["effects"] == "external":
            tasks[-1]["effects"] = "idempotent"
        if executor == "process":
            for parent in earlier:  # only what can be pickled travels
                if tasks[parent]["kind"] == "opaque":
                    tasks[parent]["kind"] = "large"
        readable = [at for at in earlier if tasks[at]["kind"] != "opaque"]
        if join == "all_success" and readable and rng.random() < 0.2:
            tasks[-1]["when"] = f"t{readable[0]}"
    return tasks, durability


def build(fb, folder, tag, tasks, durability):
    """Make the workflow of a graph."""
    flow = fb.Workflow(f"crash-{tag}")
    for task in tasks:
        fields = {
            "executor": task["executor"] if task["executor"] != "async" else "auto",
            "effects": task["effects"],
            "persist": task["persist"],
            "join": task["join"],
            "retry": {"max_attempts": task["max_attempts"], "delay": task["delay"], "jitter": 0.5},
        }
        if task["pool"]:
            fields["pool"] = task["pool"]
        if task["when"]:
            fields["when"] = f"tasks.{task['when']}.output.even"
        # A task that may run although a parent failed cannot need its output.
        is_strict = task["join"] == "all_success"
        flow = flow.add(
            task["name"],
            work_async if task["executor"] == "async" else work,
            config={
                "key": task["name"],
                "trace": str(Path(folder) / tag),
                "ms": task["ms"],
                "fails": task["fails"],
                "kind": task["kind"],
            },
            inputs={parent: parent for parent in task["parents"]} if is_strict else None,
            depends_on=() if is_strict else task["parents"],
            **fields,
        )
    return flow


def work(key, trace, ms, fails, kind, **inputs):
    """The body of every task that is not asynchronous."""
    count = _enter(key, trace)
    if ms:
        threading.Event().wait(ms / 1000)
    return _leave(key, trace, count, fails, kind, inputs)


async def work_async(key, trace, ms, fails, kind, **inputs):
    """The body of every asynchronous task."""
    count = _enter(key, trace)
    await asyncio.sleep(ms / 1000)
    return _leave(key, trace, count, fails, kind, inputs)


def value_of(key, inputs):
    """What a task computes from the values of its inputs, in the order of their names."""
    text = key + ":" + ",".join(f"{name}={inputs[name]}" for name in sorted(inputs))
    return zlib.crc32(text.encode())


def expected(tasks):
    """Final state and value of every task, had nothing gone wrong."""
    found = {}
    for task in tasks:
        parents = [found[parent] for parent in task["parents"]]
        is_strict = task["join"] == "all_success"
        runs = not is_strict or all(state == "succeeded" for state, _ in parents)
        if runs and task["when"]:
            runs = found[task["when"]][1] % 2 == 0
        if not runs:
            found[task["name"]] = ("skipped", None)
            continue
        inputs = {name: found[name][1] for name in task["parents"]} if is_strict else {}
        found[task["name"]] = ("succeeded", value_of(task["name"], inputs))
    return found


def _enter(key, trace):
    with Path(f"{trace}.{key}.tries").open("ab", buffering=0) as file:
        file.write(b"x")
        count = os.fstat(file.fileno()).st_size
    _note(trace, "S", key)
    return count


def _leave(key, trace, count, fails, kind, inputs):
    if count <= fails:
        _note(trace, "F", key)
        raise RuntimeError(f"{key} fails {fails} times")
    value = value_of(key, {name: _value(given) for name, given in inputs.items()})
    _note(trace, "E", key)
    if kind == "opaque":
        return Opaque(value)
    result = {"v": value, "even": value % 2 == 0}
    return {**result, "pad": "x" * 6000} if kind == "large" else result


def _value(given):
    if given is None:  # somebody assumed that it was done
        return None
    return given.value if isinstance(given, Opaque) else given["v"]


def _note(trace, what, key):
    line = f"{what} {key} {os.getpid()} {time.monotonic_ns()}\n".encode()
    descriptor = os.open(f"{trace}.side", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
