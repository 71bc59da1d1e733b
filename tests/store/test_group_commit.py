"""Who writes when, and what failures and interrupts leave behind."""

from __future__ import annotations

import sys
import threading
from array import array

import pytest

from flowbuilder.errors import InternalError, StorageError
from flowbuilder.records import AttemptBlock, RunStateChanged
from flowbuilder.store import flusher as flusher_module
from flowbuilder.store import group_commit as group_commit_module
from flowbuilder.store.flusher import Flusher
from flowbuilder.store.group_commit import GroupCommit
from flowbuilder.store.sqlite_journal import SqliteJournal
from flowbuilder.store.sqlite_writer import SqliteWriter


def begin(journal, make, task_count=3, **header):
    source = make.source()
    run_header = make.header(plan_id=f"plan{task_count}", **header)
    run = journal.open_run(
        make.version(task_count, f"plan{task_count}"), run_header, make.created(), source
    )
    return run, source, run_header.run_id


def events_of(journal, run_id):
    return [(e.seq, type(e).__name__) for e in journal.events(run_id)]


def test_notified_records_reach_the_disk_without_a_waiter(disk_journal, make, wait_until):
    run, source, run_id = begin(disk_journal, make)
    source.put(make.chain(0, 3))
    run.notify()

    wait_until(lambda: not run.taken and not run.is_dirty)
    other = SqliteJournal(disk_journal.path, is_owner_alive=lambda _: True)
    assert other.find_run(run_id).counts == {"succeeded": 3}
    other.close()


def test_flusher_parks_when_there_is_nothing_to_do(disk_journal, make, wait_until):
    run, source, _ = begin(disk_journal, make)
    flusher = disk_journal._group._flusher
    assert flusher._thread is None

    run.sync()
    assert flusher._thread is None, "a waiter writes for itself"
    source.put(make.chain(0, 1))
    run.notify()
    wait_until(lambda: flusher._thread is not None and flusher.is_parked)

    assert not run.taken


def test_streaming_sources_are_polled_until_they_stop(disk_journal, make, wait_until):
    run, source, run_id = begin(disk_journal, make, 3)
    source.is_streaming = True
    run.notify()
    wait_until(lambda: disk_journal.last_pos() > 0)

    source.put(make.chain(0, 2))  # not announced
    wait_until(lambda: disk_journal.find_run(run_id).counts.get("succeeded") == 2)
    source.put(make.block([2]))
    source.is_streaming = False

    wait_until(lambda: disk_journal._group._flusher.is_parked)
    assert disk_journal.find_run(run_id).counts == {"succeeded": 3}


def test_one_waiter_writes_for_all_dirty_runs(disk_journal, make):
    runs = [begin(disk_journal, make) for _ in range(20)]
    for run, source, _ in runs:
        source.put(make.chain(0, 3))
        run.is_dirty = True
        disk_journal._group._dirty.append(run)
    runs[0][0].sync()

    assert not any(run.taken or source.records for run, source, _ in runs)
    assert len(disk_journal.list_runs()) == 20


def test_many_threads_record_and_wait_at_once(disk_journal, make):
    failures = []

    def work(number: int) -> None:
        try:
            run, source, _ = begin(disk_journal, make, 50, run_id=f"run-{number}")
            for i in range(50):
                source.put(make.block([i], outputs=[i]))
                run.sync() if i % 5 == number % 5 else run.notify()
            source.put(RunStateChanged(state="succeeded"))
            run.sync()
            run.close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    for number in range(8):
        saved = disk_journal.load_run(f"run-{number}")
        assert saved.outputs == {i: i for i in range(50)}
    assert disk_journal._group.live == {}


def test_records_made_while_a_batch_is_written_are_in_the_next(disk_journal, make, monkeypatch):
    run, source, run_id = begin(disk_journal, make)
    write = SqliteWriter.write

    def write_and_record(writer, current):
        write(writer, current)
        if not source.records and len(events) < 1:
            events.append(1)
            source.put(make.chain(0, 3))
            run.notify()

    events: list[int] = []
    monkeypatch.setattr(SqliteWriter, "write", write_and_record)
    run.sync()
    run.sync()

    assert disk_journal.load_run(run_id).summary.counts == {"succeeded": 3}


