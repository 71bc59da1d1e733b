"""What ended runs leave behind: nothing. And what many of them at once take."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowbuilder.runtime.program import Program
from flowbuilder.testing import plan_of
from flowbuilder.testing.plans import plan_from_parents
from flowbuilder.vocabulary import RunState, TaskState

TEN_YEARS_S = 10 * 365 * 86_400.0


@contextmanager
def no_collector():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def soon(_context):
    import asyncio

    await asyncio.sleep(0)
    return {"a": 1}


def listening(context):
    context.cancel.on_cancel(lambda: context.run)
    return [1]


def pooled(executor):
    return {"executor": executor, "pool": "wide"}


KINDS = {
    "inline": ({}, lambda: [1, 2]),
    "auto": ({"executor": "auto"}, lambda: [1, 2]),
    "thread": ({"executor": "thread"}, lambda: [1, 2]),
    "pool": (pooled("thread"), lambda: [1, 2]),
    "listening": ({"executor": "thread"}, Program(call=listening, code_key="l")),
    "async": ({"executor": "async"}, Program(coroutine=soon, code_key="c")),
    "delay": ({}, Program(delay=lambda _c: 0.001, code_key="d")),
    "timeout": ({"timeout_s": TEN_YEARS_S}, lambda: [1, 2]),
    "timeout async": ({"timeout_s": TEN_YEARS_S}, Program(coroutine=soon, code_key="t")),
    "condition": (
        {"has_condition": True},
        Program(function=lambda: 1, condition=lambda _run: True, code_key="w"),
    ),
    "skipped": (
        {"has_condition": True},
        Program(function=lambda: 1, condition=lambda _run: False, code_key="s"),
    ),
}


def settle(reference):
    """Other threads may still be letting go of what they did for the run."""
    for _ in range(200):
        if reference() is None:
            return True
        threading.Event().wait(0.005)
    return False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["caller", "shared"])
def test_ended_run_is_freed_without_the_collector(bench, kind, way):
    fields, body = KINDS[kind]
    plan = plan_of("a -> b", a=fields)
    (bench.run if way == "caller" else bench.start)(plan, {"a": body}).wait(20)

    with no_collector():
        run = bench.open(plan, {"a": body})
        if way == "caller":
            bench.engine.run(run)
        else:
            bench.engine.start(run)
            assert run.wait(20)
        assert run.finished is RunState.SUCCEEDED
        reference = weakref.ref(run)
        del run

        assert settle(reference), gc.get_referrers(reference())


@pytest.mark.parametrize("way", ["caller", "shared"])
def test_run_with_a_timeout_of_ten_years_is_freed(bench, way):
    plan = plan_of("a -> b")
    plan = type(plan)(
        **{name: getattr(plan, name) for name in plan.__struct_fields__}
        | {"timeout_s": TEN_YEARS_S}
    )
    references = []
    with no_collector():
        for _ in range(5):
            run = bench.open(plan)
            if way == "caller":
                bench.engine.run(run)
            else:
                bench.engine.start(run)
                assert run.wait(20)
            references.append(weakref.ref(run))
        del run

        assert all(map(settle, references))


def test_cancelled_run_is_freed(bench):
    async def forever(_context):
        import asyncio

        await asyncio.sleep(TEN_YEARS_S)

    tasks = {
        "d": {},
        "c": {"executor": "async"},
        "r": {"retry": {"max_attempts": 2, "delay_s": 99}},
    }
    bodies = {
        "d": Program(delay=lambda _c: TEN_YEARS_S, code_key="d"),
        "c": Program(coroutine=forever, code_key="c"),
    }
    with no_collector():
        run = bench.start(plan_of("d -> x, c -> y, r", **tasks), bodies)
        while len(run.in_flight) < 2:
            assert not run.wait(0.001)
        bench.engine.cancel(run)
        assert run.wait(20)
        reference = weakref.ref(run)
        del run

        assert settle(reference), gc.get_referrers(reference())


def test_failed_run_is_freed_by_the_collector(bench):
    run = bench.run(plan_of("a -> b"), {"a": lambda: 1 // 0})
    reference = weakref.ref(run)
    del run
    gc.collect()

    assert settle(reference)


def test_blocked_run_that_is_cancelled_is_freed(bench):
    """Nothing of it stays in the pool it waited for."""
    release, started = threading.Event(), threading.Event()
    holding = bench.start(
        plan_of("h", h={"executor": "thread", "pool": "db"}),
        {"h": lambda: started.set() or release.wait(20)},
    )
    assert started.wait(20)
    with no_collector():
        run = bench.start(plan_of("a", a={"executor": "thread", "pool": "db"}))
        while not run.waiting:
            assert not run.wait(0.001)
        bench.engine.cancel_task(run, "a")
        assert run.wait(20)
        reference = weakref.ref(run)
        del run

        assert settle(reference), gc.get_referrers(reference())
    release.set()
    assert holding.wait(20)


def test_a_thousand_runs_leave_no_threads_and_no_files(bench):
    tasks = {"a": {"executor": "thread"}, "b": {"executor": "async"}, "c": {"timeout_s": 60.0}}
    bodies = {"b": Program(coroutine=soon, code_key="c")}
    plan = plan_of("a -> b -> c -> d", **tasks)

    def go(count):
        runs = [bench.start(plan, bodies) for _ in range(count)]
        assert all(run.wait(20) and run.finished is RunState.SUCCEEDED for run in runs)

    go(20)
    threads, files = threading.active_count(), open_files()
    go(1_000)

    assert threading.active_count() <= threads + 2
    assert open_files() <= files
    assert not bench.engine.live
    driver = bench.engine._shared
    assert len(driver.timers) == 0
    assert len(driver.timers._heap) < 200


def open_files():
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_ten_thousand_sleeping_runs_at_once(bench):
    plan = plan_of("a -> b -> c")
    sleeping = Program(delay=lambda _c: 0.2, code_key="sleep")
    began = time.monotonic()

    runs = [bench.start(plan, {"b": sleeping}) for _ in range(10_000)]

    assert all(run.wait(60) and run.finished is RunState.SUCCEEDED for run in runs)
    assert time.monotonic() - began < 30
    assert threading.active_count() < 20


def test_hundred_thousand_tasks_on_threads(bench):
    count = 100_000
    names = [f"t{i}" for i in range(count)]
    plan = plan_from_parents(
        names, [[] for _ in names], {name: {"executor": "thread"} for name in names}
    )

    run = bench.run(plan)

    assert run.counts() == {TaskState.SUCCEEDED: count}
    assert bench.engine.services.admission.cpu.peak <= 2
    assert threading.active_count() < 20
