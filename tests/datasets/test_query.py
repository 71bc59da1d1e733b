"""Queries: who a name is, what comes out, what is refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from flowbuilder.datasets import Store, StoreOptions
from flowbuilder.errors import StorageError

module_frame = pl.DataFrame({"k": [1, 2], "from_module": ["x", "y"]})


def test_datasets_frames_and_run_outputs_are_asked_together(tmp_path: Path):
    def output(suffix: str, task: str) -> object:
        assert (suffix, task) == ("ab12", "clean it")
        return pl.DataFrame({"k": [1], "o": [True]})

    with Store(tmp_path, StoreOptions(run_output=output)) as store:
        store["flights"].append({"k": [1, 2, 3]})
        frame = pd.DataFrame({"k": [1, 3], "w": [0.5, 1.5]})
        given = pa.table({"k": [1], "g": ["given"]})

        found = store.query(
            "SELECT * FROM flights é JOIN frame USING (k) JOIN module_frame USING (k)"
            ' JOIN run_ab12."clean it" USING (k) JOIN g AS x USING (k)',
            tables={"g": given},
        )

        assert found.rows() == [{"k": 1, "w": 0.5, "from_module": "x", "o": True, "g": "given"}]
        assert len(frame) == 2


def test_a_run_output_keeps_its_alias_and_column_names(tmp_path: Path):
    with Store(tmp_path, StoreOptions(run_output=lambda *_: {"a": [1]})) as store:
        for text in (
            "SELECT 'ü', t.a FROM run_x.t",
            "SELECT u.a FROM run_x.t u",
            'SELECT u.a FROM run_x . "t" AS u',
            "SELECT u.b AS a FROM run_x.t AS u(b)",
            "FROM run_x.t",
            "SELECT a FROM run_x.t, (SELECT 1) AS run_x",
        ):
            assert store.query(text).rows()[0]["a"] == 1


def test_what_is_handed_over_comes_before_datasets_and_they_before_variables(store: Store):
    name = pa.table({"who": ["variable"]})
    assert store.query("SELECT who FROM name").rows() == [{"who": "variable"}]

    store["name"].append({"who": ["dataset"]})
    assert store.query("SELECT who FROM NAME").rows() == [{"who": "dataset"}]

    given = {"name": pa.table({"who": ["given"]})}
    assert store.query("SELECT who FROM name", tables=given).rows() == [{"who": "given"}]
    assert name.num_rows == 1


def test_a_variable_that_is_no_table_is_not_taken_for_one(store: Store):
    numbers = [1, 2]

    with pytest.raises(StorageError, match="numbers does not exist"):
        store.query("SELECT * FROM numbers")

    assert numbers


@pytest.mark.parametrize(
    "text",
    ["DROP TABLE t", "SELECT 1; SELECT 2", "", "selec", "INSERT INTO t VALUES (1)", "ATTACH 'x'"],
)
def test_only_one_select_is_answered(store: Store, text: str):
    with pytest.raises(StorageError):
        store.query(text)


def test_an_error_says_what_there_is(store: Store):
    store["flights"].append({"a": [1]})

    with pytest.raises(StorageError, match="'flights'"):
        store.query("SELECT * FROM fligths")
    with pytest.raises(StorageError, match=r"query failed: .*nope"):
        store.query("SELECT nope FROM flights")


def test_text_comes_back_in_the_layout_it_is_kept_in(store: Store):
    columns = {
        "plain": pa.array(["a"]),
        "view": pa.array(["a"], pa.string_view()),
        "large": pa.array(["a"], pa.large_string()),
        "dictionary": pa.array(["a"]).dictionary_encode(),
        "duration": pa.array([7], pa.duration("us")),
    }
    store["t"].append(pa.table(columns))

    found = store.query("SELECT *, plain || 'b' AS made FROM t")

    expected = {name: column.type for name, column in columns.items()}
    kinds = {field.name: field.type for field in found.arrow().schema}
    assert kinds == {**expected, "made": pa.string_view()}
    assert found.arrow().to_pylist()[0]["made"] == "ab"
    frame = found.pl()
    assert frame["dictionary"].dtype == pl.Categorical
    assert frame["duration"].dtype == pl.Duration("us")
    assert found.pandas()["view"].tolist() == ["a"]


def test_parameters_are_values_and_never_text(store: Store):
    store["t"].append({"s": ["a", "'; DROP TABLE t; --"]})

    assert len(store.query("SELECT * FROM t WHERE s = $s", {"s": "'; DROP TABLE t; --"})) == 1
    assert len(store.query("SELECT * FROM t WHERE s = ?", ["a"])) == 1


def test_a_query_reads_one_version_of_a_dataset_it_names_twice(store: Store):
    store["t"].append({"a": [1, 2]})
    store["t"].append({"a": [3]})

    found = store.query(
        "SELECT count(*) AS n FROM t x, t y WHERE x.a < y.a AND x.a = 1", versions={"t": 2}
    )

    assert found.rows() == [{"n": 1}]
    assert found.versions == {"t": 2}


def test_files_of_older_schemas_have_the_types_of_the_newest(store: Store):
    store["t"].append({"a": pa.array([1], pa.int8()), "t": pa.array([1], pa.timestamp("ms"))})
    store["t"].append({"a": pa.array([300], pa.int32()), "d": pa.array([2], pa.duration("ms"))})

    found = store.query("SELECT typeof(a) AS a, typeof(t) AS t, typeof(d) AS d FROM t")

    assert found.rows() == [{"a": "INTEGER", "t": "TIMESTAMP", "d": "INTERVAL"}] * 2


def test_a_restricted_store_reaches_its_datasets_and_nothing_else(tmp_path: Path):
    outside = tmp_path / "secret.csv"
    outside.write_text("a\n1\n")
    with Store(tmp_path / "[data]*", StoreOptions(is_restricted=True)) as store:
        store["t"].append({"a": [1]})

        assert store.query("SELECT a FROM t").rows() == [{"a": 1}]
        with pytest.raises(StorageError, match="query failed"):
            store.query(f"SELECT * FROM read_csv('{outside}')")


def test_a_query_larger_than_its_literal_limits_is_still_answered(store: Store):
    store["t"].append({"a": list(range(1000))})
    values = ", ".join(map(str, range(0, 1000, 2)))

    assert len(store.query(f"SELECT * FROM t WHERE a IN ({values})")) == 500


def test_deep_nesting_is_an_error_or_an_answer(store: Store):
    text = "SELECT " + "(" * 900 + "1" + ")" * 900 + " AS n"
    assert store.query(text).rows() == [{"n": 1}]
    with pytest.raises(StorageError):
        store.query("SELECT " + "-(" * 5000 + "1" + ")" * 5000)
