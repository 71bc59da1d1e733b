"""Random histories: what was projected bit by bit equals what is rebuilt, and what was recorded."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowbuilder.history import batch
from flowbuilder.history.pruning import prune
from flowbuilder.history.search import Search
from flowbuilder.history.search_query import KINDS
from flowbuilder.records import AttemptFinished
from tests.history.conftest import DAY, MAY, Store, everything

INSTANCES = st.integers(0, 6)
TEXTS = st.text(max_size=8)


def findable(search):
    kinds = (search.search(f"kind:{kind}", limit=100_000) for kind in KINDS)
    return sorted(repr(hit) for hits in kinds for hit in hits)


class HistoryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        batch._MOST_UNMERGED = 8  # so that counts are merged all the time
        self.store = Store(self.folder / "store")
        self.search = self.open_search(self.store.folder / "history")
        self.live = []
        self.dead = []
        self.ended = []
        self.now = MAY
        self.rebuilds = 0

    def open_search(self, folder: Path | None) -> Search:
        return Search(self.store.journal, self.store.months, folder)

    def teardown(self) -> None:
        self.compare()
        self.store.close()
        batch._MOST_UNMERGED = 50_000
        shutil.rmtree(self.folder)

    @rule(workflow=st.sampled_from(["etl", "report"]), n=st.none() | st.integers() | TEXTS)
    def begin(self, workflow, n):
        self.live.append(self.store.run(workflow=workflow, wall_ns=self.now, n=n))

    @precondition(lambda self: self.live)
    @rule(
        data=st.data(),
        instance=INSTANCES,
        attempt=st.integers(1, 3),
        state=st.sampled_from(["succeeded", "failed", "cached", "cancelled"]),
        has_start=st.booleans(),
    )
    def finish(self, data, instance, attempt, state, has_start):
        run = data.draw(st.sampled_from(self.live))
        if has_start:
            run.started(instance, attempt)
        run.finished(instance, state, attempt, output=data.draw(st.none() | TEXTS | st.floats()))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), instance=INSTANCES, text=TEXTS, what=st.integers(0, 6))
    def happen(self, data, instance, text, what):
        run = data.draw(st.sampled_from(self.live))
        actions = [
            lambda: run.started(instance),
            lambda: run.failed(instance, message=text),
            lambda: run.skipped(instance, text),
            lambda: run.logged(instance, text),
            lambda: run.stored(instance),
            lambda: run.measured(text, 1.5),
            lambda: run.block(list(range(instance))) if instance else None,
        ]
        actions[what]()

    @precondition(lambda self: self.live)
    @rule(data=st.data(), state=st.sampled_from(["succeeded", "failed", "cancelled"]))
    def end(self, data, state):
        run = data.draw(st.sampled_from(self.live))
        run.ended(state, "x" if state == "failed" else "")
        self.live.remove(run)
        self.ended.append(run)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def write(self, data):
        data.draw(st.sampled_from(self.live)).sync()

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def resume(self, data):
        run = data.draw(st.sampled_from(self.ended))
        recent = {found.run_id: found.state for found in self.store.journal.list_runs()}
        if recent.get(run.run_id, "succeeded") == "succeeded":
            return
        self.ended.remove(run)
        self.live.append(self.store.adopt(run))

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def remove(self, data):
        run = data.draw(st.sampled_from(self.ended))
        assert self.store.whole.remove_runs([run.run_id]) == 1
        self.ended.remove(run)

    @rule(days=st.sampled_from([1, 20, 50]))
    def pass_time(self, days):
        self.now += days * DAY

    @rule()
    def prune(self):
        prune(self.store.journal, self.store.months, now_ns=self.now + 30 * DAY, grace_s=60.0)

    @rule()
    def look(self):
        self.store.rows("SELECT count(*) FROM runs")

    @rule()
    def find(self):
        self.search.search("kind:run")

    @rule()
    def compare(self):
        for run in self.live:
            run.sync()
        told = everything(self.store.history)
        self.rebuilds += 1
        fresh = self.store.open_history(
            f"rebuilt-{self.rebuilds}", in_memory=bool(self.rebuilds % 2)
        )
        assert told == everything(fresh)
        fresh.close()
        index = self.open_search(None)
        assert findable(self.search) == findable(index)
        index.close()
        ids = {run.run_id for run in self.live + self.ended}
        assert {run_id for (run_id,) in self.store.rows("SELECT run_id FROM runs")} == ids
        for run_id in ids:
            events = list(self.store.whole.events(run_id))
            ends = sum(isinstance(event, AttemptFinished) for event in events)
            query = "SELECT count(*) FROM tasks WHERE run_id = ? AND seq IS NOT NULL"
            assert self.store.rows(query, run_id) == [(ends,)]
            query = "SELECT count(DISTINCT seq) FROM events WHERE run_id = ?"
            assert self.store.rows(query, run_id) == [(len(events),)]
        counted = "SELECT coalesce(sum(n), 0)::BIGINT FROM durations WHERE measure = 'queue'"
        assert self.store.rows(counted) == self.store.rows(
            "SELECT count(*) FROM tasks WHERE NOT is_open"
        )

    @invariant()
    def months_and_journal_hold_every_run(self):
        held = {run.run_id for run in self.store.journal.list_runs(limit=1000)}
        held |= set(self.store.months.run_ids())
        assert held >= {run.run_id for run in self.ended}


HistoryMachine.TestCase.settings = settings(
    max_examples=6,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestHistoryMachine = HistoryMachine.TestCase
