"""Requests to a run whose driver is busy with the bodies of tasks."""

import signal
import threading
import time

import pytest

from flowbuilder.testing import plan_of
from flowbuilder.vocabulary import RunState, TaskState


def chain(count):
    return plan_of(", ".join(f"t{i} -> t{i + 1}" for i in range(count - 1)))


def while_running(bench, run, action):
    """Drive ``run`` here while ``action`` runs on another thread; raise what it raised."""
    problems = []

    def act():
        try:
            action()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    interrupted = bench.engine.run(run)
    thread.join(20)
    if problems:
        raise problems[0]
    return interrupted


def test_cancel_stops_a_chain_of_inline_tasks_at_the_next_one(bench):
    begun, go = threading.Event(), threading.Event()

    def first():
        begun.set()
        go.wait(20)

    run = bench.open(chain(20), {"t0": first})
    before = signal.getsignal(signal.SIGINT)

    def cancel():
        begun.wait(20)
        threading.Timer(0.02, go.set).start()
        bench.engine.cancel(run)

    interrupted = while_running(bench, run, cancel)

    assert not interrupted
    assert run.finished is RunState.CANCELLED
    assert run.counts()[TaskState.CANCELLED] == 19
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("kind", ["sleep", "busy"])
def test_cancel_ends_a_body_on_the_main_thread(bench, kind):
    begun = threading.Event()

    def body():
        begun.set()
        if kind == "sleep":
            time.sleep(30)
        while True:
            pass

    run = bench.open(plan_of("a -> b"), {"a": body})

    def cancel():
        begun.wait(20)
        bench.engine.cancel(run)

    interrupted = while_running(bench, run, cancel)

    assert not interrupted
    assert run.finished is RunState.CANCELLED
    assert run.counts() == {TaskState.CANCELLED: 2}


def test_interrupt_in_a_body_cancels_and_is_no_failure(bench):
    def body():
        signal.raise_signal(signal.SIGINT)

    run = bench.open(plan_of("a -> b"), {"a": body})

    assert bench.engine.run(run)
    assert run.finished is RunState.CANCELLED
    assert run.failures == {}
    assert run.counts() == {TaskState.CANCELLED: 2}


def test_pause_during_a_body_is_acknowledged_and_holds_what_follows(bench):
    begun, go, seen = threading.Event(), threading.Event(), []

    def first():
        begun.set()
        go.wait(20)

    run = bench.open(chain(5), {"t0": first})

    def pause():
        begun.wait(20)
        bench.engine.pause(run)
        go.set()
        for _ in range(1000):
            if run.run_state is RunState.PAUSED:
                break
            threading.Event().wait(0.01)
        seen.append((run.run_state, run.counts()))
        bench.engine.resume(run)

    while_running(bench, run, pause)

    assert seen == [(RunState.PAUSED, {TaskState.SUCCEEDED: 1, TaskState.PENDING: 4})]
    assert run.finished is RunState.SUCCEEDED
