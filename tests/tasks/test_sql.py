"""Queries over upstream tables: what they see, what they give back, what they may not do."""

import datetime as dt
import math
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path

import jsonschema_rs
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from flowbuilder.errors import FlowBuilderError, Location, RunCancelledError, TaskFailedError
from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.runtime.cancel import CancelToken
from flowbuilder.tasks.sql import SqlTask
from flowbuilder.vocabulary import Effects

SQL = SqlTask()
ENDLESS = (
    "select count(*) from range(1000000) a, range(1000000) b where (a.range * b.range) % 7 = 8"
)


def sql(query, *, output="arrow", args=None, policy="local", **call):
    config = {"query": query, "output": output, "args": args or {}}
    return SQL.run(
        TaskCall(name="q", key="q", run_id="r", attempt=1, config=config, policy=policy, **call)
    )


def rows(query, **options):
    return sql(query, output="rows", **options)


def findings(query, **config):
    return [finding.message for finding in SQL.check({"query": query, **config}, Path())]


COLUMNS = {"n": [1, 2, None], "s": ["x", None, "z" * 40]}
EXPECTED = [{"n": 1, "s": "x"}, {"n": 2, "s": None}, {"n": None, "s": "z" * 40}]


@pytest.mark.parametrize(
    "table",
    [
        pa.table(COLUMNS),
        pa.table(COLUMNS).to_batches()[0],
        pl.DataFrame(COLUMNS),
        pl.DataFrame(COLUMNS).lazy(),
        pd.DataFrame(COLUMNS).convert_dtypes(dtype_backend="pyarrow"),
        pd.DataFrame(COLUMNS),
        COLUMNS,
        EXPECTED,
    ],
    ids=["arrow", "batch", "polars", "lazy", "pandas-arrow", "pandas", "columns", "rows"],
)
def test_sql_reads_any_kind_of_table(table):
    assert rows("select * from t order by n nulls last", upstream={"t": table}) == EXPECTED


def test_sql_reads_numpy_columns_and_structured_arrays():
    columns = {"a": np.arange(3), "b": np.array([1.0, math.nan, 3.0])}
    records = np.array([(1, 2.5)], dtype=[("x", "i4"), ("y", "f8")])

    assert rows("select count(*) n, count(b) b from t", upstream={"t": columns}) == [
        {"n": 3, "b": 3}
    ]
    assert rows("select * from t", upstream={"t": records}) == [{"x": 1, "y": 2.5}]


def test_sql_prefers_ports_and_ignores_case():
    one, two = pa.table({"x": [1]}), pa.table({"x": [2]})

    assert rows("from FLIGHTS", upstream={"flights": one}, inputs={"Flights": two}) == [{"x": 2}]


def test_sql_reads_quoted_task_names():
    assert rows('from "my-task"', upstream={"my-task": [{"a": 1}]}) == [{"a": 1}]


def test_sql_looks_only_at_tables_it_mentions():
    upstream = {"t": [{"a": 1}], "report": "just text"}

    assert rows("from t", upstream=upstream) == [{"a": 1}]
    with pytest.raises(FlowBuilderError, match="expected a table from 'report', found str"):
        rows("from report", upstream=upstream)


def test_sql_sees_no_python_variables():
    hidden = pa.table({"secret": [1]})

    with pytest.raises(TaskFailedError, match="hidden does not exist") as caught:
        rows("select * from hidden")
    assert hidden.num_rows == 1
    assert "tables of this task: none" in caught.value.hint


def test_sql_binds_arguments_as_data():
    args = {"name": "x'; drop table t; --", "few": [1, 2], "at": dt.date(2013, 1, 1), "none": None}

    result = rows("select $name n, $few f, $at a, $none o", args=args)

    assert result == [{"n": args["name"], "f": [1, 2], "a": dt.date(2013, 1, 1), "o": None}]


def test_sql_runs_several_statements_in_a_database_of_their_own():
    query = (
        "create table s as select * from t where x > $lo; select sum(x) total from s where x < $hi;"
    )

    for _ in range(2):
        result = rows(query, args={"lo": 1, "hi": 9}, upstream={"t": {"x": [1, 2, 3, 10]}})
        assert result == [{"total": 5}]
    with pytest.raises(TaskFailedError, match="s does not exist"):
        rows("from s")


@pytest.mark.parametrize(
    ("output", "kind"), [("arrow", pa.Table), ("polars", pl.DataFrame), ("pandas", pd.DataFrame)]
)
def test_sql_gives_the_asked_type(output, kind):
    result = sql("select 1 a, null::int b", output=output)

    assert isinstance(result, kind)
    assert len(result) == 1


def test_sql_value_is_the_only_cell():
    assert sql("select sum(x) from t", output="value", upstream={"t": {"x": [1, 2]}}) == 3
    with pytest.raises(FlowBuilderError, match="found 2 x 1"):
        sql("values (1), (2)", output="value")


def test_sql_sums_of_integers_stay_integers():
    table = sql(
        "select sum(x) small, sum(x::hugeint * 10::hugeint ** 30::int) big from t",
        upstream={"t": {"x": [1, 2]}},
    )

    assert table.schema.field("small").type == pa.int64()


