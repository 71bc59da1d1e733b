"""What the history says of recorded runs."""

from __future__ import annotations

import threading

import pytest

from flowbuilder.errors import QueryError, StorageError
from tests.history.conftest import MAY, everything


def test_run_is_one_row(store):
    run = store.run(n=3).block([0, 1]).skipped(2).finished(3, "cached").finished(4).ended()

    (row,) = store.history.sql(
        "SELECT run_id, workflow, state, tasks, succeeded, skipped, cached, attempts, lives,"
        " params->>'n' AS n, epoch_ns(started_at) AS at FROM runs"
    ).to_dicts()

    assert row == {
        "run_id": run.run_id,
        "workflow": "demo",
        "state": "succeeded",
        "tasks": 5,
        "succeeded": 3,
        "skipped": 1,
        "cached": 1,
        "attempts": 5,
        "lives": 1,
        "n": "3",
        "at": MAY + 1_000_000_000,
    }


def test_task_row_has_times_error_and_executor(store):
    store.run().started(1).failed(1).retried(1).finished(1, attempt=2).ended("failed", "it broke")

    rows = store.rows(
        "SELECT task, type, attempt, state, executor, error_type, error, location,"
        " round(duration_s * 1e3), round(queued_s * 1e3) FROM tasks ORDER BY seq"
    )

    assert rows == [
        (
            "clean",
            "script",
            1,
            "failed",
            "thread",
            "KeyError",
            "no such column",
            "demo.flow.yaml:3",
            13,
            7,
        ),
        ("clean", "script", 2, "succeeded", "", "", "", "", 13, 7),
    ]


def test_parts_of_a_map_share_their_task(store):
    store.run().finished(2).finished(3).ended()

    assert store.rows("SELECT task, key, type FROM tasks ORDER BY key") == [
        ("part", "part[0]", "sql"),
        ("part", "part[1]", "sql"),
    ]


def test_skipped_task_has_its_reason_and_no_duration(store):
    store.run().skipped(0, "not today").ended()

    assert store.rows("SELECT state, reason, duration_s, started_at FROM tasks") == [
        ("skipped", "not today", None, None)
    ]


def test_events_hold_every_record_once(store):
    run = store.run().block([0, 1]).logged(1, "三 rows\n").stored(1).measured("loss", 0.5).ended()

    seqs = [seq for (seq,) in store.rows("SELECT seq FROM events ORDER BY seq")]

    assert seqs == [event.seq for event in store.journal.events(run.run_id)]
    assert store.rows("SELECT detail->>'text', key FROM events WHERE kind = 'log'") == [
        ("三 rows\n", "clean")
    ]


def test_artifacts_and_metrics(store):
    store.run().stored(1, rows=7).measured("loss", 0.5).finished(1).ended()

    assert store.rows("SELECT key, num_rows, size_bytes FROM artifacts") == [("clean", 7, 56)]
    found = dict(store.rows("SELECT name, value FROM metrics"))
    assert found["loss"] == 0.5
    assert found["pool:db"] == 2.0
    assert found["output_bytes"] == 56.0
    assert found["attempts"] == 1.0


def test_running_attempt_is_open_until_it_ends(store):
    run = store.run().started(0).sync()
    assert store.rows("SELECT state, is_open, executor FROM tasks") == [("running", True, "thread")]

    run.finished(0).ended()

    assert store.rows("SELECT state, is_open, executor FROM tasks") == [
        ("succeeded", False, "thread")
    ]


def test_unfinished_run_of_a_gone_process_is_interrupted(store):
    store.run().started(0).sync()
    assert store.rows("SELECT state FROM runs") == [("running",)]

    store.alive.clear()

    assert store.rows("SELECT state FROM runs") == [("interrupted",)]


def test_resumed_run_closes_what_the_dead_process_left(store):
    run = store.run().finished(0).started(1).sync()
    run.handle.close()
    store.alive.clear()
    store.rows("SELECT 1 FROM runs")
    store.adopt(run).finished(1, attempt=2).ended()

    assert store.rows("SELECT task, attempt, state FROM tasks ORDER BY task, attempt") == [
        ("clean", 1, "unknown"),
        ("clean", 2, "succeeded"),
        ("load", 1, "succeeded"),
    ]
    assert store.rows("SELECT state, lives FROM runs") == [("succeeded", 2)]


def test_facts_split_over_two_looks_become_one_row(store):
    run = store.run().started(1)
    from flowbuilder.records import AttemptFailed

    run.put(
        AttemptFailed(instance=1, attempt=1, failure="error", error_type="E", message="split")
    ).sync()
    store.rows("SELECT 1 FROM runs")
    run.finished(1, "failed").ended("failed")

    assert store.rows("SELECT state, error FROM tasks") == [("failed", "split")]


