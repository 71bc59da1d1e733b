"""Programs of compiled workflows, called as the engine calls them, against a fake run."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from flowbuilder.compile import compile_workflow
from flowbuilder.compile.expansion import CompiledWorkflow
from flowbuilder.definition import read_file
from flowbuilder.errors import (
    ExpressionError,
    FlowBuilderError,
    PluginError,
    RunError,
    TaskFailedError,
    WorkflowValidationError,
)
from flowbuilder.plugins import decorator
from flowbuilder.plugins.decorator import task_type
from flowbuilder.runtime.cancel import CancelToken
from flowbuilder.runtime.program import AttemptContext, InputSlot, Program
from flowbuilder.tasks import default_registry
from flowbuilder.tasks.binding import bind_programs
from flowbuilder.tasks.binding_scope import secret_values


class FakeRun:
    """A run whose outputs are put in by hand."""

    run_id = "0199-run"
    workflow = "flow"
    started_ns = 1_700_000_000_000_000_000
    policy = "local"

    def __init__(self, bound: Bound, params: Mapping[str, object]) -> None:
        self.params = params
        self.scratch = self.temporary = bound.directory / "scratch"
        self.query_bytes = 0
        self.outputs: dict[int, object] = {}
        self.states: dict[int, str] = {}

    def output(self, instance: int) -> object:
        if instance not in self.outputs:
            raise RunError(f"instance {instance} has no output")
        return self.outputs[instance]

    def state(self, instance: int) -> str:
        return self.states.get(instance, "succeeded" if instance in self.outputs else "pending")


class Bound:
    """A compiled and bound workflow that can run one task, or all in order."""

    def __init__(
        self, compiled: CompiledWorkflow, directory: Path, programs: list[Program], **params: object
    ) -> None:
        self.compiled = compiled
        self.directory = directory
        self.programs = programs
        self.log: list[tuple[str, str]] = []
        self.run = FakeRun(self, params)

    def instance(self, key: str) -> int:
        return next(i for i, task in enumerate(self.compiled.plan.tasks) if task.key == key)

    def program(self, key: str) -> Program:
        return self.programs[self.instance(key)]

    def context(self, key: str) -> AttemptContext:
        return AttemptContext(
            run=self.run,
            instance=self.instance(key),
            attempt=1,
            key=key,
            cancel=CancelToken(),
            timeout_s=None,
            write=lambda stream, text: self.log.append((stream, text)),
            captured_stdout=lambda: "printed\n",
        )

    def give(self, key: str, output: object) -> None:
        self.run.outputs[self.instance(key)] = output

    def call(self, key: str) -> object:
        program, context = self.program(key), self.context(key)
        if program.coroutine is not None:
            return asyncio.run(_await(program.coroutine(context)))
        if program.delay is not None:
            return program.delay(context)
        assert program.call is not None
        return program.call(context)

    def call_all(self) -> dict[str, object]:
        for task in self.compiled.plan.tasks:
            self.give(task.key, self.call(task.key))
        return {task.key: self.run.outputs[i] for i, task in enumerate(self.compiled.plan.tasks)}


async def _await(awaitable: object) -> object:
    return await awaitable  # type: ignore[misc]


@pytest.fixture
def bind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bound]]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)

    def make(
        text: str, *, functions: Mapping[str, object] | None = None, **params: object
    ) -> Bound:
        file = tmp_path / "flow.flow.yaml"
        file.write_text(text)
        reading = read_file(file)
        assert reading.spec is not None, reading.problems
        registry = default_registry(tmp_path)
        compiled = compile_workflow(reading.spec, registry)
        return Bound(
            compiled,
            tmp_path,
            bind_programs(compiled, registry, functions=functions or {}),
            **params,
        )

    yield make
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


PIPELINE = """
name: data-pipeline
params: {url: {type: string, default: "http://127.0.0.1/"}}
tasks:
  - name: fetch_data
    type: http
    config: {url: "${{ params.url }}", method: GET, timeout: 30}
  - name: process_data
    type: script
    depends_on: [fetch_data]
    config:
      language: python
      code: |
        import json
        data = json.loads(input_data)
        result = {"count": len(data)}
  - name: notify
    type: shell
    depends_on: [process_data]
    config: {command: "echo done"}