def fill_disk(journal):
    connection = journal.connection
    pages = connection.pragma("page_count")
    connection.pragma("max_page_count", pages)


def free_disk(journal):
    journal.connection.pragma("max_page_count", 2**30)


def big_block(make, first, n):
    return make.block(list(range(first, first + n)), outputs=["x" * 4000] * n)


def test_full_disk_fails_the_waiter_and_loses_nothing(local_journal, make):
    run, source, run_id = begin(local_journal, make, 200)
    source.put(make.chain(0, 1))
    run.sync()
    fill_disk(local_journal)
    source.put(big_block(make, 1, 99))

    with pytest.raises(StorageError, match="full") as caught:
        run.sync()
    told = str(caught.value)
    assert ("KB needed" in told and "free at least" in told) or "free some space" in told
    assert local_journal.load_run(run_id).summary.counts == {"pending": 199, "succeeded": 1}

    free_disk(local_journal)
    source.put(big_block(make, 100, 100))
    run.sync()
    assert local_journal.load_run(run_id).summary.counts == {"succeeded": 200}
    assert [seq for seq, _ in events_of(local_journal, run_id)] == list(range(202))


def test_full_disk_is_told_to_those_who_never_wait(disk_journal, make, wait_until):
    run, source, run_id = begin(disk_journal, make, 100)
    run.sync()
    fill_disk(disk_journal)
    source.put(big_block(make, 0, 99))
    run.notify()
    wait_until(lambda: run.failure is not None)

    with pytest.raises(StorageError, match="full"):
        run.notify()
    free_disk(disk_journal)
    source.put(make.block([99]))
    run.notify()
    wait_until(lambda: not run.taken and not run.is_dirty)

    assert run.failure is None
    assert disk_journal.load_run(run_id).summary.counts == {"succeeded": 100}


def test_closing_run_is_kept_until_its_records_are_written(disk_journal, make, wait_until):
    run, source, run_id = begin(disk_journal, make, 100)
    run.sync()
    fill_disk(disk_journal)
    source.put(big_block(make, 0, 100), RunStateChanged(state="succeeded"))
    run.notify()
    run.close()
    wait_until(lambda: run.failure is not None)
    assert run_id in disk_journal._group.live

    free_disk(disk_journal)
    wait_until(lambda: run_id not in disk_journal._group.live)

    assert disk_journal.load_run(run_id).summary.counts == {"succeeded": 100}


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_interrupt_of_a_commit_loses_and_doubles_nothing(local_journal, make, monkeypatch, moment):
    run, source, run_id = begin(local_journal, make)
    run.sync()
    source.put(make.chain(0, 2))
    write = SqliteWriter.write

    def interrupted(writer, current):
        if moment == "after":
            write(writer, current)
        elif moment == "during":
            writer.connection.execute("BEGIN IMMEDIATE")
            writer.write_rows(current)
        raise KeyboardInterrupt

    monkeypatch.setattr(SqliteWriter, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.sync()
    monkeypatch.undo()

    source.put(make.block([2]))
    run.sync()
    assert events_of(local_journal, run_id)[2:] == [(s, "AttemptFinished") for s in (2, 3, 4)]
    assert local_journal.load_run(run_id).summary.counts == {"succeeded": 3}


@pytest.mark.parametrize("offset", range(10))
def test_interrupt_around_any_call_loses_and_doubles_nothing(make, offset):
    step = offset + 1
    while interrupted_at(step, make):
        step += 10
    assert step > 200, "a commit makes more calls than that"


def interrupted_at(step: int, make) -> bool:
    """Interrupt a commit at its n-th chance, check what is left; False if it has fewer."""
    journal = SqliteJournal(None, is_owner_alive=lambda _: True)
    run, source, run_id = begin(journal, make)
    source.put(make.chain(0, 2))
    calls = 0

    def interrupt(frame, event, _argument):
        nonlocal calls
        # The interpreter looks for signals when a function begins and after a built-in one returned.
        if event in {"call", "c_return"} and "/flowbuilder/store/" in frame.f_code.co_filename:
            calls += 1
            if calls == step:
                sys.setprofile(None)
                raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        run.sync()
        run.close()
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)

    run.is_closing = False
    journal._group.live[run_id] = run
    source.put(make.block([2]))
    run.sync()
    assert [seq for seq, _ in events_of(journal, run_id)] == [0, 1, 2, 3, 4], f"step {step}"
    assert journal.load_run(run_id).summary.counts == {"succeeded": 3}
    journal.close()
    return calls >= step


