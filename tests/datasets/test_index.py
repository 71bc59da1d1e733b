"""Indexes: the same answers, faster; observed, advised, built within a budget, gone when unused."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbuilder.datasets import (
    Budget,
    Store,
    StoreOptions,
    adaptive_index,
    index_builder,
    index_files,
)
from flowbuilder.errors import StorageError


def _load_filters() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "filter_cases", Path(__file__).with_name("test_filters.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = _load_filters()
SCHEMA = pa.schema([field for field in cases.SCHEMA if field.name in cases.VALUES])
COLUMNS = sorted(cases.VALUES)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Index files of any size, in batches of three rows."""
    monkeypatch.setattr(index_builder, "MIN_ROWS", 1)
    monkeypatch.setattr("flowbuilder.datasets.advice.MIN_ROWS", 1)
    monkeypatch.setattr(index_files, "BATCH_ROWS", 3)


@pytest.fixture(scope="module")
def thousands() -> pa.Table:
    order = list(range(60_000))
    random.Random(1).shuffle(order)
    return pa.table(
        {"id": order, "v": [n * 0.5 for n in order], "s": [f"name {n % 100}" for n in order]}
    )


STEPS = st.one_of(
    st.tuples(st.just("append"), cases.rows()),
    st.tuples(st.just("build"), st.sampled_from(COLUMNS), st.sampled_from(["sorted", "lookup"])),
    st.tuples(st.just("delete"), cases.predicates()),
    st.tuples(st.sampled_from(["compact", "vacuum", "reopen"])),
    st.tuples(
        st.just("ask"), st.sampled_from(cases.QUERIES), cases.predicates(), cases.predicates()
    ),
)


@settings(max_examples=25, deadline=None)
@given(first=cases.rows(), steps=st.lists(STEPS, min_size=8, max_size=30))
def test_an_index_never_changes_an_answer(first, steps):
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as folder:
        patched.setattr(index_builder, "MIN_ROWS", 1)
        patched.setattr(index_files, "BATCH_ROWS", 3)
        store = Store(Path(folder))
        store["t"].append(pa.Table.from_pylist(first, schema=SCHEMA))
        try:
            for step in steps:
                if step[0] == "reopen":
                    store.close()
                    store = Store(Path(folder))
                else:
                    do(store, step)
        finally:
            store.close()


def do(store: Store, step: tuple[object, ...]) -> None:
    dataset = store["t"]
    if step[0] == "append":
        dataset.append(pa.Table.from_pylist(step[1], schema=SCHEMA))
    elif step[0] == "build":
        store.build(dataset="t", column=str(step[1]), kind=str(step[2]))
    elif step[0] == "delete":
        try:
            dataset.delete(str(step[1]))
        except StorageError:
            return  # a constant the column's type does not hold
    elif step[0] == "compact":
        dataset.compact()
    elif step[0] == "vacuum":
        dataset.vacuum()
        store.clean(grace_s=0)
    else:
        compare(store, str(step[1]).format(p=step[2], q=step[3]))


def compare(store: Store, text: str) -> None:
    other = pa.table({"k": [0, 1, 5, 2**53]})
    with duckdb.connect() as plain:
        plain.execute("SET TimeZone = 'UTC'").fetchall()
        plain.register("t", store["t"].arrow())
        plain.register("other", other)
        expected = cases.outcome(lambda: plain.sql(text).to_arrow_table())
    assert cases.outcome(lambda: store.query(text, tables={"other": other}).arrow()) == expected, (
        text
    )


def test_a_point_and_a_range_are_found_in_order(store: Store, thousands: pa.Table):
    store["t"].append(thousands)
    store.build(dataset="t", column="id")

    for text in (
        "SELECT * FROM t WHERE id = 777",
        "SELECT * FROM t WHERE id BETWEEN 500 AND 560 LIMIT 7",
        "SELECT * FROM t WHERE id IN (1, 2, 2, 59999, 70000)",
        "SELECT * FROM t WHERE id > 59990 AND v > 0",
        "SELECT * FROM t WHERE id < -5",
    ):
        fast, plain = store.query(text), store.query(text, use_index=False)
        assert fast.arrow().equals(plain.arrow())
        assert "index on 'id'" in repr(fast) or "files skipped" in repr(fast)
        assert "index" not in "".join(plain.used)


def test_uncovered_files_are_scanned_in_their_place(store: Store, thousands: pa.Table):
    for start in (0, 20_000, 40_000):
        store["t"].append(thousands.slice(start, 20_000))
        if start == 20_000:
            store.build(dataset="t", column="id")

    found = store.query("SELECT id FROM t WHERE id BETWEEN 100 AND 130")

    assert "for 2 of 3 files" in repr(found)
    assert found.arrow().equals(
        store.query("SELECT id FROM t WHERE id BETWEEN 100 AND 130", use_index=False).arrow()
    )


