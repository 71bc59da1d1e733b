"""``flowbuilder run``: exit codes, parameters, selections, what is printed."""

import json

import pytest

THREE = """
    name: three
    params:
      n: {type: integer, default: 2}
      who: {type: string, default: world}
      opts: {type: object, default: {}}
    tasks:
      - {name: first, type: script, config: {code: "result = params['n']"}}
      - {name: second, type: script, inputs: {x: first}, config: {code: "result = x * 10"}}
      - name: third
        type: script
        inputs: {y: second}
        config: {code: "result = {'y': y, 'who': params['who'], 'opts': params['opts']}"}
    """

FAILING = """
    name: failing
    tasks:
      - name: bad
        type: script
        config:
          code: |
            x = 1
            raise ValueError("no such thing")
      - {name: later, type: script, depends_on: [bad], config: {code: "result = 1"}}
      - {name: other, type: script, config: {code: "result = 7"}}
    """


def test_success_is_0_and_prints_the_timeline_and_outputs(cli, flow):
    answer = cli("run", flow(THREE))

    assert answer.code == 0
    assert "first   │" in answer.out
    assert "three succeeded in " in answer.out
    assert "third = {'y': 20, 'who': 'world', 'opts': {}}" in answer.out
    assert answer.err == ""


def test_failure_is_1_and_names_task_line_and_what_to_do(cli, flow):
    answer = cli("run", flow(FAILING, "failing.flow.yaml"))

    assert answer.code == 1
    assert "failing.flow.yaml:9:1: task 'bad' failed: ValueError: no such thing" in answer.err
    assert 'raise ValueError("no such thing")' in answer.err
    assert "flowbuilder run --resume " in answer.err
    assert "later was skipped: upstream bad failed" in answer.out


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name: x\ntasks: []\n", "expected at least one task, found an empty list"),
        ("name: x\ntasks:\n  - {name: a, type: shel, config: {}}\n", "did you mean 'shell'?"),
        ("tasks: [", "a.flow.yaml:1:"),
    ],
)
def test_invalid_workflow_is_2_and_nothing_ran(cli, flow, text, found):
    answer = cli("run", flow(text))

    assert answer.code == 2
    assert found in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert cli("runs", "list", "--json").json == []


def test_usage_errors_are_2(cli, flow):
    path = flow(THREE)

    assert cli("run").code == 2
    assert cli("run", "missing.flow.yaml").code == 2
    assert cli("run", path, "--executor", "quantum").code == 2
    assert cli("run", path, "--workers", "0").code == 2
    assert cli("run", path, "--jsno").code == 2
    assert cli("run", path, "--to", "nowhere").code == 2


def test_json_is_one_document_of_the_promised_shape(cli, flow):
    answer = cli("run", flow(THREE), "--json")

    document = answer.json
    assert answer.out.count("\n") == 1
    assert answer.err == ""
    assert list(document) == ["run_id", "state", "duration_s", "tasks", "outputs"]
    assert document["state"] == "succeeded"
    assert document["outputs"] == {"third": {"y": 20, "who": "world", "opts": {}}}
    fields = ["name", "state", "attempt", "started_at", "duration_s", "cached", "reason", "error"]
    assert [list(task) for task in document["tasks"]] == [fields] * 3
    assert all(task["attempt"] == 1 and task["started_at"] for task in document["tasks"])


def test_json_of_a_failed_run_is_still_the_only_output(cli, flow):
    answer = cli("run", flow(FAILING), "--json")

    states = {task["name"]: task["state"] for task in answer.json["tasks"]}
    assert answer.code == 1
    assert answer.err == ""
    assert states == {"bad": "failed", "later": "skipped", "other": "succeeded"}
    assert answer.json["tasks"][0]["error"] == "ValueError: no such thing"
    assert answer.json["outputs"] == {"other": 7}


def test_json_of_an_invalid_workflow_lists_the_problems(cli, flow):
    answer = cli("run", flow("name: x\ntasks:\n  - {name: a, tipe: shell}\n"), "--json")

    assert answer.code == 2
    assert answer.json["type"] == "WorkflowValidationError"
    assert {problem["line"] for problem in answer.json["problems"]} == {3}


