"""What a dataset keeps: types, order, versions, schema, partitions, statistics."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from flowbuilder.datasets import Store
from flowbuilder.errors import StorageError

KEPT_EXACTLY = {
    "bool": pa.array([True, None, False]),
    "int8": pa.array([-128, None, 127], pa.int8()),
    "uint64": pa.array([0, None, 2**64 - 1], pa.uint64()),
    "float": pa.array([1.5, None, float("inf")], pa.float32()),
    "double": pa.array([-0.0, None, 5e-324]),
    "string": pa.array(["", None, "é"]),
    "large_string": pa.array(["a", None, "b"], pa.large_string()),
    "string_view": pa.array(["a", None, "longer than twelve bytes"], pa.string_view()),
    "binary": pa.array([b"\0", None, b"\xff"]),
    "binary_view": pa.array([b"\0", None, b"\xff"], pa.binary_view()),
    "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "date": pa.array([dt.date(1, 1, 1), None, dt.date(9999, 12, 31)]),
    "time": pa.array([1, None, 2], pa.time64("us")),
    "timestamp_ms": pa.array([1, None, -1], pa.timestamp("ms")),
    "timestamp_ns": pa.array([1, None, -1], pa.timestamp("ns")),
    "zoned": pa.array([1, None, -1], pa.timestamp("us", "Europe/Berlin")),
    "duration": pa.array([1, None, -1], pa.duration("us")),
    "decimal": pa.array([Decimal("1.23"), None, Decimal("-9.99")], pa.decimal128(10, 2)),
    "dictionary": pa.array(["x", None, "x"]).dictionary_encode(),
    "list": pa.array([[1], None, []], pa.list_(pa.field("element", pa.int64()))),
    "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": None}]),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
}


@pytest.mark.parametrize("kind", KEPT_EXACTLY)
def test_a_type_comes_back_as_it_went(store: Store, kind: str):
    table = pa.table({"column": KEPT_EXACTLY[kind]})

    store["t"].append(table)

    found = store["t"].arrow()
    assert found.schema.field("column").type == table.schema.field("column").type
    assert found.to_pylist() == table.to_pylist()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (pa.float16(), pa.float32()),
        (pa.timestamp("s"), pa.timestamp("ms")),
        (pa.time32("s"), pa.time32("ms")),
        (pa.date64(), pa.date32()),
        (pa.dictionary(pa.int8(), pa.int64()), pa.int64()),
        (pa.large_list(pa.int32()), pa.large_list(pa.field("element", pa.int32()))),
        (pa.list_(pa.int32(), 2), pa.list_(pa.field("element", pa.int32()))),
    ],
)
def test_a_type_parquet_does_not_restore_is_kept_as_one_it_does(store: Store, given, kept):
    store["t"].append(pa.table({"c": pa.nulls(2, given)}))

    assert store["t"].schema.field("c").type == kept
    assert store["t"].arrow().schema.field("c").type == kept


@pytest.mark.parametrize(
    "kind",
    [pa.month_day_nano_interval(), pa.decimal256(50, 2), pa.list_(pa.month_day_nano_interval())],
)
def test_a_type_that_cannot_be_kept_is_refused_by_name(store: Store, kind):
    with pytest.raises(StorageError, match="column 'bad' has type"):
        store["t"].append(pa.table({"bad": pa.nulls(1, kind)}))

    assert not store["t"].exists


def test_any_kind_of_table_can_be_appended(store: Store):
    rows = {"a": [1, 2], "s": ["x", None]}
    table = pa.table(rows)

    for data in (
        table,
        table.to_batches()[0],
        table.to_reader(),
        table.to_batches(max_chunksize=1),
        pl.DataFrame(rows),
        pl.LazyFrame(rows),
        pd.DataFrame(rows),
        rows,
    ):
        store["t"].append(data)

    assert store["t"].arrow().to_pylist() == table.to_pylist() * 8


@pytest.mark.parametrize("data", [None, 5, "rows", [1, 2], [], {"a": [1], "b": [1, 2]}, [object()]])
def test_what_is_no_table_is_refused(store: Store, data: object):
    with pytest.raises(StorageError, match="rows for dataset 't'"):
        store["t"].append(data)


def test_a_named_pandas_index_becomes_a_column(store: Store):
    store["t"].append(pd.DataFrame({"v": [1]}, index=pd.Index(["k"], name="key")))

    assert store["t"].arrow().to_pylist() == [{"key": "k", "v": 1}]


def test_rows_stand_in_the_order_they_came(store: Store):
    for start in range(0, 50, 5):
        store["t"].append({"n": list(range(start, start + 5))})

    assert store["t"].arrow()["n"].to_pylist() == list(range(50))
    assert [row["n"] for row in store.query("SELECT n FROM t").rows()] == list(range(50))


def test_an_append_without_rows_makes_a_version_and_no_file(store: Store):
    version = store["t"].append({"a": pa.array([], pa.int64())})

    assert (version.num_rows, version.num_files) == (0, 0)
    assert store["t"].arrow().schema.names == ["a"]
    assert store.query("SELECT count(*) AS n FROM t").rows() == [{"n": 0}]


def test_columns_are_added_and_types_widen(store: Store):
    dataset = store["t"]
    dataset.append({"a": pa.array([1], pa.int32()), "f": pa.array([1.5], pa.float32())})
    dataset.append({"A": pa.array([2**40]), "f": pa.array([0.1]), "new": ["x"]})
    dataset.append({"new": ["y"]})

    assert dataset.schema == pa.schema(
        [("a", pa.int64()), ("f", pa.float64()), ("new", pa.string())]
    )
    assert dataset.arrow().to_pylist() == [
        {"a": 1, "f": 1.5, "new": None},
        {"a": 2**40, "f": 0.1, "new": "x"},
        {"a": None, "f": None, "new": "y"},
    ]
    assert store.query("SELECT a, f, new FROM t").rows() == dataset.arrow().to_pylist()
    assert dataset.snapshot(2).schema.names == ["a", "f"]


def test_narrower_rows_are_cast_to_what_the_dataset_has(store: Store):
    store["t"].append({"a": pa.array([1], pa.int64())})
    store["t"].append({"a": pa.array([2], pa.uint8())})

    assert store["t"].arrow()["a"].type == pa.int64()
    assert len({file.schema_id for file in store["t"].snapshot().manifest.files}) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (pa.string(), pa.int64()),
        (pa.int64(), pa.float64()),
        (pa.int64(), pa.uint64()),
        (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        (pa.bool_(), pa.int8()),
        (pa.list_(pa.int64()), pa.list_(pa.string())),
    ],
)
def test_an_incompatible_type_is_refused_and_nothing_is_kept(
    store: Store, tmp_path: Path, old, new
):
    dataset = store["t"]
    dataset.append(pa.table({"c": pa.nulls(1, old)}))

    with pytest.raises(StorageError) as caught:
        dataset.append(pa.table({"c": pa.nulls(1, new)}))

    assert "'c'" in str(caught.value)
    assert str(dataset.schema.field("c").type) in str(caught.value)
    assert dataset.history()[0].version == 2
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_a_column_of_nulls_takes_any_type_later(store: Store):
    store["t"].append(pa.table({"c": pa.nulls(2)}))
    store["t"].append({"c": ["x"]})

    assert store["t"].arrow()["c"].to_pylist() == [None, None, "x"]
    assert store.query("SELECT c FROM t ORDER BY c NULLS LAST").rows()[0] == {"c": "x"}


@pytest.mark.parametrize("names", [["a", "A"], [""], ["x\0y"]])
def test_columns_sql_cannot_name_are_refused(store: Store, names: list[str]):
    with pytest.raises(StorageError, match="column"):
        store["t"].append(pa.table([pa.array([1])] * len(names), names=names))


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\u202eabc", "x" * 201, "a\0", 5, None])
def test_a_name_nobody_can_read_is_refused(store: Store, name: object):
    with pytest.raises(StorageError, match="name"):
        store.dataset(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "con",
        "a/b",
        "$(id)",
        ";rm",
        "<img>",
        "sélect",
        "航班",
        "😀",
        'quo"te',
        "select",
        "a b",
    ],
)
def test_any_readable_name_works_in_sql_and_leaves_its_folder_alone(
    store: Store, tmp_path: Path, name: str
):
    store[name].append({"a": [1]})

    quoted = '"' + name.replace('"', '""') + '"'
    assert store.query(f"SELECT a FROM {quoted} WHERE a = 1").rows() == [{"a": 1}]
    assert {path.name for path in tmp_path.iterdir()} == {"datasets"}
    assert [dataset.name for dataset in store] == [name]


def test_two_spellings_of_a_name_are_one_dataset(store: Store):
    store["Flüge"].append({"a": [1]})
    store["FLÜGE"].append({"a": [2]})

    assert len(store.datasets()) == 1
    assert store["flu\u0308ge"].arrow()["a"].to_pylist() == [1, 2]


def test_overwrite_replaces_rows_and_schema_and_keeps_the_past(store: Store):
    dataset = store["t"]
    dataset.append({"a": [1, 2]})
    dataset.overwrite({"b": ["x"]})

    assert dataset.arrow().to_pylist() == [{"b": "x"}]
    assert dataset.snapshot(2).arrow().to_pylist() == [{"a": 1}, {"a": 2}]
    assert [version.operation for version in dataset.history()] == ["overwrite", "append", "create"]


def test_delete_removes_what_the_condition_is_true_for(store: Store):
    dataset = store["t"]
    dataset.append({"a": [1, 2, None]})
    dataset.append({"a": [3, 4], "s": ["x", "y"]})

    version = dataset.delete("a IN (2, 3)")

    assert dataset.arrow()["a"].to_pylist() == [1, None, 4]
    assert (version.operation, version.note, version.removed) == ("delete", "a IN (2, 3)", 2)
    assert dataset.delete("a > 100").version == version.version
    assert dataset.delete("true").num_files == 0
    assert dataset.arrow().num_rows == 0


@pytest.mark.parametrize("where", ["nope = 1", "a = ", "a = 1) --"])
def test_a_wrong_condition_deletes_nothing(store: Store, where: str):
    store["t"].append({"a": [1]})

    with pytest.raises(StorageError, match="condition"):
        store["t"].delete(where)

    assert len(store["t"]) == 1


def test_compact_joins_files_and_changes_no_row(store: Store):
    dataset = store["t"]
    for n in range(6):
        dataset.append({"n": [n], f"c{n % 2}": ["x"]})
    before = dataset.arrow()

    version = dataset.compact()

    assert version.num_files == 1
    assert dataset.arrow().equals(before)
    assert dataset.compact().version == version.version
    assert dataset.snapshot(4).arrow()["n"].to_pylist() == [0, 1, 2]


def test_compact_keeps_the_order_of_files_it_leaves_alone(store: Store):
    dataset = store["t"]
    for rows in ([1], [2], list(range(10, 30)), [3], [4]):
        dataset.append({"n": rows})

    dataset.compact(target_rows=10)

    assert dataset.arrow()["n"].to_pylist() == [1, 2, *range(10, 30), 3, 4]
    assert dataset.history()[0].num_files == 3


def test_partitions_are_folders_and_are_skipped(store: Store, tmp_path: Path):
    dataset = store["t"]
    dataset.append({"day": ["a", "b", "a", None], "n": [1, 2, 3, 4]}, partition_by="day")
    dataset.append({"day": ["b"], "n": [5]})

    found = store.query("SELECT n FROM t WHERE day = 'b' ORDER BY n")

    assert found.rows() == [{"n": 2}, {"n": 5}]
    assert "2 of 4 files skipped" in repr(found)
    assert {path.parent.name for path in tmp_path.rglob("*.parquet")} == {
        "day=a",
        "day=b",
        "day=__HIVE_DEFAULT_PARTITION__",
    }
    assert sorted(dataset.arrow()["n"].to_pylist()) == [1, 2, 3, 4, 5]
    assert dataset.partition_by == ("day",)


def test_partition_values_stay_inside_their_folder(store: Store, tmp_path: Path):
    values = ["../..", "a/b", "*", "[x]", ".", "", "é", "x" * 300]
    store["t"].append({"p": values, "n": list(range(8))}, partition_by=["p"])

    assert {row["p"] for row in store.query("SELECT p FROM t").rows()} == set(values)
    assert len(list((tmp_path / "datasets" / "1").glob("p=*/*.parquet"))) == 8


def test_partition_columns_are_checked(store: Store):
    with pytest.raises(StorageError, match="which the rows do not have"):
        store["t"].append({"a": [1]}, partition_by="b")
    with pytest.raises(StorageError, match="plain values"):
        store["t"].append({"a": [1.5]}, partition_by="a")
    store["t"].append({"a": [1]})
    with pytest.raises(StorageError, match=r"overwrite\(\) can change"):
        store["t"].append({"a": [1]}, partition_by="a")
    with pytest.raises(StorageError, match="at most 4096 partitions"):
        store["u"].append({"a": list(range(5000))}, partition_by="a")

    assert store["t"].overwrite({"a": [1, 2]}, partition_by="a").num_files == 2


def test_statistics_need_no_reading(store: Store, tmp_path: Path):
    dataset = store["t"]
    dataset.append({"n": [3, None, 1], "f": [float("nan"), 2.0, -0.5], "s": ["b", "a", "b"]})
    dataset.append({"n": list(range(10_000)), "day": [dt.date(2026, 1, 1)] * 10_000})
    for path in tmp_path.rglob("*.parquet"):
        path.unlink()

    found = dataset.statistics()

    assert (found["n"].minimum, found["n"].maximum, found["n"].nulls) == (0, 9999, 1)
    assert 9_500 < (found["n"].distinct or 0) < 10_500
    assert (found["f"].minimum, found["f"].maximum, found["f"].nans) == (-0.5, 2.0, 1)
    assert (found["s"].distinct, found["s"].nulls, found["s"].count) == (2, 10_000, 3)
    assert found["day"].minimum == dt.date(2026, 1, 1)


def test_statistics_of_long_texts_are_unknown_rather_than_wrong(store: Store):
    store["t"].append({"s": ["m"]})
    store["t"].append({"s": ["a" * 1000, "z" * 1000]})

    assert (store["t"].statistics()["s"].minimum, store["t"].statistics()["s"].maximum) == (
        None,
        None,
    )
    assert store.query("SELECT count(*) AS n FROM t WHERE s > 'q'").rows() == [{"n": 1}]


def test_large_appends_make_full_row_groups(store: Store, tmp_path: Path):
    import pyarrow.parquet as pq

    batches = [
        pa.record_batch({"n": pa.array(range(i, i + 50_000))}) for i in range(0, 300_000, 50_000)
    ]
    store["t"].append(batches)

    (path,) = tmp_path.rglob("*.parquet")
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [
        122_880,
        122_880,
        54_240,
    ]
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_nan_meets_no_bound_from_above_whatever_the_other_values(store: Store):
    # Parquet's statistics leave NaN out; DuckDB takes them at their word.
    store["t"].append({"x": pa.array([0.0, float("nan"), None], pa.float32())})

    assert store.query("SELECT x FROM t WHERE x <= 0").rows() == [{"x": 0.0}]
    assert len(store.query("SELECT x FROM t WHERE x >= 0")) == 2
