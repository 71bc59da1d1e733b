"""Resume, retry and borrowed outputs through the Python API and the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import flowbuilder as fb
from flowbuilder.api.container import close_containers
from flowbuilder.cli.main import main
from flowbuilder.errors import (
    FlowBuilderError,
    RecoveryError,
    TaskFailedError,
    WorkflowValidationError,
)
from flowbuilder.vocabulary import RunState

FLOW = """
name: daily
params: {limit: {type: integer, default: 1}}
tasks:
  - {name: read, type: script, config: {code: "note('read'); result = [1, 2, 3]"}}
  - name: clean
    type: script
    inputs: {raw: read}
    config: {code: "note('clean'); need('fixed'); result = [n for n in inputs['raw'] if n > params['limit']]"}
  - {name: score, type: script, inputs: {rows: clean}, config: {code: "note('score'); result = sum(inputs['rows'])"}}
  - {name: other, type: script, config: {code: "note('other'); result = 7"}}
"""

PRELUDE = """
from pathlib import Path
HERE = Path({folder!r})
def note(name):
    with (HERE / 'trace').open('a') as file:
        file.write(name + chr(10))
def need(name):
    if not (HERE / name).exists():
        raise OSError(name + ' is missing')
"""


class Project:
    def __init__(self, folder):
        self.folder = folder
        self.store = folder / ".flowbuilder"
        self.store.mkdir()

    def write(self, text, name="daily.flow.yaml"):
        """Write a workflow whose scripts can note that they ran."""
        prelude = PRELUDE.format(folder=str(self.folder))
        (self.folder / "trace_tools.py").write_text(prelude)
        text = text.replace('code: "', 'code: "from trace_tools import note, need; ')
        (self.folder / name).write_text(text)
        return self.folder / name

    def load(self, text=FLOW):
        return fb.load(self.write(text))

    def ran(self):
        """What ran since the last question."""
        path = self.folder / "trace"
        found = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return sorted(found)

    def fix(self, name="fixed"):
        (self.folder / name).touch()


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Project(tmp_path)
    close_containers()
    sys.modules.pop("trace_tools", None)


# -- retry_failed ----------------------------------------------------------------------------------


def test_retry_runs_only_what_is_not_settled_and_says_so_before(project, capsys):
    run = project.load().run(check=False)
    assert project.ran() == ["clean", "other", "read"]
    project.fix()

    again = run.retry_failed()

    assert project.ran() == ["clean", "score"]
    assert again.id == run.id
    assert again["score"] == 5
    assert again["read"] is run["read"], "what is in memory is not read back"
    assert capsys.readouterr().err.splitlines() == [
        "2 of 4 tasks are settled and will not run again, 2 will run",
        "  clean: it failed",
        "  score: it was skipped, and what it waits for runs again",
    ]
    assert run["other"] == again["other"] == 7


def test_retry_that_fails_again_raises_and_can_be_repeated(project):
    run = project.load().run(check=False, echo=False)

    with pytest.raises(TaskFailedError, match="'clean'") as caught:
        run.retry_failed()
    project.fix()
    again = caught.value.run.retry_failed()

    assert again.state is RunState.SUCCEEDED
    (shown,) = [task for task in again.task_runs if task.name == "clean"]
    assert shown.attempt == 3


def test_retry_of_a_run_that_succeeded_is_refused(project):
    project.fix()
    run = project.load().run(echo=False)

    with pytest.raises(RecoveryError, match="nothing is left to run"):
        run.retry_failed()


def test_retry_of_a_run_that_has_not_ended_is_refused(project):
    text = FLOW.replace("\"note('other'); result = 7\"", '"import time; time.sleep(0.3)"')
    run = project.load(text).start(echo=False)

    with pytest.raises(RecoveryError, match="has not ended yet"):
        run.retry_failed()
    run.wait(20)


def test_retry_with_an_unknown_assumption_is_refused(project):
    run = project.load().run(check=False, echo=False)

    with pytest.raises(FlowBuilderError, match="'done' or 'rerun'"):
        run.retry_failed(assume="maybe")


NOTEBOOK = """
import flowbuilder as fb

calls = []

@fb.task
def load():
    calls.append("load")
    return [1, 2, 3]

@fb.task
def clean(raw):
    raise ValueError("not yet")

@fb.task
async def score(rows):
    return sum(rows)

@fb.workflow
def daily():
    return score(clean(load()))

if __name__ == "__main__":
    run = daily.run(check=False, echo=False)
    assert str(run.state) == "failed"
