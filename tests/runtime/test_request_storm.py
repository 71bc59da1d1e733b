"""Random graphs under random requests from several threads: every invariant, every time."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from flowbuilder.errors import FlowBuilderError
from flowbuilder.runtime.live_run import NOT_SET
from flowbuilder.runtime.program import Program
from flowbuilder.testing import rows_of
from flowbuilder.testing.plans import plan_from_parents
from flowbuilder.vocabulary import (
    FINAL_TASK_STATES,
    TASK_STATE_CODES,
    TASK_STATES,
    RunState,
    TaskState,
)

FINAL = {TASK_STATE_CODES[state] for state in FINAL_TASK_STATES}


class Storm:
    """One run, its requests, and what its bodies saw."""

    def __init__(self, bench, seed):
        self.rng = random.Random(seed)
        self.bench = bench
        self.starts = Counter()
        self.early = []
        self.lock = threading.Lock()
        count = self.rng.randrange(1, 30)
        self.parents = [
            sorted(self.rng.sample(range(i), min(i, self.rng.randrange(4)))) for i in range(count)
        ]
        self.names = [f"t{i}" for i in range(count)]
        self.kinds = [
            self.rng.choice(["inline", "auto", "thread", "async", "delay", "condition"])
            for _ in range(count)
        ]
        fields = {
            name: self.fields(kind) for name, kind in zip(self.names, self.kinds, strict=True)
        }
        self.plan = plan_from_parents(self.names, self.parents, fields)
        bodies = {name: self.program(i) for i, name in enumerate(self.names)}
        self.run = bench.open(self.plan, bodies)

    def fields(self, kind):
        rng = self.rng
        fields = {"executor": kind if kind in {"inline", "thread", "async"} else "auto"}
        if kind == "condition":
            fields["has_condition"] = True
        if rng.random() < 0.3:
            fields["pool"] = rng.choice(["db", "wide"])
        if rng.random() < 0.3:
            fields["retry"] = {"max_attempts": 3, "delay_s": rng.choice([0.0, 0.001])}
        if rng.random() < 0.2:
            fields["timeout_s"] = rng.choice([0.001, 5.0])
        if rng.random() < 0.3:
            fields["join"] = rng.choice(["all_done", "one_success", "none_failed"])
        return fields

    def note(self, instance):
        run = self.run
        with self.lock:
            self.starts[instance] += 1
            for parent in self.parents[instance]:
                # States of a static segment are entered when it ends, outputs at once.
                if run.state_codes[parent] not in FINAL and run.values[parent] is NOT_SET:
                    self.early.append((instance, parent))

    def program(self, instance):
        kind, slow = self.kinds[instance], self.rng.random() < 0.3
        fails = self.rng.random() < 0.2

        def body(*_):
            self.note(instance)
            if slow:
                threading.Event().wait(0.002)
            if fails:
                raise OSError(instance)
            return [instance]

        async def coroutine(_context):
            import asyncio

            self.note(instance)
            await asyncio.sleep(0.001 if slow else 0)
            if fails:
                raise OSError(instance)

        if kind == "delay":
            return Program(delay=lambda _c: 0.002, code_key="delay")
        if kind == "async":
            return Program(coroutine=coroutine, code_key="async")
        condition = (lambda _run: True) if kind == "condition" else None
        return Program(function=body, condition=condition, code_key=f"{kind}{slow}")

    def request(self, seed):
        """Ask for things until the run is over; end with what lets it end."""
        rng, engine = random.Random(seed), self.bench.engine
        for _ in range(rng.randrange(6)):
            threading.Event().wait(rng.choice([0, 0, 0.0005, 0.003]))
            action = rng.choice(["pause", "resume", "task", "cancel", "wait"])
            with contextlib.suppress(FlowBuilderError):
                if action == "task":
                    engine.cancel_task(self.run, rng.choice(self.names))
                elif action == "wait":
                    self.run.wait(0.001)
                elif action != "cancel" or rng.random() < 0.3:
                    getattr(engine, action)(self.run)
        engine.resume(self.run)

    def drive(self):
        if self.rng.random() < 0.5:
            self.bench.engine.start(self.run)
            return None
        thread = threading.Thread(target=self.bench.engine.run, args=(self.run,))
        thread.start()
        return thread

    def play(self):
        askers = [
            threading.Thread(target=self.request, args=(self.rng.random(),)) for _ in range(2)
        ]
        if self.rng.random() < 0.3:
            askers[0].start()
        thread = self.drive()
        for asker in askers:
            if asker.ident is None:
                asker.start()
        for asker in askers:
            asker.join(20)
            assert not asker.is_alive()
        self.bench.engine.resume(self.run)
        assert self.run.wait(20), self.describe()
        if thread is not None:
            thread.join(20)
            assert not thread.is_alive()

    def describe(self):
        run = self.run
        return (run.counts(), run.in_flight, run.waiting, run.blocked, run.is_pausing, self.kinds)

    def check(self):
        run = self.run
        assert set(run.state_codes) <= FINAL
        assert not self.early
        rows = {}
        for piece in run.recorder.take():
            for instance, _attempt, code, *_ in rows_of(piece):
                rows.setdefault(instance, []).append(TASK_STATES[code])
        for instance, code in enumerate(run.state_codes):
            *earlier, last = rows[instance]
            assert last is TASK_STATES[code], (instance, rows[instance])
            # Before the last only attempts that were tried again.
            assert set(earlier) <= {TaskState.FAILED}
            limit = self.plan.tasks[instance].retry.max_attempts
            assert self.starts[instance] <= limit
            assert len(rows[instance]) <= limit
            if self.kinds[instance] != "delay" and last is TaskState.SUCCEEDED:
                assert self.starts[instance] >= 1
        if run.finished is RunState.SUCCEEDED:
            assert not run.failures
        assert run.finished in {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}
        assert not run.timers
        assert not run.on_finish


@pytest.mark.parametrize("seed", range(6))
def test_storm(bench, seed):
    for number in range(10):
        storms = [Storm(bench, seed * 1_000 + number * 10 + place) for place in range(3)]
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(Storm.play, storms))
        for storm in storms:
            storm.check()
    admission = bench.engine.services.admission
    for name in ("cpu", "db", "wide"):
        pool = admission.pool(name)
        for _ in range(2_000):
            if pool.used == 0:
                break
            threading.Event().wait(0.005)
        assert pool.used == 0, name
        assert pool.peak <= pool.capacity
        assert not pool._waiters
    assert not bench.engine.live
