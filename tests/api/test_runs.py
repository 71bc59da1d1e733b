"""Runs in the user's hands: run, start, arun, control, reports, history."""

import asyncio
import signal
import threading

import pytest

import flowbuilder as fb
from flowbuilder.errors import (
    FlowBuilderError,
    RecoveryError,
    RunCancelledError,
    StorageError,
    TaskFailedError,
    WorkflowValidationError,
)
from flowbuilder.records import LogChunk
from flowbuilder.vocabulary import RunState


@fb.task
def load(day):
    print(f"loading {day}")  # noqa: T201 - tasks print
    return {"day": day}


@fb.task
def count(raw, factor=2):
    return len(raw) * factor


@fb.workflow
def daily(day: str = "mon"):
    return count(load(day))


class Gate:
    """A task that says when it began and waits until it may end."""

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()

        @fb.task(executor="thread")
        def wait():
            self.begun.set()
            self.go.wait(20)
            return "waited"

        @fb.task
        def after(x):
            return x

        @fb.workflow
        def gated():
            return after(wait())

        self.workflow = gated


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.go.set()


def failing(error=ValueError("inside")):  # noqa: B008
    @fb.task
    def boom():
        raise error

    @fb.workflow
    def broken():
        return count(boom())

    return broken


def test_run_gives_the_very_objects(capsys):
    run = daily.run(day="tue")

    assert run["load"] == {"day": "tue"}
    assert run["load"] is run["load"]
    assert run.outputs == {"count": 2}
    assert run.result() == {"count": 2}
    assert run.state is RunState.SUCCEEDED
    assert run.is_final
    assert "load" in run
    assert "nope" not in run
    assert capsys.readouterr().out == "loading tue\n"


def test_output_is_the_object_the_task_returned():
    returned = []

    @fb.task
    def make():
        returned.append([1, 2])
        return returned[0]

    @fb.workflow
    def making():
        return count(make())

    assert making.run()["make"] is returned[0]


def test_echo_can_be_turned_off(capsys):
    run = daily.run(echo=False)

    assert capsys.readouterr().out == ""
    assert run.logs() == run.logs("load") == "loading mon\n"
    assert run.logs("count") == ""


def test_failure_raises_with_the_run_and_the_original():
    with pytest.raises(TaskFailedError, match="task 'boom' failed: ValueError: inside") as caught:
        failing().run()

    error = caught.value
    assert isinstance(error.__cause__, ValueError)
    assert error.location.file == __file__
    assert error.task == "boom"
    assert error.run.state is RunState.FAILED
    assert "raise error" in error.traceback
    assert "flowbuilder/runtime" not in error.traceback
    with pytest.raises(FlowBuilderError, match="but it failed"):
        error.run["boom"]
    with pytest.raises(FlowBuilderError, match="did you mean 'boom'"):
        error.run["bom"]


def test_failure_need_not_raise():
    run = failing().run(check=False)

    assert run.state is RunState.FAILED
    assert {task.name: task.state for task in run.task_runs} == {
        "boom": "failed",
        "count": "skipped",
    }
    assert run.outputs == {}
    with pytest.raises(TaskFailedError):
        run.result()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dya": "x"}, "did you mean 'day'?"),
        ({"day": 3}, "'day'"),
        ({"executor": "gpu"}, "expected an executor out of"),
        ({"durability": "all"}, "expected a durability out of"),
        ({"to": "cuont"}, "'cuont'"),
    ],
)
def test_wrong_arguments_of_run_are_named(given, message):
    with pytest.raises(FlowBuilderError, match=message.replace("?", r"\?")):
        daily.run(**given)


def test_parameters_may_have_the_names_of_arguments():
    @fb.workflow
    def odd(to: str, check: int):
        return count([to, check])

    assert odd.run(params={"to": "x", "check": 3})["count"] == 4


def test_start_returns_a_handle_that_can_be_waited_for(gate):
    run = gate.workflow.start()
    gate.begun.wait(20)

    assert run.state is RunState.RUNNING
    assert not run.wait(0.01)
    with pytest.raises(TimeoutError, match="has not ended after"):
        run.result(timeout_s=0.01)
    gate.go.set()

    assert run.result(20) == {"after": "waited"}


