"""Requests, ends and failures that meet at an awkward moment."""

from __future__ import annotations

import threading
import time

import pytest

from flowbuilder.errors import FlowBuilderError, TaskTimeoutError
from flowbuilder.runtime.program import Program
from flowbuilder.testing import plan_of
from flowbuilder.testing.plans import plan_from_parents
from flowbuilder.vocabulary import RunState, TaskState

THREAD = {"executor": "thread"}


def chain(count, **fields):
    names = [f"t{i}" for i in range(count)]
    parents = [[i - 1] if i else [] for i in range(count)]
    return replaced(plan_from_parents(names, parents), **fields)


def replaced(plan, **fields):
    return type(plan)(**{name: getattr(plan, name) for name in plan.__struct_fields__} | fields)


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def state_of(run, key):
    return run.state(run.instance_of(key))


# -- a busy driver still listens --------------------------------------------------------------------


@pytest.mark.parametrize("request_name", ["cancel", "pause"])
@pytest.mark.parametrize("way", ["caller", "shared"])
def test_request_is_heard_within_a_long_inline_segment(bench, request_name, way):
    begun = threading.Event()
    ran = []

    def body(*_):
        ran.append(1)
        begun.set()
        threading.Event().wait(0.005)

    count = 2_000
    run = bench.open(chain(count), {f"t{i}": body for i in range(count)})
    if way == "caller":
        thread = threading.Thread(target=bench.engine.run, args=(run,))
        thread.start()
    else:
        bench.engine.start(run)
    assert begun.wait(20)

    getattr(bench.engine, request_name)(run)
    done = len(ran)

    assert not run.wait(0.05) or request_name == "cancel"
    assert len(ran) <= done + (request_name == "cancel")
    assert done < count
    bench.engine.cancel(run)
    assert run.wait(20)
    assert run.finished is RunState.CANCELLED


def test_run_timeout_ends_a_long_inline_segment(execute):
    count = 2_000
    plan = chain(count, timeout_s=0.05)

    run = execute(plan, {f"t{i}": lambda *_: threading.Event().wait(0.002) for i in range(count)})

    assert run.finished is RunState.FAILED
    assert isinstance(run.error, TaskTimeoutError)
    assert 0 < run.counts()[TaskState.SUCCEEDED] < 1_000


def test_run_timeout_ends_a_paused_run(bench):
    started, release = threading.Event(), threading.Event()
    plan = replaced(plan_of("a -> b", a=THREAD), timeout_s=0.2)
    run = bench.start(plan, {"a": lambda: started.set() or release.wait(20)})
    assert started.wait(20)
    bench.engine.pause(run)
    release.set()

    assert run.wait(20)
    assert run.finished is RunState.FAILED
    assert isinstance(run.error, TaskTimeoutError)


def test_cancel_ends_a_paused_run(bench):
    started, release = threading.Event(), threading.Event()
    run = bench.start(plan_of("a -> b", a=THREAD), {"a": lambda: started.set() or release.wait(20)})
    assert started.wait(20)
    bench.engine.pause(run)
    release.set()

    bench.engine.cancel(run)

    assert run.wait(20)
    assert run.finished is RunState.CANCELLED


@pytest.mark.parametrize("request_name", ["pause", "resume", "cancel"])
def test_request_after_a_cancel_changes_nothing(bench, request_name):
    started, release = threading.Event(), threading.Event()
    run = bench.start(plan_of("a -> b", a=THREAD), {"a": lambda: started.set() or release.wait(20)})
    assert started.wait(20)
    bench.engine.cancel(run)
    getattr(bench.engine, request_name)(run)
    release.set()

    assert run.wait(20)
    assert run.finished is RunState.CANCELLED
    getattr(bench.engine, request_name)(run)


def test_cancel_while_waiting_for_a_retry(bench):
    failed = threading.Event()
    calls = []

    def flaky():
        calls.append(1)
        failed.set()
        raise OSError("again")

    run = bench.start(
        plan_of("a", a={"retry": {"max_attempts": 9, "delay_s": 60.0, "max_delay_s": 60.0}}),
        {"a": flaky},
    )
    assert failed.wait(20)

    bench.engine.cancel(run)

    assert run.wait(20)
    assert run.finished is RunState.CANCELLED
    assert len(calls) == 1


