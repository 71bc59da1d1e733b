"""Limits: never exceeded, nobody forgotten, whatever the order of wake-ups."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbuilder.errors import ConfigurationError
from flowbuilder.runtime.admission import Admission, Pool
from flowbuilder.testing import plan_of
from flowbuilder.vocabulary import RunState, TaskState

THREAD = {"executor": "thread"}


def test_waiter_that_does_not_fit_lets_a_smaller_one_through():
    pool = Pool("p", 2)
    woken = []
    assert pool.try_acquire(2, "holder", list)
    assert not pool.try_acquire(2, "large", lambda: woken.append("large"))
    assert not pool.try_acquire(1, "small", lambda: woken.append("small"))

    pool.release(1)

    assert woken == ["small"]
    assert pool.try_acquire(1, "small", list)
    pool.release(1)
    pool.release(1)
    assert woken == ["small", "large"]


def test_more_units_than_there_are_count_as_all():
    pool = Pool("p", 2)

    assert pool.try_acquire(9, "a", list)
    assert pool.used == 2
    pool.release(9)

    assert pool.used == 0


def test_forgotten_waiter_passes_its_wake_up_on():
    pool = Pool("p", 1)
    woken = []
    assert pool.try_acquire(1, "holder", list)
    pool.try_acquire(1, "first", lambda: woken.append("first"))
    pool.try_acquire(1, "second", lambda: woken.append("second"))
    pool.release(1)
    assert woken == ["first"]

    pool.forget("first")

    assert woken == ["first", "second"]


def test_acquire_cut_short_does_not_swallow_a_wake_up(monkeypatch):
    pool = Pool("p", 1)
    woken = []
    assert pool.try_acquire(1, "holder", list)

    class Interrupted(threading.Event):
        def wait(self, timeout=None):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading, "Event", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.acquire(1)
    pool.try_acquire(1, "next", lambda: woken.append("next"))
    pool.release(1)

    assert woken == ["next"]


def test_unknown_pool_names_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"cpu, db, memory"):
        Admission(1, {"db": 2}, 1 << 30).pool("nope")


@settings(max_examples=100, deadline=None)
@given(
    capacity=st.integers(1, 4),
    wanted=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    data=st.data(),
)
def test_everybody_gets_units_in_the_end(capacity, wanted, data):
    """A model of runs: who is woken tries again, who has units gives them back some day."""
    pool = Pool("p", capacity)
    mail, holding, served = [], [], set()

    def attempt(who):
        if pool.try_acquire(wanted[who], who, lambda: mail.append(who)):
            holding.append(who)
            served.add(who)

    for who in range(len(wanted)):
        attempt(who)
        assert pool.used <= capacity
    while mail or holding:
        is_mail = mail and (not holding or data.draw(st.booleans()))
        if is_mail:
            attempt(mail.pop(data.draw(st.integers(0, len(mail) - 1))))
            pool.wake_next()
        else:
            pool.release(wanted[holding.pop(data.draw(st.integers(0, len(holding) - 1)))])
        assert 0 <= pool.used <= capacity

    assert served == set(range(len(wanted)))
    assert pool.used == 0


def test_tasks_blocked_on_one_pool_survive_a_full_second_pool(bench):
    """The best one gets a unit of the first pool, not of the second: the rest must not be lost."""
    release, started = threading.Event(), threading.Semaphore(0)
    hold = {f"h{i}": THREAD for i in range(2)}
    pooled = {f"p{i}": {"executor": "thread", "pool": "wide"} for i in range(8)}

    def holder():
        started.release()
        release.wait(20)

    first = {"x0": {**pooled["p0"]}, "x1": {**pooled["p0"]}, "x2": {**pooled["p0"]}}

    async def waiting(_context):
        import asyncio

        started.release()
        await asyncio.get_running_loop().run_in_executor(None, release.wait, 20)

    from flowbuilder.runtime.program import Program

    # Three asynchronous tasks hold the pool, two threads the CPU slots.
    pool_holders = bench.start(
        plan_of(", ".join(first), **first),
        {key: Program(coroutine=waiting, code_key="w") for key in first},
    )
    for _ in range(3):
        assert started.acquire(timeout=20)
    cpu_holders = bench.start(plan_of(", ".join(hold), **hold), dict.fromkeys(hold, holder))
    for _ in range(2):
        assert started.acquire(timeout=20)
    run = bench.start(plan_of(", ".join(pooled), **pooled))
    while len(run.waiting) < 8:
        assert not run.wait(0.01)

    bench.engine.cancel(pool_holders)
    assert pool_holders.wait(20)
    release.set()

    assert cpu_holders.wait(20)
    assert run.wait(20), run.waiting
    assert run.finished is RunState.SUCCEEDED
    assert bench.engine.services.admission.pool("wide").used == 0


def test_run_that_ends_with_a_stale_waiter_passes_its_wake_up_on(bench):
    """Its blocked task was cancelled, so nobody reads the wake-up that comes for it."""
    release, started = threading.Event(), threading.Event()
    pooled = {"executor": "thread", "pool": "db"}

    def holder():
        started.set()
        release.wait(20)

    holding = bench.start(plan_of("h", h=pooled), {"h": holder})
    assert started.wait(20)
    ending = bench.open(plan_of("a", a=pooled))
    thread = threading.Thread(target=bench.engine.run, args=(ending,))
    thread.start()
    while not ending.waiting:
        assert not ending.wait(0.01)
    last = bench.start(plan_of("z", z=pooled))
    while not last.waiting:
        assert not last.wait(0.01)
    bench.engine.cancel_task(ending, "a")
    thread.join(20)
    assert ending.counts() == {TaskState.CANCELLED: 1}

    release.set()

    assert holding.wait(20)
    assert last.wait(20)
    assert last.finished is RunState.SUCCEEDED


@pytest.mark.parametrize("how", ["cancel", "cancel_task"])
def test_cancel_while_blocked_on_a_pool(bench, how):
    release, started = threading.Event(), threading.Event()
    pooled = {"executor": "thread", "pool": "db"}
    holding = bench.start(plan_of("h", h=pooled), {"h": lambda: started.set() or release.wait(20)})
    assert started.wait(20)
    ran = []
    run = bench.start(plan_of("a -> after, b", a=pooled, b=pooled), {"a": lambda: ran.append("a")})
    while len(run.waiting) < 2:
        assert not run.wait(0.01)

    if how == "cancel":
        bench.engine.cancel(run)
    else:
        bench.engine.cancel_task(run, "a")
    release.set()

    assert holding.wait(20)
    assert run.wait(20)
    assert not ran
    assert run.finished is (RunState.CANCELLED if how == "cancel" else RunState.SUCCEEDED)
    assert bench.engine.services.admission.pool("db").used == 0


def test_pause_with_blocked_waiters_lets_others_have_the_pool(bench):
    release, started = threading.Event(), threading.Event()
    pooled = {"executor": "thread", "pool": "db"}
    holding = bench.start(plan_of("h", h=pooled), {"h": lambda: started.set() or release.wait(20)})
    assert started.wait(20)
    paused = bench.start(plan_of("a, b", a=pooled, b=pooled))
    other = bench.start(plan_of("c", c=pooled))
    while len(paused.waiting) < 2 or not other.waiting:
        assert not other.wait(0.01)
    bench.engine.pause(paused)

    release.set()

    assert holding.wait(20)
    assert other.wait(20)
    assert paused.counts() == {TaskState.PENDING: 2}
    bench.engine.resume(paused)
    assert paused.wait(20)
    assert paused.finished is RunState.SUCCEEDED
