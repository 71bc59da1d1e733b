"""What a failed run says, for every kind of task: the reason, the place, and no noise."""

import pytest

HEAD = "name: x\ntasks:\n"


def failed(cli, flow, task):
    answer = cli("run", flow(HEAD + task), "--quiet")
    assert answer.code == 1
    return answer.err


def test_http_failure_is_one_sentence(cli, flow):
    text = failed(
        cli,
        flow,
        "  - {name: get, type: http, config: {url: 'http://127.0.0.1:9/x', timeout: 5}}\n",
    )

    assert "a.flow.yaml:3:5: task 'get' failed: " in text
    assert "http://127.0.0.1:9/x" in text
    assert "httpx" not in text
    assert "Traceback" not in text


def test_shell_failure_shows_what_the_command_said(cli, flow):
    text = failed(
        cli,
        flow,
        "  - {name: run, type: shell, config: {command: 'echo no such table >&2; exit 3'}}\n",
    )

    assert "no such table" in text
    assert "3" in text
    assert "Traceback" not in text


def test_missing_file_is_one_sentence(cli, flow):
    text = failed(cli, flow, "  - {name: read, type: read, config: {path: nowhere.csv}}\n")

    assert "nowhere.csv" in text
    assert "Traceback" not in text


def test_sql_failure_shows_the_engines_words(cli, flow):
    pytest.importorskip("duckdb")
    text = failed(
        cli, flow, "  - {name: q, type: sql, config: {query: 'select nope from range(3)'}}\n"
    )

    assert "nope" in text
    assert "Traceback" not in text


def test_script_failure_shows_the_users_lines_only(cli, flow):
    text = failed(
        cli,
        flow,
        "  - name: s\n    type: script\n    config:\n      code: |\n"
        "        import json\n        def parse(text):\n            return json.loads(text)\n"
        "        parse('{')\n",
    )

    assert 'File "' in text
    assert "parse('{')" in text
    assert "flowbuilder/tasks" not in text
    assert "flowbuilder/runtime" not in text
    assert "JSONDecodeError" in text


def test_timeout_names_the_limit(cli, flow):
    text = failed(
        cli, flow, "  - {name: s, type: shell, timeout: 200ms, config: {command: 'sleep 30'}}\n"
    )

    assert "0.2 s" in text or "200ms" in text
    assert "Traceback" not in text


def test_missing_upstream_field_names_it(cli, flow):
    text = failed(
        cli,
        flow,
        "  - {name: a, type: script, config: {code: \"result = {'x': 1}\"}}\n"
        "  - {name: b, type: shell, config: {argv: [echo, '${{ tasks.a.output.y }}']}}\n",
    )

    assert "'y'" in text or "`y`" in text or ".y" in text
    assert "a.flow.yaml:4" in text
    assert "Traceback" not in text
