"""A workflow is the same whether it is written in YAML or in Python."""

import importlib.util
import sys
from pathlib import Path

import pytest

import flowbuilder as fb
from flowbuilder.errors import WorkflowError


@pytest.fixture
def tasks(tmp_path):
    """The module beside this file, importable by its name as a user's would be."""
    path = Path(__file__).with_name("fingerprint_tasks.py")
    spec = importlib.util.spec_from_file_location("fingerprint_tasks", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fingerprint_tasks"] = module
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(path.parent))
    del sys.modules["fingerprint_tasks"]


def plain(tasks):
    @fb.workflow
    def daily(day: str, limit: float = 0.5):
        return tasks.score(tasks.clean(tasks.load(day), limit))

    return daily


PLAIN = """
name: daily
params:
  day: {type: string}
  limit: {type: number, default: 0.5}
tasks:
  - name: load
    type: python
    config: {function: "fingerprint_tasks:load", args: {day: "${{ params.day }}"}}
  - name: clean
    title: Clean it
    type: python
    executor: thread
    timeout: 30
    retry: {max_attempts: 3}
    inputs: {raw: load}
    config: {function: "fingerprint_tasks:clean", args: {limit: "${{ params.limit }}"}}
  - name: score
    type: python
    inputs: {rows: clean}
    config: {function: "fingerprint_tasks:score"}
"""


def conditional(tasks):
    @fb.workflow(durability="task", timeout="5m", version="2")
    def daily(n: int = 1):
        raw = tasks.load(n)
        with fb.when("params.n > 1"):
            rows = tasks.clean(raw["part"])
        return tasks.score.named("final").after(rows)(raw, fb.expr("params.n * 2"))

    return daily


CONDITIONAL = """
version: "2"
name: daily
timeout: 5m
durability: task
params: {n: {default: 1, type: integer}}
tasks:
  - {name: load, type: python, config: {args: {day: "${{ params.n }}"}, function: "fingerprint_tasks:load"}}
  - name: clean
    when: params.n > 1
    timeout: 30s
    retry: {max_attempts: 3}
    executor: thread
    type: python
    inputs: {raw: load.part}
    config: {function: "fingerprint_tasks:clean"}
  - name: final
    type: python
    depends_on: clean
    inputs: {rows: load}
    config: {function: "fingerprint_tasks:score", args: {factor: "${{ params.n * 2 }}"}}
"""


def mixed(tasks):
    @fb.workflow
    def daily(opts: dict, names: list = []):  # noqa: B006
        raw = fb.add(
            "shell", "fetch", config={"argv": ["echo", opts["x"]]}, retry={"max_attempts": 2}
        )
        return tasks.score([raw, {"n": names}], "literal $${{ x }}")

    return daily


MIXED = """
name: daily
params: {opts: {type: object}, names: {type: array, default: []}}
tasks:
  - {name: fetch, type: shell, retry: {max_attempts: 2}, config: {argv: [echo, "${{ params.opts.x }}"]}}
  - name: score
    type: python
    config:
      function: fingerprint_tasks:score
      args:
        rows: ["${{ tasks.fetch.output }}", {n: "${{ params.names }}"}]
        factor: "literal $$${{ x }}"
"""

PAIRS = {
    "plain": (plain, PLAIN),
    "conditional": (conditional, CONDITIONAL),
    "mixed": (mixed, MIXED),
}


@pytest.mark.parametrize(("build", "text"), PAIRS.values(), ids=PAIRS)
def test_fingerprint_is_the_same_from_yaml_and_from_python(tasks, build, text):
    assert build(tasks).fingerprint == fb.loads(text).fingerprint


@pytest.mark.parametrize(("build", "text"), PAIRS.values(), ids=PAIRS)
def test_fingerprint_survives_writing_and_reading(tasks, build, text):
    again = fb.from_yaml(build(tasks).to_yaml())

    assert again.fingerprint == build(tasks).fingerprint
    assert fb.from_yaml(again.to_yaml()).to_yaml() == again.to_yaml()


