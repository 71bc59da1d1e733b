"""Unfolding sub-workflows: keys, edges, scopes, and everything that may be wrong with an inclusion."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowbuilder.compile.compiler import read_included
from flowbuilder.compile.expand import expand_workflow
from flowbuilder.compile.expansion import EdgeKind, Role
from flowbuilder.compile.fingerprint import workflow_fingerprint
from flowbuilder.compile.unfolding import MAX_DEPTH
from flowbuilder.definition import read_file, read_workflow
from flowbuilder.errors import WorkflowValidationError

OUTER = """
name: outer
params: {limit: 5}
tasks:
  - {name: load, type: work}
  - name: inner
    type: workflow
    depends_on: [load]
    when: params.limit > 1
    config:
      file: parts/inner.yaml
      params: {size: "${{ params.limit }}", mode: fast}
  - {name: after, type: work, inputs: {data: inner}}
"""
INNER = """
name: part
params: {size: {type: integer}, mode: {type: string, default: slow}}
tasks:
  - {name: first, type: work, config: {n: "${{ params.size }}"}}
  - {name: second, type: work, inputs: {x: first}}
  - {name: side, type: work}
"""


@pytest.fixture
def unfold(tmp_path, registry):
    def run(outer, **files):
        for name, text in files.items():
            place = tmp_path / (name.replace("__", "/") + ".yaml")
            place.parent.mkdir(exist_ok=True)
            place.write_text(text)
        (tmp_path / "outer.yaml").write_text(outer)
        reading = read_file(tmp_path / "outer.yaml")
        assert reading.spec is not None, reading.problems
        return expand_workflow(reading.spec, registry, read=read_included)

    return run


@pytest.fixture
def problems_of(unfold):
    def run(outer, **files):
        with pytest.raises(WorkflowValidationError) as caught:
            unfold(outer, **files)
        return caught.value.problems

    return run


def edges_by_key(expansion):
    keys = [task.key for task in expansion.tasks]
    return {task.key: {keys[e.parent]: e.kind for e in task.edges} for task in expansion.tasks}


def test_sub_workflow_becomes_enter_inner_and_leave(unfold):
    expansion = unfold(OUTER, parts__inner=INNER)

    assert [(task.key, task.role) for task in expansion.tasks] == [
        ("load", Role.TASK),
        ("inner/(enter)", Role.ENTER),
        ("inner/first", Role.TASK),
        ("inner/second", Role.TASK),
        ("inner/side", Role.TASK),
        ("inner", Role.LEAVE),
        ("after", Role.TASK),
    ]
    data, order = EdgeKind.DATA, EdgeKind.ORDER
    assert edges_by_key(expansion) == {
        "load": {},
        "inner/(enter)": {"load": order},
        "inner/first": {"inner/(enter)": order},
        "inner/second": {"inner/first": data},
        "inner/side": {"inner/(enter)": order},
        "inner": {"inner/(enter)": order, "inner/second": data, "inner/side": data},
        "after": {"inner": data},
    }


def test_scopes_say_where_names_and_parameters_are_found(unfold):
    expansion = unfold(OUTER, parts__inner=INNER)

    root, inner = expansion.scopes
    assert (root.parent, root.enter, root.prefix) == (-1, -1, "")
    assert root.members == {"load": 0, "inner": 5, "after": 6}
    assert (inner.parent, inner.enter, inner.prefix) == (0, 1, "inner/")
    assert inner.members == {"first": 2, "second": 3, "side": 4}
    assert [task.scope for task in expansion.tasks] == [0, 0, 1, 1, 1, 0, 0]


def test_leave_takes_its_data_from_the_task_output_names(unfold):
    outer = OUTER.replace("parts/inner.yaml", "parts/inner.yaml\n      output: first")

    edges = edges_by_key(unfold(outer, parts__inner=INNER))

    assert edges["inner"] == {
        "inner/(enter)": EdgeKind.ORDER,
        "inner/first": EdgeKind.DATA,
        "inner/second": EdgeKind.ORDER,
        "inner/side": EdgeKind.ORDER,
    }


INLINE = """
name: outer
tasks:
  - {name: load, type: work}
  - name: inner
    type: workflow
    inputs: {raw: load}
    config:
      params: {size: 3}
      tasks:
        - {name: first, type: work, config: {n: "${{ params.size }}", r: "${{ params.raw }}"}}
        - {name: load, type: work, config: {text: "no", f: 1.0, s: "a\\u2028b \\U0001F600"}}
        - {name: last, type: work, config: {x: "${{ tasks.first.output }}"}}
