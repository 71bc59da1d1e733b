"""What is on disk before what happens, seen by a journal that notes the order."""

from __future__ import annotations

import threading

import pytest

from flowbuilder.errors import StorageError
from flowbuilder.records import AttemptStarted, RunStateChanged
from flowbuilder.runtime.engine import Engine, EngineOptions
from flowbuilder.runtime.live_run import RunOptions
from flowbuilder.runtime.program import Program
from flowbuilder.testing import bind, plan_of, rows_of
from flowbuilder.vocabulary import Durability, RunState, TaskState


class FakeJournal:
    """Keeps what was synced; `fail_after` syncs it fails for ever."""

    def __init__(self):
        self.lock = threading.Lock()
        self.on_disk = []
        self.syncs = 0
        self.fail_after = None
        self.source = None
        self.is_closed = False

    def open_run(self, _version, _header, _created, source):
        self.source = source
        return self

    def adopt_run(self, _run_id, _created, source):
        return self.open_run(None, None, None, source)

    def notify(self):
        """Do nothing: only what somebody waits for is written."""

    def sync(self):
        with self.lock:
            if self.fail_after is not None and self.syncs >= self.fail_after:
                raise StorageError("the disk is full")
            self.syncs += 1
            self.on_disk.extend(self.source.take())

    def confirm(self):
        self.sync()

    def close(self):
        self.is_closed = True
        with self.lock:
            self.on_disk.extend(self.source.take())

    def has_end(self, instance):
        with self.lock:
            rows = [row for piece in self.on_disk for row in rows_of(piece)]
        return any(instance == row[0] for row in rows)

    def has_start(self, instance):
        with self.lock:
            starts = [piece for piece in self.on_disk if isinstance(piece, AttemptStarted)]
        return any(start.instance == instance for start in starts)

    def run_states(self):
        return [piece.state for piece in self.on_disk if isinstance(piece, RunStateChanged)]


@pytest.fixture
def journal(bench, tmp_path):
    fake = FakeJournal()
    options = EngineOptions(engine_id="fake", workers=2, scratch=tmp_path)
    before, bench.engine = bench.engine, Engine(fake, None, options)
    yield fake
    bench.engine.close()
    bench.engine = before


def observed(plan, journal, seen):
    """Bodies that note, when they begin, which parents are on disk and whether their start is."""

    def body(instance):
        def run(*_):
            parents = [journal.has_end(parent) for parent in plan.parents_of(instance)]
            seen[instance] = (all(parents), journal.has_start(instance))

        async def coroutine(_context):
            run()

        if plan.tasks[instance].executor == "async":
            return Program(coroutine=coroutine, code_key="c")
        return run

    return {task.key: body(instance) for instance, task in enumerate(plan.tasks)}


@pytest.mark.parametrize("way", ["run", "start"])
@pytest.mark.parametrize("executor", ["inline", "thread", "async", "auto"])
def test_no_task_starts_before_its_parents_are_on_disk(bench, journal, executor, way):
    task = {"executor": executor}
    plan = plan_of("a -> b -> d -> e, a -> c -> d", **dict.fromkeys("abcde", task))
    seen = {}

    run = getattr(bench, way)(plan, observed(plan, journal, seen), durability=Durability.TASK)

    assert run.wait(20)
    assert run.finished is RunState.SUCCEEDED
    assert seen == dict.fromkeys(range(5), (True, True))


