"""Reading files: formats, folders, packages, and errors that say what is there."""

import bz2
import gzip
import lzma
import sys
import zipfile
from pathlib import Path

import jsonschema_rs
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flowbuilder.errors import AuthorizationError, FlowBuilderError, PluginError
from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.tasks.read import ReadTask
from flowbuilder.vocabulary import Effects

READ = ReadTask()
CSV = b"a,b\n1,x\n2,y\n"
ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def read(directory, path, *, policy="local", **config):
    config = {"path": path, **config}
    return READ.run(
        TaskCall(
            name="r",
            key="r",
            run_id="r",
            attempt=1,
            config=config,
            directory=directory,
            policy=policy,
        )
    )


def zipped(data, *names):
    def make(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, data)

    return make


def zstd(path):
    with pa.output_stream(path, compression="zstd") as stream:
        stream.write(CSV)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("t.csv", lambda path: path.write_bytes(CSV)),
        ("T.CSV", lambda path: path.write_bytes(CSV)),
        ("t.tsv", lambda path: path.write_bytes(CSV.replace(b",", b"\t"))),
        ("t.csv.gz", lambda path: path.write_bytes(gzip.compress(CSV))),
        ("t.csv.bz2", lambda path: path.write_bytes(bz2.compress(CSV))),
        ("t.csv.xz", lambda path: path.write_bytes(lzma.compress(CSV))),
        ("t.csv.zst", zstd),
        ("t.csv.zip", zipped(CSV, "t.csv", "__MACOSX/._t.csv")),
        ("t.jsonl", lambda path: path.write_bytes(b'{"a": 1, "b": "x"}\n{"a": 2, "b": "y"}\n')),
        ("t.parquet", lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path)),
    ],
)
def test_format_goes_by_the_name(tmp_path, name, make):
    make(tmp_path / name)

    assert read(tmp_path, name).to_pylist() == ROWS
    assert read(tmp_path, name, columns=["b"]).to_pylist() == [{"b": "x"}, {"b": "y"}]
    assert read(tmp_path, name, columns=["b", "a"]).column_names == ["b", "a"]


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("auto", pa.Table),
        ("arrow", pa.Table),
        ("polars", pl.DataFrame),
        ("pandas", pd.DataFrame),
        ("rows", list),
    ],
)
def test_output_is_the_asked_type(tmp_path, output, kind):
    (tmp_path / "t.csv").write_bytes(CSV)

    assert isinstance(read(tmp_path, "t.csv", output=output), kind)


def test_arrow_files_are_mapped_not_copied(tmp_path):
    with pa.ipc.new_file(tmp_path / "t.arrow", pa.schema([("x", pa.int64())])) as writer:
        writer.write_table(pa.table({"x": range(1_000_000)}))
    before = pa.total_allocated_bytes()

    table = read(tmp_path, "t.arrow")

    assert pa.total_allocated_bytes() - before < 100_000
    assert table["x"][999_999].as_py() == 999_999


def test_arrow_streams_are_read_too(tmp_path):
    with pa.ipc.new_stream(tmp_path / "t.arrow", pa.schema([("x", pa.int64())])) as writer:
        writer.write_table(pa.table({"x": [1, 2]}))

    assert read(tmp_path, "t.arrow")["x"].to_pylist() == [1, 2]


def test_csv_options_change_the_reading(tmp_path):
    (tmp_path / "t.csv").write_text("# made by hand\n1;'NA';2,5;NA\n7;'';3,5;2013-01-02\n")

    table = read(
        tmp_path,
        "t.csv",
        options={
            "delimiter": ";",
            "quote": "'",
            "header": False,
            "names": ["id", "text", "x", "day"],
            "skip_rows": 1,
            "na": ["NA"],
            "decimal_point": ",",
            "dtypes": {"id": "string", "day": "date"},
        },
    )

    assert list(table.to_pylist()[0].values()) == ["1", "NA", 2.5, None]
    assert str(table["day"][1]) == "2013-01-02"
    assert table["text"][1].as_py() == ""


