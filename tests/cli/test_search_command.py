"""`flowbuilder search`, as a person uses it."""

from __future__ import annotations

import json

import pytest

from flowbuilder.cli.main import main

FLOW = """
name: report
params: {city: {type: string, default: Oslo}}
tasks:
  - name: load
    type: script
    config: {code: "print('读取数据 from', params['city'])"}
  - name: fail
    type: script
    config: {code: "raise ValueError('no such column: user_id')"}
"""


@pytest.fixture
def recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.flow.yaml").write_text(FLOW, encoding="utf-8")
    main(["run", "report.flow.yaml"])
    capsys.readouterr()
    return tmp_path


def test_hits_show_where_and_the_match(recorded, capsys):
    assert main(["search", "数据"]) == 0

    out = capsys.readouterr().out
    assert "log  report  load" in out
    assert "读取«数据» from Oslo" in out


def test_json(recorded, capsys):
    assert main(["search", "user_id", "kind:error", "--json", "--limit", "1"]) == 0

    (hit,) = json.loads(capsys.readouterr().out)
    assert hit["kind"] == "error"
    start, stop = hit["marks"][0]
    assert hit["text"][start:stop] == "user_id"
    assert hit["time"].endswith("+00:00")


def test_nothing_found_is_no_error(recorded, capsys):
    assert main(["search", "absent"]) == 0
    assert "nothing found" in capsys.readouterr().out


@pytest.mark.parametrize("text", ['"open', "OR", "kind:nope", "*", "--"])
def test_bad_search_is_an_error_without_a_traceback(recorded, capsys, text):
    assert main(["search", "--", text]) == 1

    told = capsys.readouterr().err
    assert told.startswith(("flowbuilder: expected", "flowbuilder: the quote"))
    assert "Traceback" not in told


def test_secret_is_not_found(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_TOKEN", "hunter2secret")
    (tmp_path / "s.flow.yaml").write_text(
        "name: s\nsecrets: {token: MY_TOKEN}\ntasks:\n"
        "  - {name: say, type: shell, config: {command: 'echo it is ${{ secrets.token }}; exit 1'}}\n"
    )
    main(["run", "s.flow.yaml"])
    capsys.readouterr()

    assert main(["search", "hunter2secret OR hunter2*"]) == 0
    assert "nothing found" in capsys.readouterr().out
    query = "SELECT count(*) AS n FROM events WHERE detail::VARCHAR LIKE '%hunter2%'"
    assert main(["sql", query, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"n": 0}]
    store = tmp_path / ".flowbuilder" / "history"
    assert not any(b"hunter2secret" in path.read_bytes() for path in store.iterdir())