"""


def test_example_hands_the_body_to_the_script(bind):
    flow = bind(PIPELINE)
    flow.give("fetch_data", {"status": 200, "headers": {}, "url": "u", "body": "[1, 2, 3]"})

    assert flow.call("process_data") == {"count": 3}


def test_programs_say_how_they_run(bind):
    flow = bind(PIPELINE)

    assert flow.program("fetch_data").coroutine is not None
    assert flow.program("process_data").remote is not None
    assert not flow.program("process_data").owns_output
    assert flow.program("notify").remote is None
    assert flow.program("notify").owns_output
    assert not flow.program("notify").uses_cpu


def test_traceback_lines_are_those_of_the_file(bind):
    from flowbuilder.tasks.tracebacks import user_traceback

    flow = bind(PIPELINE)
    flow.give("fetch_data", {"status": 200, "body": "no json"})

    with pytest.raises(ValueError, match="Expecting value") as caught:
        flow.call("process_data")
    _, location = user_traceback(caught.value)

    assert location is not None
    line = PIPELINE.splitlines()[location.line - 1]
    assert line.strip() == "data = json.loads(input_data)"


def test_templates_see_every_root(bind, monkeypatch):
    monkeypatch.setenv("FB_TEST_HOST", "example.org")
    monkeypatch.setenv("FB_TEST_TOKEN", "s3cret")
    monkeypatch.delenv("FB_TEST_PORT", raising=False)
    flow = bind(
        """
name: flow
params: {n: {type: integer}}
env: {FB_TEST_HOST: null, FB_TEST_PORT: "80"}
secrets: {token: FB_TEST_TOKEN}
tasks:
  - {name: first, type: script, config: {code: "result = 1"}}
  - name: second
    type: shell
    env: {FROM_TASK: "n=${{ params.n }}"}
    config:
      argv: [printf, "%s|%s|%s|%s|%s|%s|%s", "${{ params.n }}", "${{ tasks.first.output.rows[0] }}",
             "${{ tasks.first.state }}", "${{ run.id }} ${{ run.workflow }} ${{ run.started_at }}",
             "${{ env.FB_TEST_HOST }}:${{ env.FB_TEST_PORT }}", "${{ secrets.token }}",
             "${{ params.n * 2 }}"]
  - {name: third, type: shell, depends_on: [second], env: {A: "${{ params.n }}"}, config: {command: 'echo $A $FB_TEST_PORT'}}
""",
        n=5,
    )
    flow.give("first", {"rows": ["r0"]})

    assert flow.call("second") == (
        "5|r0|succeeded|0199-run flow 2023-11-14T22:13:20+00:00|example.org:80|s3cret|10"
    )
    assert flow.call("third") == "5 80"
    assert secret_values(flow.compiled) == {"s3cret"}


def test_shell_templates_travel_by_environment(bind):
    flow = bind(
        """
name: flow
params: {name: {type: string}}
tasks:
  - {name: greet, type: shell, config: {command: 'echo "hello ${{ params.name }}" ${{ params.name }}'}}
""",
        name="$(id) `id` \"'; x",
    )

    assert flow.call("greet") == "hello $(id) `id` \"'; x $(id) `id` \"'; x"


def test_missing_secret_names_its_variable(bind, monkeypatch):
    monkeypatch.delenv("FB_TEST_TOKEN", raising=False)
    flow = bind(
        """
name: flow
secrets: {token: FB_TEST_TOKEN}
tasks:
  - {name: t, type: shell, config: {argv: [echo, "${{ secrets.token }}"]}}
"""
    )

    with pytest.raises(FlowBuilderError, match="'FB_TEST_TOKEN', which is not set") as caught:
        flow.call("t")
    assert caught.value.location is not None
    assert caught.value.task == "t"


def test_rendered_values_are_checked_against_the_schema(bind):
    flow = bind(
        """
name: flow
params: {codes: {}}
tasks:
  - name: t
    type: shell
    config:
      command: echo hi
      success_codes: ${{ params.codes }}
""",
        codes="zero",
    )

    with pytest.raises(TaskFailedError, match=r"config\.success_codes does not fit") as caught:
        flow.call("t")
    assert caught.value.location is not None
    assert caught.value.location.line == 9


def test_failing_expression_points_at_its_field(bind):
    flow = bind(
        """
name: flow
params: {a: {type: object}}
tasks:
  - name: t
    type: shell
    config:
      argv: [echo]
      env:
        ONE: fine
        TWO: "${{ params.a.missing }}"