def test_quiet_prints_nothing_but_errors(cli, flow):
    assert cli("run", flow(THREE), "--quiet") == type(cli("version"))(0, "", "")

    failed = cli("run", flow(FAILING), "--quiet")

    assert failed.out == ""
    assert "task 'bad' failed" in failed.err


def test_parameters_are_read_by_their_schema(cli, flow):
    path = flow(THREE)

    given = cli("run", path, "--json", "-p", "n=5", "-p", "who=12", "-p", 'opts={"a": [1, null]}')

    assert given.json["outputs"]["third"] == {"y": 50, "who": "12", "opts": {"a": [1, None]}}


def test_parameter_value_may_hold_equals_signs_and_be_empty(cli, flow):
    path = flow(THREE)

    assert cli("run", path, "--json", "-p", "who=a=b=c").json["outputs"]["third"]["who"] == "a=b=c"
    assert cli("run", path, "--json", "-p", "who=").json["outputs"]["third"]["who"] == ""


def test_parameter_from_a_file(cli, flow, tmp_path):
    (tmp_path / "opts.json").write_text('{"deep": {"er": 1}}')
    (tmp_path / "who.txt").write_text("Ada")

    answer = cli("run", flow(THREE), "--json", "-p", "opts=@opts.json", "-p", "who=@who.txt")

    assert answer.json["outputs"]["third"] == {"y": 20, "who": "Ada", "opts": {"deep": {"er": 1}}}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("woh=x", "found 'woh' (did you mean 'who'?)"),
        ("zzz=1", "expected a parameter of the workflow (n, who, opts), found 'zzz'"),
        ("who", "expected -p NAME=VALUE, found 'who'"),
        ("n=many", "'many'"),
        ("n=1.5", "1.5"),
        ("n=NaN", "'NaN'"),
        ("opts=@missing.json", "found none at 'missing.json'"),
    ],
)
def test_wrong_parameter_says_what_was_expected(cli, flow, given, found):
    answer = cli("run", flow(THREE), "-p", given)

    assert answer.code == 2
    assert found in answer.err


def test_missing_parameter_is_named(cli, flow):
    answer = cli(
        "run",
        flow("""
        name: x
        params: {day: {type: string}}
        tasks: [{name: a, type: script, config: {code: "result = 1"}}]
        """),
    )

    assert answer.code == 2
    assert "'day'" in answer.err


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_table_parameter_is_read_from_a_file(cli, flow, tmp_path, suffix):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, 2, 3]})
    getattr(frame, f"write_{suffix}")(tmp_path / f"t.{suffix}")
    path = flow("""
        name: tables
        params: {trades: {type: table}}
        tasks:
          - name: total
            type: script
            config: {code: "t = params['trades']; result = [t.num_rows if hasattr(t, 'num_rows') else len(t)]"}
        """)

    assert cli("run", path, "--json", "-p", f"trades=@t.{suffix}").json["outputs"] == {"total": [3]}

    wrong = cli("run", path, "-p", "trades=[1, 2]")
    assert wrong.code == 2
    assert "write -p trades=@data.parquet" in wrong.err

    missing = cli("run", path)
    assert missing.code == 2
    assert "'trades'" in missing.err


def test_selections_run_only_what_is_asked(cli, flow):
    path = flow(THREE)

    def names(*arguments):
        tasks = cli("run", path, "--json", *arguments).json["tasks"]
        return {task["name"]: task["state"] for task in tasks}

    whole = cli("run", path, "--json", "-p", "n=4").json["run_id"]
    assert names("--to", "second") == {"first": "succeeded", "second": "succeeded"}
    assert names("--from", "second", "--resume", whole) == {
        "first": "cached",
        "second": "succeeded",
        "third": "succeeded",
    }
    assert (
        cli("run", path, "--json", "--only", "third", "--resume", whole).json["outputs"]["third"][
            "y"
        ]
        == 40
    )


def test_only_without_an_earlier_run_says_what_is_missing(cli, flow):
    answer = cli("run", flow(THREE), "--only", "third")

    assert answer.code == 1
    assert "missing: second" in answer.err
    assert "--to" in answer.err