def test_a_lookup_serves_single_values_and_is_small(store: Store, thousands: pa.Table):
    store["t"].append(thousands)
    whole = store.build(dataset="t", column="id").size_bytes
    store.drop_index("t", "id")
    small = store.build(dataset="t", column="id", kind="lookup").size_bytes

    found = store.query("SELECT v FROM t WHERE id = 5")

    assert found.rows() == [{"v": 2.5}]
    assert "lookup index" in repr(found)
    assert small * 2 < whole
    assert "lookup" not in repr(store.query("SELECT v FROM t WHERE id > 5"))


def test_queries_over_a_large_share_are_scanned(store: Store, thousands: pa.Table):
    store["t"].append(thousands)
    store.build(dataset="t", column="id")

    assert store.query("SELECT count(*) FROM t WHERE id > 10000").used == ()


@pytest.mark.usefixtures("tiny")
def test_an_old_version_is_read_with_its_own_pieces(store: Store):
    store["t"].append({"id": [3, 1, 2]})
    store.build(dataset="t", column="id")
    store["t"].delete("id = 1")

    assert store.query("SELECT id FROM t WHERE id = 1").rows() == []
    old = store.query("SELECT id FROM t WHERE id = 1", versions={"t": 2})
    assert old.rows() == [{"id": 1}]
    assert "index" in repr(old)


@pytest.mark.usefixtures("tiny")
def test_pieces_go_with_their_files(store: Store):
    store["t"].append({"id": [1]})
    store["t"].append({"id": [2]})
    store.build(dataset="t", column="id")
    assert (store.indexes()[0].pieces, len(list(store.folder.rglob("*.arrow")))) == (2, 2)

    store["t"].compact()
    store["t"].vacuum()
    store.clean()

    assert (store.indexes()[0].pieces, len(list(store.folder.rglob("*.arrow")))) == (0, 0)
    assert store.build(dataset="t", column="ID").pieces == 1
    store.drop("t")
    store.clean(grace_s=0)
    assert store.indexes() == []
    assert not list(store.folder.rglob("*.arrow"))


@pytest.mark.usefixtures("tiny")
def test_an_index_nobody_uses_is_taken_away(store: Store, monkeypatch: pytest.MonkeyPatch):
    import time

    store["t"].append({"id": [1, 2], "other": [1, 2]})
    store.build(dataset="t", column="id")
    store.build(dataset="t", column="other")
    later = time.time_ns() + 29 * 86_400 * 10**9
    with monkeypatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: later)
        store.query("SELECT * FROM t WHERE id = 1")
        assert {index.column: index.used for index in store.indexes()} == {"id": 1, "other": 0}
        patched.setattr(time, "time_ns", lambda: later + 2 * 86_400 * 10**9)
        store.clean()

    assert [index.column for index in store.indexes()] == ["id"]
    assert len(list(store.folder.rglob("*.arrow"))) == 1