TYPES = {
    "nan": pa.array([math.nan, None, -0.0, math.inf]),
    "decimal": pa.array(
        [Decimal("1.10"), None, Decimal("-9.99"), Decimal("0.00")], pa.decimal128(20, 2)
    ),
    "zoned": pa.array([0, None, 1_700_000_000_000_000, -1], pa.timestamp("us", "Asia/Shanghai")),
    "naive": pa.array([0, None, 1_700_000_000_000_000, -1], pa.timestamp("us")),
    "nanos": pa.array([0, None, 1, -1], pa.timestamp("ns")),
    "day": pa.array([0, None, 19_000, -1], pa.date32()),
    "time": pa.array([0, None, 1, 86_399_999_999], pa.time64("us")),
    "big": pa.array([2**64 - 1, None, 0, 1], pa.uint64()),
    "half": pa.array(np.array([1.5, 0, 2, 3], dtype=np.float16)),
    "flag": pa.array([True, None, False, True]),
    "text": pa.array(["", None, "é" * 20, "NaN"]),
    "view": pa.array(["", None, "é" * 20, "NaN"], pa.string_view()),
    "bytes": pa.array([b"", None, b"\x00\xff", b"x"]),
    "list": pa.array([[1, None], None, [], [2]]),
    "struct": pa.array(
        [{"a": 1, "b": [{"c": "x"}]}, None, {"a": None, "b": []}, {"a": 2, "b": None}]
    ),
    "map": pa.array([[("k", 1.5)], None, [], [("a", None)]], pa.map_(pa.string(), pa.float64())),
    "category": pa.array(["a", None, "b", "a"]).dictionary_encode(),
}


def same(left, right):
    return all(
        a == b
        or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("name", TYPES)
def test_sql_keeps_the_meaning_of_arrow_types(name):
    table = pa.table({"i": range(4), "x": TYPES[name]})

    result = sql("select x from t order by i", upstream={"t": table})

    assert same(result.column(0).to_pylist(), table.column("x").to_pylist())


@pytest.mark.parametrize("name", sorted(TYPES.keys() - {"map", "half"}))
def test_sql_keeps_the_meaning_of_polars_types(name):
    frame = pl.from_arrow(pa.table({"i": range(4), "x": TYPES[name]}))

    result = sql("select x from t order by i", output="polars", upstream={"t": frame})

    assert same(result["x"].to_list(), frame["x"].to_list())


@pytest.mark.parametrize("name", sorted(TYPES.keys() - {"half", "view", "category"}))
def test_sql_keeps_the_meaning_of_pandas_types(name):
    frame = pa.table({"i": range(4), "x": TYPES[name]}).to_pandas(types_mapper=pd.ArrowDtype)

    result = sql("select x from t order by i", output="pandas", upstream={"t": frame})

    assert same(pa.array(result["x"]).to_pylist(), TYPES[name].to_pylist())


def test_sql_takes_numpy_backed_pandas_nan_as_missing():
    frame = pd.DataFrame({"x": [1.0, math.nan]}, index=pd.Index([7, 8], name="id"))

    assert rows("select id, x from t", upstream={"t": frame}) == [
        {"id": 7, "x": 1.0},
        {"id": 8, "x": None},
    ]


def test_sql_zoned_times_come_out_in_utc_whatever_the_machine_says():
    text = sql("select strftime(timestamptz '2013-07-01 12:00:00+08', '%H:%M')", output="value")

    assert text == "04:00"


def test_sql_finds_files_beside_the_workflow(tmp_path):
    (tmp_path / "small.csv").write_text("a,b\n1,x\n")

    assert rows("from 'small.csv'", directory=tmp_path) == [{"a": 1, "b": "x"}]


@pytest.mark.parametrize(
    "query",
    [
        "from read_csv('/etc/passwd')",
        "from read_text('/etc/passwd')",
        "from '/etc/passwd'",
        "from glob('/etc/*')",
        "copy (select 1) to '{place}/out.csv'",
        "attach '{place}/out.db' as out; select 1",
        "install httpfs; select 1",
        "load httpfs; select 1",
        "set enable_external_access = true; select 1",
        "set threads = 64; select 1",
        "export database '{place}/out'",
    ],
)
def test_restricted_sql_reaches_nothing_outside(query, tmp_path):
    with pytest.raises(TaskFailedError):
        sql(query.format(place=tmp_path), policy="restricted", directory=tmp_path)

    assert list(tmp_path.iterdir()) == []
    assert rows("select * from t", policy="restricted", upstream={"t": [{"a": 1}]}) == [{"a": 1}]


def cancel_when_running(token, reason):
    thread = threading.Timer(0.15, token.cancel, [reason])
    thread.start()
    return thread


@pytest.mark.parametrize("reason", ["cancelled", "timeout"])
@pytest.mark.parametrize("query", [ENDLESS, f"create table x as select 1; {ENDLESS}"])
def test_sql_stops_when_cancelled(query, reason):
    token = CancelToken()
    thread = cancel_when_running(token, reason)
    began = time.monotonic()

    with pytest.raises(RunCancelledError, match=reason):
        sql(query, cancel=token)

    thread.join()
    assert time.monotonic() - began < 5


def test_sql_does_not_start_after_cancel():
    token = CancelToken()
    token.cancel()

    with pytest.raises(RunCancelledError):
        sql(ENDLESS, cancel=token)


def test_sql_cancel_after_the_end_harms_no_later_query():
    token = CancelToken()
    sql("select 1", cancel=token)

    token.cancel()

    assert sql("select 2", output="value") == 2


def test_sql_runs_on_many_threads_at_once():
    results = {}

    def work(number):
        table = {"x": list(range(number))}
        results[number] = sql("select count(*) from t", output="value", upstream={"t": table})

    threads = [threading.Thread(target=work, args=[number]) for number in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == {number: number for number in range(1, 17)}


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("select 1,\n  nope\nfrom range(3)", 2),
        ("select 1\n\nselekt 2", 3),
        ("create table s as select 1;\n\nselect *\nfrom missing", 4),
        ("select 1\nfrom (values ('abc')) t(x) where\n'abc'::int = 2", 3),
    ],
)
def test_sql_error_points_at_the_line_of_the_query(query, line):
    with pytest.raises(TaskFailedError) as caught:
        rows(query, locate=lambda _path, line: Location("w.yaml", line))

    assert caught.value.location == Location("w.yaml", line)
    assert caught.value.task == "q"