"""


def notebook(project, cells):
    """Run what a notebook would have in its cells, as ``__main__``."""
    (project.folder / "cells.py").write_text(NOTEBOOK + cells)
    done = subprocess.run(
        [sys.executable, "cells.py"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("decorator", ["@fb.task", "@fb.task(retries=2)", ""])
def test_retry_uses_the_function_as_it_is_now(project, decorator):
    printed = notebook(
        project,
        f"""
    {decorator}
    def clean(raw):
        return raw[1:]

    print(run.retry_failed()["score"], calls)
""",
    )

    assert printed == "5 ['load']\n"


def test_retry_keeps_the_function_if_its_name_means_something_else_now(project):
    printed = notebook(
        project,
        """
    clean = [1, 2]
    again = run.retry_failed(check=False)
    print(again.error.message)
""",
    )

    assert "ValueError: not yet" in printed


def test_retry_takes_functions_that_cannot_be_found_by_name(project):
    printed = notebook(
        project,
        """
    print(run.retry_failed(functions={"__main__:clean": lambda raw: raw[:1]})["score"])
    try:
        run.retry_failed(functions={"__main__:cleam": print})
    except fb.FlowBuilderError as error:
        print(error)
""",
    )

    assert printed.startswith("1\n")
    assert "'__main__:cleam'" in printed
    assert "__main__:clean, " in printed


def test_resume_in_another_session_finds_the_functions_of_main(project):
    notebook(project, "")

    printed = notebook(
        project,
        """
    @fb.task
    def clean(raw):
        return raw[2:]
    calls.clear()
    print(fb.resume(fb.runs()[1].id)["score"], calls)
""",
    )

    assert printed == "3 []\n"


# -- resume ----------------------------------------------------------------------------------------


def test_resume_on_the_command_line_says_what_will_run(project, capsys):
    path = project.write(FLOW)
    assert main(["run", str(path), "--quiet", "-p", "limit=2"]) == 1
    project.ran()
    project.fix()
    capsys.readouterr()

    assert main(["run", "--resume", "latest"]) == 0

    told = capsys.readouterr().err
    assert "2 of 4 tasks are settled and will not run again, 2 will run" in told
    assert "clean: it failed" in told
    assert project.ran() == ["clean", "score"]
    assert fb.last_run()["score"] == 3, "parameters are those of the run"


def test_resume_keeps_the_document_clean(project, capsys):
    path = project.write(FLOW)
    assert main(["run", str(path), "--quiet"]) == 1
    project.fix()
    capsys.readouterr()

    assert main(["run", "--resume", "latest", "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document["state"] == "succeeded"
    assert {task["name"]: task["attempt"] for task in document["tasks"]} == {
        "read": 1,
        "clean": 2,
        "score": 1,
        "other": 1,
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--resume", "latest"], "nothing is left to run"),
        (["--resume", "ffffffff"], "ffffffff"),
        (["--resume", "latest", "--assume", "done"], "nothing is left to run"),
    ],
)
def test_resume_of_nothing_is_refused(project, capsys, arguments, told):
    project.fix()
    assert main(["run", str(project.write(FLOW)), "--quiet"]) == 0
    capsys.readouterr()

    assert main(["run", *arguments]) == 1

    assert told in capsys.readouterr().err


def test_resume_in_an_empty_store_is_refused(project, capsys):
    assert main(["run", "--resume", "latest"]) == 1

    assert "none" in capsys.readouterr().err


def test_resume_runs_the_version_the_run_started_with(project):
    path = project.write(FLOW)
    fb.load(path).run(check=False, echo=False)
    project.ran()
    project.fix()
    path.write_text("name: daily\ntasks: [{name: read, type: sleep, config: {seconds: 0}}]\n")

    again = fb.resume()

    assert again["score"] == 5
    assert project.ran() == ["clean", "score"]


def test_resume_after_an_included_file_changed_is_refused(project):
    inner = "name: inner\ntasks: [{name: a, type: script, config: {code: \"need('fixed')\"}}]\n"
    included = project.write(inner, "inner.flow.yaml")
    outer = "name: outer\ntasks: [{name: part, type: workflow, config: {file: inner.flow.yaml}}]\n"
    fb.load(project.write(outer)).run(check=False, echo=False)
    included.write_text(included.read_text().replace("fixed", "other"))

    with pytest.raises(RecoveryError, match="another version"):
        fb.resume()


def test_resume_asks_for_what_the_journal_could_not_keep(project, monkeypatch):
    text = """