def test_removed_run_vanishes_with_its_counts(store):
    gone = store.run(workflow="gone").finished(0).failed(1).ended("failed", "x")
    store.run(workflow="stays").finished(0).ended()
    assert store.rows("SELECT count(*) FROM runs") == [(2,)]

    store.journal.remove_runs([gone.run_id])

    assert store.rows("SELECT workflow FROM runs") == [("stays",)]
    assert store.rows("SELECT DISTINCT workflow FROM events") == [("stays",)]
    assert [row[0] for row in store.rows("SELECT workflow FROM cost WHERE attempts > 0")] == [
        "stays"
    ]
    fresh = store.open_history("again")
    assert everything(store.history) == everything(fresh)


def test_other_journal_in_the_same_place_is_noticed(store, tmp_path):
    store.run().finished(0).ended()
    assert store.rows("SELECT count(*) FROM runs") == [(1,)]
    from flowbuilder.history.history import History
    from flowbuilder.store.sqlite_journal import SqliteJournal

    other = SqliteJournal(tmp_path / "other.db", is_owner_alive=store.is_alive)
    history = History(other, store.months, store.folder / "history", store.is_alive)

    assert history.sql("SELECT count(*) FROM runs").rows == [(0,)]
    history.close()
    other.close()


def test_in_memory_history_says_the_same(store):
    store.run().started(0).finished(0).failed(1).ended("failed", "x")
    memory = store.open_history(in_memory=True)
    store.run().finished(0).ended()

    assert everything(memory) == everything(store.history)


def test_ready_views(store):
    for place in range(20):
        run = store.run(workflow="etl").finished(0)
        if place % 4 == 0:
            run.failed(1).finished(1, attempt=2)
        elif place % 4 == 1:
            run.finished(1, "cached", attempt=1)
        if place % 10 == 9:
            run.failed(2).ended("failed", "x")
        else:
            run.ended()

    (rate,) = store.history.sql("FROM failure_rate").to_dicts()
    assert (rate["runs"], rate["failed"], rate["failure_rate"]) == (20, 2, 0.1)
    (flaky,) = store.history.sql("FROM flaky").to_dicts()
    assert (flaky["task"], flaky["recovered"], flaky["failed"]) == ("clean", 5, 5)
    hits = {
        row["task"]: row["hit_rate"] for row in store.history.sql("FROM cache_hit_rate").to_dicts()
    }
    assert hits == {"load": 0.0, "clean": 5 / 15, "part": 0.0}
    (cost,) = store.history.sql("FROM cost").to_dicts()
    (spent,) = store.history.sql("SELECT sum(duration_s) AS s FROM tasks").to_dicts()
    assert cost["task_seconds"] == pytest.approx(spent["s"])
    for row in store.history.sql("FROM task_durations").to_dicts():
        for name in ("p50_s", "p95_s", "p99_s"):
            assert row[name] == pytest.approx(0.013, rel=0.022)
    for row in store.history.sql("FROM queue_time").to_dicts():
        assert row["p99_s"] == pytest.approx(0.007, rel=0.022)
    assert store.rows("SELECT count(*) FROM slowest") == store.rows(
        "SELECT count(*) FROM tasks WHERE duration_s IS NOT NULL"
    )
    assert store.rows("SELECT runs, failed FROM failure_rate_by_day") == [(20, 2)]