def test_sql_table_that_is_none_fails_with_its_name():
    with pytest.raises(FlowBuilderError, match="'t', found NoneType"):
        rows("from t", upstream={"t": None})
    with pytest.raises(FlowBuilderError, match="'t' could not be read as a table"):
        rows("from t", upstream={"t": {"a": [1, 2], "b": [1]}})


@pytest.mark.parametrize(
    ("query", "args", "message"),
    [
        ("select '${{ params.x }}'", {}, "expected plain SQL, found a ${{ }} template"),
        ("select $lo", {}, "the query uses $lo, which `args` does not give"),
        ("select 1", {"lo": 1}, "the query does not use $lo"),
        ("select ?", {}, "expected named parameters such as $name, found '?'"),
        ("select $1", {}, "expected named parameters such as $name, found '$1'"),
        (" -- nothing", {}, "expected a SQL statement, found none"),
        ("select 1; drop table x", {}, "expected the last of 2 statements to return rows"),
    ],
)
def test_check_finds_mistakes(query, args, message):
    assert findings(query, args=args) == [message]


def test_check_accepts_good_queries():
    assert findings("select $lo where '$no' <> $$ ? $$", args={"lo": "${{ params.lo }}"}) == []
    assert findings("copy (select 1) to 'x.csv'") == []


def test_check_gives_the_line_of_a_template():
    found = list(SQL.check({"query": "select 1\n, ${{ x }}"}, Path()))

    assert [(finding.path, finding.line) for finding in found] == [(("query",), 2)]


@pytest.mark.parametrize(
    ("query", "effects"),
    [
        ("select 1", Effects.NONE),
        ("create table t (x int); from t", Effects.NONE),
        ("copy t to 'x'", Effects.EXTERNAL),
    ],
)
def test_effects_of_reading_are_none(query, effects):
    assert SQL.effects({"query": query}) is effects


def test_references_are_the_tasks_the_query_mentions():
    query = "with a as (from flights) select * from a join Planes using (tailnum)"

    assert list(SQL.references({"query": query}, ["a", "planes", "flights", "weather"])) == [
        "planes",
        "flights",
    ]
    assert list(SQL.references({}, ["a"])) == []


def test_schema_is_valid_and_closed():
    validator = jsonschema_rs.validator_for(dict(SQL.schema))

    assert validator.is_valid({"query": "select 1", "args": {"lo": 1}})
    assert not validator.is_valid({"query": "select 1", "arg": {}})
    assert not validator.is_valid({"query": "select 1", "args": {"1": 1}})


def run_python(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_planning_imports_no_library():
    code = """
import sys
from pathlib import Path
from flowbuilder.tasks import sql, read, write
task = sql.SqlTask()
config = {"query": "select * from a where x = $x", "args": {"x": 1}}
list(task.check(config, Path()))
print(*task.references(config, ["a"]), *(sys.modules.keys() & {"duckdb", "pyarrow", "polars", "pandas", "numpy"}))
"""
    assert run_python(code) == ["a"]


def test_sql_needs_only_duckdb_and_arrow():
    code = """
import sys
sys.modules.update(dict.fromkeys(["polars", "pandas", "numpy"]))
from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.tasks.sql import SqlTask
config = {"query": "select sum(x) as total from t where x > $lo", "args": {"lo": 1}}
call = TaskCall(name="q", key="q", run_id="r", attempt=1, config=config, upstream={"t": [{"x": 1}, {"x": 2}]})
print(SqlTask().run(call)["total"][0].as_py())
"""
    assert run_python(code) == ["2"]
