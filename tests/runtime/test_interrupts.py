"""Ctrl-C at any moment: the run ends, nothing runs twice, the process lives on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from flowbuilder.runtime.capture import slots
from flowbuilder.runtime.program import Program
from flowbuilder.testing import plan_of
from flowbuilder.vocabulary import RunState, TaskState

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")

ROUNDS = r"""
import gc, json, random, signal, sys, threading, time
from pathlib import Path
from flowbuilder.ids import new_run_id
from flowbuilder.records import RunHeader, RunStateChanged, VersionHeader
from flowbuilder.runtime.capture import slots
from flowbuilder.runtime.engine import Engine, EngineOptions
from flowbuilder.runtime.live_run import RunOptions
from flowbuilder.runtime.program import Program
from flowbuilder.testing import bind, rows_of
from flowbuilder.testing.plans import plan_from_parents
from flowbuilder.vocabulary import TASK_STATES, Durability, RunState, TaskState

seed, rounds, is_alarm = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "alarm"


class Alarm(BaseException):
    pass


def ring(*_):
    raise Alarm


signal.signal(signal.SIGUSR1, ring)
number_sent = signal.SIGUSR1 if is_alarm else signal.SIGINT
struck = Alarm if is_alarm else KeyboardInterrupt
rng = random.Random(seed)
engine = Engine(None, None, EngineOptions(engine_id="t", workers=2, scratch=Path("unused")))
version = VersionHeader(plan_id="p", fingerprint="f", name="t", text="", path="", spec_json=b"",
                        keys=(), parents=())
main = threading.main_thread().ident
stdout = sys.stdout
seen = {}


def program(kind, instance, calls):
    def body(*_):
        calls.append(instance)
        for _ in range(20):
            pass
        print("x", instance)
        return [instance]

    if kind == "delay":
        return Program(delay=lambda _c: 0.0002, code_key="delay")
    if kind == "async":
        async def coroutine(_context):
            calls.append(instance)
        return Program(coroutine=coroutine, code_key="async")
    if kind == "condition":
        return Program(function=body, condition=lambda _run: True, code_key="condition")
    return Program(function=body, code_key=kind)


for number in range(rounds):
    count = rng.randrange(1, 40)
    mix = rng.choice([["inline"], ["auto"], ["thread"], ["inline", "thread", "delay"],
                      ["auto", "async", "condition"]])
    parents = [sorted(rng.sample(range(i), min(i, rng.randrange(3)))) for i in range(count)]
    kinds = [rng.choice(mix) for _ in range(count)]
    tasks = {}
    for i, kind in enumerate(kinds):
        executor = kind if kind in {"inline", "thread", "async"} else "auto"
        tasks[f"t{i}"] = {"executor": executor, "has_condition": kind == "condition"}
    plan = plan_from_parents([f"t{i}" for i in range(count)], parents, tasks)
    calls = []
    bound = bind(plan, {f"t{i}": program(kind, i, calls) for i, kind in enumerate(kinds)})
    header = RunHeader(run_id=new_run_id(), plan_id="p", workflow="t", params={}, durability="none")
    run = engine.open(bound, version, header, {},
                      RunOptions(durability=Durability.NONE, echo=False))
    hits = 1 if is_alarm else rng.choice([1, 1, 1, 2, 3])
    delays = [rng.expovariate(1 / rng.choice([2e-5, 1e-4, 1e-3])) for _ in range(hits)]
    go = threading.Event()

    def fire():
        go.wait()
        for delay in delays:
            until = time.perf_counter() + delay
            while time.perf_counter() < until:
                pass
            signal.pthread_kill(main, number_sent)

    thread = threading.Thread(target=fire)
    thread.start()
    interrupted = outside = False
    try:
        go.set()
        interrupted = engine.run(run)
    except struck:
        outside = True
    while thread.is_alive():
        try:
            thread.join()
        except struck:
            pass
    try:
        time.sleep(0)
    except struck:
        pass
    if not run.is_claimed:
        seen["before"] = seen.get("before", 0) + 1
        engine.live.pop(run.run_id, None)
        continue
    assert run.wait(10), (number, run.counts(), run.in_flight, run.frontier.remaining, run.waiting)
    finals = {TaskState(run.state(i)) for i in range(count)}
    assert TaskState.PENDING not in finals, (number, finals)
    assert len(calls) == len(set(calls)), (number, calls)
    rows = {}
    states = []
    for piece in run.recorder.take():
        for instance, _attempt, code, *_ in rows_of(piece):
            rows.setdefault(instance, []).append(TASK_STATES[code])
        if isinstance(piece, RunStateChanged):
            states.append(piece.state)
    for instance in range(count):
        state = TaskState(run.state(instance))
        found = rows.get(instance)
        # An exception that is not Ctrl-C may strike between a state and its record.
        assert found == [state] or is_alarm, (number, instance, state, found, kinds)
    assert states[-1] == run.finished, (number, states)
    wanted = RunState.CANCELLED if interrupted else None
    assert wanted in {None, run.finished}, (number, run.finished)
    if run.finished is RunState.SUCCEEDED:
        assert finals <= {TaskState.SUCCEEDED}
    elif not is_alarm:
        assert run.finished is RunState.CANCELLED, (number, run.finished, run.error)
    assert not slots, (number, slots)
    assert sys.stdout is stdout, number
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, number
    assert not engine.live, number
    for _ in range(1000):
        if engine.services.admission.cpu.used == 0:
            break
        time.sleep(0.001)
    assert engine.services.admission.cpu.used == 0, number
    key = str(run.finished)
    seen[key] = seen.get(key, 0) + 1
