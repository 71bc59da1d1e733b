"""The commands that run nothing: what they print and what they return."""

import json
import subprocess
import sys

import pytest

from flowbuilder import __version__
from flowbuilder.cli.main import _COMMANDS, main

BROKEN = """
    name: broken
    tasks:
      - name: a
        type: shel
        depends_on: [bb]
      - name: b
        type: script
        config: {code: "x ="}
        when: "tasks.a.output >"
        retrry: {max_attempts: 3}
    """
GOOD = """
    name: good
    tasks:
      - {name: a, type: shell, config: {command: "true"}}
      - {name: b, type: script, depends_on: [a], config: {code: "result = 1"}}
    """


def test_version_is_printed_by_all_three_ways(cli):
    by_module = subprocess.run(
        [sys.executable, "-m", "flowbuilder", "version"], capture_output=True, text=True, check=True
    )

    assert cli("version").out == cli("--version").out == by_module.stdout == f"{__version__}\n"


def test_no_command_shows_the_help(cli):
    answer = cli()

    assert answer.code == 2
    assert all(name in answer.out for name in _COMMANDS)


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_explains_itself(cli, name):
    answer = cli(name, "--help")

    assert answer.code == 0
    assert answer.out.startswith(f"usage: flowbuilder {name}")


def test_unknown_command_names_the_nearest(cli):
    answer = cli("validat", "x")

    assert answer.code == 2
    assert (
        answer.err
        == "flowbuilder: expected a command, found 'validat' (did you mean 'validate'?)\n"
    )


def test_options_cannot_be_abbreviated(cli, flow):
    assert cli("run", flow(GOOD), "--qui").code == 2


def test_validate_reports_all_problems_in_the_order_of_the_text(cli, flow):
    answer = cli("validate", flow(BROKEN))

    lines = answer.out.splitlines()
    numbers = [int(line.split(".flow.yaml:")[1].split(":")[0]) for line in lines]
    assert answer.code == 2
    assert numbers == sorted(numbers)
    assert "did you mean 'shell'?" in answer.out
    assert "did you mean 'b'?" in answer.out
    assert "did you mean 'retry'?" in answer.out
    assert len(lines) >= 4


def test_validate_json_holds_every_file(cli, flow, tmp_path):
    answer = cli("validate", flow(BROKEN, "b.flow.yaml"), flow(GOOD), "none.flow.yaml", "--json")

    document = answer.json
    broken, good, missing = document["files"]
    assert answer.code == 2
    assert answer.err == ""
    assert document["valid"] is False
    assert (broken["valid"], good["valid"], missing["valid"]) == (False, True, False)
    assert good["problems"] == []
    assert all(problem["line"] and problem["message"] for problem in broken["problems"])
    assert {"hint", "code", "severity", "task", "field", "file", "column"} < set(
        broken["problems"][0]
    )
    assert missing["problems"][0]["code"] == "unreadable"


def test_validate_of_good_files_is_0(cli, flow):
    answer = cli("validate", flow(GOOD), flow(GOOD, "c.flow.yaml"))

    assert answer.code == 0
    assert answer.out.count(": valid\n") == 2


def test_validate_shows_control_characters_of_the_file_as_text(cli, flow):
    answer = cli("validate", flow('name: x\ntasks:\n  - {name: "a\\e[31mb", type: shell}\n'))

    assert answer.code == 2
    assert "\x1b" not in answer.out


def test_plan_explains_without_leaving_a_trace(cli, flow, tmp_path):
    (tmp_path / ".flowbuilder").rmdir()
    path = flow(GOOD)

    answer = cli("plan", path)

    assert answer.code == 0
    assert "critical path  a -> b" in answer.out
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.flow.yaml"]


def test_plan_json_has_tasks_and_fingerprint(cli, flow):
    path = flow(GOOD)

    document = cli("plan", path, "--json").json
    part = cli("plan", path, "--json", "--to", "a").json

    assert [step["task"] for step in document["steps"]] == ["a", "b"]
    assert len(document["fingerprint"]) == 32
    assert [step["task"] for step in part["steps"]] == ["a"]


def test_plan_of_an_unknown_task_is_2(cli, flow):
    assert cli("plan", flow(GOOD), "--to", "zz").code == 2
    assert cli("plan", "none.flow.yaml").code == 2