def test_cancel_of_a_started_run_starts_nothing_new(gate):
    run = gate.workflow.start()
    gate.begun.wait(20)

    run.cancel()
    gate.go.set()

    assert run.wait(20)
    assert run.state is RunState.CANCELLED
    assert {task.name: task.state for task in run.task_runs}["after"] == "cancelled"
    with pytest.raises(RunCancelledError):
        run.result()


def test_cancel_and_pause_of_an_ended_run_do_nothing():
    run = daily.run(echo=False)

    run.cancel()
    run.pause()
    run.resume()

    assert run.state is RunState.SUCCEEDED


def test_pause_holds_a_run_until_it_is_resumed(gate):
    run = gate.workflow.start()
    gate.begun.wait(20)
    run.pause()
    gate.go.set()

    assert not run.wait(0.2)
    assert run.state is RunState.PAUSED
    run.resume()
    assert run.result(20) == {"after": "waited"}


def test_arun_is_awaited_in_a_loop_that_stays_free(gate):
    async def main():
        task = asyncio.ensure_future(gate.workflow.arun())
        await asyncio.to_thread(gate.begun.wait, 20)
        gate.go.set()
        return await task

    assert asyncio.run(main())["after"] == "waited"


def test_many_aruns_at_once():
    async def main():
        return await asyncio.gather(*(daily.arun(day=str(n), echo=False) for n in range(20)))

    assert [run["load"]["day"] for run in asyncio.run(main())] == [str(n) for n in range(20)]


def test_arun_raises_what_run_raises():
    async def main():
        with pytest.raises(TaskFailedError) as caught:
            await failing().arun()
        with pytest.raises(WorkflowValidationError):
            await daily.arun(dya="x")
        quiet = await failing().arun(check=False)
        return caught.value.run, quiet

    first, second = asyncio.run(main())
    assert first.state is second.state is RunState.FAILED


def test_cancelling_the_await_cancels_the_run(gate):
    async def main():
        run = gate.workflow.start()
        waiter = asyncio.ensure_future(run._until_final())
        await asyncio.to_thread(gate.begun.wait, 20)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        return run

    run = asyncio.run(main())
    gate.go.set()
    assert run.wait(20)
    assert run.state is RunState.CANCELLED


def test_a_handle_can_be_awaited_twice():
    async def main():
        run = daily.start(echo=False)
        return await run is run and await run is run

    assert asyncio.run(main())


def test_run_blocks_inside_a_running_loop_and_tasks_may_have_their_own():
    @fb.task
    def own_loop(x):
        async def add():
            await asyncio.sleep(0)
            return x + 1

        return asyncio.run(add())

    @fb.task
    async def as_async(x):
        await asyncio.sleep(0)
        return x * 2

    @fb.workflow
    def nested():
        return as_async(own_loop(1))

    async def cell():
        run = nested.run()
        assert asyncio.get_running_loop() is not None
        return run["as_async"]

    assert asyncio.run(cell()) == 4


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_run_inside_a_task_knows_its_parent(executor):
    @fb.task(executor=executor)
    def inner():
        return daily.run(echo=False)

    @fb.workflow
    def outer():
        return inner()

    run = outer.run()

    nested = run["inner"]
    assert nested["count"] == 2
    created = [item for item in fb.runs() if item.id == nested.id]
    assert created[0].summary.parent_run_id == run.id


def test_interrupt_raises_after_the_run_is_recorded():
    @fb.task
    def stop():
        signal.raise_signal(signal.SIGINT)

    @fb.workflow
    def stopped():
        return count(stop())

    with pytest.raises(KeyboardInterrupt):
        stopped.run()

    assert fb.last_run().state is RunState.CANCELLED
    assert {task.state for task in fb.last_run().task_runs} == {"cancelled"}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_while_waiting_cancels_too(gate):
    def interrupt():
        gate.begun.wait(20)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        gate.workflow.run()
    thread.join()

    assert fb.last_run().state is RunState.CANCELLED


def test_reports_tell_what_happened():
    polars = pytest.importorskip("polars")
    run = daily.run(day="wed", echo=False)

    frame = run.tasks
    assert isinstance(frame, polars.DataFrame)
    assert frame["name"].to_list() == ["load", "count"]
    assert set(frame["state"]) == {"succeeded"}
    assert "load" in run.timeline()
    assert run.explain("load").startswith("load (python): succeeded; executor ")
    assert [event.text for event in run.events() if isinstance(event, LogChunk)] == [
        "loading wed\n"
    ]
    sequences = [event.seq for event in run.events()]
    assert sequences == sorted(set(sequences))
    assert run.short_id == run.id[-8:]
    assert repr(run).startswith(f"<Run {run.short_id} of 'daily': succeeded in ")


