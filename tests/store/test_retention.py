"""What a journal tells the history, and how it lets go of runs: for each implementation."""

from __future__ import annotations

import pytest

from flowbuilder.errors import StorageError
from flowbuilder.records import RunStateChanged
from flowbuilder.store.retention import RetainingJournal


def record(journal, make, state="succeeded"):
    source = make.source()
    header = make.header(plan_id="plan")
    run = journal.open_run(make.version(), header, make.created(), source)
    source.put(make.block([0, 1, 2]))
    if state:
        source.put(RunStateChanged(state=state, time_ns=5))
    run.sync()
    run.close()
    return header.run_id


def test_every_journal_retains(journal):
    assert isinstance(journal, RetainingJournal)


def test_identity_stays_and_differs_between_journals(open_place, tmp_path):
    first, second = open_place(), open_place()

    assert first.mark().identity == second.mark().identity == first.mark().identity
    assert first.mark().identity


def test_mark_tells_of_new_records_and_removals(journal, make):
    before = journal.mark()
    run_id = record(journal, make)
    after = journal.mark()
    journal.remove_runs([run_id])

    assert after.last_pos > before.last_pos
    assert after.removals == before.removals
    assert journal.mark().removals == after.removals + 1
    journal.remove_runs([run_id])
    assert journal.mark().removals == after.removals + 1


def test_headers_and_ids(journal, make):
    run_ids = {record(journal, make) for _ in range(3)}

    assert journal.run_ids() == run_ids
    for run_id in run_ids:
        assert journal.run_header(run_id).params == {"n": 1}
    with pytest.raises(StorageError, match="missing"):
        journal.run_header("nothing")


def test_prune_takes_only_final_runs_with_the_expected_records(journal, make):
    done, failed, open_, grown = (
        record(journal, make),
        record(journal, make, "failed"),
        record(journal, make, ""),
        record(journal, make),
    )
    last = {run.run_id: run.last_seq for run in journal.list_runs()}

    gone = journal.prune_runs({**last, grown: last[grown] - 1, "unknown": 3})

    assert set(gone) == {done, failed}
    assert journal.run_ids() == {open_, grown}
    assert [event.run_id for event in journal.tail(limit=100).events if event.run_id == done] == []
    assert journal.mark().removals == 0