def test_schema_is_a_json_schema_that_accepts_what_validate_accepts(cli):
    import jsonschema_rs

    schema = cli("schema").json

    jsonschema_rs.meta.validate(schema)
    validator = jsonschema_rs.validator_for(schema)
    task = {"name": "a", "type": "shell", "config": {"command": "true"}}
    assert validator.is_valid({"name": "x", "tasks": [task]})
    assert not validator.is_valid({"name": "x", "tasks": [{**task, "depnds_on": ["b"]}]})
    assert not validator.is_valid({"name": "x", "tasks": [{**task, "config": {"comand": "true"}}]})


def test_tasks_lists_types_and_the_fields_of_one(cli):
    names = {item["name"] for item in cli("tasks", "--json").json}

    assert {
        "script",
        "shell",
        "http",
        "sql",
        "python",
        "read",
        "write",
        "workflow",
        "sleep",
    } <= names
    assert "method" in cli("tasks", "http").out
    assert all(name in cli("tasks").out for name in names)


def test_tasks_of_an_unknown_type_names_the_nearest(cli):
    answer = cli("tasks", "shel")

    assert answer.code == 1
    assert "did you mean 'shell'?" in answer.err


def test_doctor_is_0_when_all_is_well(cli):
    answer = cli("doctor")

    assert answer.code == 0
    assert "SQLite" in answer.out


def test_doctor_names_a_problem_and_returns_1(cli, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("[tool.flowbuilder]\nworkers = 'many'\n")

    answer = cli("doctor", "--json")

    found = [item for item in answer.json if item["status"] == "problem"]
    assert answer.code == 1
    assert any("workers" in item["text"] for item in found)


def test_doctor_sees_a_broken_plugin(cli, tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "unreadable.py").write_text("def (:\n")
    (tmp_path / "plugins" / "raising.py").write_text(f"{PLUGIN}raise RuntimeError('no')\n")
    cli("trust", tmp_path)

    answer = cli("doctor")

    assert answer.code == 1
    assert "unreadable.py: line 1" in answer.out
    assert "RuntimeError: no" in answer.out


PLUGIN = '''
import flowbuilder as fb


@fb.task_type("greet")
def greet(who: str = "world") -> str:
    """Say hello."""
    return f"Hello, {who}!"
'''


def test_project_plugin_runs_only_after_trust(cli, flow, tmp_path):
    marker = tmp_path / "ran"
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "greeting.py").write_text(
        f"open({str(marker)!r}, 'w').close()\n{PLUGIN}"
    )
    path = flow("name: x\ntasks:\n  - {name: a, type: greet, config: {who: Ada}}\n")

    before = cli("run", path)
    assert before.code != 0
    assert "flowbuilder trust" in before.err
    assert cli("validate", path).code in {0, 2}
    assert not marker.exists()

    assert cli("trust", tmp_path).code == 0
    after = cli("run", path, "--json")

    assert after.json["outputs"] == {"a": "Hello, Ada!"}
    assert marker.exists()


def test_trust_of_no_folder_is_an_error(cli):
    answer = cli("trust", "nowhere")

    assert answer.code == 1
    assert "'" in answer.err


def test_init_never_overwrites(cli, tmp_path):
    (tmp_path / "hello.flow.yaml").write_text("mine")

    answer = cli("init", "hello")

    assert answer.code == 1
    assert (tmp_path / "hello.flow.yaml").read_text() == "mine"
    assert cli("init", "hello", "-o", "other.flow.yaml").code == 0
    assert cli("init", "nope").code == 2


@pytest.mark.parametrize("template", ["hello", "etl"])
def test_template_runs_as_it_is(cli, template):
    assert cli("init", template).code == 0

    assert cli("run", f"{template}.flow.yaml", "--json").json["state"] == "succeeded"


def test_http_template_runs_against_a_server(cli, tmp_path):
    import http.server
    import threading

    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"[1, 2, 3]")

        def log_message(self, *_):
            pass

    cli("init", "http")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        answer = cli("run", "http.flow.yaml", "--json", "-p", f"url={url}")
        server.shutdown()
        thread.join()

    assert answer.json["outputs"] == {"report": "3 rows"}


def test_commands_that_only_read_make_no_store(cli, tmp_path):
    (tmp_path / ".flowbuilder").rmdir()

    assert cli("runs", "list").code == 0
    assert cli("runs", "list", "--json").json == []
    assert cli("runs", "show", "latest").code == 1
    assert cli("logs", "latest").code == 1
    assert cli("doctor").code == 0
    assert not (tmp_path / ".flowbuilder").exists()


def test_main_without_arguments_reads_those_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["flowbuilder", "version"])

    assert main() == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_json_of_an_error_is_one_document(cli):
    answer = cli("runs", "show", "nothing", "--json")

    assert answer.code == 1
    assert "found 'nothing'" in json.loads(answer.out)["error"]