name: tables
params: {rows: {type: array}, secret_text: {type: string}}
secrets: {word: WORD}
tasks:
  - {name: add, type: script, config: {code: "need('fixed'); result = len(params['secret_text'])"}}
"""
    monkeypatch.setenv("WORD", "swordfish")
    project.load(text).run(rows=[1], secret_text="my swordfish", check=False, echo=False)
    project.fix()

    with pytest.raises(RecoveryError, match="secret_text"):
        fb.resume()
    assert fb.resume(params={"secret_text": "my swordfish"})["add"] == 12


def test_resume_keeps_the_executor_that_was_asked_for(project):
    project.load().run(check=False, echo=False, executor="thread")
    project.fix()

    again = fb.resume()

    assert {task.executor.partition(" ")[0] for task in again.task_runs if task.attempt == 2} == {
        "thread"
    }


# -- effects ---------------------------------------------------------------------------------------

KILLED = """
name: mail
tasks:
  - {name: prepare, type: script, config: {code: "note('prepare'); result = 'text'"}}
  - name: send
    type: script
    effects: external
    inputs: {text: prepare}
    config: {code: "note('send'); need('survive') if (HERE / 'survive').exists() else kill(); result = 1"}
  - {name: archive, type: script, depends_on: [send], config: {code: "note('archive')"}}
"""


@pytest.fixture
def killed(project):
    """A run that was killed while its external task ran."""
    text = KILLED.replace("note('send');", "from trace_tools import HERE, kill; note('send');")
    path = project.write(text)
    with (project.folder / "trace_tools.py").open("a") as tools:
        tools.write("import os\ndef kill():\n    os.kill(os.getpid(), 9)\n")
    done = subprocess.run(
        [sys.executable, "-m", "flowbuilder", "run", str(path), "--quiet"],
        cwd=project.folder,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    assert project.ran() == ["prepare", "send"]
    project.fix("survive")
    return project


def test_resume_asks_about_an_effect_that_may_have_happened(killed, capsys):
    assert main(["run", "--resume", "latest"]) == 1

    told = capsys.readouterr().err
    assert "send: it had started, and whether its effect happened is not known" in told
    assert "--assume done" in told
    assert "--assume rerun" in told
    assert killed.ran() == []
    assert fb.last_run().state is RunState.INTERRUPTED


def test_resume_that_assumes_done_never_repeats_the_effect(killed, capsys):
    assert main(["run", "--resume", "latest", "--assume", "done"]) == 0

    assert "send: assumed done" in capsys.readouterr().err
    assert killed.ran() == ["archive"]
    states = {task.name: (task.state, task.reason) for task in fb.last_run().task_runs}
    assert states["send"] == ("succeeded", "assumed done when the run was resumed")
    assert fb.last_run().summary.counts["succeeded"] == 3


def test_resume_that_assumes_rerun_repeats_it(killed):
    assert main(["run", "--resume", "latest", "--assume", "rerun", "--quiet"]) == 0

    assert killed.ran() == ["archive", "send"]


def test_external_output_is_always_kept(project):
    text = """
name: kept
tasks:
  - {name: send, type: script, effects: external, config: {code: "note('send'); result = 'x' * 9000"}}
  - {name: use, type: script, inputs: {sent: send}, config: {code: "need('fixed'); result = len(inputs['sent'])"}}
"""
    project.load(text).run(check=False, echo=False)
    project.fix()
    close_containers()

    assert fb.resume()["use"] == 9000
    assert project.ran() == ["send"]


def test_kills_use_up_no_attempts_and_failures_before_them_count(project):
    text = """
name: counted
tasks:
  - name: a
    type: script
    retry: {max_attempts: 3, delay: 0}
    config: {code: "note('a'); from trace_tools import fate; fate()"}
