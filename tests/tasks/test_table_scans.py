"""Tables that stay on disk: what `output: scan` gives, and what reads it."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import flowbuilder as fb
from flowbuilder.api.container import close_containers
from flowbuilder.errors import FlowBuilderError, RunError, StorageError
from flowbuilder.store.table_scan import TableScan

TABLE = pa.table({"i": range(1000), "s": [f"text {i % 7}" for i in range(1000)]})


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    (tmp_path / ".flowbuilder").mkdir()
    yield tmp_path
    close_containers()


@pytest.fixture
def files(tmp_path):
    for part in range(2):
        folder = tmp_path / "parts" / f"part={part}"
        folder.mkdir(parents=True)
        pq.write_table(TABLE.slice(part * 500, 500), folder / "x.parquet")
    pq.write_table(TABLE, tmp_path / "one.parquet")
    with pa.ipc.new_file(str(tmp_path / "one.arrow"), TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=300)
    return tmp_path


def run(text, **params):
    return fb.from_yaml("name: t\ntasks:\n" + text).run(**params)


@pytest.mark.parametrize("name", ["one.parquet", "one.arrow"])
@pytest.mark.usefixtures("files")
def test_a_scan_gives_the_same_rows_in_every_library(name):
    scan = run(f"  - {{name: a, type: read, config: {{path: {name}, output: scan}}}}")["a"]

    assert isinstance(scan, fb.TableScan)
    assert scan.num_rows == len(scan) == 1000
    assert scan.column_names == ["i", "s"]
    assert scan.schema.equals(TABLE.schema)
    assert scan.to_arrow().equals(TABLE)
    assert pa.table(scan).equals(TABLE)
    assert pl.DataFrame(scan).equals(pl.from_arrow(TABLE))
    assert scan.lazy().filter(pl.col("i") > 990).collect().height == 9
    assert scan.dataset().count_rows() == 1000
    assert scan.relation(duckdb.connect()).filter("i > 990").count("*").fetchall() == [(9,)]
    assert scan.slice(295, 10).equals(TABLE.slice(295, 10))
    assert scan.slice(999, 10).num_rows == 1
    assert sum(batch.num_rows for batch in scan.batches(100)) == 1000
    assert pickle.loads(pickle.dumps(scan)).to_arrow().equals(TABLE)


@pytest.mark.usefixtures("files")
def test_columns_and_partitions_of_a_scan():
    picked = run(
        "  - {name: a, type: read, config: {path: one.parquet, output: scan, columns: [s]}}"
    )["a"]
    parts = run("  - {name: a, type: read, config: {path: parts, output: scan}}")["a"]

    assert picked.column_names == ["s"]
    assert picked.to_arrow().equals(TABLE.select(["s"]))
    assert picked.lazy().collect().columns == ["s"]
    assert parts.lazy().filter(pl.col("part") == 1).collect().height == 500
    assert parts.relation(duckdb.connect()).filter("part = 1").count("*").fetchall() == [(500,)]
    assert parts.to_arrow().group_by("part").aggregate([("i", "count")]).num_rows == 2


@pytest.mark.parametrize("policy", ["local", "restricted"])
@pytest.mark.usefixtures("files")
def test_sql_reads_scans_by_name_and_leaves_results_on_disk(policy):
    fb.configure(policy=policy)
    try:
        found = run("""
  - {name: a, type: read, config: {path: one.parquet, output: scan}}
  - {name: b, type: read, config: {path: one.arrow, output: scan, columns: [i]}}
  - name: big
    type: sql
    config:
      query: select i, s, sum(i) over () as total from a where i >= $low
      args: {low: 500}
      output: scan
  - {name: small, type: sql, config: {query: select count(*) as n from big join b using (i), output: rows}}
""")
    finally:
        fb.configure(policy=None)

    big = found["big"]
    assert isinstance(big, TableScan)
    assert big.num_rows == 500
    assert big.schema.field("total").type == pa.int64()
    assert found["small"] == [{"n": 500}]
    assert "written to a file" in str(found.copies())


def test_sums_too_large_for_64_bits_stay_decimals():
    found = run("""
  - name: big
    type: sql
    config: {query: "select sum(9223372036854775807) as total from range(3)", output: scan}
""")["big"]

    assert found.to_arrow().to_pylist() == [{"total": 3 * 9223372036854775807}]


def test_an_empty_result_is_a_table_on_disk_too():
    found = run(
        "  - {name: a, type: sql, config: {query: select 1 as x where false, output: scan}}"
    )["a"]

    assert found.num_rows == 0
    assert found.column_names == ["x"]


def test_a_failing_query_leaves_no_file(place):
    with pytest.raises(RunError):
        run("""
  - name: a
    type: sql
    config:
      query: select error('no') as x, i from range(300000) t(i) where i > 200000
      output: scan
