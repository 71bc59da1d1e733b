"""``flowbuilder cache``, ``run --no-cache``, and a kernel and command lines that share a cache."""

from __future__ import annotations

import json

import pytest

import flowbuilder as fb
from flowbuilder.cli.main import main

FLOW = """
name: work
tasks:
  - {name: one, type: script, cache: true, config: {code: "print('computing'); result = [1] * 2000"}}
  - {name: two, type: script, cache: true, inputs: {one: one}, config: {code: "result = len(one)"}}
"""


@pytest.fixture
def flow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".flowbuilder").mkdir(exist_ok=True)
    file = tmp_path / "work.flow.yaml"
    file.write_text(FLOW)
    return str(file)


def output(capsys, *arguments):
    code = main(list(arguments))
    return code, capsys.readouterr().out


def document(capsys, *arguments):
    code, text = output(capsys, *arguments, "--json")
    assert code == 0
    return json.loads(text)


def test_nothing_is_kept_at_first_and_looking_leaves_no_trace(flow, tmp_path, capsys):
    assert output(capsys, "cache", "ls") == (0, "nothing is kept\n")
    assert document(capsys, "cache", "stats")["entries"] == 0
    assert output(capsys, "cache", "rm", "--all")[1] == "forgot 0 outputs\n"
    assert not (tmp_path / ".flowbuilder" / "cache").exists()


def test_kept_outputs_are_listed_counted_and_forgotten(flow, capsys):
    main(["run", flow, "--quiet"])
    main(["run", flow, "--quiet"])
    capsys.readouterr()

    entries = document(capsys, "cache", "ls")
    assert {entry["task"] for entry in entries} == {"work/one", "work/two"}
    assert [entry["hits"] for entry in entries] == [1, 1]
    text = output(capsys, "cache", "ls")[1]
    assert text.splitlines()[0].split() == ["KEY", "TASK", "KEPT", "USED", "HITS", "COST", "SIZE"]
    assert len(output(capsys, "cache", "ls", "work/one")[1].splitlines()) == 2
    stats = document(capsys, "cache", "stats")
    assert (stats["hits"], stats["misses"], stats["stored"]) == (2, 2, 2)
    assert "2 hits (50%)" in output(capsys, "cache", "stats")[1]

    assert output(capsys, "cache", "rm", "work/two") == (0, "forgot 1 output\n")
    assert output(capsys, "cache", "rm", entries[0]["key"][:8])[0] in {0, 1}
    assert document(capsys, "cache", "rm", "--older-than", "1h") == {"removed": 0}
    document(capsys, "cache", "rm", "--all")
    assert document(capsys, "cache", "ls") == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rm"], "expected what to forget"),
        (["rm", "work/onne"], "did you mean 'work/one'?"),
        (["rm", "--all", "--older-than", "soon"], "expected a duration"),
    ],
)
def test_wrong_usage_says_what_to_do(flow, capsys, arguments, words):
    main(["run", flow, "--quiet"])
    capsys.readouterr()

    assert main(["cache", *arguments]) == 1
    assert words in capsys.readouterr().err


def test_run_without_the_cache_computes_and_keeps(flow, capsys):
    main(["run", flow, "--quiet"])
    capsys.readouterr()
    run = document(capsys, "run", flow, "--no-cache")

    assert [task["state"] for task in run["tasks"]] == ["succeeded", "succeeded"]
    assert "look-ups were switched off" in run["tasks"][0]["reason"]
    assert document(capsys, "cache", "stats")["stored"] == 4


def test_runs_show_tells_why_a_task_ran_or_not(flow, tmp_path, capsys):
    main(["run", flow, "--quiet"])
    (tmp_path / "work.flow.yaml").write_text(FLOW.replace("[1] * 2000", "[1] * 2001"))
    main(["run", flow, "--quiet"])
    capsys.readouterr()

    text = output(capsys, "runs", "show", "latest")[1]
    assert "one: the script changed at line 4" in text
    assert "two: upstream `one` gave other content" in text


def test_a_command_line_uses_what_this_process_kept(flow, cli):
    first = fb.load(flow).run()
    done = cli("run", flow, "--json")

    states = [task["state"] for task in done.json["tasks"]]
    assert states == ["cached", "cached"]
    assert first["two"] == 2000
    cli("cache", "rm", "--all")
    assert [task.state for task in fb.load(flow).run().task_runs] == ["succeeded", "succeeded"]