def test_cancel_task_while_it_waits_for_a_retry(bench):
    failed = threading.Event()

    def flaky():
        failed.set()
        raise OSError("again")

    policy = {"retry": {"max_attempts": 9, "delay_s": 60.0, "max_delay_s": 60.0}}
    run = bench.start(plan_of("a -> b, c", a=policy), {"a": flaky})
    assert failed.wait(20)
    while not run.waiting:
        assert not run.wait(0.001)

    bench.engine.cancel_task(run, "a")

    assert run.wait(20)
    assert state_of(run, "a") == "cancelled"
    assert state_of(run, "b") == "skipped"
    assert state_of(run, "c") == "succeeded"


def test_retry_that_comes_due_while_paused_waits(bench):
    calls, failed = [], threading.Event()

    def flaky():
        calls.append(1)
        failed.set()
        if len(calls) == 1:
            raise OSError("again")
        return "ok"

    policy = {"retry": {"max_attempts": 2, "delay_s": 0.05, "jitter": 0.0}}
    run = bench.start(plan_of("a", a=policy), {"a": flaky})
    assert failed.wait(20)
    bench.engine.pause(run)
    assert not run.wait(0.2)
    assert len(calls) == 1

    bench.engine.resume(run)

    assert run.wait(20)
    assert run.finished is RunState.SUCCEEDED
    assert run.attempts[0] == 2


def test_retry_of_an_inline_task_counts_its_attempts(execute):
    calls = []

    def flaky(*_):
        calls.append(1)
        if len(calls) < 3:
            raise OSError("again")

    policy = {"retry": {"max_attempts": 5, "delay_s": 0.0}}
    run = execute(plan_of("z -> a -> b", a=policy), {"a": flaky})

    assert run.attempts.tolist() == [1, 3, 1]


def test_timeout_while_being_cancelled_stays_a_cancel(bench):
    started, release = threading.Event(), threading.Event()
    run = bench.start(
        plan_of("a", a={"executor": "async", "timeout_s": 0.2}),
        {"a": Program(coroutine=stubborn(started, release), code_key="s")},
    )
    assert started.wait(20)
    bench.engine.cancel(run)
    assert not run.wait(0.4)
    release.set()

    assert run.wait(20)
    assert run.finished is RunState.CANCELLED


def stubborn(started, release):
    """An asynchronous body that does not stop when cancelled."""

    async def body(_context):
        import asyncio

        started.set()
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        raise OSError("late")

    return body


# -- starting and ending ----------------------------------------------------------------------------


@pytest.mark.parametrize("timeout_s", [float("inf"), float("nan"), 1e300])
def test_run_that_cannot_begin_ends(execute, timeout_s):
    run = execute(replaced(plan_of("a"), timeout_s=timeout_s))

    assert run.finished is not None


def test_cancel_before_the_run_is_driven(bench):
    ran = []
    run = bench.open(plan_of("a -> b"), {"a": lambda: ran.append(1)})

    bench.engine.cancel(run)
    bench.engine.run(run)

    assert run.finished is RunState.CANCELLED
    assert not ran


def test_run_is_driven_once(bench):
    count = []
    run = bench.open(plan_of("a", a=THREAD), {"a": lambda: count.append(1)})
    bench.engine.start(run)
    bench.engine.start(run)
    assert run.wait(20)
    bench.engine.start(run)
    bench.engine.run(run)

    assert count == [1]
    assert run.finished is RunState.SUCCEEDED


