"""The public API as a user would write it. Never run, only type-checked (`make check`)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import assert_type

import flowbuilder as fb


@fb.task
def load(day: str) -> list[int]:
    return [len(day)]


@fb.task(retries=2, timeout="30s", executor="thread", effects="none", title="Clean")
def clean(rows: list[int], limit: float = 0.5, *, strict: bool = False) -> dict[str, float]:
    return {"n": len(rows) * limit if strict else 0.0}


@fb.task
async def publish(report: dict[str, float]) -> bool:
    await asyncio.sleep(0)
    return bool(report)


# A decorated task keeps its signature, and calls outside a workflow give what the function gives.
assert_type(load("mon"), list[int])
assert_type(clean([1], strict=True), dict[str, float])
plain: Callable[[str], list[int]] = load
awaited: Awaitable[bool] = publish({"a": 1.0})
assert_type(load.named("again")("mon"), list[int])
assert_type(load.after(1).named("x")("tue"), list[int])
load(3)  # type: ignore[arg-type]
clean([1], nonsense=1)  # type: ignore[call-arg]


@fb.workflow
def daily(day: str, limit: float = 0.5) -> object:
    rows = load(day)
    with fb.when("params.limit > 0"):
        report = clean(rows, limit)
    fb.add("shell", "say", config={"argv": ["echo", report]}, depends_on=[rows])
    return publish(fb.expr("tasks.clean.output"))


@fb.workflow(name="nightly", durability="task", timeout="1h")
def nightly() -> None:
    load("x")


assert_type(daily, fb.WorkflowFunction)
assert_type(nightly, fb.WorkflowFunction)
workflow: fb.Workflow = daily


def use_a_run() -> None:
    run = daily.run(day="mon", limit=1, to="clean", check=False)
    assert_type(run, fb.Run)
    assert_type(run.id, str)
    assert_type(run.duration_s, float)
    assert_type(run.outputs, dict[str, object])
    assert_type(run.result(timeout_s=3), dict[str, object])
    assert_type(run.task_runs, list[fb.TaskRun])
    assert_type(run.logs("clean"), str)
    assert_type(run.timeline(), str)
    assert_type(run.explain("clean"), str)
    assert_type(run.params, Mapping[str, object])
    assert_type(run.retry_failed(assume="rerun"), fb.Run)
    names: list[str] = run["load"]
    error: BaseException | None = run.error
    run.cancel("clean")
    run.wait(1.0)
    assert names
    assert error is None


def use_a_handle() -> None:
    run = daily.start(day="x")
    run.pause()
    run.resume()
    assert_type(run.wait(0.1), bool)


async def use_a_loop() -> None:
    assert_type(await daily.arun(day="x", check=False), fb.Run)
    assert_type(await daily.start(day="x"), fb.Run)


def use_files(path: Path) -> None:
    loaded = fb.load(path, data_dir="runs")
    assert_type(loaded, fb.Workflow)
    assert_type(fb.loads(loaded.to_yaml()), fb.Workflow)
    assert_type(fb.from_yaml("name: x"), fb.Workflow)
    assert_type(loaded.fingerprint, str)
    assert_type(loaded.validate(), tuple[fb.Problem, ...])
    assert_type(loaded.plan(to=["a", "b"]).to_text(), str)
    built = fb.Workflow("w", params={"n": 3}).add(
        "a", load, config={"day": "x"}, retry={"max_attempts": 2}
    )
    assert_type(built, fb.Workflow)


def use_history() -> Iterator[str]:
    for past in fb.runs(limit=3, workflow="daily"):
        yield past.summary.workflow
        yield past.id
    assert_type(fb.resume("latest", assume="done"), fb.Run)
    yield fb.last_run().short_id
    fb.configure(workers=2, durability="none")


def use_errors() -> fb.Location | None:
    try:
        daily.run(day="x")
    except fb.FlowBuilderError as error:
        assert_type(error.task, str | None)
        return error.location
    return None


@fb.task_type("greet")
def greet(who: str = "world") -> str:
    """Say hello."""
    return f"Hello, {who}!"