def test_resume_runs_what_is_not_settled_and_says_so_before(cli, flow, tmp_path):
    (tmp_path / "count").write_text("")
    path = flow("""
        name: twice
        tasks:
          - {name: once, type: script, config: {code: "f = open('count', 'a'); f.write('x'); f.close(); result = 1"}}
          - name: needs_file
            type: script
            inputs: {once: once}
            config: {code: "import pathlib; result = pathlib.Path('wanted').read_text()"}
        """)
    first = cli("run", path)
    assert first.code == 1
    (tmp_path / "wanted").write_text("here")

    again = cli("run", "--resume", "latest")

    assert again.code == 0
    assert "1 of 2 tasks is settled and will not run again, 1 will run" in again.err
    assert "needs_file: it failed" in again.err
    assert (tmp_path / "count").read_text() == "x"
    assert cli("run", "--resume", "latest").code == 1
    assert "nothing is left to run" in cli("run", "--resume", "latest").err
    assert len(cli("runs", "list", "--json").json) == 1


def test_executor_and_workers_are_applied(cli, flow):
    path = flow("""
        name: where
        tasks: [{name: a, type: script, config: {code: "import threading; result = threading.current_thread() is threading.main_thread()"}}]
        """)

    assert cli("run", path, "--json", "--executor", "inline").json["outputs"] == {"a": True}
    assert cli("run", path, "--json", "--executor", "thread", "--workers", "3").json["outputs"] == {
        "a": False
    }


def test_data_dir_is_where_the_run_is_recorded(cli, flow, tmp_path):
    run = cli("run", flow(THREE), "--json", "--data-dir", tmp_path / "elsewhere").json

    assert cli("runs", "list", "--json").json == []
    found = cli("runs", "list", "--json", "--data-dir", tmp_path / "elsewhere").json
    assert [item["run_id"] for item in found] == [run["run_id"]]


def test_text_with_control_characters_cannot_repaint_the_screen(cli, flow):
    answer = cli(
        "run",
        flow(r"""
        name: forged
        tasks:
          - {name: shown, type: script, config: {code: "result = '\\x1b[2J\\u202eabc'"}}
          - {name: bad, type: script, config: {code: "raise ValueError('\\x1b]0;title\\x07\\nok: all fine\\r')"}}
        """),
    )

    assert answer.code == 1
    assert "\x1b" not in answer.out + answer.err
    assert "\x07" not in answer.err
    assert "\r" not in answer.err
    assert "\u202e" not in answer.out
    assert r"\x1b]0;title\x07" in answer.err


def test_json_survives_values_json_does_not_have(cli, flow):
    answer = cli(
        "run",
        flow(r"""
        name: odd
        tasks:
          - {name: nan, type: script, config: {code: "result = [float('nan'), float('inf'), 2**70]"}}
          - {name: raw, type: script, config: {code: "result = b'abc'"}}
          - {name: lone, type: script, config: {code: "result = '\\ud800'"}}
          - {name: thing, type: script, config: {code: "result = {1, 2}"}}
          - {name: none, type: script, config: {code: "result = None"}}
        """),
        "--json",
    )

    outputs = json.loads(answer.out, parse_constant=pytest.fail)["outputs"]
    assert answer.code == 0
    assert outputs["nan"] == ["nan", "inf", 2**70]
    assert outputs["raw"] == {"type": "builtins.bytes", "size_bytes": 3}
    assert outputs["lone"] == "\ud800"
    assert outputs["thing"] == {"type": "builtins.set"}
    assert outputs["none"] is None


def test_many_failures_are_listed_and_cut(cli, flow):
    tasks = "\n".join(
        f"  - {{name: t{number}, type: script, config: {{code: 'raise ValueError({number})'}}}}"
        for number in range(14)
    )

    answer = cli("run", flow(f"name: many\ntasks:\n{tasks}\n"))

    assert answer.err.count("also failed: t") == 10
    assert "also failed: 3 more tasks" in answer.err


def test_text_of_several_lines_is_shown_by_its_first(cli, flow):
    path = flow(r"""
        name: report
        tasks:
          - {name: page, type: script, config: {code: 'result = "title\nmore\nend"'}}
        """)

    assert "page = title ... (3 lines)" in cli("run", str(path)).out