def test_request_that_fails_tells_who_asked(bench, monkeypatch):
    started, release = threading.Event(), threading.Event()
    run = bench.start(plan_of("a -> b", a=THREAD), {"a": lambda: started.set() or release.wait(20)})
    assert started.wait(20)
    driver = run.require_driver()
    monkeypatch.setattr(type(driver), "pause", lambda *_: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        bench.engine.pause(run)

    release.set()
    assert run.wait(20)


def test_callback_of_a_cancelled_task_that_raises_spares_the_others(bench):
    started = threading.Semaphore(0)

    def body(context):
        context.cancel.on_cancel(lambda: 1 // 0)
        stop = threading.Event()
        context.cancel.on_cancel(stop.set)
        started.release()
        stop.wait(20)

    tasks = {"a": THREAD, "b": THREAD}
    run = bench.start(plan_of("a, b", **tasks), dict.fromkeys(tasks, Program(call=body)))
    for _ in tasks:
        assert started.acquire(timeout=20)

    bench.engine.cancel(run)

    assert run.wait(4)
    assert run.finished is RunState.CANCELLED


def test_driver_survives_a_run_whose_end_cannot_be_recorded(bench):
    class Broken:
        def notify(self):
            """Do nothing."""

        def sync(self):
            raise OSError("disk gone")

        def close(self):
            raise RuntimeError("bug")

    run = bench.open(plan_of("a"), durability="run")
    run.journal = Broken()
    bench.engine.start(run)

    assert run.wait(20)
    assert run.finished is RunState.FAILED
    assert bench.start(plan_of("b")).wait(20)


def test_output_that_cannot_be_saved_is_only_not_kept(bench):
    class Store:
        def save(self, *_):
            raise RecursionError("too deep")

    bench.engine.services.artifacts = Store()
    run = bench.open(plan_of("a -> b"), {"a": object, "b": lambda a: {a}}, durability="run")
    bench.engine.run(run)

    assert run.finished is RunState.SUCCEEDED


# -- attempts that are given up ---------------------------------------------------------------------


def test_job_cancelled_before_its_thread_began_never_runs(bench, monkeypatch):
    jobs, ran = [], []
    monkeypatch.setattr(bench.engine.services.threads, "call", jobs.append)
    run = bench.start(plan_of("a", a=THREAD), {"a": lambda: ran.append(1)})
    while not jobs:
        assert not run.wait(0.001)

    bench.engine.cancel(run)
    assert run.wait(20)
    jobs[0](1)

    assert not ran
    assert bench.engine.services.admission.cpu.used == 0


def test_asynchronous_task_cancelled_before_its_first_step_ends(bench):
    """The loop is busy when the task is submitted and cancelled."""
    begun, release, ran = threading.Event(), threading.Event(), []

    async def hog(_context):
        begun.set()
        release.wait(20)

    async def body(_context):
        ran.append(1)

    first = bench.start(plan_of("h"), {"h": Program(coroutine=hog, code_key="h")})
    assert begun.wait(20)
    run = bench.start(plan_of("a"), {"a": Program(coroutine=body, code_key="a")})
    while not run.in_flight:
        assert not run.wait(0.001)
    bench.engine.cancel(run)
    release.set()

    assert first.wait(20)
    assert run.wait(2)
    assert run.finished is RunState.CANCELLED
    assert not ran


def test_abandoned_thread_gives_its_slot_back_once_and_late(bench):
    release, finished = threading.Event(), threading.Event()
    pool = bench.engine.services.admission.cpu

    def body():
        release.wait(20)
        finished.set()

    plan = plan_of("a -> b", a={"executor": "thread", "timeout_s": 0.05})
    run = bench.run(plan, {"a": body})
    assert state_of(run, "a") == "failed"
    assert pool.used == 1

    release.set()
    assert finished.wait(20)

    wait_until(lambda: pool.used == 0)
    assert bench.run(plan_of("c", c=THREAD)).finished is RunState.SUCCEEDED
    assert pool.used == 0


def test_abandoned_asynchronous_task_gives_its_pool_back_late(bench, monkeypatch):
    monkeypatch.setattr("flowbuilder.runtime.driver.GRACE_NS", 10_000_000)
    started, release = threading.Event(), threading.Event()
    pool = bench.engine.services.admission.pool("db")
    task = {"executor": "async", "pool": "db", "timeout_s": 0.05}
    run = bench.run(
        plan_of("a", a=task), {"a": Program(coroutine=stubborn(started, release), code_key="s")}
    )
    assert run.finished is RunState.FAILED
    assert pool.used == 1

    release.set()

    wait_until(lambda: pool.used == 0)


def test_broken_run_keeps_the_slots_of_its_threads_taken(bench, monkeypatch):
    started, release = threading.Event(), threading.Event()
    pool = bench.engine.services.admission.cpu
    run = bench.start(plan_of("a, b", a=THREAD), {"a": lambda: started.set() or release.wait(20)})
    assert started.wait(20)
    driver = run.require_driver()

    def broken():
        driver.break_down(run, RuntimeError("bug"))
        return run

    driver.inbox.put(broken)
    assert run.wait(20)
    assert run.finished is RunState.FAILED
    assert pool.used == 1

    release.set()

    wait_until(lambda: pool.used == 0)


def wait_until(condition):
    for _ in range(2_000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it did not become true in 10 s")


# -- nested runs ------------------------------------------------------------------------------------


def test_waiting_for_a_started_run_lends_the_slot(bench):
    def inner():
        child = bench.start(plan_of("x", x=THREAD), {"x": lambda: 7})
        assert child.wait(10)
        return child.value(0)

    tasks = {f"t{i}": THREAD for i in range(4)}
    run = bench.start(plan_of(", ".join(tasks), **tasks), dict.fromkeys(tasks, inner))

    assert run.wait(20)
    assert run.finished is RunState.SUCCEEDED
    assert bench.engine.services.admission.cpu.used == 0


def test_inline_task_on_the_shared_driver_may_wait_for_a_run_it_starts(bench):
    def inner():
        child = bench.start(plan_of("x -> y"), {"x": lambda: 7})
        assert child.wait(10), "its own thread would have to drive it"
        return child.value(0)

    run = bench.start(plan_of("a"), {"a": inner})

    assert run.wait(20)
    assert run.values == [7]


# -- fairness and size ------------------------------------------------------------------------------


def test_long_inline_run_does_not_hold_up_another(bench):
    begun = threading.Event()

    def body(*_):
        begun.set()
        spin(0.0005)

    count = 2_000
    long = bench.start(chain(count), {f"t{i}": body for i in range(count)})
    assert begun.wait(20)
    short = bench.start(plan_of("a -> b"))

    assert short.wait(20)
    assert long.counts().get(TaskState.SUCCEEDED, 0) < count / 4
    bench.engine.cancel(long)
    assert long.wait(20)


def test_unmeasured_task_does_not_run_on_the_shared_driver(bench):
    threads = []
    plan = plan_of("a, b", a={"executor": "auto"}, b={"executor": "auto"})
    run = bench.start(plan, {"a": lambda: threads.append(threading.current_thread().name)})

    assert run.wait(20)
    assert threads[0] != "flowbuilder-driver"


def test_task_asked_to_run_inline_does_so_among_others(execute):
    """Also off the static path: here because it has a condition."""
    names, lock = [], threading.Lock()

    def body():
        with lock:
            names.append(threading.current_thread())

    tasks = {f"t{i}": {"executor": "inline", "has_condition": True} for i in range(4)}
    program = Program(function=body, condition=lambda _run: True, code_key="slow")
    execute(plan_of(", ".join(tasks), **tasks), dict.fromkeys(tasks, program))

    assert len(set(names)) == 1
    assert not names[0].name.startswith("flowbuilder-1")


def test_join_of_many_failed_parents_is_linear(execute):
    count = 10_000
    names = [f"p{i}" for i in range(count)] + ["end"]
    plan = plan_from_parents(
        names, [[] for _ in range(count)] + [list(range(count))], {"end": {"join": "all_done"}}
    )
    began = time.monotonic()

    end = Program(function=lambda: "ran", code_key="end")
    run = execute(plan, {"p0": lambda: 1 // 0, "end": end})

    assert state_of(run, "end") == "succeeded"
    assert time.monotonic() - began < 5


def test_cancel_of_many_waiting_tasks_is_linear(bench):
    count = 5_000
    tasks = {f"t{i}": {"executor": "async"} for i in range(count)}
    sleeping = Program(delay=lambda _c: 60.0, code_key="sleep")
    names = list(tasks)
    plan = plan_from_parents([*names, "end"], [[] for _ in names] + [list(range(count))], tasks)
    run = bench.start(plan, dict.fromkeys(names, sleeping))
    while len(run.in_flight) < count:
        assert not run.wait(0.01)
    began = time.monotonic()

    bench.engine.cancel(run)

    assert run.wait(20)
    assert run.counts() == {TaskState.CANCELLED: count + 1}
    assert time.monotonic() - began < 5


def test_waiting_again_and_again_leaves_nothing_behind(bench):
    release = threading.Event()
    run = bench.start(plan_of("a", a=THREAD), {"a": lambda: release.wait(20)})
    for _ in range(100):
        assert not run.wait(0.0001)
        bench.engine.pause(run)
        bench.engine.resume(run)

    assert len(run.on_finish) <= 1
    release.set()
    assert run.wait(20)


def test_unknown_key_is_an_error_that_names_the_nearest(bench):
    run = bench.open(plan_of("alpha -> beta"))

    with pytest.raises(FlowBuilderError, match="alpa") as caught:
        bench.engine.cancel_task(run, "alpa")

    assert "alpha" in str(caught.value)
