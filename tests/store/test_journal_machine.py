"""A journal compared with a list, through random blocks, events, flushes, failures and reopenings."""

from __future__ import annotations

import tempfile
from array import array
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from flowbuilder.errors import StorageError
from flowbuilder.records import (
    ABSENT,
    AttemptBlock,
    AttemptFinished,
    AttemptStarted,
    LogChunk,
    RetryScheduled,
    RunCreated,
    RunHeader,
    RunStateChanged,
    TaskReset,
    VersionHeader,
    WorkflowCreated,
)
from flowbuilder.store.sqlite_journal import SqliteJournal
from flowbuilder.vocabulary import TASK_STATES, TaskState

TASKS = 8
INSTANCES = st.integers(0, TASKS + 3)
OUTPUTS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=5), st.just(ABSENT)
)
ROWS = st.lists(
    st.tuples(INSTANCES, st.integers(1, 4), st.sampled_from([4, 5, 6, 8]), OUTPUTS), max_size=12
)


class Source:
    is_streaming = False

    def __init__(self):
        self.records = []

    def take(self):
        taken, self.records = self.records, []
        return taken


class JournalMachine(RuleBasedStateMachine):
    """Everything recorded and acknowledged is there, in order, after anything."""

    @initialize(on_disk=st.booleans())
    def open(self, on_disk):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "journal.db") if on_disk else None
        self.journal = self.connect()
        self.source = Source()
        version = VersionHeader(
            plan_id="p",
            fingerprint="f",
            name="w",
            text="",
            path="",
            spec_json=b"{}",
            keys=tuple(map(str, range(TASKS))),
            parents=((),) * TASKS,
        )
        header = RunHeader(run_id="run", plan_id="p", workflow="w", params={}, durability="none")
        created = RunCreated(wall_ns=1, monotonic_ns=1, owner="o")
        self.run = self.journal.open_run(version, header, created, self.source)
        self.model = [created, WorkflowCreated(fingerprint="f", name="w", time_ns=1)]
        self.states = [TaskState.PENDING] * TASKS
        self.run.sync()

    def connect(self):
        return SqliteJournal(self.path, is_owner_alive=lambda _: False, flush_interval_s=0.0005)

    @rule(rows=ROWS)
    def record_rows(self, rows):
        n = len(rows)
        instances, attempts, codes, outputs = zip(*rows, strict=True) if rows else ((),) * 4
        times = [array("q", [k * 100 + i for i in range(n)]) for k in (1, 2, 3)]
        self.source.records.append(
            AttemptBlock(
                instances=array("i", instances),
                attempts=array("i", attempts),
                states=array("B", codes),
                workers=array("h", range(n)),
                readies_ns=times[0],
                starts_ns=times[1],
                ends_ns=times[2],
                outputs=list(outputs),
            )
        )
        for i, (instance, attempt, code, output) in enumerate(rows):
            self.finish(instance, attempt, code, (i, 100 + i, 200 + i, 300 + i), output)

    @rule(first=st.integers(0, 4), n=st.integers(1, 4), has_outputs=st.booleans())
    def record_chain(self, first, n, has_outputs):
        ends = [10 * (i + 1) for i in range(n)]
        outputs = list(range(n)) if has_outputs else None
        self.source.records.append(
            AttemptBlock(
                instances=array("i", range(first, first + n)),
                ends_ns=array("q", ends),
                outputs=outputs,
                first_start_ns=3,
            )
        )
        for i in range(n):
            start = 3 if i == 0 else ends[i - 1]
            self.finish(
                first + i, 1, 4, (0, start, start, ends[i]), outputs[i] if outputs else None
            )

    def finish(self, instance, attempt, code, numbers, output):
        worker, ready, start, end = numbers
        self.model.append(
            AttemptFinished(
                instance=instance,
                attempt=attempt,
                state=TASK_STATES[code],
                worker=worker,
                ready_ns=ready,
                start_ns=start,
                end_ns=end,
                time_ns=end,
                output=output,
            )
        )
        self.enter(instance, TASK_STATES[code])

    def enter(self, instance, state):
        self.states.extend([TaskState.PENDING] * (instance + 1 - len(self.states)))
        self.states[instance] = state

    @rule(instance=INSTANCES, kind=st.sampled_from(["start", "retry", "reset", "log", "run"]))
    def record_event(self, instance, kind):
        event, state = {
            "start": (AttemptStarted(instance=instance, attempt=1), TaskState.RUNNING),
            "retry": (
                RetryScheduled(instance=instance, attempt=2, delay_s=0.5, due_ns=5),
                TaskState.WAITING,
            ),
            "reset": (TaskReset(instance=instance, reason="r"), TaskState.PENDING),
            "log": (LogChunk(instance=instance, attempt=1, stream="log", text="x"), None),
            "run": (RunStateChanged(state="running"), None),
        }[kind]
        self.source.records.append(event)
        self.model.append(event)
        if state is not None:
            self.enter(instance, state)

    @rule()
    def notify(self):
        self.run.notify()

    @rule()
    def sync(self):
        self.run.sync()
        self.check()

    @rule()
    def fail_a_commit(self):
        connection = self.journal.connection
        self.source.records.append(LogChunk(instance=0, attempt=1, stream="log", text="y" * 60_000))
        self.model.append(self.source.records[-1])
        with self.journal._group._lock:
            connection.pragma("max_page_count", connection.pragma("page_count"))
        try:
            with suppress(StorageError):  # it may fit into free pages
                self.run.sync()
        finally:
            with self.journal._group._lock:
                connection.pragma("max_page_count", 2**30)
        with suppress(StorageError):  # the flusher may have met the full disk too
            self.run.notify()

    @precondition(lambda self: self.path is not None)
    @rule()
    def reopen_and_adopt(self):
        self.source.records.append(RunStateChanged(state="failed"))
        self.model.append(self.source.records[-1])
        self.run.close()
        self.journal.close()
        self.journal = self.connect()
        self.source = Source()
        created = RunCreated(wall_ns=2, monotonic_ns=2, owner="next", resumed=True)
        self.run = self.journal.adopt_run("run", created, self.source)
        self.model.append(created)
        self.check()

    def check(self):
        found = list(self.journal.events("run"))
        assert [event.seq for event in found] == list(range(len(self.model)))
        for event in found:
            event.run_id, event.seq = "", -1
        assert found == self.model
        saved = self.journal.load_run("run")
        assert saved.states == self.states
        assert saved.summary.last_seq == len(self.model) - 1
        counts = {str(s): self.states.count(s) for s in TASK_STATES if s in self.states}
        assert saved.summary.counts == counts

    def teardown(self):
        if hasattr(self, "journal"):
            self.run.sync()
            self.check()
            self.journal.close()
            self.folder.cleanup()


JournalMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestJournalMachine = JournalMachine.TestCase