"""
    path = project.write(text)
    with (project.folder / "trace_tools.py").open("a") as tools:
        tools.write(
            "import os\n"
            "def fate():\n"
            "    count = len((HERE / 'trace').read_text().split())\n"
            "    os.kill(os.getpid(), 9) if count in {2, 3} else need('never')\n"
        )

    def flowbuilder(*arguments):
        command = [sys.executable, "-m", "flowbuilder", "run", "--quiet", "--durability", "task"]
        return subprocess.run([*command, *arguments], check=False, timeout=60, capture_output=True)

    assert flowbuilder(str(path)).returncode == -9
    assert flowbuilder("--resume", "latest").returncode == -9
    assert flowbuilder("--resume", "latest").returncode == 1

    assert project.ran() == ["a"] * 5, "three failures, and two attempts cut short"
    (task,) = fb.last_run().task_runs
    assert (task.state, task.attempt) == ("failed", 5)


# -- borrowed outputs ------------------------------------------------------------------------------


def test_from_takes_inputs_of_the_newest_run_that_has_them(project):
    project.fix()
    flow = project.load()
    flow.run(echo=False, limit=1)
    flow.run(echo=False, limit=2)
    (project.folder / "fixed").unlink()
    flow.run(echo=False, check=False, limit=0)
    project.ran()

    run = flow.run(from_="score", echo=False)

    assert project.ran() == ["score"]
    assert run["score"] == 3, "the newest run has no output of clean"
    states = {task.name: task.state for task in run.task_runs}
    assert states == {"clean": "cached", "score": "succeeded"}
    recorded = {task.name: task for task in fb.last_run().task_runs}
    assert recorded["clean"].reason.startswith("output of run ")


def test_from_takes_inputs_of_the_run_that_is_named(project, capsys):
    project.fix()
    flow = project.load()
    older = flow.run(echo=False, limit=1)
    flow.run(echo=False, limit=2)
    path = project.folder / "daily.flow.yaml"

    code = main(["run", str(path), "--from", "score", "--resume", older.short_id, "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == {"score": 5}
    assert flow.run(only="score", base_run=older.id, echo=False)["score"] == 5


def test_from_without_an_earlier_run_names_what_is_missing(project, capsys):
    path = project.write(FLOW)

    assert main(["run", str(path), "--from", "score"]) == 1

    told = capsys.readouterr().err
    assert "missing: clean" in told
    assert "--to" in told
    assert fb.runs() == [], "a run that cannot begin leaves nothing behind"


def test_from_a_run_without_the_output_names_it(project):
    flow = project.load()
    failed = flow.run(echo=False, check=False)

    with pytest.raises(RecoveryError, match=f"run {failed.short_id} of 'daily' has no kept output"):
        flow.run(from_="score", base_run=failed.id, echo=False)


@pytest.mark.parametrize("word", ["to", "from_", "only"])
def test_selection_of_an_unknown_task_suggests_the_nearest(project, word):
    with pytest.raises(WorkflowValidationError, match="score"):
        project.load().run(**{word: "scor"}, echo=False)


def test_only_borrows_and_to_runs_what_it_needs(project):
    project.fix()
    flow = project.load()
    flow.run(to="clean", echo=False)
    assert project.ran() == ["clean", "read"]

    run = flow.run(only="clean", limit=2, echo=False)

    assert project.ran() == ["clean"]
    assert run["clean"] == [3]
    assert run["read"] == [1, 2, 3]


def test_large_borrowed_outputs_are_not_copied_and_survive_a_resume(project):
    text = """
name: large
tasks:
  - {name: big, type: script, persist: always, config: {code: "note('big'); result = 'x' * 20000"}}
  - {name: size, type: script, inputs: {big: big}, config: {code: "note('size'); need('fixed'); result = len(inputs['big'])"}}
"""
    flow = project.load(text)
    flow.run(to="big", echo=False)
    flow.run(from_="size", echo=False, check=False)
    project.ran()
    project.fix()
    close_containers()

    again = fb.resume()

    assert again["size"] == 20000
    assert project.ran() == ["size"]


def test_borrowed_output_that_was_lost_is_borrowed_again_and_never_executed(project):
    text = """
name: large
tasks:
  - {name: big, type: script, persist: always, config: {code: "note('big'); result = 'x' * 20000"}}
  - {name: size, type: script, inputs: {big: big}, config: {code: "note('size'); need('fixed'); result = len(inputs['big'])"}}
"""
    flow = project.load(text)
    first = flow.run(to="big", echo=False)
    flow.run(from_="size", echo=False, check=False)
    project.ran()
    for file in (project.store / "artifacts" / first.id).iterdir():
        file.unlink()
    project.fix()
    close_containers()

    with pytest.raises(RecoveryError, match="missing: big"):
        fb.resume()
    assert project.ran() == []
    resumable = [past for past in fb.runs() if past.state is RunState.FAILED]
    flow.run(to="big", echo=False)
    project.ran()

    assert fb.resume(resumable[0].id)["size"] == 20000
    assert project.ran() == ["size"]