def test_broken_record_fails_its_run_and_no_other(journal, make):
    bad, bad_source, _ = begin(journal, make)
    good, good_source, good_id = begin(journal, make)
    bad_source.put(object())
    good_source.put(make.chain(0, 3))
    bad.is_dirty = True
    journal._group._dirty.append(bad)

    good.sync()
    with pytest.raises(InternalError, match="broken"):
        bad.sync()
    with pytest.raises(InternalError, match="broken"):
        bad.notify()

    assert journal.find_run(good_id).counts == {"succeeded": 3}


def test_source_that_raises_fails_its_run_and_no_other(journal, make):
    bad, bad_source, _ = begin(journal, make)
    good, good_source, good_id = begin(journal, make)

    def take():
        raise RuntimeError("bug")

    bad_source.take = take
    good_source.put(make.chain(0, 3))
    with pytest.raises(InternalError, match="bug"):
        bad.sync()
    good.sync()

    assert journal.find_run(good_id).counts == {"succeeded": 3}


def test_two_owners_of_one_run_cannot_both_record(disk_journal, make, alive):
    run, source, run_id = begin(disk_journal, make)
    source.put(make.chain(0, 1), RunStateChanged(state="failed"))
    run.sync()
    thief_journal = SqliteJournal(disk_journal.path, is_owner_alive=lambda _: False)
    thief_source = make.source()
    thief = thief_journal.adopt_run(run_id, make.created("thief"), thief_source)
    bystander, bystander_source, bystander_id = begin(disk_journal, make)
    bystander_source.put(make.chain(0, 3))
    bystander.is_dirty = True
    disk_journal._group._dirty.append(bystander)

    source.put(make.block([1]))
    with pytest.raises(StorageError, match="cannot be recorded"):
        run.sync()
    thief_source.put(make.block([2]))
    thief.sync()

    assert disk_journal.find_run(bystander_id).counts == {"succeeded": 3}
    assert thief_journal.load_run(run_id).summary.counts == {"pending": 1, "succeeded": 2}
    thief_journal.close()


def test_removed_journal_file_is_noticed(tmp_path, make):
    journal = SqliteJournal(tmp_path / "journal.db", is_owner_alive=lambda _: True)
    run, source, _ = begin(journal, make)
    run.sync()
    journal.path.unlink()
    source.put(make.chain(0, 3))

    with pytest.raises(StorageError, match="moved or removed"):
        run.sync()
    with pytest.raises(StorageError, match="moved or removed"):
        journal.close()


def test_several_journals_on_one_file_write_at_once(tmp_path, make):
    path = tmp_path / "journal.db"
    journals = [SqliteJournal(path, is_owner_alive=lambda _: True) for _ in range(3)]

    def work(number: int) -> None:
        run, source, _ = begin(journals[number], make, 40, run_id=f"run-{number}")
        for i in range(40):
            source.put(make.block([i]))
            run.sync()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number in range(3):
        assert journals[0].load_run(f"run-{number}").summary.counts == {"succeeded": 40}
    for opened in journals:
        opened.close()


