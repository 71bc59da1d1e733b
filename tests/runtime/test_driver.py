"""The driver: order, failure, retries, conditions, limits, cancel, pause."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbuilder.errors import ConfigurationError, TaskFailedError, TaskTimeoutError
from flowbuilder.runtime.attempt import Attempt
from flowbuilder.runtime.live_run import NOT_SET
from flowbuilder.runtime.program import Program
from flowbuilder.testing import bind, plan_of
from flowbuilder.testing.plans import plan_from_parents
from flowbuilder.vocabulary import Durability, ExecutorKind, RunState, TaskState

DIAMOND = "a -> b -> d, a -> c -> d"
THREAD = {"executor": "thread"}


def states(run):
    return {task.key: run.state(instance) for instance, task in enumerate(run.plan.tasks)}


def value(run, key):
    return run.value(run.instance_of(key))


def test_outputs_travel_by_reference(execute):
    table = [1, 2, 3]
    seen = []

    run = execute(
        plan_of(DIAMOND),
        {"a": lambda: table, "b": seen.append, "c": seen.append, "d": lambda b, c: (b, c)},
    )

    assert run.finished is RunState.SUCCEEDED
    assert seen[0] is table
    assert seen[1] is table
    assert value(run, "a") is table


@pytest.mark.parametrize("executor", ["inline", "thread", "auto"])
def test_every_executor_gives_the_same_outputs(execute, executor):
    task = {"executor": executor}
    plan = plan_of(DIAMOND, a=task, b=task, c=task, d=task)

    run = execute(
        plan, {"a": lambda: 2, "b": lambda a: a + 1, "c": lambda a: a * 5, "d": lambda b, c: [b, c]}
    )

    assert value(run, "d") == [3, 10]
    assert set(states(run).values()) == {"succeeded"}


def test_failure_skips_descendants_and_finishes_the_rest(execute):
    plan = plan_of("a -> bad -> after -> last, a -> good")

    run = execute(plan, {"bad": lambda a: 1 // 0, "good": lambda a: "done"})

    assert run.finished is RunState.FAILED
    assert states(run) == {
        "a": "succeeded",
        "bad": "failed",
        "after": "skipped",
        "last": "skipped",
        "good": "succeeded",
    }
    assert run.state_reasons[run.instance_of("after")] == "upstream bad failed"
    assert run.state_reasons[run.instance_of("last")] == "upstream after was skipped"
    assert isinstance(run.error, TaskFailedError)
    assert run.error.task == "bad"
    assert isinstance(run.error.__cause__, ZeroDivisionError)
    with pytest.raises(TaskFailedError, match="'bad'"):
        value(run, "bad")


def test_two_failures_are_both_kept(execute):
    run = execute(plan_of("a, b", a=THREAD, b=THREAD), {"a": lambda: 1 // 0, "b": lambda: {}["x"]})

    assert {failure.error_type for failure in run.failures.values()} == {
        "ZeroDivisionError",
        "KeyError",
    }


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_retry_stops_at_the_limit(execute, executor):
    calls = []

    def flaky():
        calls.append(1)
        raise OSError("again")

    policy = {"max_attempts": 3, "delay_s": 0.001, "jitter": 0.0}
    run = execute(plan_of("a -> b", a={"executor": executor, "retry": policy}), {"a": flaky})

    assert len(calls) == 3
    assert run.finished is RunState.FAILED
    assert run.attempts[0] == 3


def test_retry_of_an_inline_task_counts_its_attempts(execute):
    calls = []

    def flaky():
        calls.append(1)
        if len(calls) < 3:
            raise OSError("again")

    run = execute(plan_of("a -> b", a={"retry": {"max_attempts": 5, "delay_s": 0.0}}), {"a": flaky})

    assert run.finished is RunState.SUCCEEDED
    assert list(run.attempts) == [3, 1]


def test_retry_until_success_lets_the_rest_run(execute):
    calls = []

    def flaky():
        calls.append(1)
        if len(calls) < 3:
            raise OSError("again")
        return "ok"

    policy = {"max_attempts": 5, "delay_s": 0.001}
    run = execute(plan_of("a -> b, c", a={"retry": policy}), {"a": flaky, "b": lambda a: a.upper()})

    assert run.finished is RunState.SUCCEEDED
    assert value(run, "b") == "OK"
    assert not run.failures


def test_retry_only_named_errors(execute):
    calls = []

    def wrong():
        calls.append(1)
        raise ValueError("no")

    execute(
        plan_of("a", a={"retry": {"max_attempts": 5, "delay_s": 0.0, "on": ["OSError"]}}),
        {"a": wrong},
    )

    assert len(calls) == 1


def test_timeout_fails_the_task_and_not_the_others(execute):
    release = threading.Event()
    plan = plan_of("slow -> after, other", slow={"timeout_s": 0.05})

    run = execute(plan, {"slow": lambda: release.wait(20), "other": lambda: 1})
    release.set()

    assert states(run) == {"slow": "failed", "after": "skipped", "other": "succeeded"}
    assert isinstance(run.failures[run.instance_of("slow")].error, TaskTimeoutError)


def test_condition_false_skips_with_the_reason(execute):
    body = Program(function=lambda: 1, condition=lambda run: run.params["go"], code_key="x")
    plan = plan_of("a -> b", a={"has_condition": True})

    run = execute(plan, {"a": body}, params={"go": False})

    assert run.finished is RunState.SUCCEEDED
    assert states(run) == {"a": "skipped", "b": "skipped"}
    assert "when" in run.state_reasons[0]


def test_condition_that_raises_fails_the_task(execute):
    body = Program(function=lambda: 1, condition=lambda run: run.params["missing"], code_key="x")

    run = execute(plan_of("a", a={"has_condition": True}), {"a": body})

    assert run.finished is RunState.FAILED
    assert run.failures[0].kind == "contract"


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        ("all_success", "skipped"),
        ("all_done", "succeeded"),
        ("one_success", "succeeded"),
        ("one_failed", "succeeded"),
        ("all_failed", "skipped"),
        ("none_failed", "skipped"),
        ("none_skipped", "succeeded"),
    ],
)
def test_join_rule_with_one_failed_parent(execute, join, expected):
    plan = plan_of("good -> end, bad -> end", end={"join": join})
    end = Program(function=lambda: "ran", code_key="end")

    run = execute(plan, {"bad": lambda: 1 // 0, "end": end})

    assert states(run)["end"] == expected


def test_join_rule_of_failures_is_skipped_when_all_is_well(execute):
    plan = plan_of("a -> cleanup", cleanup={"join": "one_failed"})

    assert states(execute(plan))["cleanup"] == "skipped"


def test_twin_shares_the_output_of_the_same_computation(execute):
    plan = plan_of("a -> b, a -> c")
    plan.twins[plan_index(plan, "c")] = plan_index(plan, "b")
    calls = []

    run = execute(
        plan, {"b": lambda a: calls.append(1) or {"n": 1}, "c": lambda a: calls.append(2)}
    )

    assert calls == [1]
    assert states(run)["c"] == "cached"
    assert value(run, "c") is value(run, "b")


def plan_index(plan, key):
    return [task.key for task in plan.tasks].index(key)


def test_pool_is_never_exceeded(bench):
    lock = threading.Lock()
    live, peak = [0], [0]

    def body():
        with lock:
            live[0] += 1
            peak[0] = max(peak[0], live[0])
        threading.Event().wait(0.002)
        with lock:
            live[0] -= 1

    plan = plan_of(
        ", ".join(f"t{i}" for i in range(20)),
        **{f"t{i}": {"executor": "thread", "pool": "db"} for i in range(20)},
    )
    runs = [bench.start(plan, {f"t{i}": body for i in range(20)}) for _ in range(3)]

    assert all(run.wait(20) and run.finished is RunState.SUCCEEDED for run in runs)
    assert peak[0] == 1
    assert bench.engine.services.admission.pool("db").peak == 1
    assert bench.engine.services.admission.cpu.peak <= 2


def test_unknown_pool_is_refused_before_anything_runs(bench):
    with pytest.raises(ConfigurationError, match="'nope'"):
        bench.run(plan_of("a", a={"pool": "nope"}))


def test_cancel_from_another_thread_starts_nothing_new(bench):
    started, release = threading.Event(), threading.Event()

    def first():
        started.set()
        release.wait(20)

    run = bench.start(plan_of("a -> b -> c", a=THREAD), {"a": first})
    assert started.wait(20)

    bench.engine.cancel(run)
    release.set()

    assert run.wait(20)
    assert run.finished is RunState.CANCELLED
    assert states(run)["b"] == states(run)["c"] == "cancelled"


def test_cancel_between_inline_tasks(bench):
    reached = []

    def stop():
        bench.engine.cancel(run)

    plan = plan_of("a -> b -> c -> d")
    run = bench.open(plan, {"b": lambda a: stop(), "c": lambda b: reached.append("c")})
    bench.engine.run(run)

    assert run.finished is RunState.CANCELLED
    assert "c" not in reached or states(run)["d"] == "cancelled"


def test_cancel_one_task_judges_its_descendants(bench):
    release = threading.Event()
    run = bench.start(plan_of("a -> b, a -> c", a=THREAD), {"a": lambda: release.wait(20)})

    bench.engine.cancel_task(run, "b")
    release.set()

    assert run.wait(20)
    assert states(run) == {"a": "succeeded", "b": "cancelled", "c": "succeeded"}


def test_pause_holds_and_resume_goes_on(bench):
    started, release = threading.Event(), threading.Event()
    ran = []

    def first():
        started.set()
        release.wait(20)

    run = bench.start(plan_of("a -> b", a=THREAD), {"a": first, "b": lambda a: ran.append(1)})
    assert started.wait(20)
    bench.engine.pause(run)
    release.set()
    assert not run.wait(0.1)
    assert not ran
    assert run.run_state is RunState.PAUSED

    bench.engine.resume(run)

    assert run.wait(20)
    assert run.finished is RunState.SUCCEEDED
    assert ran == [1]


def test_ctrl_c_inside_a_task_cancels_the_run(bench):
    def interrupted():
        raise KeyboardInterrupt

    run = bench.open(plan_of("a -> b -> c"), {"b": lambda a: interrupted()})

    assert bench.engine.run(run) is True
    assert run.finished is RunState.CANCELLED
    assert states(run)["a"] == "succeeded"
    assert states(run)["c"] == "cancelled"


def test_run_timeout_fails_the_run(bench):
    release = threading.Event()
    plan = plan_of("a -> b", a=THREAD)
    plan = type(plan)(
        **{field: getattr(plan, field) for field in plan.__struct_fields__} | {"timeout_s": 0.05}
    )

    run = bench.run(plan, {"a": lambda: release.wait(20)})
    release.set()

    assert run.finished is RunState.FAILED
    assert isinstance(run.error, TaskTimeoutError)


def test_async_tasks_and_delays_need_no_worker_thread(execute):
    async def body(context):
        import asyncio

        await asyncio.sleep(0.001)
        return context.key

    plan = plan_of("a -> b -> c", a={"executor": "async"})
    run = execute(
        plan,
        {
            "a": Program(coroutine=body, code_key="a"),
            "b": Program(delay=lambda _c: 0.001, code_key="b"),
        },
    )

    assert run.finished is RunState.SUCCEEDED
    assert value(run, "a") == "a"
    assert value(run, "b") is None


def test_async_task_is_cancelled_with_the_run(bench):
    started = threading.Event()

    async def body(_context):
        import asyncio

        started.set()
        await asyncio.sleep(60)

    run = bench.start(plan_of("a"), {"a": Program(coroutine=body, code_key="a")})
    assert started.wait(20)
    bench.engine.cancel(run)

    assert run.wait(20)
    assert states(run) == {"a": "cancelled"}


def test_nested_run_borrows_the_slot_of_its_parent(bench):
    def inner():
        child = bench.run(plan_of("x", x=THREAD), {"x": lambda: 7})
        return value(child, "x")

    tasks = {f"t{i}": {"executor": "thread"} for i in range(4)}
    run = bench.run(plan_of("t0, t1, t2, t3", **tasks), dict.fromkeys(tasks, inner))

    assert run.finished is RunState.SUCCEEDED
    assert {value(run, key) for key in tasks} == {7}
    assert bench.engine.services.admission.cpu.used == 0


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        GeneratorExit(),
        ValueError("\ud800"),
        type("Odd", (Exception,), {"__str__": lambda s: 1 // 0})(),
    ],
)
def test_strange_errors_fail_only_their_task(execute, error):
    def body():
        raise error

    run = execute(plan_of("a, b", a=THREAD), {"a": body, "b": lambda: 1})

    assert states(run) == {"a": "failed", "b": "succeeded"}


def test_coroutine_as_output_is_an_error_that_says_so(execute):
    async def forgotten():
        return 1

    run = execute(plan_of("a", a=THREAD), {"a": forgotten})

    assert run.failures[0].kind == "contract"
    assert "async def" in str(run.failures[0].error)


def test_empty_selection_of_work_ends_at_once(execute):
    assert execute(plan_from_parents([], [])).finished is RunState.SUCCEEDED


@pytest.mark.parametrize("shape", ["chain", "wide", "pairs"])
def test_large_graphs_finish_without_recursion(execute, shape):
    count = 20_000
    parents = {
        "chain": [[i - 1] if i else [] for i in range(count)],
        "wide": [[0] if i else [] for i in range(count)],
        "pairs": [[i - 1] if i % 2 else [] for i in range(count)],
    }[shape]
    names = [f"t{i}" for i in range(count)]

    run = execute(plan_from_parents(names, parents))

    assert run.counts() == {TaskState.SUCCEEDED: count}


def test_failure_at_the_top_of_a_long_chain_skips_it_all(execute):
    count = 5_000
    plan = plan_from_parents(
        [f"t{i}" for i in range(count)], [[i - 1] if i else [] for i in range(count)]
    )

    run = execute(plan, {"t0": lambda: 1 // 0})

    assert run.counts() == {TaskState.FAILED: 1, TaskState.SKIPPED: count - 1}


def reference(parents, bad):
    """The slow, obvious version: what must become of every task."""
    result = []
    for instance, those in enumerate(parents):
        if any(result[parent] != "succeeded" for parent in those):
            result.append("skipped")
        else:
            result.append("failed" if instance in bad else "succeeded")
    return result


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_graphs_end_as_the_reference_says(data):
    count = data.draw(st.integers(1, 24))
    parents = [
        sorted(data.draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else []
        for i in range(count)
    ]
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=3))
    rng = random.Random(data.draw(st.integers(0, 99)))
    names = [f"t{i}" for i in range(count)]
    tasks = {name: {"executor": rng.choice(["inline", "thread", "auto"])} for name in names}
    order, lock = [], threading.Lock()

    def body(instance):
        def run_it(*inputs):
            with lock:
                order.append(instance)
            if instance in bad:
                raise RuntimeError(instance)
            return instance

        return run_it

    plan = plan_from_parents(names, parents, tasks)
    run = _one_off(plan, {name: body(i) for i, name in enumerate(names)}, shared=rng.random() < 0.5)

    assert [run.state(i) for i in range(count)] == reference(parents, bad)
    assert len(order) == len(set(order))
    position = {instance: place for place, instance in enumerate(order)}
    assert all(position[parent] < position[i] for i in order for parent in parents[i])


_ENGINE = []


def _one_off(plan, bodies, *, shared):
    from pathlib import Path

    from flowbuilder.ids import new_run_id
    from flowbuilder.records import RunHeader, VersionHeader
    from flowbuilder.runtime.engine import Engine, EngineOptions
    from flowbuilder.runtime.live_run import RunOptions

    if not _ENGINE:
        _ENGINE.append(
            Engine(None, None, EngineOptions(engine_id="t", workers=2, scratch=Path("unused")))
        )
    engine = _ENGINE[0]
    version = VersionHeader(
        plan_id="p", fingerprint="f", name="t", text="", path="", spec_json=b"", keys=(), parents=()
    )
    header = RunHeader(run_id=new_run_id(), plan_id="p", workflow="t", params={}, durability="none")
    run = engine.open(
        bind(plan, bodies), version, header, {}, RunOptions(durability=Durability.NONE, echo=False)
    )
    if shared:
        engine.start(run)
        assert run.wait(20)
    else:
        engine.run(run)
    return run


def test_output_of_a_task_that_did_not_run_is_an_error(bench):
    run = bench.open(plan_of("a"))

    assert run.values == [NOT_SET]
    with pytest.raises(Exception, match="pending"):
        value(run, "a")


def test_inline_override_keeps_everything_on_the_driver(bench):
    threads = set()
    plan = plan_of("a -> b", a=THREAD, b=THREAD)

    bench.run(
        plan,
        {
            "a": lambda: threads.add(threading.get_ident()),
            "b": lambda a: threads.add(threading.get_ident()),
        },
        executor=ExecutorKind.INLINE,
    )

    assert threads == {threading.get_ident()}


def test_memory_that_tasks_declare_is_never_exceeded(bench):
    pool = bench.engine.services.admission.memory
    half = pool.capacity // 2 + 1
    names = [f"t{i}" for i in range(6)]
    tasks = {name: {"executor": "thread", "memory_bytes": half} for name in names}

    run = bench.run(plan_of(", ".join(names), **tasks), dict.fromkeys(names, lambda: None))

    assert run.finished is RunState.SUCCEEDED
    assert pool.peak == half
    assert pool.used == 0


def test_started_runs_begin_behind_what_is_under_way(bench):
    """Many runs at once: all end, and those begun first do not wait for the last to begin."""
    began, ended = [], []

    def first(number):
        began.append(number)

    def last(number):
        ended.append((number, len(began)))

    async def pause(_context):
        import asyncio

        await asyncio.sleep(0)

    inline = {"executor": "inline"}
    plan = plan_of("a -> b -> c", a=inline, b={"executor": "async"}, c=inline)
    runs = [
        bench.start(
            plan,
            {
                "a": lambda number=number: first(number),
                "b": Program(coroutine=pause, code_key="b"),
                "c": lambda number=number: last(number),
            },
        )
        for number in range(2_000)
    ]

    assert all(run.wait(30) for run in runs)
    assert len(ended) == 2_000
    assert min(count for _, count in ended) < 2_000


def test_run_can_be_cancelled_before_it_begins(bench):
    started = threading.Event()
    release = threading.Event()
    plan = plan_of("a", a={"executor": "inline"})
    busy = bench.start(plan, {"a": lambda: started.set() or release.wait(20)})
    assert started.wait(20)
    waiting = bench.start(plan, {"a": lambda: pytest.fail("it was cancelled")})

    bench.engine.cancel(waiting)
    release.set()

    assert busy.wait(20)
    assert waiting.wait(20)
    assert (busy.finished, waiting.finished) == (RunState.SUCCEEDED, RunState.CANCELLED)


def test_token_asked_for_after_the_stop_is_cancelled(bench):
    run = bench.open(plan_of("a"))
    attempt = Attempt(run, 0, 1, ExecutorKind.THREAD, 0)

    attempt.stop("timeout")

    assert attempt.token.reason == "timeout"
    assert attempt.token is attempt.token