print(json.dumps(seen))
"""


@posix
@pytest.mark.parametrize("how", ["ctrl-c", "alarm"])
def test_exceptions_at_random_moments(how, tmp_path):
    script = tmp_path / "rounds.py"
    script.write_text(ROUNDS)

    done = subprocess.run(
        [sys.executable, str(script), "7", "500", how],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["cancelled"] > 50


def raise_interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("fields", [{}, {"executor": "auto"}, {"has_condition": True}])
def test_interrupted_body_is_not_tried_again(bench, fields):
    calls = []

    def body():
        calls.append(1)
        raise_interrupt()

    program = Program(function=body, condition=lambda _run: True, code_key="b")
    plan = plan_of("a", a={"retry": {"max_attempts": 5, "delay_s": 0.0}, **fields})
    run = bench.open(plan, {"a": program if "has_condition" in fields else body})

    assert bench.engine.run(run)
    assert calls == [1]
    assert run.finished is RunState.CANCELLED
    assert run.counts() == {TaskState.CANCELLED: 1}


def test_interrupt_in_a_nested_run_cancels_both(bench):
    inner = []

    def outer():
        inner.append(bench.open(plan_of("x -> y"), {"x": raise_interrupt}))
        if bench.engine.run(inner[0]):
            raise KeyboardInterrupt
        return "not reached"

    run = bench.open(plan_of("a -> b"), {"a": outer})
    before = signal.getsignal(signal.SIGINT)

    assert bench.engine.run(run)
    assert inner[0].finished is RunState.CANCELLED
    assert run.finished is RunState.CANCELLED
    assert signal.getsignal(signal.SIGINT) is before
    assert not slots


def test_interrupt_while_a_nested_run_waits_ends_both_in_order(bench):
    """The nested driver is inside the outer body: nothing may be raised between its steps."""
    release, inner = threading.Event(), []

    def outer():
        child = bench.open(plan_of("x", x={"executor": "thread"}), {"x": blocking})
        inner.append(child)
        if bench.engine.run(child):
            raise KeyboardInterrupt

    def blocking():
        os.kill(os.getpid(), signal.SIGINT)
        release.wait(20)

    run = bench.open(plan_of("a -> b"), {"a": outer})

    assert bench.engine.run(run)
    release.set()
    assert inner[0].cancel_reason == "interrupted"
    assert run.finished is RunState.CANCELLED


def test_second_interrupt_does_not_wait_for_a_body_that_listens(bench):
    release = threading.Event()

    def stubborn(context):
        context.cancel.on_cancel(lambda: os.kill(os.getpid(), signal.SIGINT))
        os.kill(os.getpid(), signal.SIGINT)
        release.wait(20)

    run = bench.open(plan_of("a", a={"executor": "thread"}), {"a": Program(call=stubborn)})
    began = time.monotonic()

    assert bench.engine.run(run)
    release.set()
    assert time.monotonic() - began < 4
    assert run.finished is RunState.CANCELLED


def test_handler_a_task_installs_stays(bench):
    def mine(*_):
        """Do nothing."""

    before = signal.getsignal(signal.SIGINT)
    try:
        run = bench.run(plan_of("a -> b"), {"a": lambda: signal.signal(signal.SIGINT, mine) and 1})

        assert run.finished is RunState.SUCCEEDED
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


def test_handler_of_the_user_is_left_alone(bench):
    hits = []
    before = signal.signal(signal.SIGINT, lambda *_: hits.append(1))
    try:
        run = bench.run(plan_of("a -> b"), {"a": raise_interrupt})

        assert hits == [1]
        assert run.finished is RunState.SUCCEEDED
    finally:
        signal.signal(signal.SIGINT, before)


def test_interrupt_that_comes_too_late_reaches_the_caller(bench):
    run = bench.open(plan_of("a"))
    run.at_end(raise_interrupt)

    with pytest.raises(KeyboardInterrupt):
        bench.engine.run(run)

    assert run.finished is RunState.SUCCEEDED


def test_exception_of_another_signal_ends_the_run_and_reaches_the_caller(bench):
    release = threading.Event()

    class AlarmError(BaseException):
        """Raised where it strikes."""

    def ring(*_):
        raise AlarmError

    before = signal.signal(signal.SIGUSR1, ring)
    try:
        body = {"a": lambda: os.kill(os.getpid(), signal.SIGUSR1) or release.wait(20)}
        run = bench.open(plan_of("a -> b", a={"executor": "thread"}), body)

        with pytest.raises(AlarmError):
            bench.engine.run(run)

        assert run.wait(20)
        assert run.finished is RunState.CANCELLED
    finally:
        release.set()
        signal.signal(signal.SIGUSR1, before)


def test_run_on_another_thread_does_not_touch_the_handler(bench):
    seen = []
    run = bench.open(plan_of("a"), {"a": lambda: seen.append(signal.getsignal(signal.SIGINT))})
    thread = threading.Thread(target=bench.engine.run, args=(run,))
    thread.start()
    thread.join(20)

    assert seen == [signal.getsignal(signal.SIGINT)]


def test_cancel_in_the_last_moment_does_not_interrupt_the_caller(bench):
    """Cancelling breaks into a body by a signal, which must not arrive after the run has ended."""
    for _ in range(30):
        begun = threading.Event()

        def body(begun=begun):
            begun.set()
            end = time.monotonic() + 0.05
            while time.monotonic() < end:
                pass

        run = bench.open(plan_of("a"), {"a": body})

        def cancel(run=run, begun=begun):
            begun.wait(20)
            bench.engine.cancel(run)

        thread = threading.Thread(target=cancel)
        thread.start()
        bench.engine.run(run)
        for _ in range(1000):
            pass
        thread.join()

        assert run.finished in {RunState.SUCCEEDED, RunState.CANCELLED}