def test_failed_and_skipped_parents_are_on_disk_too(bench, journal):
    plan = plan_of("a -> b -> c -> end", end={"join": "all_done"})
    seen = []
    end = Program(function=lambda: seen.append(all(map(journal.has_end, range(3)))), code_key="e")

    run = bench.run(plan, {"a": lambda: 1 // 0, "end": end}, durability=Durability.TASK)

    assert run.state(3) == "succeeded"
    assert seen == [True]


def test_retried_parent_is_on_disk_with_its_last_attempt(bench, journal):
    calls, seen = [], []

    def flaky():
        calls.append(1)
        if len(calls) < 3:
            raise OSError("again")

    plan = plan_of("a -> b", a={"retry": {"max_attempts": 3, "delay_s": 0.0}})

    def child(_):
        attempts = [
            (attempt, state)
            for piece in journal.on_disk
            for _instance, attempt, state, *_ in rows_of(piece)
        ]
        seen.extend(attempts)

    bench.run(plan, {"a": flaky, "b": child}, durability=Durability.TASK)

    failed, succeeded = 5, 4
    assert seen == [(1, failed), (2, failed), (3, succeeded)]


@pytest.mark.parametrize("executor", ["inline", "thread", "async"])
@pytest.mark.parametrize("durability", [Durability.RUN, Durability.TASK])
def test_external_effect_is_announced_on_disk_before_it_happens(
    bench, journal, executor, durability
):
    plan = plan_of("a -> b", b={"executor": executor, "effects": "external"})
    seen = {}

    bench.run(plan, observed(plan, journal, seen), durability=durability)

    assert seen[1][1]


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_external_effect_does_not_happen_if_it_cannot_be_announced(bench, journal, executor):
    journal.fail_after = 0
    ran = []
    plan = plan_of("a", a={"executor": executor, "effects": "external"})

    run = bench.run(plan, {"a": lambda: ran.append(1)}, durability=Durability.RUN)

    assert not ran
    assert run.finished is RunState.FAILED
    assert isinstance(run.error, StorageError)
    assert bench.engine.services.admission.cpu.used == 0


@pytest.mark.parametrize("syncs", range(4))
def test_nothing_starts_after_the_journal_failed(bench, journal, syncs):
    journal.fail_after = syncs
    order = []
    plan = plan_of("a -> b -> c")
    bodies = {key: lambda *_, key=key: order.append(key) for key in "abc"}

    run = bench.run(plan, bodies, durability=Durability.TASK)

    assert run.finished is RunState.FAILED
    assert isinstance(run.error, StorageError)
    # A sync covers the start of a task and the ends it waited for; the last one the run's end.
    assert order == list("abc")[:syncs]
    assert set(run.counts()) <= {TaskState.SUCCEEDED, TaskState.CANCELLED}


def test_end_of_a_run_is_on_disk_before_it_is_acknowledged(bench, journal):
    seen = []
    run = bench.open(plan_of("a -> b"), durability=Durability.RUN)
    run.at_end(lambda: seen.append(journal.run_states()[-1]))

    bench.engine.run(run)

    assert seen == ["succeeded"]
    assert journal.syncs == 1


def test_end_of_a_run_without_durability_is_not_waited_for(bench, journal):
    bench.run(plan_of("a -> b"), durability=Durability.NONE)

    assert journal.syncs == 0
    assert journal.run_states()[-1] == "succeeded"


def test_end_that_cannot_be_written_fails_the_run(bench, journal):
    journal.fail_after = 0

    run = bench.run(plan_of("a -> b"), durability=Durability.RUN)

    assert run.finished is RunState.FAILED
    assert isinstance(run.error, StorageError)


def test_failing_journal_of_one_run_does_not_release_the_others(bench, tmp_path):
    """Two runs of one turn: the first one's commit fails, so nothing of the second is on disk."""
    journals = [FakeJournal(), FakeJournal()]
    engine = Engine(None, None, EngineOptions(engine_id="x", workers=2, scratch=tmp_path))
    before, bench.engine = bench.engine, engine
    go, ran = threading.Event(), []
    tasks = {"a": {"executor": "thread"}}
    runs = []
    for journal in journals:
        bodies = {"a": lambda: go.wait(20), "b": lambda _: ran.append(1)}
        run = bench.open(plan_of("a -> b", **tasks), bodies, durability=Durability.TASK)
        journal.open_run(None, None, None, run.recorder)
        run.journal = journal
        runs.append(run)
        engine.start(run)
    for run in runs:
        while not run.in_flight:
            assert not run.wait(0.001)
    for journal in journals:
        journal.fail_after = 0
    go.set()

    assert all(run.wait(20) for run in runs)
    assert not ran
    assert {run.finished for run in runs} == {RunState.FAILED}
    engine.close()
    bench.engine = before


def test_run_that_cannot_be_restored_is_let_go(bench, journal):
    header = bench.open(plan_of("a")).header

    with pytest.raises(ZeroDivisionError):
        bench.engine.reopen(
            bind(plan_of("a")),
            header,
            {},
            RunOptions(),
            reasons={},
            restore=lambda _run: 1 // 0,
        )

    assert journal.is_closed


def test_starts_that_are_ready_together_share_a_commit(bench, journal):
    plan = plan_of(", ".join(f"root -> t{number} -> end" for number in range(50)))
    inline = Program(function=lambda *_: None, code_key="short")
    bench.engine.services.means.observe("short", 1_000)

    run = bench.run(plan, {task.key: inline for task in plan.tasks}, durability=Durability.TASK)

    assert run.finished is RunState.SUCCEEDED
    assert set(run.counts()) == {TaskState.SUCCEEDED}
    assert journal.syncs <= 6, "the root, all in the middle (in 5 ms or a little more), end, run"


def test_journal_that_fails_between_commit_and_body_ends_its_run_and_no_other(bench, journal):
    """A notification may say that an earlier flush failed."""
    failing, ran = [], []

    def notify():
        if failing:
            raise StorageError("the disk is full")

    def body():
        ran.append(1)
        failing.append(1)

    journal.notify = notify
    bench.engine.services.means.observe("short", 1_000)
    program = Program(function=body, code_key="short")
    plan = plan_of("a, b, c")
    run = bench.open(plan, dict.fromkeys("abc", program), durability=Durability.TASK)
    other = bench.open(plan_of("a -> b"), durability=Durability.NONE)
    other.journal = None

    bench.engine.start(run)
    bench.engine.start(other)

    assert run.wait(20)
    assert other.wait(20)
    assert run.finished is RunState.FAILED
    assert other.finished is RunState.SUCCEEDED
    assert len(ran) < 3


@pytest.mark.parametrize("how", ["timer", "pool"])
def test_journal_that_fails_in_a_message_ends_the_run(bench, journal, how):
    failing = threading.Event()

    def notify():
        if failing.is_set():
            raise StorageError("the disk is full")

    journal.notify = notify
    plan = plan_of("a -> b, a -> c", b={"executor": "thread"}, c={"executor": "thread"})

    def delay(_context):
        failing.set()
        return 0.001

    programs = {key: Program(function=lambda *_: None, code_key=key) for key in "abc"}
    if how == "timer":
        programs["b"] = Program(delay=delay, code_key="b")
    else:
        programs["a"] = Program(function=failing.set, code_key="a")
    run = bench.open(plan, programs, durability=Durability.RUN)

    bench.engine.start(run)

    assert run.wait(20)
    assert run.finished is RunState.FAILED
    assert isinstance(run.error, StorageError)


def test_cancel_reaches_attempts_whose_start_is_on_disk_before_their_bodies(bench, journal):
    ran = []

    def body():
        if not ran:
            threading.Thread(target=bench.engine.cancel, args=(run,)).start()
            while not run.must_look:
                threading.Event().wait(0.001)
        ran.append(1)

    plan = plan_of(", ".join(f"t{number}" for number in range(20)))
    bench.engine.services.means.observe("short", 1_000)
    program = Program(function=body, code_key="short")
    run = bench.open(plan, {task.key: program for task in plan.tasks}, durability=Durability.TASK)

    bench.engine.start(run)

    assert run.wait(20)
    assert run.finished is RunState.CANCELLED
    assert len(ran) == 1
    assert run.counts()[TaskState.CANCELLED] == 19
    assert not [chunk for chunk in journal.on_disk if "did not stop" in getattr(chunk, "text", "")]