@pytest.mark.parametrize("place", ["frame", "batch", "cut", "gone", "row"])
def test_a_damaged_piece_is_not_used_and_is_built_anew(
    tmp_path: Path, thousands: pa.Table, place: str
):
    with Store(tmp_path) as store:
        store["t"].append(thousands)
        store.build(dataset="t", column="id")
    (path,) = tmp_path.rglob("*.arrow")
    content = bytearray(path.read_bytes())
    if place == "row":
        import apsw

        connection = apsw.Connection(str(tmp_path / "datasets" / "catalogue.db"))
        connection.execute("UPDATE pieces SET body = x'00'")
        connection.close()
    elif place == "gone":
        path.unlink()
    else:
        content[{"frame": len(content) - 20, "batch": len(content) // 2, "cut": 0}[place]] ^= 1
        path.write_bytes(content[:-1] if place == "cut" else content)

    with Store(tmp_path) as store:
        for number in range(0, 60_000, 7_000):
            found = store.query(f"SELECT v FROM t WHERE id = {number}")
            assert found.rows() == [{"v": number * 0.5}]
        assert store.indexes()[0].pieces == 0
        assert store.build(dataset="t", column="id").pieces == 1
        assert "index" in repr(store.query("SELECT v FROM t WHERE id = 5"))


@pytest.mark.usefixtures("tiny")
def test_what_cannot_be_indexed_is_said(store: Store):
    store["t"].append({"l": [[1]], "b": [True], "id": [1]})

    with pytest.raises(StorageError, match="no column 'x'"):
        store.build(dataset="t", column="x")
    for column in ("l", "b"):
        with pytest.raises(StorageError, match="do not sort by"):
            store.build(dataset="t", column=column)
    with pytest.raises(StorageError, match="expected an index of kind"):
        store.build(dataset="t", column="id", kind="hash")


@pytest.fixture
def observed(
    tmp_path: Path, thousands: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """A store that has seen slow queries."""
    with Store(tmp_path) as store:
        store["t"].append(thousands)
        monkeypatch.setattr("flowbuilder.datasets.advice._QUERY_S", 1e-9)
        monkeypatch.setattr("flowbuilder.datasets.advice._HIT_S", 1e-9)
        monkeypatch.setattr("flowbuilder.datasets.advice._GROUP_S", 1e-9)
        for number in range(30):
            store.query(f"SELECT * FROM t WHERE id = {number}")
            store.query("SELECT * FROM t WHERE v BETWEEN 3 AND 4 AND s = $s", {"s": "name 5"})
        yield store


def test_advice_prices_what_was_asked(observed: Store):
    found = {(each.columns[0], each.kind): each for each in observed.recommendations()}

    assert set(found) == {
        ("id", "sorted"),
        ("id", "lookup"),
        ("v", "sorted"),
        ("s", "sorted"),
        ("s", "lookup"),
    }
    advice = found["id", "sorted"]
    assert (advice.dataset, advice.queries) == ("t", 30)
    assert advice.expected_gain > 0
    assert advice.speedup > 2
    assert 60_000 * 20 < advice.size_bytes < 60_000 * 60
    assert advice.reason.startswith("30 queries asked for single values of 'id'")
    built = observed.build(advice)
    assert built.size_bytes == pytest.approx(advice.size_bytes, rel=0.3)
    assert ("id", "sorted") not in {
        (each.columns[0], each.kind) for each in observed.recommendations()
    }


def test_observations_survive_and_are_sampled(observed: Store, tmp_path: Path):
    for number in range(100):
        observed.query("SELECT * FROM t WHERE id = $n", {"n": number})
    before = {each.columns[0]: each.queries for each in observed.recommendations()}
    observed.close()

    with Store(tmp_path) as again:
        after = {each.columns[0]: each.queries for each in again.recommendations()}

    assert before == after
    assert 115 <= after["id"] <= 145


def test_a_budget_of_bytes_and_seconds_is_kept(store: Store, thousands: pa.Table):
    for start in (0, 20_000, 40_000):
        store["t"].append(thousands.slice(start, 20_000))

    none = store.build(dataset="t", column="id", seconds=0)
    assert (none.pieces, none.left, none.stopped) == (0, 3, "seconds")
    one = store.build(dataset="t", column="id", max_bytes=1_200_000)
    assert (one.pieces, one.left, one.stopped) == (1, 2, "bytes")
    assert len(list(store.folder.rglob("*.arrow*"))) == 1
    rest = store.build(dataset="t", column="id")
    assert (rest.pieces, rest.left, rest.stopped) == (2, 0, "")


def test_building_in_the_background_can_be_waited_for_and_cancelled(observed: Store):
    work = observed.start_indexing()
    assert work.wait(30)
    assert work.error is None
    assert {index.column for index in observed.indexes()} == {"id", "s", "v"}
    assert "index on 'id'" in repr(observed.query("SELECT * FROM t WHERE id = 4"))

    for column in ("id", "s", "v"):
        observed.drop_index("t", column)
    cancelled = adaptive_index.IndexingHandle()
    cancelled.cancel()
    observed._index._build_all(cancelled, Budget(), is_new_allowed=True)
    assert observed.indexes() == []


def test_indexes_come_unasked_when_scans_have_cost_more(
    tmp_path: Path, thousands: pa.Table, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("flowbuilder.datasets.advice._QUERY_S", 1e-9)
    monkeypatch.setattr("flowbuilder.datasets.advice._PACE_S", 1e-12)
    with Store(tmp_path, StoreOptions(indexing=Budget())) as store:
        store["t"].append(thousands)
        for number in range(80):
            store.query(f"SELECT * FROM t WHERE id = {number}")
        assert store._index._work is not None
        assert store._index._work.wait(30)
        assert "index on 'id'" in repr(store.query("SELECT * FROM t WHERE id = 4"))

        store["t"].append(thousands.slice(0, 30_000))
        assert store._index._work.wait(30)
        assert "for 2 of 2 files" in repr(store.query("SELECT * FROM t WHERE id = 4"))


BUILDER = """
import sys
from pathlib import Path
from flowbuilder.datasets import Store

with Store(Path(sys.argv[1])) as store:
    print("ready", flush=True)
    while True:
        store.build(dataset="t", column="id")
        print("built", flush=True)
        store.drop_index("t", "id")
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_build_leaves_nothing_half(tmp_path: Path, thousands: pa.Table, seed: int):
    with Store(tmp_path) as store:
        for start in (0, 20_000, 40_000):
            store["t"].append(thousands.slice(start, 20_000))
    process = subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(seed + 1):
        process.stdout.readline()
    folder = tmp_path / "datasets" / "1" / "index"
    while seed % 2 and not any(folder.glob("*.tmp")):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()

    with Store(tmp_path) as store:
        for number in range(0, 60_000, 9_000):
            assert store.query(f"SELECT v FROM t WHERE id = {number}").rows() == [
                {"v": number * 0.5}
            ]
        store.clean(grace_s=0)
        pieces = {piece.name for piece in store._index.catalogue.pieces().values()}
        assert {path.name for path in folder.glob("*")} == pieces
        assert store.build(dataset="t", column="id").left == 0
        assert store.indexes()[0].pieces == 3
