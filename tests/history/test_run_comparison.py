"""Two runs side by side."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import flowbuilder as fb
from flowbuilder.cli.main import main
from flowbuilder.errors import StorageError
from flowbuilder.history.output_statistics import column_statistics
from flowbuilder.history.pruning import prune

FLOW = """
name: report
params: {{rows: {{type: integer, default: 3}}, factor: {{type: integer, default: 2}}}}
tasks:
  - name: load
    type: script
    persist: always
    config:
      code: |
        import polars as pl
        result = pl.DataFrame({{"x": range(params["rows"]), "y": [i * {factor} for i in range(params["rows"])]}})
  - name: mean
    type: script
    inputs: {{frame: load}}
    config: {{code: "result = frame['y'].mean()"}}
  - name: check
    type: script
    inputs: {{mean: mean}}
    config: {{code: "assert mean < 10, 'too large'"}}
{more}
"""
MORE = """
  - name: extra
    type: script
    config: {code: "result = 1"}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def start(factor=1, more="", **params):
        text = FLOW.format(factor=factor, more=more)
        return fb.loads(text, data_dir=tmp_path / ".flowbuilder").run(check=False, **params)

    return start


def test_equal_runs(run):
    found = fb.compare(run(), run())

    assert found.is_same_plan
    assert (found.params, found.code) == ([], [])
    assert [task.state for task in found.tasks] == [("succeeded", "succeeded")] * 3
    assert [task.output.is_equal for task in found.tasks] == [True, True, True]
    assert "the same workflow" in repr(found)


def test_parameters_outputs_and_states(run):
    a, b = run(), run(rows=30)

    found = fb.compare(a.id, b.id)

    assert [(c.name, c.a, c.b) for c in found.params] == [("rows", 3, 30)]
    assert found.is_same_plan
    load, mean, check = found.tasks
    assert load.output.rows == (3, 30)
    assert load.output.schema == []
    left, right = load.output.columns["x"]
    assert (left.max, right.max) == (2, 29)
    assert (left.mean, right.mean) == (1.0, 14.5)
    assert mean.output.is_equal is False
    assert check.state == ("succeeded", "failed")
    assert "too large" in check.error[1]
    text = repr(found)
    assert "rows: 3 -> 30" in text
    assert "rows 3 -> 30" in next(line for line in text.split("\n") if "  load: " in line)
    assert "check: succeeded -> failed" in text
    assert "column x: distinct 3 -> 30, max 2 -> 29" in text


def test_code_and_tasks(run):
    found = fb.compare(run(), run(factor=2, more=MORE))

    assert not found.is_same_plan
    names = {change.name for change in found.code}
    assert "load.config.code" in names
    assert any(name.startswith("extra") for name in names)
    assert found.tasks[-1].key == "extra"
    assert found.tasks[-1].state == ("", "succeeded")
    assert "extra: only in b" in repr(found)


def test_outputs_need_not_be_read(run):
    found = fb.compare(run(), run(rows=4), outputs=False)

    assert found.tasks[0].output.columns == {}
    assert "columns were not read" in found.tasks[0].output.note


def test_missing_output_is_said(run, tmp_path):
    a, b = run(), run(rows=4)
    for path in (tmp_path / ".flowbuilder" / "artifacts" / b.id).iterdir():
        path.unlink()

    found = fb.compare(a, b)

    assert "missing" in found.tasks[0].output.note
    assert found.tasks[0].output.rows == (3, 4)


def test_pruned_run_compares_as_before(run, tmp_path):
    from flowbuilder.api.container import container_for

    a, b = run(), run(rows=4)
    before = fb.compare(a, b)
    container = container_for(None, tmp_path / ".flowbuilder")
    later = container.journal.find_run(a.id).started_wall_ns + 60 * 86_400 * 10**9
    prune(container.journal.recent, container.months, now_ns=later)

    assert msgspec.json.encode(fb.compare(a, b)) == msgspec.json.encode(before)


def test_command(run, capsys):
    a, b = run(), run(rows=30)
    capsys.readouterr()

    assert main(["runs", "compare", a.id, b.id]) == 0
    assert "rows: 3 -> 30" in capsys.readouterr().out
    assert main(["runs", "compare", a.id, "latest", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["params"] == [{"name": "rows", "a": 3, "b": 30}]
    assert document["tasks"][0]["output"]["rows"] == [3, 30]


def test_unknown_run_is_an_error(run):
    with pytest.raises(StorageError, match="expected a run id"):
        fb.compare(run(), "nothing")


@pytest.mark.parametrize(
    "value",
    [
        pa.table({"a": [1, 2, None], "s": ["x", None, "z"]}),
        pl.DataFrame({"a": [1, 2, None], "s": ["x", None, "z"]}),
        pl.DataFrame({"a": [1, 2, None], "s": ["x", None, "z"]}).to_pandas(),
    ],
    ids=["arrow", "polars", "pandas"],
)
def test_statistics_of_tables(value):
    found = column_statistics(value)

    assert found["a"].nulls == found["s"].nulls == 1
    assert (found["a"].min, found["a"].max, found["a"].mean, found["a"].std) == (1, 2, 1.5, 0.5)
    assert (found["s"].min, found["s"].max, found["s"].distinct, found["s"].mean) == (
        "x",
        "z",
        2,
        None,
    )


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (np.arange(5.0), ["value"]),
        (np.zeros((3, 2)), ["0", "1"]),
        (np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), ["a", "b"]),
        (np.zeros((2, 2, 2)), None),
        ("text", None),
        (None, None),
        (object(), None),
    ],
)
def test_statistics_of_other_values(value, names):
    found = column_statistics(value)

    assert (None if found is None else list(found)) == names


def test_statistics_of_odd_columns():
    table = pa.table(
        {
            "empty": pa.array([], pa.int64()),
        }
    )
    assert column_statistics(table)["empty"].min is None
    odd = pa.table(
        {
            "nan": [float("nan"), float("inf")],
            "nested": [[1], [2]],
            "flag": [True, False],
            "word": pa.array(["a", "b"]).dictionary_encode(),
            "nothing": pa.nulls(2),
            "when": pa.array([0, 10**6], pa.timestamp("us")),
        }
    )
    found = column_statistics(odd)
    assert found["nan"].mean is None
    assert found["nested"].min is None
    assert found["word"].max == "b"
    assert found["nothing"].nulls == 2
    assert found["when"].max == "1970-01-01T00:00:01"
    json.dumps(msgspec.to_builtins(found), allow_nan=False)
