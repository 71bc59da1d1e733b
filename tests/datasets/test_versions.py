"""Snapshots, time travel, what runs used, vacuum, and damage."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from flowbuilder.datasets import RunPlace, Store, StoreOptions
from flowbuilder.errors import StorageError


def test_a_snapshot_stays_what_it_was(store: Store):
    dataset = store["t"]
    dataset.append({"a": [1]})

    with dataset.snapshot() as snapshot:
        dataset.append({"a": [2]})
        dataset.overwrite({"b": [3]})
        dataset.vacuum(keep=1)
        assert snapshot.arrow().to_pylist() == [{"a": 1}]
        assert snapshot.pl().rows() == [(1,)]
        assert snapshot.pandas()["a"].tolist() == [1]


def test_a_version_is_found_by_number_and_by_time(store: Store):
    dataset = store["t"]
    dataset.append({"a": [1]})
    first = dataset.history()[0]
    dataset.append({"a": [2]})

    # Clocks of Python's dates end at microseconds; versions may be closer.
    moment = first.created + dt.timedelta(microseconds=1)
    assert dataset.snapshot(2).num_rows == 1
    assert dataset.snapshot(as_of=moment).version.version == 2
    assert store.query("SELECT a FROM t", as_of=moment).rows() == [{"a": 1}]
    assert store.query("SELECT a FROM t", versions={"T": 2}).rows() == [{"a": 1}]
    with pytest.raises(StorageError, match="no version as old"):
        dataset.snapshot(as_of=dt.datetime(1999, 1, 1, tzinfo=dt.UTC))
    with pytest.raises(StorageError, match="no version 9"):
        dataset.snapshot(9)
    with pytest.raises(StorageError, match="expected one of"):
        dataset.snapshot(1, run="x")


def test_versions_never_go_back_in_time(store: Store, monkeypatch: pytest.MonkeyPatch):
    dataset = store["t"]
    dataset.append({"a": [1]})
    newest = dataset.history()[0].created_ns

    monkeypatch.setattr("time.time_ns", lambda: newest - 10**12)
    dataset.append({"a": [2]})

    times = [version.created_ns for version in dataset.history()]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == len(times)


def test_vacuum_removes_files_only_old_versions_need(store: Store, tmp_path: Path):
    dataset = store["t"]
    dataset.append({"a": [1]})
    dataset.append({"a": [2]})
    dataset.compact()
    held = dataset.snapshot(2)

    first = dataset.vacuum()

    assert (first.versions, first.files, first.waiting) == ((1, 2, 3), 1, 1)
    assert held.arrow().to_pylist() == [{"a": 1}]
    held.close()
    assert dataset.vacuum().files == 1
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert dataset.arrow()["a"].to_pylist() == [1, 2]
    with pytest.raises(StorageError, match="versions from 4 to 4 are kept"):
        dataset.snapshot(2)


@pytest.mark.parametrize("keep", [0, -1, True, 1.5])
def test_vacuum_keeps_at_least_one_version(store: Store, keep: object):
    store["t"].append({"a": [1]})

    with pytest.raises(StorageError, match="at least 1 version"):
        store["t"].vacuum(keep=keep)  # type: ignore[arg-type]


def test_a_run_finds_the_version_it_used(tmp_path: Path):
    place = [RunPlace()]
    with Store(tmp_path, StoreOptions(asking=lambda: place[0])) as store:
        store["t"].append({"a": [1]})
        place[0] = RunPlace("run-0001", "load")
        store.query("SELECT * FROM t")
        place[0] = RunPlace("run-0002", "clean")
        written = store["t"].overwrite({"a": [9]})
        place[0] = RunPlace()
        store["t"].append({"a": [3]})

        assert [str(use) for use in store.uses("0001")] == ["t@2"]
        assert store["t"].snapshot(run="0001").arrow().to_pylist() == [{"a": 1}]
        assert (written.run_id, store.uses("0002")[0].task) == ("run-0002", "clean")
        store["t"].vacuum(keep=1)
        assert store["t"].snapshot(run="run-0001").num_rows == 1
        with pytest.raises(StorageError, match="used no version"):
            store["t"].snapshot(run="0003")
        store["t"].vacuum(keep=1, keep_runs=False)
        with pytest.raises(StorageError, match="any more"):
            store["t"].snapshot(run="0001")


def test_a_use_can_be_noted_by_others(store: Store):
    store["t"].append({"a": [1]})

    store.note_use("run-7", "t", 2, task="x")
    store.note_use("run-7", "T", 2, task="x")

    assert [(use.task, str(use)) for use in store.uses("run-7")] == [("x", "t@2")]
    with pytest.raises(StorageError, match="no version 5"):
        store.note_use("run-7", "t", 5)


def test_a_dropped_dataset_is_gone_and_its_readers_are_not(store: Store, tmp_path: Path):
    store["t"].append({"a": [1]})
    handle, snapshot = store["t"], store["t"].snapshot()

    store.drop("t")

    assert "t" not in store
    assert snapshot.arrow().num_rows == 1
    with pytest.raises(StorageError, match="there is no dataset 't'"):
        handle.snapshot()
    snapshot.close()
    store.clean()
    assert not list(tmp_path.rglob("*.parquet"))
    store["t"].append({"b": [1]})
    assert store["t"].schema.names == ["b"]


def test_a_missing_dataset_names_the_nearest(store: Store):
    store["flights"].append({"a": [1]})

    with pytest.raises(StorageError, match="did you mean 'flights'"):
        store["flihgts"].arrow()


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_file_is_an_error_and_never_an_answer(tmp_path: Path, damage: str):
    with Store(tmp_path) as store:
        store["t"].append({"a": list(range(10_000))})
        (path,) = tmp_path.rglob("*.parquet")
        content = bytearray(path.read_bytes())
        if damage == "flip":
            content[len(content) // 3] ^= 1
            path.write_bytes(content)
        elif damage == "cut":
            path.write_bytes(content[:-1])
        else:
            path.unlink()

        for read in (lambda: store.query("SELECT sum(a) FROM t"), store["t"].arrow):
            with pytest.raises(StorageError, match="a file of dataset 't'"):
                read()
        assert len(store.check()) == 1


@pytest.mark.parametrize("table", ["versions", "files", "schemas"])
def test_a_damaged_catalogue_row_is_an_error(tmp_path: Path, table: str):
    import apsw

    with Store(tmp_path) as store:
        store["t"].append({"a": [1]})
    connection = apsw.Connection(str(tmp_path / "datasets" / "catalogue.db"))
    ((rowid, body),) = connection.execute(
        f"SELECT crc32, body FROM {table} ORDER BY crc32 LIMIT 1"
    ).fetchall()
    damaged = bytes([body[0], body[1] ^ 4]) + body[2:]
    connection.execute(f"UPDATE {table} SET body = ? WHERE crc32 = ?", (damaged, rowid))
    connection.close()

    with Store(tmp_path) as store, pytest.raises(StorageError, match="damaged in the catalogue"):
        _ = [store["t"].snapshot(version) for version in (2, 1)]


def test_another_database_is_not_touched(tmp_path: Path):
    import apsw

    (tmp_path / "datasets").mkdir()
    connection = apsw.Connection(str(tmp_path / "datasets" / "catalogue.db"))
    connection.execute("CREATE TABLE other (x)")
    connection.close()

    with pytest.raises(StorageError, match="another program's database"):
        Store(tmp_path)
