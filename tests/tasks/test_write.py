"""Writing files: formats read back, nothing half-written, nothing destroyed by mistake."""

import datetime as dt
import gzip
import json
import math
import threading
from decimal import Decimal
from pathlib import Path

import jsonschema_rs
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbuilder.errors import AuthorizationError, FlowBuilderError
from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.tasks.read import ReadTask
from flowbuilder.tasks.write import WriteTask
from flowbuilder.vocabulary import Effects

READ, WRITE = ReadTask(), WriteTask()


def make_call(config, directory, **call):
    return TaskCall(
        name="w", key="w", run_id="r", attempt=1, config=config, directory=directory, **call
    )


def write(value, directory, path, **config):
    return WRITE.run(make_call({"path": path, **config}, directory, inputs={"data": value}))


def read(directory, path, **config):
    return READ.run(make_call({"path": path, **config}, directory))


TABLE = pa.table(
    {
        "n": pa.array([1, None, -3]),
        "x": pa.array([math.nan, None, 1.5]),
        "s": pa.array(["", None, 'a "quoted",\nline'], pa.string_view()),
        "flag": pa.array([True, None, False]),
        "day": pa.array([dt.date(2013, 1, 1), None, dt.date(1969, 12, 31)]),
        "at": pa.array([0, None, 1_357_034_400_123_456], pa.timestamp("us")),
        "price": pa.array([Decimal("1.10"), None, Decimal("-0.05")], pa.decimal128(10, 2)),
        "kind": pa.array(["a", None, "a"]).dictionary_encode(),
        "tags": pa.array([["x", None], None, []]),
        "point": pa.array([{"x": 1}, None, {"x": None}]),
    }
)
FLAT = TABLE.drop_columns(["tags", "point"])


def plain(table):
    return [
        {key: "nan" if value != value else value for key, value in row.items()}
        for row in table.to_pylist()
    ]


@pytest.mark.parametrize("path", ["t.parquet", "t.arrow", "deep/er/t.pq", "t.feather"])
def test_binary_formats_keep_everything(tmp_path, path):
    receipt = write(TABLE, tmp_path, path)

    back = read(tmp_path, path)
    assert plain(back) == plain(TABLE)
    assert receipt["num_rows"] == 3
    assert receipt["size_bytes"] == Path(receipt["path"]).stat().st_size


@pytest.mark.parametrize("path", ["t.csv", "t.csv.gz", "t.tsv"])
def test_csv_keeps_missing_empty_and_nan_apart(tmp_path, path):
    options = {"delimiter": "\t"} if path == "t.tsv" else {}
    write(FLAT, tmp_path, path, options=options)

    back = read(tmp_path, path, options={"dtypes": {"price": "decimal(10,2)", "at": "timestamp"}})

    assert plain(back) == plain(FLAT)


def test_jsonl_and_json_keep_rows(tmp_path):
    table = TABLE.select(["n", "s", "flag", "tags", "point"])
    write(table, tmp_path, "t.jsonl")
    write(table, tmp_path, "t.json")

    assert read(tmp_path, "t.jsonl", output="rows") == table.to_pylist()
    assert read(tmp_path, "t.json") == table.to_pylist()
    assert read(tmp_path, "t.json", output="arrow").to_pylist() == table.to_pylist()