def test_percentiles_are_within_their_stated_error(store):
    import random

    import numpy as np

    generator = random.Random(7)
    run = store.run(workflow="spread")
    durations = [generator.lognormvariate(0, 2) for _ in range(500)]
    from flowbuilder.records import AttemptFinished

    for seconds in durations:
        start = run.tick()
        end = start + int(seconds * 1e9)
        run.put(
            AttemptFinished(
                instance=0,
                attempt=1,
                state="succeeded",
                ready_ns=start,
                start_ns=start,
                end_ns=end,
                time_ns=end,
            )
        )
    run.ended()

    (row,) = store.history.sql("FROM task_durations").to_dicts()

    for name, share in (("p50_s", 0.5), ("p95_s", 0.95), ("p99_s", 0.99)):
        exact = np.quantile(durations, share, method="inverted_cdf")
        assert row[name] == pytest.approx(exact, rel=0.022)
    assert row["mean_s"] == pytest.approx(np.mean(durations))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "expected one SQL statement, found 0"),
        ("SELECT 1; SELECT 2", "expected one SQL statement, found 2"),
        ("DROP TABLE runs", "the history can only be read"),
        ("DELETE FROM base.main.runs", "the history can only be read"),
        ("INSERT INTO runs VALUES (1) RETURNING 1", "the history can only be read"),
        ("SET threads = 1", "the history can only be read"),
        ("ATTACH '/tmp/x.db' AS x", "the history can only be read"),
        ("COPY (SELECT 1) TO '/tmp/x.csv'", "the history can only be read"),
        ("EXPLAIN ANALYZE DROP VIEW runs", "the history can only be read"),
        ("EXPLAIN EXPLAIN ANALYZE DROP VIEW runs", "the history can only be read|syntax error"),
        ("SELECT * FROM read_text('/etc/passwd')", "reach nothing outside"),
        ("SELECT * FROM '/etc/passwd'", "there is no table"),
        ("SELECT * FROM glob('/*')", "reach nothing outside"),
        ("SELECT * FROM rnus", "did you mean 'runs'"),
        ("SELEC 1", "syntax error"),
        ("SELECT nope FROM runs", "nope"),
        ("SELECT * FROM runs WHERE run_id = $missing", "missing"),
        ("SELECT '\x00", "."),
    ],
)
def test_bad_question_is_a_clear_error_and_changes_nothing(store, query, message):
    store.run().finished(0).ended()
    before = everything(store.history)

    with pytest.raises(QueryError, match=message):
        store.history.sql(query)

    assert everything(store.history) == before


def test_variables_of_the_program_are_no_tables(store):
    import pyarrow as pa

    secret = pa.table({"a": [1]})

    with pytest.raises(QueryError, match="no table 'secret'"):
        store.history.sql("SELECT * FROM secret")
    assert secret.num_rows == 1


def test_parameters_are_bound(store):
    store.run(workflow="it's").finished(0).ended()

    by_place = store.history.sql("SELECT count(*) FROM runs WHERE workflow = ?", ["it's"])
    by_name = store.history.sql("SELECT count(*) FROM runs WHERE workflow = $w", {"w": "it's"})

    assert by_place.rows == by_name.rows == [(1,)]


def test_result_is_arrow_polars_pandas_rows_and_text(store):
    store.run().finished(0).ended()

    result = store.history.sql("SELECT workflow, tasks, 0.5 AS half, NULL AS nothing FROM runs")

    assert result.rows == [("demo", 5, 0.5, None)] or result.rows[0][:2] == ("demo", 5)
    assert result.arrow().column_names == result.columns == ["workflow", "tasks", "half", "nothing"]
    assert result.pl()["tasks"].to_list() == [5]
    assert result.df()["tasks"].tolist() == [5]
    assert len(result) == 1
    assert list(result) == result.rows
    assert "workflow" in repr(result)
    assert "(1 row)" in repr(result)
    assert "<td>demo</td>" in result._repr_html_()


def test_repr_is_short_and_safe(store):
    for _ in range(30):
        store.run(workflow="<b>\x1b[31m" + "x" * 100).ended()

    result = store.history.sql("SELECT workflow FROM runs")

    assert "first 20 shown" in repr(result)
    assert "\x1b" not in repr(result)
    assert max(map(len, repr(result).splitlines())) <= 41
    assert "<b>" not in result._repr_html_()


def test_strange_text_survives(store):
    text = "nul\x00 quote' \u202e \U0001f600 ]] $1"
    store.run(workflow="w'\"; DROP", text=text).logged(0, text).failed(1, message=text).ended(
        "failed", text
    )

    assert store.rows("SELECT error FROM runs") == [(text,)]
    assert store.rows("SELECT params->>'text', workflow FROM runs")[0][1] == "w'\"; DROP"
    assert store.rows("SELECT error FROM tasks") == [(text,)]


def test_unserialisable_parameters_are_described(store):
    store.run(big=2**70, nan=float("nan"), deep={1: {2: b"x"}}, odd={(1, 2): object}).ended()

    assert len(store.rows("SELECT params->>'nan' FROM runs")) == 1


def test_damaged_journal_is_named(store, tmp_path):
    import apsw

    run = store.run().logged(0, "hello").ended()
    connection = apsw.Connection(str(store.folder / "journal.db"))
    connection.execute("UPDATE journal SET body = x'00' WHERE kind = 'log'")
    connection.close()

    with pytest.raises(StorageError, match=run.run_id):
        store.history.sql("FROM runs")


def test_threads_ask_at_once(store):
    store.run().finished(0).ended()
    answers: list[object] = []

    def ask() -> None:
        answers.extend(store.history.sql("SELECT count(*) FROM tasks").rows for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [[(1,)]] * 20