def test_explain_says_why_a_task_was_skipped():
    run = failing().run(check=False)

    assert "because upstream boom failed" in run.explain("count")
    assert "ValueError: inside" in run.explain("boom")


def test_callback_is_called_once_at_the_end_or_at_once(gate):
    calls = []
    run = gate.workflow.start()
    run.on_finish(lambda: calls.append("before"))
    gate.go.set()
    run.wait(20)
    run.on_finish(lambda: calls.append("after"))

    assert calls == ["before", "after"]


def test_history_knows_runs_of_the_project():
    first = daily.run(day="a", echo=False)
    second = failing().run(check=False)

    assert [item.id for item in fb.runs()] == [second.id, first.id]
    assert [item.id for item in fb.runs(workflow="daily")] == [first.id]
    assert len(fb.runs(limit=1)) == 1
    past = fb.run(first.short_id)
    assert (past.state, past["load"], past.summary.params) == (
        "succeeded",
        {"day": "a"},
        {"day": "a"},
    )
    assert past.logs() == "loading a\n"
    assert [task.name for task in past.task_runs] == ["load", "count"]
    assert "load" in past.timeline()
    assert repr(past).startswith(f"<PastRun {first.short_id} of 'daily': succeeded")
    assert fb.last_run().id == second.id
    with pytest.raises(FlowBuilderError, match="expected a task of run"):
        past["nope"]
    with pytest.raises(StorageError, match="zzzz"):
        fb.run("zzzz")


def test_failed_run_is_retried_as_the_same_run():
    attempts = []

    @fb.task
    def flaky(x):
        attempts.append(x)
        if len(attempts) == 1:
            raise ValueError("first")
        return len(attempts)

    @fb.workflow
    def sometimes():
        return flaky(load("d"))

    run = sometimes.run(check=False, echo=False)
    with pytest.raises(RecoveryError, match="nothing is left"):
        daily.run(echo=False).retry_failed()
    again = run.retry_failed()

    assert again.id == run.id
    assert again["flaky"] == 2
    assert attempts == [{"day": "d"}, {"day": "d"}]
    assert run.logs() == "loading d\n"


def test_resume_takes_live_functions_of_a_python_workflow():
    marks = []

    @fb.task
    def once():
        if not marks:
            marks.append(1)
            raise ValueError("no")
        return "yes"

    @fb.workflow
    def two():
        return once()

    run = two.run(check=False)

    again = fb.resume(run.short_id, functions=two.functions)

    assert again["once"] == "yes"
    with pytest.raises(RecoveryError):
        fb.resume(run.short_id, functions=two.functions)


def test_configure_sets_defaults_and_takes_them_back(tmp_path):
    fb.configure(data_dir=tmp_path / "other", durability="none", workers=3)
    run = daily.run(echo=False)
    assert (tmp_path / "other").exists()
    assert run._launch.container.engine.options.workers == 3
    fb.configure(data_dir=None, durability=None, workers=None)

    assert fb.runs() == []
    with pytest.raises(FlowBuilderError, match="wrokers"):
        fb.configure(wrokers=3)
    with pytest.raises(FlowBuilderError, match="workers"):
        fb.configure(workers="many")


def test_runs_of_a_selection_borrow_outputs():
    daily.run(day="x", echo=False)

    part = daily.run(from_="count", day="y")
    assert part["load"] == {"day": "x"}
    assert daily.run(to="load", day="z", echo=False).outputs == {"load": {"day": "z"}}
    assert daily.run(only="count", day="y").explain("load").startswith("load (python): cached")


def test_two_threads_run_at_once():
    results = []

    def work(number):
        results.append(daily.run(day=str(number), echo=False)["load"]["day"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert sorted(results) == [str(number) for number in range(6)]


@pytest.mark.parametrize("executor", ["auto", "inline", "thread"])
def test_long_body_is_on_record_while_it_runs(executor):
    seen = []

    @fb.task(executor=executor)
    def look():
        for _ in range(200):
            runs = fb.runs()
            if runs and runs[0].task_runs[0].state == "running":
                break
            threading.Event().wait(0.01)
        seen.extend(task.state for task in fb.last_run().task_runs)

    @fb.workflow
    def slow():
        return count([look()])

    slow.run()

    assert seen == ["running", "pending"]
