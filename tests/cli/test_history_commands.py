"""`flowbuilder sql` and `flowbuilder store prune`, as a person uses them."""

from __future__ import annotations

import json

import pytest

from flowbuilder.cli.main import main

FLOW = """
name: report
params: {rows: {type: integer, default: 3}}
tasks:
  - name: load
    type: script
    config: {code: "result = list(range(params['rows']))"}
  - name: mean
    type: script
    inputs: {values: load}
    config: {code: "result = sum(values) / len(values)"}
"""


@pytest.fixture
def recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.flow.yaml").write_text(FLOW)
    main(["run", "report.flow.yaml", "-p", "rows=4"])
    main(["run", "report.flow.yaml", "-p", "rows=0"])
    capsys.readouterr()
    return tmp_path


def test_sql_prints_a_table(recorded, capsys):
    assert main(["sql", "SELECT state, error_task FROM runs ORDER BY started_at"]) == 0

    assert capsys.readouterr().out.split("\n") == [
        "state      error_task",
        "succeeded",
        "failed     mean",
        "(2 rows)",
        "",
    ]


def test_sql_prints_json(recorded, capsys):
    query = "SELECT state, started_at, [1, 2] AS list, {'a': 0.5} AS map, 'nan'::DOUBLE AS odd, 1.5::DECIMAL AS d FROM runs"
    assert main(["sql", query, "--json"]) == 0

    rows = json.loads(capsys.readouterr().out)
    assert {row["state"] for row in rows} == {"succeeded", "failed"}
    assert rows[0]["started_at"].startswith("20")
    assert (rows[0]["list"], rows[0]["map"], rows[0]["odd"]) == ([1, 2], {"a": 0.5}, "nan")
    assert rows[0]["d"] == 1.5


def test_sql_of_another_store(recorded, capsys, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    assert (
        main(
            ["sql", "SELECT count(*) AS n FROM runs", "--data-dir", str(recorded / ".flowbuilder")]
        )
        == 0
    )

    assert "2" in capsys.readouterr().out


@pytest.mark.parametrize(
    "query",
    ["DROP TABLE runs", "SELECT nope FROM runs", "", "SELECT * FROM read_text('/etc/passwd')"],
)
def test_bad_sql_is_an_error_without_a_traceback(recorded, capsys, query):
    assert main(["sql", query]) == 1

    told = capsys.readouterr().err
    assert told.startswith("flowbuilder: ")
    assert "Traceback" not in told


def test_sql_without_a_store_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["sql", "FROM runs", "--data-dir", str(tmp_path / "none")]) == 1

    assert "no runs are recorded" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_prune_says_why_a_month_stays(recorded, capsys):
    assert main(["store", "prune", "--json"]) == 0

    (report,) = json.loads(capsys.readouterr().out)
    assert (report["runs"], report["pruned"]) == (2, 0)
    assert "has not ended" in report["waits"]


def test_prune_refuses_a_wrong_grace(recorded, capsys):
    assert main(["store", "prune", "--grace", "soon"]) == 2

    assert "expected a duration" in capsys.readouterr().err


def test_pruned_run_is_shown_by_every_command(recorded, capsys, monkeypatch):
    import time

    main(["runs", "show", "latest"])
    shown = capsys.readouterr().out
    main(["runs", "events", "latest"])
    events = capsys.readouterr().out
    later = time.time_ns() + 60 * 86_400 * 10**9
    monkeypatch.setattr("flowbuilder.history.pruning.time.time_ns", lambda: later)
    assert main(["store", "prune", "--dry-run"]) == 0
    assert "2 runs would move" in capsys.readouterr().out
    assert main(["store", "prune"]) == 0
    assert "2 of 2 runs moved" in capsys.readouterr().out

    main(["runs", "show", "latest"])
    assert capsys.readouterr().out == shown
    main(["runs", "events", "latest"])
    assert capsys.readouterr().out == events
    assert main(["logs", "latest"]) == 0
    capsys.readouterr()
    assert main(["run", "--resume", "latest"]) == 1
    assert "was moved to closed month" in capsys.readouterr().err
    assert main(["runs", "rm", "latest"]) == 0
    assert "removed 1 of 1 run" in capsys.readouterr().out
    assert main(["sql", "SELECT count(*) AS left FROM runs"]) == 0
    assert "1" in capsys.readouterr().out
    assert main(["store", "prune"]) == 0
    assert "the journal holds no runs" in capsys.readouterr().out