"""


def test_inline_tasks_have_names_and_parameters_of_their_own(unfold):
    expansion = unfold(INLINE)

    assert edges_by_key(expansion)["inner/(enter)"] == {"load": EdgeKind.DATA}
    assert edges_by_key(expansion)["inner/last"] == {"inner/first": EdgeKind.IMPLIED}
    inner = expansion.scopes[1].workflow
    assert [param.name for param in inner.params] == ["size", "raw"]
    config = inner.tasks[1].config
    assert config == {"text": "no", "f": 1.0, "s": "a\u2028b \U0001f600"}
    assert isinstance(config["f"], float)


def test_inline_tasks_keep_their_true_positions(unfold):
    inner = unfold(INLINE).scopes[1].workflow

    place = inner.source.locate((*inner.tasks[2].path, "config", "x"))

    assert Path(place.file).name == "outer.yaml"
    assert "tasks.first.output" in INLINE.splitlines()[place.line - 1]


def test_inline_problems_point_at_the_inline_text(problems_of):
    (problem,) = problems_of(INLINE.replace("name: first, type: work", "name: first, typ: work"))[
        :1
    ]

    assert problem.location.line == 11


def test_inclusion_inlined_by_hand_has_the_same_fingerprint(unfold):
    from_file = unfold(OUTER.replace("file: parts/inner.yaml", "file: a.yaml"), a=INNER)
    elsewhere = unfold(OUTER, parts__inner="# moved\n" + INNER)

    assert workflow_fingerprint(from_file) == workflow_fingerprint(elsewhere)
    changed = unfold(OUTER, parts__inner=INNER.replace("slow", "slower"))
    assert workflow_fingerprint(changed) != workflow_fingerprint(elsewhere)


def test_the_same_file_may_be_included_twice(unfold):
    again = """
  - name: again
    type: workflow
    config: {file: parts/inner.yaml, params: {size: 1}}
