"""``encrypt: true``: nothing of an output is on disk in clear, wherever it passes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import flowbuilder as fb
from flowbuilder.errors import ConfigurationError, FlowBuilderError, PluginError, RunError
from flowbuilder.store.sealing import KEY_VARIABLE

SECRET = "patient-Ada-Lovelace-1815"

FLOW = """
name: patients
tasks:
  - name: small
    type: script
    encrypt: true
    config: {code: "import base64; result = base64.b64decode(CODE).decode(); print(result)"}
  - name: printed
    type: script
    encrypt: true
    depends_on: [small]
    config:
      code: |
        import logging, sys, threading
        print(input_data); print(input_data, file=sys.stderr)
        logging.getLogger("x").warning(input_data)
        thread = threading.Thread(target=print, args=(input_data,)); thread.start(); thread.join()
  - name: shell
    type: shell
    encrypt: true
    inputs: {name: small}
    config: {command: 'for i in $(seq 1 200); do echo "$FLOWBUILDER_INPUT_NAME"; done'}
  - name: table
    type: script
    encrypt: true
    persist: always
    inputs: {name: small}
    config: {code: "import polars as pl; result = pl.DataFrame({'name': [name] * 20000})"}
  - name: away
    type: script
    encrypt: true
    executor: process
    inputs: {table: table}
    config: {code: "print(table['name'][0]); result = table"}
  - name: query
    type: sql
    encrypt: true
    config: {query: "select name, count(*) as n from away group by all"}
  - name: failing
    type: script
    inputs: {name: small}
    config: {code: "raise ValueError(name)"}
  - name: wrong_condition
    type: sleep
    when: tasks.small.output
    config: {duration: 0}
""".replace("CODE", repr(__import__("base64").b64encode(SECRET.encode()).decode()))


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def traces(folder: Path) -> list[Path]:
    forms = [SECRET.encode(), SECRET.encode("utf-32-le")]
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and any(form in path.read_bytes() for form in forms)
    ]


def test_nothing_of_encrypted_outputs_is_on_disk_in_clear(tmp_path, capsys):
    workflow = fb.from_yaml(FLOW, data_dir=tmp_path / "store")

    run = workflow.run(check=False)

    capsys.readouterr()
    assert run["small"] == SECRET
    assert SECRET in run["printed"]
    assert run["shell"].count(SECRET) == 200
    assert run["away"].equals(run["table"])
    assert run["query"].to_pylist() == [{"name": SECRET, "n": 20000}]
    assert run.counts["failed"] == 2
    assert traces(tmp_path) == []
    failures = [event for event in run.events() if type(event).__name__ == "AttemptFailed"]
    assert {event.error_type for event in failures} == {"ValueError", "ExpressionError"}
    assert all("not recorded" in event.message for event in failures)


def test_encrypted_outputs_are_settled_and_come_back(tmp_path):
    workflow = fb.from_yaml(FLOW, data_dir=tmp_path / "store")
    run = workflow.run(check=False)

    past = fb.runs(data_dir=tmp_path / "store")[0]
    again = past.resume(check=False)

    assert past["small"] == SECRET
    assert past["table"].equals(run["table"])
    reran = {event.instance for event in again.events() if type(event).__name__ == "TaskReset"}
    keys = [task.name for task in again.task_runs]
    assert {keys[instance] for instance in reran} == {"failing", "wrong_condition"}
    assert traces(tmp_path) == []


def test_without_the_right_key_an_output_counts_as_absent_and_says_why(tmp_path, monkeypatch):
    workflow = fb.from_yaml(FLOW, data_dir=tmp_path / "store")
    workflow.run(check=False)
    past = fb.runs(data_dir=tmp_path / "store")[0]

    monkeypatch.setenv(KEY_VARIABLE, "00" * 32)

    with pytest.raises(FlowBuilderError, match=rf"encrypted with key .*set {KEY_VARIABLE}"):
        past["small"]


def test_a_run_that_could_not_keep_its_outputs_does_not_begin(tmp_path, monkeypatch):
    ran = []

    @fb.task(encrypt=True)
    def secret():
        ran.append(1)
        return SECRET

    @fb.workflow(name="one")
    def one():
        return secret()

    monkeypatch.setenv(KEY_VARIABLE, "not a key")
    with pytest.raises(ConfigurationError, match="64 hexadecimal digits"):
        one.run(data_dir=tmp_path / "store")
    monkeypatch.delenv(KEY_VARIABLE)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)
        with pytest.raises(PluginError, match=r"flowbuilder\[encrypt\]"):
            one.run(data_dir=tmp_path / "store")
    assert ran == []


def test_borders_of_sub_workflows_keep_what_passes_them_encrypted(tmp_path):
    (tmp_path / "inner.flow.yaml").write_text(
        "name: inner\nparams: {name: {type: string}}\ntasks:\n"
        "  - {name: keep, type: script, encrypt: true, config: {code: 'result = params[\"name\"]'}}\n"
    )
    (tmp_path / "outer.flow.yaml").write_text(
        "name: outer\ntasks:\n"
        f'  - {{name: small, type: script, encrypt: true, config: {{code: \'result = "".join(reversed("{SECRET[::-1]}"))\'}}}}\n'
        "  - {name: sub, type: workflow, config: {file: inner.flow.yaml, params: {name: '${{ tasks.small.output }}'}}}\n"
    )

    run = fb.load(tmp_path / "outer.flow.yaml", data_dir=tmp_path / "store").run()

    assert run["sub/keep"] == SECRET
    assert traces(tmp_path) == []


def test_a_command_that_prints_too_much_of_a_secret_is_stopped(tmp_path):
    flow = """
name: loud
tasks:
  - name: shell
    type: shell
    encrypt: true
    config: {command: 'head -c 10000 /dev/zero', max_output_bytes: 1024}
"""
    with pytest.raises(RunError) as caught:
        fb.from_yaml(flow, data_dir=tmp_path / "store").run()

    assert "goes to no file" in str(caught.value.__cause__)


def test_encrypt_is_true_or_false():
    flow = "name: a\ntasks: [{name: b, type: sleep, encrypt: 'yes', config: {duration: 0}}]"

    with pytest.raises(FlowBuilderError, match="true or false"):
        fb.from_yaml(flow).validate()
    with pytest.raises(FlowBuilderError, match="True or False"):
        fb.task(encrypt="yes")(len)
