"""Months: what leaves the journal is kept whole, and read as before."""

from __future__ import annotations

import json
import shutil

import msgspec
import pytest

from flowbuilder.errors import RecoveryError, StorageError
from flowbuilder.history.pruning import prune
from flowbuilder.vocabulary import RunState
from tests.history.conftest import DAY, MAY, everything

JULY = MAY + 70 * DAY


def prune_all(store, now_ns=JULY, **options):
    return prune(store.journal, store.months, now_ns=now_ns, **options)


def full_run(store, **options):
    run = store.run(**options).finished(0, output={"a": [1, 2.5, None, "三"]}).block([1, 2])
    run.logged(1, "some text\n").stored(1).started(3).failed(3).retried(3).finished(3, attempt=2)
    return run.skipped(4).measured("loss", 0.25).ended()


def test_pruned_run_reads_as_before(store):
    run = full_run(store, n=4)
    ref = run.run_id[-10:]
    before = (
        store.whole.find_run(ref),
        list(store.whole.events(run.run_id)),
        list(store.whole.events(run.run_id, after_seq=5)),
        list(store.whole.logs(run.run_id)),
        list(store.whole.logs(run.run_id, instance=0)),
        store.whole.load_run(run.run_id),
        store.whole.list_runs(),
        store.whole.version("plan-demo"),
    )
    told = everything(store.history)

    (report,) = prune_all(store)

    assert (report.month, report.runs, report.pruned, report.waits) == ("2026-05", 1, 1, "")
    assert store.journal.list_runs() == []
    after = (
        store.whole.find_run(ref),
        list(store.whole.events(run.run_id)),
        list(store.whole.events(run.run_id, after_seq=5)),
        list(store.whole.logs(run.run_id)),
        list(store.whole.logs(run.run_id, instance=0)),
        store.whole.load_run(run.run_id),
        store.whole.list_runs(),
        store.whole.version("plan-demo"),
    )
    assert after == before
    assert store.whole.find_run("latest") == before[0]
    assert everything(store.history) == told
    assert everything(store.open_history("rebuilt")) == told


def test_version_is_kept_with_the_month(store):
    import apsw

    full_run(store)
    prune_all(store)
    connection = apsw.Connection(str(store.folder / "journal.db"))
    connection.execute("DELETE FROM versions")
    connection.close()

    assert store.whole.version("plan-demo").text == "name: demo\n# plan plan\n"
    assert store.open_history("rebuilt").sql("SELECT count(*) FROM tasks").rows == [(6,)]


@pytest.mark.parametrize(
    ("now_ns", "reason"), [(MAY + DAY, "has not ended"), (MAY + 31 * DAY, "has not ended")]
)
def test_month_stays_open_until_it_and_its_grace_are_over(store, now_ns, reason):
    full_run(store)

    (report,) = prune_all(store, now_ns)

    assert reason in report.waits
    assert len(store.journal.list_runs()) == 1
    assert store.months.manifests() == []


def test_unfinished_run_keeps_its_month_open(store):
    full_run(store)
    run = store.run().started(0).sync()

    (report,) = prune_all(store)

    assert f"run {run.run_id[-8:]} is running" in report.waits
    assert len(store.journal.list_runs()) == 2


def test_run_that_ended_recently_keeps_its_month_open(store):
    run = store.run().started(0)
    run.tick(68 * 86_400_000)
    run.ended()

    (report,) = prune_all(store)

    assert "ended too recently" in report.waits


def test_dry_run_changes_nothing(store):
    full_run(store)

    (report,) = prune_all(store, is_dry=True)

    assert (report.runs, report.pruned, report.waits) == (1, 0, "")
    assert store.months.manifests() == []


def test_months_are_told_apart(store):
    old = full_run(store)
    new = full_run(store, wall_ns=MAY + 61 * DAY)

    reports = prune_all(store)

    assert [(r.month, r.pruned) for r in reports] == [("2026-05", 1), ("2026-07", 0)]
    assert [run.run_id for run in store.whole.list_runs()] == [new.run_id, old.run_id]
    assert [run.run_id for run in store.whole.list_runs(limit=1)] == [new.run_id]
    assert store.whole.find_run("latest").run_id == new.run_id
    assert store.rows("SELECT count(*) FROM runs") == [(2,)]


def test_late_run_of_a_closed_month_is_added_to_it(store):
    first = full_run(store)
    prune_all(store)
    second = full_run(store)

    (report,) = prune_all(store)

    assert report.pruned == 1
    assert [found.generation for found in store.months.manifests()] == [2]
    assert set(store.months.run_ids()) == {first.run_id, second.run_id}
    assert list(store.whole.events(first.run_id))
    names = {path.name for path in (store.months.folder / "2026-05").iterdir()}
    assert names == {"manifest.json"} | {
        file.name for file in store.months.manifests()[0].files.values()
    }
    assert everything(store.history) == everything(store.open_history("rebuilt"))