def test_csv_names_can_replace_the_header(tmp_path):
    (tmp_path / "t.csv").write_bytes(CSV)

    assert read(tmp_path, "t.csv", options={"names": ["n", "s"]}).to_pylist()[0] == {
        "n": 1,
        "s": "x",
    }


def test_csv_texts_that_look_missing_stay_text(tmp_path):
    (tmp_path / "t.csv").write_text("code,x\nNA,1\nnull,NaN\n,\n")

    table = read(tmp_path, "t.csv")

    assert table["code"].to_pylist() == ["NA", "null", None]
    assert [str(value) for value in table["x"].to_pylist()] == ["1.0", "nan", "None"]


def test_folder_and_pattern_read_all_files_in_order(tmp_path):
    (tmp_path / "b.csv").write_text("a,b\n3,z\n")
    (tmp_path / "a.csv").write_bytes(CSV)
    (tmp_path / ".hidden.csv").write_text("nonsense")
    (tmp_path / "_tmp").mkdir()
    (tmp_path / "_tmp" / "c.csv").write_text("a,b\n9,z\n")
    (tmp_path / "README").write_text("not data")

    assert read(tmp_path, ".")["a"].to_pylist() == [1, 2, 3]
    assert read(tmp_path, "[ab].csv")["a"].to_pylist() == [1, 2, 3]
    assert read(tmp_path, "**/c.csv")["a"].to_pylist() == [9]


def test_several_files_match_columns_by_name(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_text("b,a,c\n2.5,1,x\n")

    rows = read(tmp_path, "*.csv", output="rows")

    assert rows == [{"a": 1, "b": 2.0, "c": None}, {"a": 1, "b": 2.5, "c": "x"}]


def test_json_and_text_are_values(tmp_path):
    (tmp_path / "v.json").write_bytes(b'\xef\xbb\xbf{"a": [1, 2.5, null], "big": 9007199254740993}')
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")

    assert read(tmp_path, "v.json") == {"a": [1, 2.5, None], "big": 9007199254740993}
    assert read(tmp_path, "*.txt") == {"a.txt": "one", "b.txt": "two"}
    assert read(tmp_path, "a.txt", format="bytes") == b"one"


def test_package_data_is_read_without_importing(tmp_path, monkeypatch):
    data = tmp_path / "site" / "demo_pack" / "data"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    (data / "t.csv").write_bytes(CSV)
    (tmp_path / "site" / "outside.csv").write_bytes(CSV)
    monkeypatch.syspath_prepend(tmp_path / "site")

    assert read(tmp_path, "data/t.csv", package="demo_pack").to_pylist() == ROWS
    assert "demo_pack" not in sys.modules
    with pytest.raises(FlowBuilderError, match=r"'demo_pack:data/T.csv' does not exist") as caught:
        read(tmp_path, "data/T.csv", package="demo_pack")
    assert caught.value.hint == "did you mean 't.csv'?"
    with pytest.raises(AuthorizationError, match="leads out of"):
        read(tmp_path, "../outside.csv", package="demo_pack")
    with pytest.raises(FlowBuilderError, match="package 'demo_pak' is not installed"):
        read(tmp_path, "x.csv", package="demo_pak")


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("flihts.csv", "file 'flihts.csv' does not exist", "did you mean 'flights.csv'"),
        ("dta/flights.csv", "does not exist (no 'dta' there)", "did you mean 'data'?"),
        ("*.arrow", "expected files that match '*.arrow', found none", ""),
        ("empty", "expected data files in folder 'empty', found none", ""),
        ("", "expected the path of a file", ""),
        ("a\0b", "expected the path of a file", ""),
        ("flights.dat", "cannot tell the format of 'flights.dat'", ""),
        ("bad.json", "is not JSON: ", ""),
        ("bad.parquet", "could not be read as parquet", ""),
        ("bad.csv.zip", "could not be read: File is not a zip file", ""),
        ("bad.txt", "is not UTF-8 text (byte 1)", "use `format: bytes`"),
        ("ragged.csv", "could not be read as csv: CSV parse error: Expected 2 columns, got 3", ""),
        ("two.csv.zip", "expected one file inside 'two.csv.zip', found 2", ""),
        (".", "expected files of one format in", ""),
    ],
)
def test_errors_say_what_is_there(tmp_path, path, message, hint):
    for folder in ("data", "empty"):
        (tmp_path / folder).mkdir()
    for name in ("flights.csv", "flights.dat"):
        (tmp_path / name).write_bytes(CSV)
    for name in ("bad.json", "bad.parquet", "bad.csv.zip", "bad.txt"):
        (tmp_path / name).write_bytes(b"x\xff" * 20)
    (tmp_path / "ragged.csv").write_bytes(b"a,b\n1,2,3\n")
    zipped(CSV, "1.csv", "2.csv")(tmp_path / "two.csv.zip")

    with pytest.raises(FlowBuilderError) as caught:
        read(tmp_path, path)

    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl", "t.arrow"])