@pytest.mark.parametrize(
    "path", ["t.csv", "t.jsonl", "t.ndjson", "t.json", "t.parquet", "t.arrow", "t.jsonl.gz"]
)
@pytest.mark.parametrize("kind", ["arrow", "polars", "pandas", "columns", "rows"])
def test_every_format_takes_every_kind_of_table(tmp_path, path, kind):
    columns = {"a": [1, 2], "b": ["x", "y"]}
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    makers = {
        "arrow": pa.table,
        "polars": pl.DataFrame,
        "pandas": pd.DataFrame,
        "columns": dict,
        "rows": lambda _: rows,
    }

    write(makers[kind](columns), tmp_path, path)

    back = read(tmp_path, path)
    expected = columns if (kind, path) == ("columns", "t.json") else rows
    assert (back.to_pylist() if isinstance(back, pa.Table) else back) == expected


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        min_size=1,
    )
)
def test_csv_texts_come_back_exactly(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("csv")
    table = pa.table({"i": range(len(rows)), "s": pa.array(rows, pa.string())})

    write(table, folder, "t.csv")

    assert read(folder, "t.csv", options={"dtypes": {"s": "string"}})["s"].to_pylist() == rows


def test_values_keep_their_kind(tmp_path):
    tree = {
        "a": [1, 2.5, None, True],
        "n": np.int64(3),
        "v": np.arange(2),
        "t": dt.date(2013, 1, 1),
    }
    write(tree, tmp_path, "v.json")
    write("héllo\n", tmp_path, "v.txt")
    write("<p>hi</p>", tmp_path, "page.html")
    write(b"\x00\xff", tmp_path, "v.bin", format="bytes")

    assert read(tmp_path, "v.json") == {
        "a": [1, 2.5, None, True],
        "n": 3,
        "v": [0, 1],
        "t": "2013-01-01",
    }
    assert read(tmp_path, "v.txt") == "héllo\n"
    assert read(tmp_path, "page.html") == "<p>hi</p>"
    assert read(tmp_path, "v.bin", format="bytes") == b"\x00\xff"


def test_write_chooses_its_only_input(tmp_path):
    by_port = make_call(
        {"path": "a.txt"}, tmp_path, inputs={"report": "port"}, upstream={"x": "1", "y": "2"}
    )
    by_task = make_call({"path": "b.txt"}, tmp_path, upstream={"x": "task"})
    unclear = make_call({"path": "c.txt"}, tmp_path, upstream={"x": "1", "y": "2"})
    nothing = make_call({"path": "d.txt"}, tmp_path)

    WRITE.run(by_port)
    WRITE.run(by_task)

    assert (tmp_path / "a.txt").read_text() == "port"
    assert (tmp_path / "b.txt").read_text() == "task"
    with pytest.raises(FlowBuilderError, match="expected one input to write, found x, y"):
        WRITE.run(unclear)
    with pytest.raises(FlowBuilderError, match="expected one input to write, found none"):
        WRITE.run(nothing)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ({"a": object()}, "x.json", "cannot be written as JSON: it contains a object"),
        (5, "x.txt", "expected text to write as text, found int"),
        (b"x", "x.txt", "expected text"),
        ("text", "x.csv", "expected a table from 'w', found str"),
        (TABLE, "x.csv", "column 'tags' holds list<item: string>, which CSV cannot"),
        (None, "x.parquet", "found NoneType"),
        ("x", "x.dat", "cannot tell the format of 'x.dat'"),
        (FLAT, "x.parquet.gz", "compress their columns themselves"),
    ],
)
def test_failed_write_leaves_the_old_file_and_no_other(tmp_path, value, path, message):
    (tmp_path / path).write_bytes(b"old")

    with pytest.raises(FlowBuilderError, match=message.replace("(", r"\(")):
        write(value, tmp_path, path)

    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(path, b"old")]


def test_overwriting_never_shows_half_a_file(tmp_path):
    texts = ["a" * 300_000, "b" * 300_000]
    write(texts[0], tmp_path, "t.txt")
    stop, seen = threading.Event(), set()

    def watch():
        while not stop.is_set():
            seen.add((tmp_path / "t.txt").read_text())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for turn in range(20):
        write(texts[turn % 2], tmp_path, "t.txt")
    stop.set()
    watcher.join()

    assert seen <= set(texts)
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]


def test_mode_error_keeps_an_existing_file(tmp_path):
    write("one", tmp_path, "t.txt", mode="error")

    with pytest.raises(FlowBuilderError, match="already exists"):
        write("two", tmp_path, "t.txt", mode="error")

    assert (tmp_path / "t.txt").read_text() == "one"
    assert len(list(tmp_path.iterdir())) == 1