def test_fingerprint_changes_with_what_the_workflow_means(tasks):
    texts = [
        PLAIN,
        PLAIN.replace("max_attempts: 3", "max_attempts: 4"),
        PLAIN.replace("default: 0.5", "default: 0.25"),
        PLAIN.replace("timeout: 30", "timeout: 31"),
        PLAIN.replace("{rows: clean}", "{rows: clean.x}"),
        PLAIN.replace("name: daily", "name: nightly"),
    ]

    assert len({fb.loads(text).fingerprint for text in texts}) == len(texts)


def test_fingerprint_ignores_how_it_is_written(tasks):
    noted = PLAIN.replace("name: daily", "# a note\nname: 'daily'\ndescription: words").replace(
        "title: Clean it", "title: Other words"
    )

    assert fb.loads(noted).fingerprint == fb.loads(PLAIN).fingerprint


def test_added_task_by_task_it_is_the_same(tasks):
    built = (
        fb.Workflow(
            "daily", params={"day": {"type": "string"}, "limit": {"type": "number", "default": 0.5}}
        )
        .add("load", tasks.load, config={"day": "${{ params.day }}"})
        .add("clean", tasks.clean, config={"limit": "${{ params.limit }}"}, inputs={"raw": "load"})
        .add("score", tasks.score, inputs={"rows": "clean"})
    )

    assert built.fingerprint == fb.loads(PLAIN).fingerprint
    assert built.run(day="mon")["score"] == [[[1, 2, "mon"], 0.5], 1]


def test_add_gives_a_copy_and_what_it_is_told_wins(tasks):
    empty = fb.Workflow("w")
    one = empty.add("a", tasks.clean, config={"raw": 1}, retry={"max_attempts": 7})

    assert empty.task_names == ()
    assert one.spec.tasks[0].retry.max_attempts == 7
    assert one.spec.tasks[0].timeout_s == 30.0
    with pytest.raises(WorkflowError, match="found 'a' twice"):
        one.add("a", "sleep", config={"duration": 1})
    with pytest.raises(WorkflowError, match="did you mean 'timeout'"):
        one.add("b", "sleep", config={"duration": 1}, timeut=3)
    with pytest.raises(WorkflowError, match="a space"):
        fb.Workflow("a b")


@pytest.mark.parametrize(("build", "text"), [PAIRS["plain"]])
def test_both_run_alike(tasks, build, text):
    assert build(tasks).run(day="mon").outputs == fb.loads(text).run(day="mon").outputs


def test_function_decorated_as_a_task_is_found_async_from_yaml(tasks):
    run = fb.loads(PLAIN).run(day="x")

    assert "async" in {task.name: task.executor for task in run.task_runs}["score"]


def test_local_functions_are_written_as_scripts_that_run():
    @fb.task
    def load(day: "str", more=(1, 2)) -> "list":
        import json

        return json.loads(json.dumps([day, *more]))

    @fb.task
    def total(rows):
        return len(rows)

    @fb.workflow
    def daily(day: str):
        return total(load(day))

    text = daily.to_yaml()

    assert "type: script" in text
    assert fb.loads(text).run(day="mon").outputs == {"total": 3} == daily.run(day="mon").outputs


def test_function_that_needs_its_surroundings_names_them():
    secret_sauce = 3

    @fb.task
    def use(x):
        return x + secret_sauce + len(PAIRS)

    @fb.workflow
    def daily():
        return use(1)

    with pytest.raises(WorkflowError, match="PAIRS, secret_sauce") as caught:
        daily.to_yaml()

    assert "module" in caught.value.hint


def test_load_and_loads_read_the_same(tmp_path):
    (tmp_path / "w.flow.yaml").write_text(PLAIN)

    loaded = fb.load("w.flow.yaml")

    assert loaded.fingerprint == fb.loads(PLAIN).fingerprint
    assert loaded.path == tmp_path / "w.flow.yaml"
    assert fb.loads(PLAIN).path is None


def test_load_reports_every_problem_with_its_place():
    with pytest.raises(WorkflowError) as caught:
        fb.loads(
            "name: x\ntasks:\n  - {name: a, typ: shell}\n  - {name: a b, type: sleep}\n",
            file="q.yaml",
        )

    lines = {problem.location.line for problem in caught.value.problems}
    assert lines == {3, 4}
    assert str(caught.value).startswith("q.yaml:3:")