def test_missing_column_names_its_neighbours(tmp_path, name):
    table = pa.table({"arr_delay": [1], "dep_delay": [2]})
    (tmp_path / "t.csv").write_text("arr_delay,dep_delay\n1,2\n")
    (tmp_path / "t.jsonl").write_text('{"arr_delay": 1, "dep_delay": 2}\n')
    pq.write_table(table, tmp_path / "t.parquet")
    with pa.ipc.new_file(tmp_path / "t.arrow", table.schema) as writer:
        writer.write_table(table)

    with pytest.raises(FlowBuilderError, match="has no column 'arr_dealy'") as caught:
        read(tmp_path, name, columns=["arr_dealy"])

    assert "'arr_delay'" in caught.value.hint


@pytest.mark.parametrize("path", ["../secret.csv", "/etc/passwd", "link.csv", "*.csv"])
def test_restricted_read_stays_in_the_folder(tmp_path, path):
    (tmp_path / "secret.csv").write_bytes(CSV)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")

    with pytest.raises(AuthorizationError):
        read(folder, path, policy="restricted")


def test_missing_library_is_a_clear_error(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_bytes(CSV)
    (tmp_path / "t.json").write_text("[1]")
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(
        PluginError, match="reading csv needs pyarrow, which is not installed"
    ) as caught:
        read(tmp_path, "t.csv")

    assert caught.value.hint == 'pip install "flowbuilder[data]"'
    assert read(tmp_path, "t.json") == [1]


@pytest.mark.parametrize(
    ("config", "messages"),
    [
        ({"path": "t.csv", "options": {"delimiter": ";"}}, []),
        ({"path": "t.parquet", "options": {"delimiter": ";"}}, ["option 'delimiter' is for csv, not for parquet"]),
        ({"path": "t.jsonl", "options": {"dtypes": {"a": "int"}}}, []),
        ({"path": "t.xyz"}, ["cannot tell the format of 't.xyz' by its suffix"]),
        ({"path": "t.xyz", "format": "csv"}, []),
        ({"path": "t.txt", "columns": ["a"], "output": "polars"}, ["`columns` needs a table, but the format is text", "`output` needs a table, but the format is text"]),
        ({"path": "some/folder"}, []),
        ({"path": "${{ params.file }}", "options": {"delimiter": ";"}}, []),
        ({"path": "x.csv", "package": "no_such_pack"}, ["package 'no_such_pack' is not installed in this environment"]),
    ],
)  # fmt: skip
def test_check_finds_mistakes(config, messages):
    assert [finding.message for finding in READ.check(config, Path())] == messages


def test_reading_has_no_effects():
    assert READ.effects({"path": "x"}) is Effects.NONE


def test_schema_is_valid_and_closed():
    validator = jsonschema_rs.validator_for(dict(READ.schema))

    assert validator.is_valid({"path": "a.csv", "options": {"na": ["NA"]}})
    assert not validator.is_valid({"path": "a.csv", "option": {}})
    assert not validator.is_valid({"path": "a.csv", "package": "../x"})