""")

    assert not list((place / ".flowbuilder" / "scratch").rglob("*.parquet"))


def test_its_file_goes_when_nobody_needs_it_and_what_is_kept_stays():
    first = run(
        "  - {name: a, type: sql, config: {query: select range as x from range(10), output: scan}}"
    )
    path = Path(first["a"].files.paths[0])
    again = pickle.loads(pickle.dumps(first["a"]))
    assert path.exists()

    del first
    gc.collect()

    assert not path.exists()
    with pytest.raises(StorageError, match="run the task that made it again"):
        again.to_arrow()
    kept = fb.runs()[0]["a"]
    assert isinstance(kept, TableScan)
    assert "artifacts" in kept.files.paths[0]
    assert kept.to_arrow().to_pydict() == {"x": list(range(10))}


@pytest.mark.usefixtures("files")
def test_a_file_that_changed_since_is_an_error_not_another_table():
    scan = run("  - {name: a, type: read, config: {path: one.parquet, output: scan}}")["a"]
    kept = fb.runs()[0]["a"]
    assert kept.to_arrow().equals(TABLE)

    pq.write_table(TABLE.slice(0, 10), "one.parquet")

    for changed in (scan, kept):
        with pytest.raises(StorageError, match="found it changed"):
            changed.to_arrow()
        with pytest.raises(StorageError, match="found it changed"):
            changed.lazy()


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "jsonl", "json", "csv.gz"])
@pytest.mark.usefixtures("files")
def test_write_takes_scans_and_lazy_frames(suffix):
    found = run(f"""
  - {{name: a, type: read, config: {{path: one.parquet, output: scan}}}}
  - name: lazy
    type: script
    inputs: {{scan: a}}
    config: {{code: "import polars as pl; result = scan.lazy().filter(pl.col('i') < 10)"}}
  - {{name: whole, type: write, inputs: {{data: a}}, config: {{path: whole.{suffix}}}}}
  - {{name: part, type: write, inputs: {{data: lazy}}, config: {{path: part.{suffix}}}}}
  - {{name: back, type: read, depends_on: [whole], config: {{path: whole.{suffix}, output: arrow}}}}
  - {{name: some, type: read, depends_on: [part], config: {{path: part.{suffix}, output: arrow}}}}
""")

    assert found["back"].to_pydict() == TABLE.to_pydict()
    assert found["some"].to_pydict() == TABLE.slice(0, 10).to_pydict()
    if suffix != "json":
        assert found["part"]["num_rows"] == 10
    assert isinstance(found["lazy"], pl.LazyFrame)


@pytest.mark.usefixtures("files")
def test_a_scan_is_written_in_parts(place):
    run("""
  - {name: a, type: read, config: {path: one.parquet, output: scan}}
  - {name: w, type: write, inputs: {data: a}, config: {path: out, partition_by: [s]}}
""")

    assert len(list((place / "out").rglob("*.parquet"))) == 7


@pytest.mark.usefixtures("files")
def test_sql_computes_lazy_frames_into_a_file():
    found = run("""
  - name: lazy
    type: script
    config: {code: "import polars as pl; result = pl.scan_parquet('one.parquet').filter(pl.col('i') < 10)"}
  - {name: n, type: sql, config: {query: select count(*) from lazy, output: value}}
""")

    assert found["n"] == 10
    assert "a lazy frame is computed into a file" in str(found.copies())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{path: a.csv, output: scan}", "expected Parquet or Arrow files"),
        ("{path: a.arrow.gz, output: scan}", "not compressed as a whole"),
        ("{path: bad.parquet, output: scan}", "could not be read as parquet"),
        ("{path: one.parquet, output: scan, columns: [x]}", "no column 'x'"),
    ],
)
@pytest.mark.usefixtures("files")
def test_what_cannot_be_scanned_is_an_error(place, config, message):
    for name in ("a.csv", "a.arrow.gz", "bad.parquet"):
        (place / name).write_text("a\n1\n")

    with pytest.raises(FlowBuilderError, match=message):
        run(f"  - {{name: a, type: read, config: {config}}}")


def test_an_encrypted_result_cannot_stay_on_disk():
    with pytest.raises(RunError) as caught:
        run("  - {name: a, type: sql, encrypt: true, config: {query: select 1 as x, output: scan}}")

    assert "a table on disk cannot be encrypted" in str(caught.value.__cause__)