"""
    expansion = unfold(OUTER + again, parts__inner=INNER)

    assert "again/second" in {task.key for task in expansion.tasks}
    assert expansion.scopes[1].workflow is expansion.scopes[2].workflow


def test_files_are_found_relative_to_the_file_that_names_them(unfold):
    middle = "name: m\ntasks: [{name: deep, type: workflow, config: {file: b.yaml}}]"
    outer = "name: o\ntasks: [{name: m, type: workflow, config: {file: sub/a.yaml}}]"

    expansion = unfold(outer, sub__a=middle, sub__b="name: b\ntasks: [{name: t, type: work}]")

    assert [task.key for task in expansion.tasks] == [
        "m/(enter)",
        "m/deep/(enter)",
        "m/deep/t",
        "m/deep",
        "m",
    ]


def include(*lines):
    return "name: o\ntasks:\n  - name: t\n    type: workflow\n" + "".join(
        f"    {line}\n" for line in lines
    )


@pytest.mark.parametrize(
    ("outer", "code", "text"),
    [
        (include("config: {file: missing.yaml}"), "bad-inclusion", "missing.yaml"),
        (include("config: {file: '${{ params.x }}'}"), "bad-inclusion", "fixed path"),
        (include("config: {}"), "bad-inclusion", "neither"),
        (include("config: {file: a.yaml, tasks: []}"), "bad-inclusion", "both"),
        (include("config: {file: a.yaml, params: {szie: 1, size: 2}}"), "unknown-parameter", "szie"),
        (include("config: {file: a.yaml}"), "missing-parameter", "'size'"),
        (include("config: {file: a.yaml, params: {size: many}}"), "", "size"),
        (include("config: {file: a.yaml, params: [1]}"), "bad-parameter", "mapping"),
        (include("config: {file: a.yaml, params: {size: 1}, output: frist}"), "unknown-task", "frist"),
        (include("retry: {max_attempts: 3}", "config: {file: a.yaml, params: {size: 1}}"), "misplaced-setting", "'retry'"),
        (include("timeout: 5", "config: {file: a.yaml, params: {size: 1}}"), "misplaced-setting", "'timeout'"),
        (include("executor: thread", "config: {file: a.yaml, params: {size: 1}}"), "misplaced-setting", "'executor'"),
        (include("env: {A: b}", "config: {file: a.yaml, params: {size: 1}}"), "misplaced-setting", "'env'"),
        (include("pool: p", "config: {file: a.yaml, params: {size: 1}}"), "misplaced-setting", "'pool'"),
    ],
)  # fmt: skip
def test_wrong_inclusions_are_reported_at_the_outer_task(problems_of, outer, code, text):
    problems = [each for each in problems_of(outer, a=INNER) if each.severity == "error"]

    assert len(problems) == 1
    assert text in problems[0].message
    assert problems[0].location.line >= 3
    assert code in {"", problems[0].code}


def test_settings_from_defaults_are_meant_for_the_inner_work(unfold):
    outer = include("config: {file: a.yaml, params: {size: 1}}")

    defaults = "defaults: {retry: {max_attempts: 3}, timeout: 9, env: {A: b}, effects: none}\n"
    unfold(defaults + outer, a=INNER)


def test_problems_of_included_files_carry_their_own_place(problems_of):
    inner = INNER.replace("inputs: {x: first}", "inputs: {x: frist}")

    (problem,) = problems_of(OUTER, parts__inner=inner)

    assert Path(problem.location.file).name == "inner.yaml"
    assert problem.location.line == 6


def test_all_problems_come_at_once(problems_of):
    outer = include("timeout: 5", "config: {file: a.yaml}") + (
        "  - {name: u, type: workflow, config: {file: none.yaml}}\n"
    )

    assert len(problems_of(outer, a=INNER)) == 3


def test_inclusion_that_returns_to_itself_names_the_chain(problems_of):
    outer = "name: o\ntasks: [{name: t, type: workflow, config: {file: a.yaml}}]"
    back = "name: a\ntasks: [{name: t, type: workflow, config: {file: outer.yaml}}]"

    (problem,) = problems_of(outer, a=back)

    assert problem.code == "recursion"
    assert problem.message.count("outer.yaml") == 2
    assert "a.yaml" in problem.message


def test_nesting_is_limited(problems_of):
    files = {
        f"f{i}": f"name: f\ntasks: [{{name: t, type: workflow, config: {{file: f{i + 1}.yaml}}}}]"
        for i in range(MAX_DEPTH + 2)
    }
    outer = "name: o\ntasks: [{name: t, type: workflow, config: {file: f0.yaml}}]"

    (problem,) = problems_of(outer, **files)

    assert f"at most {MAX_DEPTH} deep" in problem.message


def test_exponential_inclusion_stops_at_the_size_limit(tmp_path, registry):
    pair = "tasks: [{{name: x, type: workflow, config: {{file: f{0}.yaml}}}}, {{name: y, type: workflow, config: {{file: f{0}.yaml}}}}]"
    for i in range(14):
        (tmp_path / f"f{i}.yaml").write_text("name: f\n" + pair.format(i + 1))
    (tmp_path / "f14.yaml").write_text("name: f\ntasks: [{name: t, type: work}]")
    spec = read_file(tmp_path / "f0.yaml").spec

    with pytest.raises(WorkflowValidationError, match="1,000 tasks"):
        expand_workflow(spec, registry, read=read_included, max_tasks=1000)


def test_time_limits_of_included_workflows_are_not_ignored(problems_of):
    (problem,) = problems_of(OUTER, parts__inner="timeout: 5\n" + INNER)

    assert problem.code == "not-supported-yet"
    assert problem.location.line == 1


def test_expansion_reads_each_file_once(registry, tmp_path):
    inner = read_workflow("name: i\ntasks: [{name: t, type: work}]").spec
    outer = read_workflow(
        "name: o\ntasks: [{name: a, type: workflow, config: {file: i.yaml}},"
        " {name: b, type: workflow, config: {file: ./i.yaml}}]",
        directory=str(tmp_path),
    ).spec
    asked = []

    def read(path):
        asked.append(path)
        return inner

    expand_workflow(outer, registry, read=read)

    assert asked == [(tmp_path / "i.yaml").resolve()]


def test_inline_tasks_of_a_file_included_twice_are_read_once(unfold):
    outer = (
        "name: o\ntasks: [{name: x, type: workflow, config: {file: a.yaml}},"
        " {name: y, type: workflow, config: {file: a.yaml}}]"
    )
    middle = (
        "name: m\ntasks: [{name: in, type: workflow, config: {tasks: [{name: t, type: work}]}}]"
    )

    scopes = unfold(outer, a=middle).scopes

    assert [scope.prefix for scope in scopes] == ["", "x/", "x/in/", "y/", "y/in/"]
    assert scopes[2].workflow is scopes[4].workflow
