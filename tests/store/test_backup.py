"""Checks that find what is wrong and nothing else, and copies that are stores, whatever the store is kept in."""

from __future__ import annotations

import os
import shutil
import threading
import time

import pytest

from flowbuilder.errors import StorageError
from flowbuilder.records import LogChunk, RunStateChanged
from flowbuilder.store.backup import back_up, check_store
from flowbuilder.store.findings import Severity
from flowbuilder.store.local_artifacts import LocalArtifactStore
from flowbuilder.store.sqlite_journal import SqliteJournal


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))


@pytest.fixture
def store(open_place, artifact_place):
    return open_place(), artifact_place.open()


def record(store, make, run_id, n=3, state="succeeded"):
    """A run whose tasks each stored an output."""
    journal, artifacts = store
    source = make.source()
    header = make.header(run_id, plan_id=f"plan{n}")
    run = journal.open_run(make.version(n, f"plan{n}"), header, make.created(), source)
    for i in range(n):
        source.put(artifacts.save(run_id, i, 1, f"t{i}", f"{run_id} {i}".encode() * 100))
        source.put(make.block([i], outputs=[i]))
        source.put(LogChunk(instance=i, attempt=1, stream="stdout", text=f"line {i}\n"))
        run.sync()
    if state:
        source.put(RunStateChanged(state=state))
        run.sync()
        run.close()
    return run, source


def errors_of(store, **more):
    return [(found.subject, found.message) for found in check_store(*store, **more).errors]


def test_sound_store_has_no_findings(store, make):
    record(store, make, "run-1")
    record(store, make, "run-2", n=5, state="failed")
    record(store, make, "run-3", state="")

    report = check_store(*store)

    assert report.findings == []
    assert report.is_sound
    counts = report.counts
    assert (counts.runs, counts.versions, counts.outputs) == (3, 2, 11)
    assert counts.output_bytes == 11 * 700
    assert counts.records == 2 + 9 + 1 + 2 + 15 + 1 + 1 + 9


def test_empty_store_is_sound(store):
    assert check_store(*store).findings == []


DAMAGES = [
    ("UPDATE journal SET crc32 = crc32 + 1 WHERE run_id = 'run-1' AND first_seq = 3", "record", "record 3"),
    ("DELETE FROM journal WHERE run_id = 'run-1' AND first_seq = 4", "record", "records 4 to"),
    ("DELETE FROM journal WHERE run_id = 'run-1' AND first_seq > 9", "record", "end of run run-1"),
    ("DELETE FROM journal WHERE run_id = 'run-1' AND first_seq = -1", "run", "header is missing"),
    ("UPDATE journal SET body = body WHERE first_seq = -1", None, ""),
    ("UPDATE versions SET crc32 = crc32 + 1", "version", "is damaged"),
    ("UPDATE runs SET crc32 = crc32 + 1 WHERE run_id = 'run-1'", "run", "summary of run run-1"),
    ("DELETE FROM runs WHERE run_id = 'run-1'", "run", "found no 'run-1'"),
    ("DELETE FROM artifacts WHERE run_id = 'run-1' AND instance = 1", "run", "catalogue of outputs"),
    ("UPDATE artifacts SET digest = 'x' WHERE run_id = 'run-1'", "run", "catalogue of outputs"),
    ("INSERT INTO snapshots VALUES ('run-9', 1, 1, 'x')", "run", "header is missing"),
]  # fmt: skip


@pytest.mark.parametrize("artifact_place", ["local"], indirect=True)
@pytest.mark.parametrize(("statement", "subject", "named"), DAMAGES)
def test_damage_of_the_journal_is_found_and_named(place, store, make, statement, subject, named):
    record(store, make, "run-1")
    record(store, make, "run-2")
    place.execute(statement)

    found = errors_of(store)

    assert subject is None or any(s == subject and named in text for s, text in found), found
    assert bool(found) == (subject is not None)
    assert all(finding.hint for finding in check_store(*store).findings)
    assert not any("run-2" in text for _, text in found if subject != "version")


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_of_outputs_is_found_and_named(store, artifact_place, make, damage):
    record(store, make, "run-1")
    (artifact,) = [a for a in store[0].artifacts("run-1") if a.instance == 1]
    content = artifact_place.read(artifact.path)
    damaged = {"flip": b"?" + content[1:], "cut": content[:-1], "gone": None}[damage]
    artifact_place.write(artifact.path, damaged)

    ((subject, message),) = errors_of(store)

    assert subject == "output"
    assert artifact.path in message
    assert "task 't1'" in message
    quick = errors_of(store, with_content=False)
    assert len(quick) == (damage != "flip")


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("artifact_place", ["local"], indirect=True)
def test_files_without_a_record_are_a_notice_once_they_are_old(store, artifact_place, make):
    record(store, make, "run-1")
    stray = store[1].save("run-1", 9, 1, "t9", b"x" * 10)
    kept = store[1].save("run-8", 0, 1, "t0", b"x" * 10)
    other = store[1].save("run-9", 0, 1, "t0", b"x" * 10)
    assert check_store(*store).findings == [], "they may still get their record"
    old = time.time() - 3600
    for path in artifact_place.paths():
        os.utime(artifact_place.folder / path, (old, old))

    found = check_store(*store, other_runs={"run-8"}).findings

    assert {f.path for f in found} == {stray.path, other.path}
    assert kept.path not in {f.path for f in found}
    assert {f.severity for f in found} == {Severity.NOTICE}
    assert check_store(*store).is_sound


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("artifact_place", ["local"], indirect=True)
def test_damaged_database_file_is_found(place, store, make):
    for number in range(30):
        record(store, make, f"run-{number}")
    store[0].close()
    content = bytearray(place.path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 64] = b"\xff" * 64
    place.path.write_bytes(content)
    journal = SqliteJournal(place.path, is_owner_alive=lambda _: True)
    try:
        found = [finding.subject for finding in check_store(journal, None).errors]
    except StorageError as error:
        found = [str(error)]
    journal.close()

    assert found


