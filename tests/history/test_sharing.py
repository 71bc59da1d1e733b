"""Several processes on one history: nobody sees an error, everybody sees everything."""

from __future__ import annotations

from flowbuilder.history import history as history_module
from tests.history.conftest import everything
from tests.history.test_crash import drive, end, fill


def test_question_beside_a_long_one_sees_what_is_new(store):
    fill(store, 5)
    running = store.run(workflow="open").started(0).sync()
    store.rows("SELECT 1 FROM runs")
    reader = drive("read", store)
    assert reader.stdout.readline() == "reading\n"

    fill(store, 3)
    running.finished(0).ended()

    beside = everything(store.history)
    assert beside["runs"]
    assert beside == everything(store.open_history(in_memory=True))
    assert store.rows("SELECT sum(attempts)::BIGINT FROM cost") == store.rows(
        "SELECT count(*) FROM tasks"
    )
    end(reader)
    assert everything(store.history) == beside


def test_removal_beside_a_long_question_is_seen(store, monkeypatch):
    monkeypatch.setattr(history_module, "_LONGEST_WAIT_S", 0.3)
    fill(store, 5)
    store.rows("SELECT 1 FROM runs")
    reader = drive("read", store)
    assert reader.stdout.readline() == "reading\n"

    store.journal.remove_runs([store.journal.find_run("latest").run_id])

    assert store.rows("SELECT count(*) FROM runs") == [(4,)]
    end(reader)
    assert store.rows("SELECT count(*) FROM runs") == [(4,)]


def test_many_processes_ask_while_runs_are_recorded(store):
    processes = [drive("ask", store, 15) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "begin\n"
    for _ in range(20):
        fill(store, 1)
        store.rows("SELECT count(*) FROM runs")

    for process in processes:
        counts = [int(line) for line in process.stdout]
        assert process.wait() == 0
        assert len(counts) == 15
        assert counts == sorted(counts)
        end(process)
    assert store.rows("SELECT count(*) FROM runs") == [(20,)]


def test_place_that_cannot_be_written_is_no_obstacle(store):
    fill(store, 2)
    place = store.folder / "history"
    (place / "history.lock").mkdir()

    assert store.rows("SELECT count(*) FROM runs") == [(2,)]
    fill(store, 1)
    assert store.rows("SELECT count(*) FROM runs") == [(3,)]