def test_partitions_are_folders_and_read_back(tmp_path):
    table = pa.table(
        {"month": [1, 1, 2, None], "carrier": ["UA", "AA", "UA", "AA"], "x": [1, 2, 3, 4]}
    )

    first = write(table, tmp_path, "parts", partition_by=["month", "carrier"])
    again = write(table.slice(0, 3), tmp_path, "parts", partition_by=["month", "carrier"])

    assert (first["num_files"], again["num_files"]) == (4, 3)
    back = read(tmp_path, "parts", columns=["month", "carrier", "x"])
    assert sorted(back.to_pylist(), key=lambda row: row["x"]) == table.slice(0, 3).to_pylist()
    assert (
        pq.ParquetFile(
            next((tmp_path / "parts" / "month=2").rglob("*.parquet"))
        ).metadata.num_columns
        == 1
    )
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_partitions_never_replace_a_folder_with_other_files(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.doc").write_text("years of work")

    with pytest.raises(FlowBuilderError, match=r"holds other files \('thesis.doc'\)"):
        write(pa.table({"a": [1]}), tmp_path, "home", partition_by=["a"])

    assert (tmp_path / "home" / "thesis.doc").read_text() == "years of work"


def test_partition_column_must_exist(tmp_path):
    with pytest.raises(FlowBuilderError, match="no column 'mont'") as caught:
        write(pa.table({"month": [1]}), tmp_path, "p", partition_by=["mont"])

    assert caught.value.hint == "did you mean 'month'?"
    assert list(tmp_path.iterdir()) == []


def test_formulas_are_marked_when_asked_and_reported_otherwise(tmp_path):
    table = pa.table(
        {"s": ["=cmd()", "+1", "-1", "@x", "ok", None, ""], "n": [-1] * 7, "=h": ["a"] * 7}
    )
    said = []
    call = make_call(
        {"path": "a.csv"},
        tmp_path,
        inputs={"data": table},
        write=lambda stream, text: said.append((stream, text)),
    )

    WRITE.run(call)
    write(table, tmp_path, "b.csv", options={"escape_formulas": True})

    assert read(tmp_path, "a.csv")["s"].to_pylist() == table["s"].to_pylist()
    assert said[0][0] == "log"
    assert "texts in 's', '=h' begin like spreadsheet formulas" in said[0][1]
    marked = read(tmp_path, "b.csv")
    assert marked["s"].to_pylist() == ["'=cmd()", "'+1", "'-1", "'@x", "ok", None, ""]
    assert marked.column_names == ["s", "n", "'=h"]
    assert marked["n"].to_pylist() == [-1] * 7


@pytest.mark.parametrize("path", ["../out.txt", "/tmp/out.txt", "link/out.txt", "a/../../out.txt"])
def test_restricted_write_stays_in_the_folder(tmp_path, path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)

    with pytest.raises(AuthorizationError, match="leads out of the workflow's folder"):
        WRITE.run(make_call({"path": path}, folder, inputs={"data": "x"}, policy="restricted"))
    WRITE.run(make_call({"path": "sub/out.txt"}, folder, inputs={"data": "x"}, policy="restricted"))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["project"]


def test_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()

    with pytest.raises(FlowBuilderError, match="could not be written"):
        write("x", tmp_path, "file/x.txt")
    with pytest.raises(FlowBuilderError, match="found a folder: 'folder'"):
        write("x", tmp_path, "folder", format="text")


def test_gzip_output_is_reproducible(tmp_path):
    write("same", tmp_path, "a.txt.gz")
    write("same", tmp_path, "b.txt.gz")

    assert (tmp_path / "a.txt.gz").read_bytes() == (tmp_path / "b.txt.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.txt.gz").read_bytes()) == b"same"


def test_json_writes_nan_as_null(tmp_path):
    write({"x": math.nan}, tmp_path, "n.json")

    assert json.loads((tmp_path / "n.json").read_text()) == {"x": None}


@pytest.mark.parametrize(
    ("config", "messages"),
    [
        ({"path": "a.csv", "options": {"escape_formulas": True}}, []),
        ({"path": "a"}, ["cannot tell the format of 'a' by its suffix"]),
        ({"path": "a", "format": "text"}, []),
        ({"path": "a.csv.zip"}, ["expected no compression or .gz"]),
        ({"path": "a.json", "options": {"header": True}}, ["option 'header' is not for json"]),
        ({"path": "a.csv", "partition_by": ["x"]}, ["`partition_by` writes parquet, not csv"]),
        ({"path": "a", "partition_by": ["x"], "options": {"compression": "zstd"}}, []),
        ({"path": "${{ params.out }}"}, []),
    ],
)
def test_check_finds_mistakes(tmp_path, config, messages):
    assert [finding.message for finding in WRITE.check(config, tmp_path)] == messages


def test_check_wants_one_input(tmp_path):
    assert list(WRITE.check_inputs({}, ["report"], tmp_path)) == []
    assert list(WRITE.check_inputs({}, ["data", "late"], tmp_path)) == []
    found = [finding.message for finding in WRITE.check_inputs({}, ["b", "a"], tmp_path)]
    assert found == ["expected one input to write, found a, b"]


def test_effects_depend_on_the_mode():
    assert WRITE.effects({"path": "a"}) is Effects.IDEMPOTENT
    assert WRITE.effects({"path": "a", "mode": "error"}) is Effects.EXTERNAL


def test_schema_is_valid_and_closed():
    validator = jsonschema_rs.validator_for(dict(WRITE.schema))

    assert validator.is_valid({"path": "a", "format": "csv", "options": {"header": False}})
    assert not validator.is_valid({"path": "a", "mode": "append"})
