"""Damaged journals: an error or a shorter truth, never a wrong one."""

from __future__ import annotations

import random
import shutil

import apsw
import pytest

from flowbuilder.errors import StorageError
from flowbuilder.records import LogChunk, RunStateChanged
from flowbuilder.store.sqlite_journal import SqliteJournal


def open_file(path):
    return SqliteJournal(path, is_owner_alive=lambda _: False)


@pytest.fixture
def recorded(tmp_path, make):
    """A journal file with one run, and what it truly holds."""
    path = tmp_path / "journal.db"
    journal = open_file(path)
    source = make.source()
    run = journal.open_run(make.version(60), make.header("run-x"), make.created(), source)
    for i in range(0, 60, 3):
        source.put(make.block([i, i + 1, i + 2], outputs=[i, f"text {i}", None]))
        source.put(LogChunk(instance=i, attempt=1, stream="stdout", text=f"line {i}\n" * 10))
        run.sync()
    source.put(RunStateChanged(state="succeeded"))
    run.sync()
    run.close()
    truth = journal.load_run("run-x"), list(journal.events("run-x"))
    journal.close()
    return path, truth


def test_flipped_bytes_never_give_a_wrong_answer(recorded, tmp_path):
    path, (saved, events) = recorded
    content = path.read_bytes()
    rng = random.Random(3)
    noticed = 0
    for _ in range(400):
        broken = bytearray(content)
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        copy = tmp_path / "broken.db"
        copy.write_bytes(broken)
        try:
            journal = open_file(copy)
        except (StorageError, apsw.Error):
            noticed += 1
            continue
        noticed += check_against(journal, saved, events)
        journal.close()
        for rest in tmp_path.glob("broken.db*"):
            rest.unlink()
    assert noticed > 40, "so many flips must have hit something"


def check_against(journal, saved, events) -> int:
    noticed = 0
    seen = []
    try:
        seen.extend(journal.events("run-x"))
    except StorageError:
        noticed = 1
    assert seen == events[: len(seen)]
    try:
        found = journal.load_run("run-x")
    except StorageError:
        return 1
    assert (found.states, found.outputs) == (saved.states, saved.outputs)
    assert found.summary.counts == saved.summary.counts
    assert found.version == saved.version
    return noticed


def test_damaged_record_is_named(recorded):
    path, _ = recorded
    edit(path, "UPDATE journal SET body = zeroblob(length(body)) WHERE first_seq = 6")
    journal = open_file(path)

    with pytest.raises(StorageError, match=r"record 6 .*of run run-x: its checksum differs"):
        list(journal.events("run-x"))
    assert len(list(journal.events("run-x", after_seq=9))) > 0
    journal.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DELETE FROM journal WHERE first_seq = 6", "records 6 to .* are missing"),
        ("DELETE FROM journal WHERE first_seq > 50", "are missing"),
        ("UPDATE journal SET first_seq = 1000 WHERE first_seq = 6", "missing"),
        ("UPDATE journal SET n = n + 1 WHERE kind = 'block'", "damaged"),
        ("UPDATE journal SET body = 'text' WHERE first_seq = 6", "wrong types"),
        ("UPDATE journal SET kind = 'log' WHERE first_seq = 2", "damaged"),
        ("UPDATE runs SET progress = zeroblob(10)", "summary of run run-x"),
        ("UPDATE runs SET state = 'failed'", "summary of run run-x"),
        ("UPDATE versions SET body = zeroblob(10)", "version .* is damaged"),
        ("DELETE FROM versions", "found no 'plan'"),
        ("DELETE FROM journal WHERE first_seq = -1", "found no 'run-x'"),
        ("DROP TABLE versions", "no such table"),
    ],
)
def test_inconsistent_journal_is_refused(recorded, change, message):
    path, _ = recorded
    edit(path, change)
    journal = open_file(path)

    with pytest.raises(StorageError, match=message):
        journal.load_run("run-x")
    journal.close()


def test_damaged_run_can_be_removed(recorded):
    path, _ = recorded
    edit(path, "UPDATE runs SET progress = zeroblob(10)")
    journal = open_file(path)

    assert journal.remove_runs(["run-x"]) == 1
    assert journal.list_runs() == []
    journal.close()


def test_truncated_log_loses_only_its_tail(tmp_path, make):
    path = tmp_path / "journal.db"
    journal = open_file(path)
    source = make.source()
    run = journal.open_run(make.version(40), make.header("run-x"), make.created(), source)
    for i in range(40):
        source.put(make.block([i], outputs=[i]))
        run.sync()
    wal = path.with_name("journal.db-wal")
    length = wal.stat().st_size
    copies = []
    for k, cut in enumerate((length // 3, length // 2, length - 100, 40, 0)):
        copy = tmp_path / f"copy{k}.db"
        shutil.copy(path, copy)
        (tmp_path / f"copy{k}.db-wal").write_bytes(wal.read_bytes()[:cut])
        copies.append(copy)
    journal.close()

    lengths = []
    for copy in copies:
        journal = open_file(copy)
        runs = journal.list_runs()
        lengths.append(len(journal.load_run("run-x").outputs) if runs else 0)
        if runs:
            found = journal.load_run("run-x").outputs
            assert found == {i: i for i in range(len(found))}
        journal.close()
    assert lengths[0] < lengths[1] < lengths[2] < 40
    assert lengths[3:] == [0, 0]


def edit(path, statement):
    connection = apsw.Connection(str(path))
    connection.execute(statement)
    connection.close()