def test_log_starts_over_instead_of_growing(disk_journal, make, wait_until):
    run, source, _ = begin(disk_journal, make, 1000)
    run.sync()
    wal = disk_journal.path.with_name("journal.db-wal")
    checkpoints = disk_journal._checkpoints
    for _ in range(40):
        for _ in range(4):
            source.put(big_block(make, 0, 100))
            run.sync()
        wait_until(lambda: not checkpoints.is_urgent)

    assert wal.stat().st_size < 20 * 2**20, "64 MB were written"


def test_idle_journal_is_checkpointed(disk_journal, make, wait_until):
    run, source, _ = begin(disk_journal, make)
    source.put(make.chain(0, 3))
    run.notify()

    wait_until(lambda: disk_journal.path.stat().st_size > 4096)

    assert not disk_journal._checkpoints.is_pending


def test_ten_thousand_quiet_runs_cost_a_busy_one_nothing(disk_journal, make):
    quiet = [begin(disk_journal, make) for _ in range(2000)]
    for run, _, _ in quiet:
        run.is_dirty = True
        disk_journal._group._dirty.append(run)
    run, source, _ = begin(disk_journal, make)
    run.sync()
    taken = 0

    def take():
        nonlocal taken
        taken += 1
        return []

    for _, other_source, _ in quiet:
        other_source.take = take
    source.put(make.chain(0, 3))
    run.sync()

    assert taken == 0


def test_columns_of_wrong_length_fail_only_their_run(journal, make):
    bad, source, _ = begin(journal, make)
    source.put(
        AttemptBlock(
            instances=array("i", [0, 1]),
            ends_ns=array("q", [1, 2]),
            outputs=None,
            states=array("B"),
        )
    )

    with pytest.raises(InternalError, match="expected 2 values in 'states'"):
        bad.sync()


def test_urgent_record_does_not_wait_for_a_resting_flusher(
    disk_journal, make, wait_until, monkeypatch
):
    monkeypatch.setattr(flusher_module, "_SHARE", 1e9)
    lazy, lazy_source, _ = begin(disk_journal, make, durability="none")
    urgent, urgent_source, _ = begin(disk_journal, make)
    urgent.sync()
    flusher = disk_journal._group._flusher
    lazy_source.put(make.chain(0, 1))
    lazy.notify()
    wait_until(lambda: flusher.is_resting and not lazy.taken)
    lazy_source.put(make.chain(1, 1))
    lazy.notify()
    assert flusher.is_resting
    assert lazy.is_dirty

    urgent_source.put(make.chain(0, 1))
    urgent.notify()

    wait_until(lambda: not urgent.is_dirty and not urgent.taken)
    wait_until(lambda: not lazy.is_dirty and not lazy.taken)


def test_batch_nobody_waits_for_is_bounded_and_all_is_written(
    disk_journal, make, wait_until, monkeypatch
):
    monkeypatch.setattr(group_commit_module, "_MOST_RELAXED", 7)
    batches = []
    write = GroupCommit._write

    def count(group, batch):
        batches.append(len(batch.runs))
        return write(group, batch)

    monkeypatch.setattr(GroupCommit, "_write", count)
    runs = []
    with disk_journal._group._lock:  # nothing is written meanwhile
        for _ in range(100):
            run, source, run_id = begin(disk_journal, make, durability="none")
            source.put(make.chain(0, 3))
            run.notify()
            runs.append((run, run_id))

    wait_until(lambda: not any(run.is_dirty or run.taken for run, _ in runs))
    assert max(batches) <= 7
    assert all(disk_journal.find_run(run_id).counts == {"succeeded": 3} for _, run_id in runs)


def test_flusher_does_not_rest_while_an_urgent_run_streams(disk_journal, make, monkeypatch):
    monkeypatch.setattr(Flusher, "wake", lambda _flusher: None)  # this test flushes by itself
    run, source, _ = begin(disk_journal, make, 3)
    source.is_streaming = True
    source.put(make.chain(0, 1))
    run.notify()

    disk_journal._group.flush()
    disk_journal._group.flush()

    assert not disk_journal._group.is_relaxed
