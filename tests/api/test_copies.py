"""Which hand-overs copy, by buffer address; and `run.copies()` says so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import flowbuilder as fb
from tests.api import copy_matrix


def test_the_documented_table_is_what_is_measured():
    found = copy_matrix.tables()

    assert copy_matrix.written() == found, "run: python -m tests.api.copy_matrix"
    assert found.count("another object") == 0
    rows = [line.split("|") for line in found.splitlines() if line.count("|") == 8]
    assert {row[3].strip() for row in rows[2:]} == {"shared"}


def test_ten_tasks_and_a_notebook_copy_nothing():
    table = pa.table({"x": np.arange(1_000_000)})
    flow = fb.Workflow("ten").add("t0", lambda: table)
    for place in range(1, 10):
        flow = flow.add(f"t{place}", lambda value: value, inputs={"value": f"t{place - 1}"})

    run = flow.run()

    assert run["t9"] is table
    report = run.copies()
    assert report.total_bytes == 0
    assert len(report) == 9
    assert str(report.between("t3", "t4")) == "t3 -> t4: nothing copied (the same table)"
    assert run._live.copies == ()


@pytest.mark.parametrize(
    ("value", "how"),
    [
        (np.arange(10), "a read-only view of the same memory"),
        (pd.DataFrame({"a": [1]}), "a frame that shares its columns until one side changes them"),
        (pl.DataFrame({"a": [1]}), "a clone that shares its buffers"),
        ([1, 2], "the same object"),
    ],
    ids=["numpy", "pandas", "polars", "list"],
)
def test_an_edge_that_copies_nothing_says_how_it_shares(value, how):
    flow = fb.Workflow("two").add("a", lambda: value).add("b", lambda v: None, inputs={"v": "a"})

    assert flow.run().copies().between("a", "b").how == how


def test_a_query_names_what_it_copied_and_why():
    frame = pd.DataFrame({"flag": [True, False] * 500, "x": np.arange(1000.0)})
    flow = fb.Workflow("query").add("frame", lambda: frame)
    flow = flow.add("unused", lambda: pl.DataFrame({"a": [1]}))
    flow = flow.add(
        "rows",
        "sql",
        inputs={"t": "frame"},
        depends_on="unused",
        config={"query": "select flag, sum(x::hugeint) as total from t group by 1"},
    )

    run = flow.run()

    edge = run.copies().between("frame", "rows")
    assert edge.reasons == {"a byte for each bool becomes a bit": 125}
    result = run.copies().between("rows", "rows")
    assert set(result.reasons) == {
        "DuckDB copies its results into Arrow",
        "128-bit integers become 64-bit ones",
    }
    order = run.copies().between("unused", "rows")
    assert order.size_bytes == 0
    assert order.how.startswith("if it was read")
    with pytest.raises(KeyError):
        run.copies().between("rows", "frame")


def double(value):
    return pa.table({"x": np.asarray(value["x"]) * 2})


def test_a_worker_process_copies_once_each_way_and_passes_files_on():
    flow = fb.Workflow("away").add("a", lambda: pa.table({"x": np.arange(1_000_000)}))
    flow = flow.add("b", double, inputs={"value": "a"}, executor="process")
    flow = flow.add("c", double, inputs={"value": "b"}, executor="process")

    report = flow.run().copies()

    there = report.between("a", "b").reasons
    assert 8_000_000 <= there["written once to a file that the worker process maps"] < 8_010_000
    assert there["pickled through a pipe"] < 5_000
    back = report.between("b", "b").reasons
    assert 8_000_000 <= back["written once by the worker process, mapped here"] < 8_010_000
    passed_on = report.between("b", "c").reasons
    assert passed_on["in a file already, which the worker process maps"] == 0


def test_a_report_may_be_asked_for_while_the_run_is_on():
    seen = []

    @fb.task
    def first():
        return pl.DataFrame({"a": [1]})

    @fb.task
    def second(frame):
        seen.append(str(runs[0].copies()))

    @fb.workflow
    def flow():
        second(first())

    from flowbuilder.api.run_request import RunRequest

    runs = [flow.open_run(RunRequest(), {})]
    runs[0].drive()

    assert seen[0].endswith("total: 0 bytes copied")
