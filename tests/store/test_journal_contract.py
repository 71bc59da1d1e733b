"""What every journal keeps: the contract of `flowbuilder.store.ports.Journal`, for each
implementation. What only one of them does is tested beside it.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from flowbuilder.errors import RecoveryError, StorageError
from flowbuilder.records import (
    ABSENT,
    ArtifactStored,
    AttemptFailed,
    AttemptFinished,
    AttemptStarted,
    LogChunk,
    RetryScheduled,
    RunCreated,
    RunStateChanged,
    TaskReset,
    TaskSkipped,
    UnknownEvent,
    WorkflowCreated,
)
from flowbuilder.vocabulary import RunState, TaskState


def begin(journal, make, task_count=3, **header):
    source = make.source()
    run_header = make.header(plan_id=f"plan{task_count}", **header)
    version = make.version(task_count, f"plan{task_count}")
    run = journal.open_run(version, run_header, make.created(), source)
    return run, source, run_header.run_id


def finish(run, source, state="succeeded", **more):
    source.put(RunStateChanged(state=state, time_ns=5, **more))
    run.sync()
    run.close()


def test_open_run_writes_nothing_before_the_first_flush(journal, make):
    begin(journal, make)

    assert journal.list_runs() == []
    assert journal.last_pos() == 0


def test_sync_puts_records_on_disk_in_order(journal, make):
    run, source, run_id = begin(journal, make)
    source.put(
        AttemptStarted(instance=0, attempt=1, time_ns=7),
        make.block([0, 1], outputs=[42, {"a": [1, None]}]),
        LogChunk(instance=1, attempt=1, stream="stdout", text="hi\n"),
    )
    finish(run, source)

    events = list(journal.events(run_id))

    assert [type(event) for event in events] == [
        RunCreated,
        WorkflowCreated,
        AttemptStarted,
        AttemptFinished,
        AttemptFinished,
        LogChunk,
        RunStateChanged,
    ]
    assert [event.seq for event in events] == list(range(7))
    assert {event.run_id for event in events} == {run_id}
    assert events[3] == AttemptFinished(
        run_id=run_id,
        seq=3,
        time_ns=300,
        instance=0,
        attempt=1,
        state="succeeded",
        worker=0,
        ready_ns=100,
        start_ns=200,
        end_ns=300,
        output=42,
    )
    assert events[4].output == {"a": [1, None]}


def test_events_after_a_sequence_number_begin_inside_a_block(journal, make):
    run, source, run_id = begin(journal, make, 6)
    source.put(make.chain(0, 6))
    finish(run, source)

    rest = list(journal.events(run_id, after_seq=4))

    assert [event.seq for event in rest] == [5, 6, 7, 8]
    assert [event.instance for event in rest[:3]] == [3, 4, 5]
    assert list(journal.events(run_id, after_seq=8)) == []
    assert list(journal.events(run_id, after_seq=99)) == []


def test_chained_block_derives_starts_from_ends(journal, make):
    run, source, run_id = begin(journal, make)
    source.put(make.chain(0, 3))
    finish(run, source)

    rows = [e for e in journal.events(run_id) if isinstance(e, AttemptFinished)]

    assert [(e.start_ns, e.end_ns) for e in rows] == [(990, 1000), (1000, 1010), (1010, 1020)]
    assert all(e.ready_ns == e.start_ns and e.output is None for e in rows)


def test_version_is_stored_once_and_announced_once(journal, make):
    first, second = begin(journal, make), begin(journal, make)
    finish(first[0], first[1])
    finish(second[0], second[1])

    kinds = [[type(e) for e in journal.events(r[2])] for r in (first, second)]

    assert WorkflowCreated in kinds[0]
    assert WorkflowCreated not in kinds[1]
    assert journal.version("plan3") == make.version(3, "plan3")
    with pytest.raises(StorageError, match="found no 'other'"):
        journal.version("other")


def test_summary_counts_tasks_by_state(journal, make):
    run, source, run_id = begin(journal, make, 5)
    source.put(
        AttemptStarted(instance=0, attempt=1),
        AttemptStarted(instance=1, attempt=1),
        make.block([0], TaskState.FAILED),
        RetryScheduled(instance=0, attempt=2, delay_s=1.0, due_ns=9),
        TaskSkipped(instance=4, reason="upstream"),
        make.block([4], TaskState.SKIPPED, outputs=[ABSENT]),
    )
    run.sync()

    summary = journal.find_run(run_id)

    assert summary.counts == {"pending": 2, "waiting": 1, "running": 1, "skipped": 1}
    assert summary.task_count == 5
    assert summary.last_seq == 7
    assert summary.owner == "engine"
    assert summary.params == {"n": 1}


def test_summary_of_a_finished_run_has_its_error_and_duration(journal, make):
    created, source, header = make.created(), make.source(), make.header()
    run = journal.open_run(make.version(), header, created, source)
    ended = created.monotonic_ns + 2_500_000_000
    source.put(RunStateChanged(state="failed", error="boom", error_task="t1", time_ns=ended))
    run.sync()
    run.close()

    summary = journal.find_run(header.run_id)

    assert (summary.state, summary.error, summary.error_task) == (RunState.FAILED, "boom", "t1")
    assert summary.duration_s == pytest.approx(2.5)
    assert summary.started_wall_ns == created.wall_ns


def test_run_without_a_living_owner_is_interrupted(journal, make, alive):
    run, source, run_id = begin(journal, make)
    source.put(RunStateChanged(state="running"))
    run.sync()

    assert journal.find_run(run_id).state is RunState.RUNNING
    alive.clear()
    assert journal.find_run(run_id).state is RunState.INTERRUPTED
    assert [r.run_id for r in journal.list_runs(state=RunState.INTERRUPTED)] == [run_id]
    assert journal.list_runs(state=RunState.RUNNING) == []


def test_find_run_takes_ids_suffixes_and_latest(journal, make):
    ids = ["aaaa-1234", "bbbb-1234", "cccc-5678"]
    for run_id in ids:
        finish(*begin(journal, make, run_id=run_id)[:2])

    assert journal.find_run("latest").run_id == "cccc-5678"
    assert journal.find_run("5678").run_id == "cccc-5678"
    assert journal.find_run(" AAAA-1234 ").run_id == "aaaa-1234"
    with pytest.raises(StorageError, match=r"several.*bbbb-1234, aaaa-1234"):
        journal.find_run("1234")
    for nothing in ("nope", "", "%", "_" * 500):
        with pytest.raises(StorageError, match="expected a run id"):
            journal.find_run(nothing)


def test_find_run_in_an_empty_journal_says_so(journal):
    with pytest.raises(StorageError, match="none in this store"):
        journal.find_run("latest")


def test_list_runs_is_newest_first_and_filters(journal, make):
    for i in range(5):
        state = "failed" if i % 2 else "succeeded"
        finish(*begin(journal, make, run_id=f"run-{i}")[:2], state=state)

    assert [r.run_id for r in journal.list_runs(limit=2)] == ["run-4", "run-3"]
    assert [r.run_id for r in journal.list_runs(state=RunState.FAILED)] == ["run-3", "run-1"]
    assert journal.list_runs(workflow="other") == []
    assert len(journal.list_runs(workflow="demo")) == 5


def test_load_run_gives_states_attempts_outputs_and_artifacts(journal, make):
    run, source, run_id = begin(journal, make, 6, initial_states={5: TaskState.SUCCEEDED})
    artifact = ArtifactStored(
        instance=1, attempt=1, name="out", format="bytes", path="x", size_bytes=1, digest="d"
    )
    stale = ArtifactStored(
        instance=2, attempt=1, name="out", format="bytes", path="y", size_bytes=1, digest="d"
    )
    source.put(
        artifact,
        stale,
        make.block([0, 1], outputs=["small", ABSENT]),
        make.block([2], TaskState.FAILED, outputs=[None]),
        AttemptFailed(instance=2, attempt=1, failure="error"),
        make.block([2], attempts=[2], outputs=[ABSENT]),
        AttemptStarted(instance=3, attempt=1),
    )
    run.sync()

    saved = journal.load_run(run_id)

    assert saved.states == [
        TaskState.SUCCEEDED,
        TaskState.SUCCEEDED,
        TaskState.SUCCEEDED,
        TaskState.RUNNING,
        TaskState.PENDING,
        TaskState.SUCCEEDED,
    ]
    assert saved.attempts == [1, 1, 2, 1, 0, 0]
    assert saved.outputs == {0: "small"}
    assert {i: a.path for i, a in saved.artifacts.items()} == {1: "x"}
    assert saved.started == {3}
    assert saved.version.keys == tuple(f"t{i}" for i in range(6))
    assert {a.path for a in journal.artifacts(run_id)} == {"x", "y"}


def test_load_run_keeps_every_small_output_exactly(journal, make):
    import msgspec

    tree = {"__type__": "x", "": [True, -0.0, 2**63 - 1, -(2**63), "é\0", b"\xff"], "k": {}}
    outputs = [None, 0, False, "", b"", 1.5, ABSENT, msgspec.Raw(msgspec.msgpack.encode(tree))]
    run, source, run_id = begin(journal, make, 8)
    source.put(make.block(list(range(8)), outputs=outputs))
    finish(run, source)

    found = journal.load_run(run_id).outputs

    expected = {0: None, 1: 0, 2: False, 3: "", 4: b"", 5: 1.5, 7: tree}
    assert repr(found) == repr(expected)


def test_task_reset_forgets_what_was_settled(journal, make):
    run, source, run_id = begin(journal, make)
    source.put(make.chain(0, 3), TaskReset(instance=1, reason="retry"))
    run.sync()

    saved = journal.load_run(run_id)

    assert saved.states[1] is TaskState.PENDING
    assert sorted(saved.outputs) == [0, 2]
    assert saved.summary.counts == {"pending": 1, "succeeded": 2}


def test_dynamic_instances_are_appended(journal, make):
    run, source, run_id = begin(journal, make, 2)
    source.put(make.block([0, 5, 3]), AttemptStarted(instance=7, attempt=1))
    run.sync()

    saved = journal.load_run(run_id)

    assert len(saved.states) == len(saved.attempts) == 8
    assert saved.summary.counts == {"pending": 4, "running": 1, "succeeded": 3}
    assert saved.summary.task_count == 8


def test_adopting_a_run_continues_its_records(journal, make, alive):
    run, source, run_id = begin(journal, make)
    source.put(make.chain(0, 2))
    finish(run, source, state="failed", error="no")
    second = make.source()
    alive.add("other")

    adopted = journal.adopt_run(run_id, make.created("other", resumed=True), second)

    assert journal.find_run(run_id).owner == "other"
    assert journal.find_run(run_id).state is RunState.RUNNING
    assert journal.find_run(run_id).error == ""
    second.put(make.block([2]))
    finish(adopted, second)
    assert [e.seq for e in journal.events(run_id)] == list(range(8))
    assert journal.load_run(run_id).summary.counts == {"succeeded": 3}
    assert journal.find_run(run_id).state is RunState.SUCCEEDED


def test_adopting_a_living_run_is_refused_with_its_owner(open_place, make, alive):
    journal, other = open_place(), open_place()
    run, source, run_id = begin(journal, make)
    source.put(RunStateChanged(state="running"))
    run.sync()

    with pytest.raises(RecoveryError, match="process 4711 on somewhere"):
        other.adopt_run(run_id, make.created("other"), make.source())
    alive.clear()
    other.adopt_run(run_id, make.created("other"), make.source())


def test_adopting_an_open_run_of_this_process_is_refused(journal, make):
    run, source, run_id = begin(journal, make)
    source.put(RunStateChanged(state="failed"))
    run.sync()

    with pytest.raises(RecoveryError, match="still open in this process"):
        journal.adopt_run(run_id, make.created("other"), make.source())


def test_adopting_a_succeeded_or_missing_run_is_refused(journal, make):
    run, source, run_id = begin(journal, make)
    finish(run, source)

    with pytest.raises(RecoveryError, match="has succeeded"):
        journal.adopt_run(run_id, make.created("other"), make.source())
    with pytest.raises(StorageError, match="found no 'nope'"):
        journal.adopt_run("nope", make.created("other"), make.source())


def test_adopted_once_is_adopted_for_everybody(open_place, make, alive):
    journal, other = open_place(), open_place()
    run, source, run_id = begin(journal, make)
    finish(run, source, state="failed")
    alive.add("first")
    journal.adopt_run(run_id, make.created("first"), make.source())

    with pytest.raises(RecoveryError):
        other.adopt_run(run_id, make.created("second"), make.source())


def test_remove_runs_deletes_all_but_living_ones(journal, make):
    run, source, done = begin(journal, make)
    source.put(
        ArtifactStored(
            instance=0, attempt=1, name="a", format="bytes", path="p", size_bytes=1, digest="d"
        )
    )
    finish(run, source)
    living = begin(journal, make)
    living[0].sync()

    assert journal.remove_runs([done, done, living[2], "nope"]) == 1
    assert [r.run_id for r in journal.list_runs()] == [living[2]]
    assert list(journal.events(done)) == []
    assert journal.artifacts(done) == []
    with pytest.raises(StorageError):
        journal.load_run(done)


def test_positions_are_never_reused_after_removal(journal, make):
    run, source, run_id = begin(journal, make)
    finish(run, source)
    newest = journal.last_pos()
    journal.remove_runs([run_id])

    run, source, run_id = begin(journal, make)
    finish(run, source)

    assert {e.run_id for e in journal.tail(newest).events} == {run_id}


def test_tail_pages_over_all_runs_in_write_order(journal, make):
    one, two = begin(journal, make), begin(journal, make)
    one[0].sync()
    two[1].put(make.chain(0, 3))
    two[0].sync()
    finish(one[0], one[1])

    seen, pos = [], 0
    while page := journal.tail(pos, limit=1):
        if not page.events:
            break
        seen += page.events
        pos = page.next_pos

    assert [e.run_id for e in seen] == [one[2]] * 2 + [two[2]] * 4 + [one[2]]
    assert journal.tail(pos).next_pos == pos == journal.last_pos()


def test_logs_are_found_by_instance(journal, make):
    run, source, run_id = begin(journal, make)
    for i in range(200):
        source.put(LogChunk(instance=i % 2, attempt=1, stream="stdout", text=f"{i}\n"))
        source.put(make.block([i % 2]))
    finish(run, source)

    assert [c.text for c in journal.logs(run_id, instance=1)] == [
        f"{i}\n" for i in range(1, 200, 2)
    ]
    assert len(list(journal.logs(run_id))) == 200


def test_reading_shows_what_was_notified_before(journal, make):
    run, source, run_id = begin(journal, make)
    source.put(make.chain(0, 1))
    run.notify()

    assert journal.find_run(run_id).counts == {"pending": 2, "succeeded": 1}


def test_unknown_kinds_are_kept(journal, make):
    run, source, run_id = begin(journal, make)
    fact = UnknownEvent(original_kind="task_dreamt", body={"instance": 1, "time_ns": 4, "x": [1]})
    source.put(fact)
    finish(run, source)

    found = [e for e in journal.events(run_id) if isinstance(e, UnknownEvent)]

    assert [(e.original_kind, e.body, e.time_ns) for e in found] == [("task_dreamt", fact.body, 4)]


def test_text_that_has_no_utf8_is_kept_readable(journal, make):
    run, source, run_id = begin(journal, make)
    source.put(LogChunk(instance=0, attempt=1, stream="stdout", text="a\udcffb"))
    source.put(make.block([0, 1], outputs=["\ud800", "fine"]))
    finish(run, source, state="failed", error="bad \udcff")

    assert next(journal.logs(run_id)).text == "a\\udcffb"
    assert journal.load_run(run_id).outputs == {1: "fine"}
    assert journal.find_run(run_id).error == "bad \\udcff"


def test_parameters_without_a_text_form_do_not_stop_a_run(journal, make):
    params = {"table": object(), "big": 2**70, "huge": 10**5000, "text": "\ud800", "n": 1}
    run, source, run_id = begin(journal, make, params=params)
    finish(run, source)

    found = journal.find_run(run_id).params

    assert found["n"] == 1
    assert set(found) == set(params)


def test_empty_blocks_are_not_written(journal, make):
    run, source, run_id = begin(journal, make)
    run.sync()
    before = journal.last_pos()
    source.put(make.block([]), make.chain(0, 0))
    run.sync()

    assert journal.last_pos() == before
    assert len(list(journal.events(run_id))) == 2


def test_long_runs_leave_a_snapshot(journal, make):
    run, source, run_id = begin(journal, make, 70_000)
    assert journal.snapshot(run_id) is None
    source.put(make.chain(0, 66_000))
    run.sync()
    source.put(make.block([66_000], TaskState.FAILED))
    run.sync()

    seq, states = journal.snapshot(run_id)

    assert seq == 66_001
    assert [states.count(code) for code in (4, 0)] == [66_000, 4_000]


def test_adopting_a_long_run_starts_from_its_snapshot(journal, make, alive):
    run, source, run_id = begin(journal, make, 70_000)
    source.put(make.chain(0, 66_000))
    run.sync()
    source.put(make.block([66_001, 66_000], [TaskState.FAILED, TaskState.SUCCEEDED]))
    finish(run, source, state="failed")

    second = make.source()
    adopted = journal.adopt_run(run_id, make.created(), second)
    second.put(make.block([66_001], attempts=[2]))
    finish(adopted, second)

    saved = journal.load_run(run_id)
    assert saved.summary.counts == {"pending": 3_998, "succeeded": 66_002}
    assert saved.attempts[66_001] == 2


def test_closed_journal_says_so(open_place, make):
    journal = open_place()
    run, *_ = begin(journal, make)
    journal.close()
    journal.close()

    for use in (run.sync, journal.list_runs, lambda: begin(journal, make)):
        with pytest.raises(StorageError, match="closed"):
            use()


def test_closing_the_journal_writes_what_is_left(open_place, make):
    journal = open_place()
    run, source, run_id = begin(journal, make)
    source.put(make.chain(0, 3))
    run.notify()
    journal.close()

    assert open_place().find_run(run_id).counts == {"succeeded": 3}


def test_synced_records_are_seen_by_everybody_at_once(open_place, make):
    journal, other = open_place(), open_place()
    run, source, run_id = begin(journal, make)
    source.put(make.chain(0, 2))
    assert other.list_runs() == []

    run.sync()

    assert other.find_run(run_id).counts == {"pending": 1, "succeeded": 2}
    assert [event.seq for event in other.events(run_id)] == [0, 1, 2, 3]
    assert other.tail(0).next_pos == other.last_pos() == journal.last_pos()


def test_notified_records_reach_everybody_without_a_waiter(open_place, make, wait_until):
    journal, other = open_place(), open_place()
    run, source, run_id = begin(journal, make)
    source.put(make.chain(0, 3))
    run.notify()

    wait_until(lambda: [r.counts for r in other.list_runs()] == [{"succeeded": 3}])
    assert other.find_run("latest").run_id == run_id


def test_run_begun_by_one_journal_is_read_whole_by_another(open_place, make):
    journal, other = open_place(), open_place()
    run, source, run_id = begin(journal, make, params={"a": [1, None, "é"]}, parent_run_id="p")
    source.put(make.block([0, 1, 2], outputs=[1, {"k": b"\0"}, ABSENT]))
    finish(run, source)

    saved, there = journal.load_run(run_id), other.load_run(run_id)

    assert there == saved
    assert there.outputs == {0: 1, 1: {"k": b"\0"}}
    assert there.header.params == {"a": [1, None, "é"]}
    assert there.summary.parent_run_id == "p"


def test_two_owners_cannot_both_record(open_place, make, alive):
    journal, other = open_place(), open_place()
    run, source, run_id = begin(journal, make)
    source.put(make.chain(0, 1), RunStateChanged(state="failed"))
    run.sync()
    thief_source = make.source()
    alive.clear()
    thief = other.adopt_run(run_id, make.created("thief"), thief_source)

    source.put(make.block([1]))
    with pytest.raises(StorageError, match="cannot be recorded"):
        run.sync()
    thief_source.put(make.block([2]))
    thief.sync()

    assert other.load_run(run_id).summary.counts == {"pending": 1, "succeeded": 2}
    bystander, bystander_source, bystander_id = begin(journal, make)
    bystander_source.put(make.chain(0, 3))
    finish(bystander, bystander_source)
    assert other.find_run(bystander_id).counts == {"succeeded": 3}


def test_of_many_who_adopt_at_once_one_wins(open_place, make, alive):
    journals = [open_place() for _ in range(4)]
    run, source, run_id = begin(journals[0], make)
    finish(run, source, state="failed")
    alive.update(f"engine-{n}" for n in range(4))
    start = threading.Barrier(4)

    def adopt(number: int) -> str:
        start.wait()
        try:
            journals[number].adopt_run(run_id, make.created(f"engine-{number}"), make.source())
        except RecoveryError:
            return ""
        return f"engine-{number}"

    with ThreadPoolExecutor(4) as pool:
        winners = [name for name in pool.map(adopt, range(4)) if name]

    assert winners == [journals[0].find_run(run_id).owner]


def test_tail_skips_nothing_while_several_write(open_place, make):
    writers, reader = [open_place() for _ in range(3)], open_place()
    expected = 25
    done = threading.Event()

    def write(number: int) -> None:
        run, source, _ = begin(writers[number], make, expected, run_id=f"run-{number}")
        for i in range(expected):
            source.put(make.block([i]))
            run.sync()

    def follow() -> list[tuple[str, int]]:
        seen, pos = [], 0
        while True:
            is_last = done.is_set()
            page = reader.tail(pos, limit=7)
            seen += [(e.run_id, e.seq) for e in page.events if isinstance(e, AttemptFinished)]
            if is_last and page.next_pos == pos:
                return seen
            pos = page.next_pos

    with ThreadPoolExecutor(4) as pool:
        following = pool.submit(follow)
        try:
            list(pool.map(write, range(3)))
        finally:
            done.set()
        seen = following.result()

    for number in range(3):
        mine = [seq for run_id, seq in seen if run_id == f"run-{number}"]
        assert mine == sorted(mine)
        assert len(mine) == expected
    assert len(seen) == 3 * expected


def test_big_records_come_back_whole(journal, make):
    text = "0123456789abcdef" * 2**18 + "é\0"
    run, source, run_id = begin(journal, make)
    source.put(LogChunk(instance=0, attempt=1, stream="stdout", text=text))
    source.put(make.block([0, 1], outputs=[text, 1]))
    finish(run, source)

    assert next(journal.logs(run_id)).text == text
    assert journal.load_run(run_id).outputs == {0: text, 1: 1}


NASTY = [
    "a\0b",
    "\u202egnirts",
    "'; DROP TABLE journal; --",
    "%s %(x)s ?",
    "é\N{SNOWMAN}𝄞",
    "\ue000",
]


@pytest.mark.parametrize("text", NASTY)
def test_names_may_hold_anything(journal, make, text):
    run, source, run_id = begin(journal, make, workflow=text)
    artifact = ArtifactStored(
        instance=0, attempt=1, name=text, format="bytes", path=text, size_bytes=1, digest="d"
    )
    source.put(artifact)
    source.put(UnknownEvent(original_kind=text, body={text: text}))
    finish(run, source, state="failed", error=text, error_task=text)

    (summary,) = journal.list_runs(workflow=text)

    assert (summary.workflow, summary.error, summary.error_task) == (text, text, text)
    assert [(a.name, a.path) for a in journal.artifacts(run_id)] == [(text, text)]
    assert next(e for e in journal.events(run_id) if isinstance(e, UnknownEvent)).body == {
        text: text
    }
    for nothing in (text, f"{text}{text}"):
        with pytest.raises(StorageError, match="expected a run id"):
            journal.find_run(nothing)


def test_instants_and_sizes_may_be_as_large_as_64_bits(journal, make):
    largest = 2**63 - 1
    run, source, run_id = begin(journal, make)
    source.put(
        AttemptStarted(instance=2, attempt=2**31, time_ns=largest),
        ArtifactStored(
            instance=0,
            attempt=1,
            name="a",
            format="bytes",
            path="p",
            size_bytes=largest,
            digest="d",
            num_rows=largest,
        ),
    )
    run.sync()

    assert [a.size_bytes for a in journal.artifacts(run_id)] == [largest]
    assert journal.load_run(run_id).attempts[2] == 2**31


def test_removed_runs_can_be_recorded_again(open_place, make):
    journal, other = open_place(), open_place()
    run, source, run_id = begin(journal, make, run_id="run-x")
    finish(run, source)
    assert other.remove_runs([run_id]) == 1

    run, source, _ = begin(journal, make, run_id="run-x")
    source.put(make.chain(0, 3))
    finish(run, source)

    assert other.find_run("run-x").counts == {"succeeded": 3}
    assert other.version("plan3") == make.version(3, "plan3")


def test_living_runs_of_others_are_not_removed(open_place, make, alive):
    journal, other = open_place(), open_place()
    run, source, run_id = begin(journal, make)
    source.put(RunStateChanged(state="running"))
    run.sync()

    assert other.remove_runs([run_id]) == 0
    alive.clear()
    assert other.remove_runs([run_id]) == 1
    assert journal.list_runs() == []


DAMAGES = [
    ("UPDATE journal SET crc32 = crc32 + 1 WHERE first_seq = 2", "record 2"),
    ("UPDATE journal SET first_seq = first_seq + 1 WHERE first_seq >= 2", "records 2 to 2"),
    ("DELETE FROM journal WHERE first_seq = 2", "records 2 to"),
    ("DELETE FROM journal WHERE first_seq = -1", "found no"),
    ("UPDATE versions SET crc32 = crc32 + 1", "version"),
    ("UPDATE runs SET state = 'running'", "summary"),
]


@pytest.mark.parametrize(("statement", "named"), DAMAGES)
def test_damage_is_an_error_that_names_its_place(place, open_place, make, statement, named):
    journal = open_place()
    run, source, run_id = begin(journal, make)
    run.sync()  # each commit begins a new row
    source.put(make.chain(0, 3))
    run.sync()
    finish(run, source)
    whole = list(journal.events(run_id))
    place.execute(statement)

    with pytest.raises(StorageError, match=named):
        open_place().load_run(run_id)
    seen = []
    with suppress(StorageError):
        seen.extend(journal.events(run_id))
    assert seen == whole[: len(seen)]
