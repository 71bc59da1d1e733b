"""The one promise: an output from the cache equals what computing it would give."""

from __future__ import annotations

import sys

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flowbuilder as fb
from tests.cache.conftest import forget_modules

_FUNCTION = """
def f{index}({ports}):
    # remark {remark}
    {doc}total = {constant}
    for value in ({ports}{comma}):
        total = total {operator} helper{helper}(value)
    return total
"""
_HELPER = """
LIMIT{index} = {limit}

def helper{index}(x, power={power}):
    return (x + LIMIT{index}) * power % 1009
"""

small = st.integers(0, 3)
helpers = st.fixed_dictionaries({"limit": small, "power": st.integers(1, 2)})
tasks = st.fixed_dictionaries(
    {
        "constant": small,
        "operator": st.sampled_from(["+", "-"]),
        "helper": st.integers(0, 1),
        "remark": small,
        "documented": st.booleans(),
        "kind": st.sampled_from(["python", "python", "script"]),
        "parents": st.sets(st.integers(0, 3), max_size=2),
    }
)
versions = st.fixed_dictionaries(
    {
        "helpers": st.lists(helpers, min_size=2, max_size=2),
        "tasks": st.lists(tasks, min_size=4, max_size=4),
        "param": small,
        "file": small,
    }
)


@st.composite
def histories(draw):
    """A workflow and how it is edited: each version changes one thing of some earlier one."""
    made = [draw(versions)]
    for _ in range(draw(st.integers(2, 5))):
        version = dict(draw(st.sampled_from(made)))
        other = draw(versions)
        field = draw(st.sampled_from(["helpers", "tasks", "param", "file"]))
        if field in {"helpers", "tasks"}:
            index = draw(st.integers(0, len(version[field]) - 1))
            version[field] = [*version[field]]
            version[field][index] = other[field][index]
        else:
            version[field] = other[field]
        made.append(version)
    return made


def write(place, version):
    text = "".join(
        _HELPER.format(index=index, **each) for index, each in enumerate(version["helpers"])
    )
    (place / "helping.py").write_text(text)
    functions = ["from helping import helper0, helper1\n"]
    flow = ["name: made", "params: {start: {default: 0}}", "tasks:"]
    for index, task in enumerate(version["tasks"]):
        ports = [f"p{parent}" for parent in sorted(task["parents"]) if parent < index]
        doc = '"""Says something."""\n    ' if task["documented"] else ""
        if task["kind"] == "python":
            functions.append(
                _FUNCTION.format(
                    index=index,
                    ports=", ".join([*ports, "start"]),
                    comma=",",
                    doc=doc,
                    **task,
                )
            )
            config = f'{{function: "made:f{index}", args: {{start: "${{{{ params.start }}}}"}}}}'
            cache = "true"
        else:
            lines = [
                f"# remark {task['remark']}",
                f"from helping import helper{task['helper']} as help",
                "import pathlib",
                'text = pathlib.Path("data.txt").read_text()',
                f"result = len(text) + {task['constant']} + help(params['start'])",
                *(f"result = result {task['operator']} {port}" for port in ports),
            ]
            config = "\n      code: |\n" + "\n".join(f"        {line}" for line in lines)
            cache = "{files: [data.txt]}"
        inputs = ", ".join(f"{port}: {port.replace('p', 't')}" for port in ports)
        flow += [
            f"  - name: t{index}",
            f"    type: {task['kind']}",
            f"    cache: {cache}",
            f"    inputs: {{{inputs}}}",
            f"    config: {config}",
        ]
    (place / "made.py").write_text("\n".join(functions))
    (place / "data.txt").write_text("x" * version["file"])
    (place / "made.flow.yaml").write_text("\n".join(flow) + "\n")


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(histories())
def test_a_hit_equals_recomputation(place, monkeypatch, history):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    fb.clear_cache()
    cached = 0
    for version in history:
        write(place, version)
        forget_modules(place)
        workflow = fb.load(place / "made.flow.yaml")
        run = workflow.run(start=version["param"])
        again = workflow.run(start=version["param"])
        forget_modules(place)
        plain = fb.loads(
            (place / "made.flow.yaml")
            .read_text()
            .replace("cache: true", "cache: false")
            .replace("cache: {files: [data.txt]}", "cache: false")
        )
        truth = plain.run(start=version["param"])
        for task in (f"t{index}" for index in range(4)):
            assert run[task] == again[task] == truth[task], run.explain(task)
        cached += sum(task.cached for task in again.task_runs)
        states = {task.state for task in again.task_runs}
        assert states == {"cached"}, "\n".join(
            task.reason for task in again.task_runs if not task.cached
        )
    assert cached == 4 * len(history)