def test_backup_is_a_store_with_the_same_content(store, make, tmp_path):
    record(store, make, "run-1", state="failed")
    record(store, make, "run-2", n=5)
    journal, artifacts = store

    report = back_up(journal, artifacts, tmp_path / "backup")

    assert report.missing == []
    assert (report.counts.runs, report.counts.outputs) == (2, 8)
    copy = SqliteJournal(tmp_path / "backup" / "journal.db", is_owner_alive=lambda _: False)
    outputs = LocalArtifactStore(tmp_path / "backup")
    for run_id in ("run-1", "run-2"):
        assert list(copy.events(run_id)) == list(journal.events(run_id))
        saved, original = copy.load_run(run_id), journal.load_run(run_id)
        assert saved.states == original.states
        assert saved.version == original.version
        for instance, artifact in saved.artifacts.items():
            assert outputs.load(artifact) == f"{run_id} {instance}".encode() * 100
    assert [e.seq for e in copy.tail(0).events] == [e.seq for e in journal.tail(0).events]
    assert check_store(copy, outputs).findings == []
    resumed = copy.adopt_run("run-1", make.created("other"), make.source())
    resumed.sync()
    resumed.close()
    copy.close()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("artifact_place", ["local"], indirect=True)
@pytest.mark.parametrize("may_link", [True, False])
def test_restoring_is_copying_the_backup_back(place, store, make, tmp_path, may_link):
    record(store, make, "run-1")
    journal, artifacts = store
    back_up(journal, artifacts, tmp_path / "backup", may_link=may_link)
    journal.remove_runs(["run-1"])
    artifacts.remove_run("run-1")
    journal.close()
    for left in place.data_dir.glob("journal.db*"):
        left.unlink()

    shutil.copytree(tmp_path / "backup", place.data_dir, dirs_exist_ok=True)

    again = place.open(lambda _: False)
    assert check_store(again, LocalArtifactStore(place.data_dir)).findings == []
    assert again.load_run("run-1").summary.counts == {"succeeded": 3}
    again.close()
    linked = [
        p.stat().st_nlink for p in (tmp_path / "backup" / "artifacts").rglob("*-*") if p.is_file()
    ]
    assert len(linked) == 3


@pytest.mark.parametrize("artifact_place", ["local"], indirect=True)
def test_backup_is_consistent_while_runs_are_written_and_removed(open_place, store, make, tmp_path):
    other = (open_place(), store[1])
    stop = threading.Event()
    failures = []

    def churn():
        number = 0
        try:
            while not stop.is_set():
                record(other, make, f"run-{number}", state="failed")
                if number % 3 == 2:
                    other[0].remove_runs([f"run-{number - 1}"])
                    other[1].remove_run(f"run-{number - 1}")
                number += 1
        except Exception as error:
            failures.append(error)

    record(store, make, "run-a")
    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for number in range(4):
            report = back_up(*store, tmp_path / f"backup-{number}")
            assert report.missing == []
            copy = SqliteJournal(
                tmp_path / f"backup-{number}" / "journal.db", is_owner_alive=lambda _: False
            )
            assert check_store(copy, LocalArtifactStore(tmp_path / f"backup-{number}")).is_sound
            copy.close()
            assert check_store(*store).is_sound
    finally:
        stop.set()
        thread.join()
    assert failures == []


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("artifact_place", ["local"], indirect=True)
def test_backup_tells_what_was_lost_before_and_keeps_the_rest(
    store, artifact_place, make, tmp_path
):
    record(store, make, "run-1")
    lost = store[0].artifacts("run-1")[0]
    artifact_place.write(lost.path, None)

    report = back_up(*store, tmp_path / "backup")

    assert [found.path for found in report.missing] == [lost.path]
    assert report.counts.outputs == 3


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("artifact_place", ["local"], indirect=True)
def test_backup_that_cannot_be_finished_leaves_nothing(store, make, tmp_path, monkeypatch):
    record(store, make, "run-1")
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="expected a new folder"):
        back_up(*store, tmp_path / "taken")

    class Failing:
        def copy_to(self, target):
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space left") as caught:
        back_up(*store, tmp_path / "backup", parts=(Failing(),))
    assert "free some space" in caught.value.hint
    assert [p.name for p in tmp_path.iterdir() if "backup" in p.name] == []


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("artifact_place", ["local"], indirect=True)
def test_paths_of_an_edited_journal_lead_nowhere(store, make, tmp_path):
    (tmp_path / "secret").write_bytes(b"s" * 700)
    run, source = record(store, make, "run-1", state="")
    artifact = store[0].artifacts("run-1")[0]
    artifact.path = "artifacts/../../secret"
    artifact.attempt = 7
    source.put(artifact)
    run.sync()

    ((_, message),) = errors_of(store)
    report = back_up(*store, tmp_path / "backup")

    assert "outside the store" in message
    assert [found.path for found in report.missing] == [artifact.path]