""",
        a={"b": 1},
    )

    with pytest.raises(ExpressionError) as caught:
        flow.call("t")
    assert caught.value.location is not None
    assert caught.value.location.line == 11


@pytest.mark.parametrize(("value", "expected"), [(3, False), (30, True)])
def test_condition_is_evaluated(bind, value, expected):
    flow = bind(
        """
name: flow
params: {n: {type: integer}}
tasks:
  - {name: t, type: shell, when: "params.n > 10", config: {command: "true"}}
""",
        n=value,
    )
    condition = flow.program("t").condition
    assert condition is not None

    assert condition(flow.run) is expected


def test_condition_that_is_no_truth_value_is_an_error(bind):
    flow = bind(
        """
name: flow
params: {n: {}}
tasks:
  - {name: t, type: shell, when: "params.n", config: {command: "true"}}
""",
        n="yes",
    )
    condition = flow.program("t").condition
    assert condition is not None

    with pytest.raises(ExpressionError, match=r"expected true or false.*'yes' \(str\)") as caught:
        condition(flow.run)
    assert caught.value.location is not None
    assert caught.value.task == "t"


def test_sleep_gives_its_delay(bind):
    flow = bind(
        """
name: flow
params: {d: {}}
tasks:
  - {name: a, type: sleep, config: {duration: 1m30s}}
  - {name: b, type: sleep, config: {duration: "${{ params.d }}"}}
""",
        d="250ms",
    )

    assert flow.call("a") == 90
    assert flow.call("b") == 0.25
    flow.run.params = {"d": "soon"}
    with pytest.raises(TaskFailedError, match="expected a duration"):
        flow.call("b")


MODULE = """
import json
loaded = []

def double(x, *, plus=0):
    return x * 2 + plus

def join(a, b, c="c"):
    return f"{a}{b}{c}"

def keep(items):
    items.append(1)
    return items

async def later(x):
    return x + 1
"""


@pytest.fixture
def module(tmp_path: Path) -> str:
    (tmp_path / "bound_tasks_module.py").write_text(MODULE)
    return "bound_tasks_module"


FUNCTIONS = """
name: flow
tasks:
  - {name: a, type: python, config: {function: "bound_tasks_module:double", args: {x: 4, plus: 1}}}
  - {name: b, type: python, inputs: {b: a}, config: {function: "bound_tasks_module:join", args: {a: x}}}
  - {name: c, type: python, inputs: {x: a}, config: {function: "bound_tasks_module:later"}}
  - {name: d, type: python, inputs: {b: b, a: c}, config: {function: "bound_tasks_module:join"}}
"""


def test_python_tasks_run_from_modules_beside_the_workflow(bind, module):
    flow = bind(FUNCTIONS)
    assert module not in sys.modules, "binding imports nothing"

    assert flow.call_all() == {"a": 9, "b": "x9c", "c": 10, "d": "10x9cc"}


def test_python_tasks_are_direct_once_imported(bind, module, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__(module)
    flow = bind(FUNCTIONS)

    b, d = flow.program("b"), flow.program("d")
    assert b.function is sys.modules[module].join
    assert list(b.arguments) == ["x", InputSlot(flow.instance("a"))]
    assert list(d.arguments) == [InputSlot(flow.instance("c")), InputSlot(flow.instance("b"))]
    assert flow.program("c").coroutine is not None
    assert flow.program("c").function is sys.modules[module].later
    assert flow.call_all() == {"a": 9, "b": "x9c", "c": 10, "d": "10x9cc"}


def test_direct_call_equals_the_general_one(bind, module):
    flow = bind(FUNCTIONS)
    outputs = flow.call_all()

    for key in ("a", "b", "d"):
        program = flow.program(key)
        values = [
            flow.run.output(item.instance) if isinstance(item, InputSlot) else item
            for item in program.arguments
        ]
        assert program.function is not None
        assert program.function(*values) == outputs[key]


def test_python_task_leaves_as_a_call_by_name(bind, module):
    flow = bind(FUNCTIONS)
    flow.give("a", 9)
    remote = flow.program("b").remote
    assert remote is not None

    call = pickle.loads(pickle.dumps(remote(flow.context("b"))))

    assert call.function(*call.args, **call.kwargs) == "x9c"
    assert call.directory == str(flow.directory)


def test_given_functions_need_no_import(bind):
    seen: list[object] = []

    def clean(raw: object, limit: int = 1) -> object:
        seen.append((raw, limit))
        return raw

    async def wait(raw: object, limit: int) -> object:
        return (raw, limit)

    flow = bind(
        """