def test_run_that_goes_on_while_its_month_is_closed_stays_in_the_journal(store, monkeypatch):
    run = store.run().failed(0).ended("failed", "x")
    from flowbuilder.history import pruning

    original = pruning.verify

    def resumed_meanwhile(*arguments):
        store.adopt(run).finished(0, attempt=2).ended()
        original(*arguments)

    monkeypatch.setattr(pruning, "verify", resumed_meanwhile)
    (report,) = prune_all(store)
    monkeypatch.undo()

    assert report.pruned == 0
    assert store.whole.find_run(run.run_id).state is RunState.SUCCEEDED
    assert store.rows("SELECT state FROM runs") == [("succeeded",)]
    (again,) = prune_all(store)
    assert again.pruned == 1
    assert store.rows("SELECT state FROM runs") == [("succeeded",)]


def test_pruned_run_cannot_be_continued_and_says_where_it_is(store):
    run = store.run().failed(0).ended("failed", "x")
    prune_all(store)

    with pytest.raises(RecoveryError, match="moved to closed month 2026-05"):
        store.whole.adopt_run(run.run_id, run.created(resumed=True), run.source)


def test_ambiguous_suffix_over_journal_and_months(store):
    run = full_run(store, run_id="01a20a54-c910-7c76-a385-0000000000aa")
    prune_all(store)
    other = full_run(store, run_id="01a20a54-c910-7c76-a385-1000000000aa")

    with pytest.raises(StorageError, match="several that end in 'aa'"):
        store.whole.find_run("aa")
    assert store.whole.find_run("385-0000000000aa").run_id == run.run_id
    assert store.whole.find_run(other.run_id).run_id == other.run_id
    with pytest.raises(StorageError, match="expected a run id"):
        store.whole.find_run("nope")


def test_removed_run_leaves_its_month_and_the_history(store):
    gone, stays = full_run(store), full_run(store)
    prune_all(store)
    assert store.rows("SELECT count(*) FROM runs") == [(2,)]

    assert store.whole.remove_runs([gone.run_id]) == 1

    assert store.months.run_ids() == [stays.run_id]
    assert list(store.whole.events(stays.run_id))
    assert store.rows("SELECT run_id FROM runs") == [(stays.run_id,)]
    assert everything(store.history) == everything(store.open_history("rebuilt"))
    files = (store.months.folder / "2026-05").rglob("*")
    assert not any(gone.run_id.encode() in path.read_bytes() for path in files)


def test_history_that_fell_behind_is_completed_from_the_months(store):
    store.rows("SELECT 1 FROM runs")
    full_run(store)
    half = store.run().started(0).sync()
    store.rows("SELECT 1 FROM runs")
    half.finished(0).ended()
    prune_all(store)

    assert everything(store.history) == everything(store.open_history("rebuilt"))
    assert store.rows("SELECT count(*) FROM runs WHERE state = 'succeeded'") == [(2,)]


@pytest.mark.parametrize("table", ["facts", "tasks", "runs", "versions"])
def test_damaged_month_is_named_and_nothing_leaves_the_journal(store, table):
    full_run(store)
    prune_all(store)
    late = full_run(store)
    manifest = store.months.manifests()[0]
    path = store.months.folder / "2026-05" / manifest.files[table].name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    # The late run is already part of the month, so that it is verified and not written anew.
    from flowbuilder.history import pruning

    with pytest.raises(StorageError):
        pruning.verify(path.parent, manifest)
    assert store.journal.find_run(late.run_id)


def test_damaged_manifest_is_named(store):
    full_run(store)
    prune_all(store)
    path = store.months.folder / "2026-05" / "manifest.json"
    path.write_text("{")

    with pytest.raises(StorageError, match=r"manifest\.json is damaged"):
        store.whole.list_runs()


def test_manifest_of_a_newer_version_is_refused(store):
    full_run(store)
    prune_all(store)
    path = store.months.folder / "2026-05" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))

    with pytest.raises(StorageError, match="format 99"):
        store.months.manifests()


def test_months_can_be_read_by_other_programs(store):
    import pyarrow.parquet as pq

    full_run(store)
    prune_all(store)
    folder = store.months.folder / "2026-05"
    manifest = store.months.manifests()[0]

    tasks = pq.read_table(folder / manifest.files["tasks"].name)

    assert tasks.num_rows == manifest.files["tasks"].rows == 6
    assert msgspec.json.decode((folder / "manifest.json").read_bytes())["runs"] == 1


def test_store_can_be_copied_and_its_history_rebuilt(store, tmp_path):
    full_run(store)
    prune_all(store)
    full_run(store, wall_ns=JULY)
    told = everything(store.history)
    store.close()
    shutil.copytree(store.folder, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "history")

    from tests.history.conftest import Store

    copy = Store(tmp_path / "copy")
    assert everything(copy.history) == told
    copy.close()
