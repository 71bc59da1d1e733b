import warnings

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from flowbuilder.expressions import is_table, table_facts

COLUMNS = {"a": [1, 2, 3], "b": ["x", "y", "z"]}


class Homemade:
    columns = ("a",)

    def __len__(self):
        return 5


@pytest.mark.parametrize(
    "table",
    [
        pl.DataFrame(COLUMNS),
        pd.DataFrame(COLUMNS),
        pa.table(COLUMNS),
        pa.RecordBatch.from_pydict(COLUMNS),
    ],
    ids=["polars", "pandas", "arrow", "batch"],
)
def test_tables_of_all_libraries_give_the_same_facts(table):
    facts = table_facts(table)

    assert is_table(table)
    assert facts["num_rows"] == 3
    assert facts["columns"] == ["a", "b"]
    assert facts["size_bytes"] > 0


def test_anything_that_looks_like_a_table_is_one():
    assert table_facts(Homemade()) == {"num_rows": 5, "columns": ["a"], "size_bytes": 0}


@pytest.mark.parametrize(
    "value",
    [None, 1, "text", [1], {"columns": [1]}, pd.Series([1]), pl.Series([1]), pa.array([1]), object],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_not_tables(value):
    assert not is_table(value)


def test_lazy_tables_are_neither_tables_nor_collected():
    lazy = pl.LazyFrame(COLUMNS)
    reader = pa.table(COLUMNS).to_reader()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not is_table(lazy)
        assert not is_table(reader)


def test_relations_of_a_database_are_tables():
    relation = duckdb.connect().sql("select 1 as a union all select 2")

    assert table_facts(relation)["num_rows"] == 2