name: flow
params: {n: {}}
tasks:
  - {name: a, type: script, config: {code: "result = 1"}}
  - {name: plain, type: python, inputs: {raw: a}, config: {function: "__main__:clean"}}
  - {name: templated, type: python, inputs: {raw: a}, config: {function: "__main__:clean", args: {limit: "${{ params.n }}"}}}
  - {name: later, type: python, inputs: {raw: a}, config: {function: "__main__:wait", args: {limit: "${{ params.n }}"}}}
""",
        functions={"__main__:clean": clean, "__main__:wait": wait},
        n=7,
    )
    table = object()
    flow.give("a", table)

    assert flow.program("plain").function is clean
    assert flow.call("plain") is table
    assert flow.call("templated") is table
    assert flow.call("later") == (table, 7)
    assert seen == [(table, 1), (table, 7)]
    remote = flow.program("templated").remote
    assert remote is not None
    assert remote(flow.context("templated")).function is clean


def test_config_of_one_attempt_is_not_that_of_the_next(bind, module):
    flow = bind(
        """
name: flow
tasks:
  - {name: a, type: python, config: {function: "bound_tasks_module:keep", args: {items: [0]}}}
"""
    )

    assert flow.call("a") == [0, 1]
    assert flow.call("a") == [0, 1]


def test_selector_takes_a_part_by_reference(bind):
    rows = [1, 2]

    def same(x: object) -> object:
        return x

    flow = bind(
        """
name: flow
tasks:
  - {name: a, type: script, config: {code: "result = {}"}}
  - {name: b, type: python, inputs: {x: a.data.rows}, config: {function: "__main__:same"}}
""",
        functions={"__main__:same": same},
    )
    flow.give("a", {"data": {"rows": rows}})

    assert flow.call("b") is rows
    flow.give("a", {"data": {}})
    with pytest.raises(ExpressionError, match="rows"):
        flow.call("b")


def test_inputs_of_failed_tasks_are_none_where_the_join_allows_it(bind):
    flow = bind(
        """
name: flow
tasks:
  - {name: a, type: script, config: {code: "1/0"}}
  - {name: b, type: script, join: all_done, inputs: {x: a}, config: {code: "result = (x, input_data, params)"}}
  - {name: c, type: script, inputs: {x: a}, config: {code: "result = x"}}
"""
    )
    flow.run.states[flow.instance("a")] = "failed"

    assert flow.call("b") == (None, None, {})
    with pytest.raises(RunError, match="has no output"):
        flow.call("c")


def test_input_data_needs_exactly_one_parent(bind):
    flow = bind(
        """
name: flow
tasks:
  - {name: a, type: script, config: {code: "result = 1"}}
  - {name: b, type: script, config: {code: "result = 2"}}
  - {name: one, type: script, depends_on: [a], config: {code: "result = input_data"}}
  - {name: two, type: script, depends_on: [a, b], config: {code: "result = input_data"}}
  - {name: none, type: script, config: {code: "result = input_data"}}
"""
    )
    outputs = flow.call_all()

    assert (outputs["one"], outputs["two"], outputs["none"]) == (1, None, None)


SUB = """
name: flow
params: {n: {type: integer}}
tasks:
  - {name: src, type: script, config: {code: "result = 10"}}
  - name: outer
    type: workflow
    inputs: {given: src}
    when: "params.n > 0"
    config:
      file: inner.flow.yaml
      params: {x: "${{ params.n + 1 }}"}
  - {name: after, type: script, inputs: {all: outer}, config: {code: "result = all"}}
"""

INNER = """
name: inner
params:
  x: {type: integer}
  given: {type: integer}
  y: {type: integer, default: 7}
tasks:
  - {name: one, type: script, config: {code: "result = params['x'] + params['y'] + params['given']"}}
  - {name: two, type: script, inputs: {v: one}, config: {code: "result = v * 2"}}
  - {name: three, type: shell, config: {argv: [echo, "${{ params.x }} ${{ tasks.one.output }}"]}}
"""


def test_sub_workflow_binds_parameters_and_collects_outputs(bind, tmp_path):
    (tmp_path / "inner.flow.yaml").write_text(INNER)
    flow = bind(SUB, n=1)

    outputs = flow.call_all()

    assert outputs["outer/(enter)"] == {"x": 2, "given": 10, "y": 7}
    assert outputs["outer/one"] == 19
    assert outputs["outer"] == {"two": 38, "three": "2 19"}
    assert outputs["after"] == outputs["outer"]
    assert flow.program("outer/(enter)").condition is not None


def test_sub_workflow_output_may_be_one_task(bind, tmp_path):
    (tmp_path / "inner.flow.yaml").write_text(INNER)
    flow = bind(SUB.replace("file: inner", "output: one\n      file: inner"), n=1)

    assert flow.call_all()["after"] == 19


def test_inline_sub_workflow_keeps_its_own_names(bind):
    flow = bind(
        """
name: flow
params: {n: {type: integer}}
tasks:
  - name: outer
    type: workflow
    config:
      params: {x: "${{ params.n * 2 }}"}
      tasks:
        - {name: a, type: shell, config: {argv: [echo, "${{ params.x }}"]}}
        - {name: b, type: shell, config: {argv: [echo, "<${{ tasks.a.output }}>"]}}
""",
        n=4,
    )

    assert flow.call_all()["outer"] == {"b": "<8>"}


def test_sub_workflow_refuses_wrong_parameters(bind, tmp_path):
    (tmp_path / "inner.flow.yaml").write_text(INNER)
    flow = bind(SUB, n=1)
    flow.give("src", "not a number")

    with pytest.raises(WorkflowValidationError, match="given"):
        flow.call("outer/(enter)")


def test_declared_type_runs_from_a_workflow(bind, monkeypatch):
    monkeypatch.setattr(decorator, "_declared", {})

    @task_type("shout", effects="none")
    def shout(call, *, text: str, times: int = 2):
        return f"{call.name}:{text.upper() * times}"

    flow = bind("name: flow\ntasks:\n  - {name: a, type: shout, config: {text: ab}}\n")

    assert flow.call("a") == "a:ABAB"


def test_unknown_type_is_refused_before_anything_runs(bind):
    flow = bind("name: flow\ntasks:\n  - {name: a, type: sleep, config: {duration: 1}}\n")

    class Nothing:
        def find(self, name: str) -> None:
            return None

        def names(self) -> list[str]:
            return []

        def unloaded(self, name: str) -> Mapping[str, object] | None:
            return {} if trusted else None

    trusted = False
    with pytest.raises(PluginError, match="does not exist"):
        bind_programs(flow.compiled, Nothing())
    trusted = True
    with pytest.raises(PluginError, match="not trusted"):
        bind_programs(flow.compiled, Nothing())


@pytest.mark.parametrize(
    ("module", "error"),
    [
        ("raise ValueError('at import')", ValueError),
        ("import sys; sys.exit(3)", SystemExit),
        ("import no_such_module_at_all", ModuleNotFoundError),
        ("def other(): pass", TaskFailedError),
        ("f = 3", TaskFailedError),
    ],
)
def test_failing_import_fails_the_task_not_the_binding(bind, tmp_path, module, error):
    (tmp_path / "broken_bound_module.py").write_text(module)
    (tmp_path / "flow2.yaml").touch()
    flow = bind("name: flow\ntasks:\n  - {name: a, type: script, config: {code: '1'}}\n")
    task = flow.compiled.expansion.tasks[0]
    import msgspec

    spec = msgspec.structs.replace(
        task.spec, type="python", config={"function": "broken_bound_module:f"}
    )
    expansion = msgspec.structs.replace(
        flow.compiled.expansion, tasks=(msgspec.structs.replace(task, spec=spec),)
    )
    compiled = msgspec.structs.replace(flow.compiled, expansion=expansion)
    (program,) = bind_programs(compiled, default_registry())

    assert program.call is not None
    with pytest.raises(error):
        program.call(flow.context("a"))


@pytest.mark.skipif(os.name != "posix", reason="runs /bin/sh")
def test_programs_serve_many_runs(bind):
    flow = bind(
        """
name: flow
params: {n: {}}
tasks:
  - {name: t, type: shell, config: {argv: [echo, "${{ params.n }}"]}}
"""
    )
    for n in ("one", "two"):
        flow.run = FakeRun(flow, {"n": n})
        assert flow.call("t") == n
