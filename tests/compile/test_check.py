import time
from typing import ClassVar

import polars as pl
import pytest

from flowbuilder.compile.check import check_parameters, check_workflow
from flowbuilder.definition import read_workflow
from flowbuilder.errors import PluginError, WorkflowValidationError
from flowbuilder.model import Parameter, Selector, TaskSpec, WorkflowSpec
from flowbuilder.plugins.task_type import Finding, TaskType
from flowbuilder.vocabulary import ExecutorKind


class Work(TaskType):
    name = "work"


class Request(TaskType):
    name = "request"
    raw_fields = frozenset({"code"})
    schema: ClassVar = {
        "type": "object",
        "additionalProperties": False,
        "required": ["url"],
        "properties": {
            "url": {"type": "string", "minLength": 3},
            "method": {"enum": ["GET", "POST"]},
            "timeout": {"type": "number", "minimum": 1},
            "retries": {"type": "integer"},
            "body": {
                "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}]
            },
            "headers": {"type": "object", "additionalProperties": {"type": "string"}},
            "code": {"type": "string"},
        },
    }

    def check(self, config, directory):
        if "bad line" in str(config.get("code")):
            yield Finding("found a bad line", ("code",), line=2, hint="remove it")
        if config.get("url") == "http://old":
            yield Finding("an old host", ("url",), severity="warning")


class Loop(TaskType):
    name = "loop"
    is_async = True

    async def run_async(self, call):
        return None


class Movable(TaskType):
    name = "movable"

    def remote(self, call):
        return None


class Crashing(TaskType):
    name = "crashing"

    def check(self, config, directory):
        raise ValueError("boom")


class BadSchema(TaskType):
    name = "bad_schema"
    schema: ClassVar = {"type": "strng"}


class RemoteSchema(TaskType):
    name = "remote_schema"
    schema: ClassVar = {"$ref": "http://127.0.0.1:9/schema.json"}


class Either(TaskType):
    name = "either"
    schema: ClassVar = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "c": {}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
    }


class Types:
    def __init__(self):
        classes = (Work, Request, Loop, Movable, Crashing, BadSchema, RemoteSchema, Either)
        self._types = {cls.name: cls() for cls in classes}
        self.untrusted = {"plain_plugin": {}, "described_plugin": {"required": ["x"]}}

    def find(self, name):
        if name == "broken":
            raise PluginError("plugin 'p' cannot be imported")
        return self._types.get(name)

    def names(self):
        return sorted([*self._types, *self.untrusted])

    def unloaded(self, name):
        return self.untrusted.get(name)


def check_text(text):
    reading = read_workflow(text, file="f.yaml")
    assert reading.spec is not None, reading.problems
    return check_workflow(reading.spec, Types())


def check_tasks(*tasks, **fields):
    return check_workflow(WorkflowSpec(name="w", tasks=tasks, **fields), Types())


def task(name="t", kind="work", **fields):
    return TaskSpec(name=name, type=kind, **fields)


def only(problems):
    assert len(problems) == 1, problems
    return problems[0]


def test_correct_workflow_has_no_problems():
    assert (
        check_text("""
name: w
params: {host: {type: string, default: x}, n: {type: integer}, t: {type: table}}
env: [HOME]
secrets: [TOKEN]
tasks:
  - name: a
    type: request
    config: {url: "http://${{ params.host }}", timeout: "${{ params.n }}", headers: {auth: "${{ secrets.TOKEN }}"}}
  - name: b
    type: work
    depends_on: [a]
    inputs: {x: a.body}
    when: tasks.a.output.ok && run.id != ''
    env: {H: "${{ env.HOME }}"}
""")
        == ()
    )


def test_every_problem_is_reported_at_its_place_in_the_order_of_the_text():
    problems = check_text("""
name: w
params: {url: {type: string}}
tasks:
  - name: a
    type: request
    depends_on: [fetsh]
    config:
      url: ${{ params.ulr }}
      methd: GET
      code: |
        fine
        bad line
  - name: fetch
    type: reqest
  - name: c
    type: work
    when: tasks.fetch.output ++
""")

    places = [(problem.location.line, problem.code, problem.hint) for problem in problems]
    assert places == [
        (7, "unknown-task", "did you mean 'fetch'?"),
        (9, "unknown-parameter", "did you mean 'url'?"),
        (10, "unknown-field", "did you mean 'method'?"),
        (13, "bad-config", "remove it"),
        (15, "unknown-task-type", problems[4].hint),
        (18, "bad-expression", ""),
    ]
    assert "did you mean 'request'?" in problems[4].hint
    assert "work" in problems[4].hint
    assert [problem.task for problem in problems] == ["a", "a", "a", "a", "fetch", "c"]
    assert problems[2].field == "tasks[0].config.methd"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "required field 'url' is missing"),
        ({"url": 5}, "'config.url' of task 't': expected text, found 5"),
        ({"url": "x"}, "expected at least 3 characters, found 1"),
        ({"url": "abc", "method": "GETT"}, "expected one of 'GET', 'POST', found 'GETT'"),
        ({"url": "abc", "timeout": 0}, "expected at least 1, found 0"),
        ({"url": "abc", "timeout": "soon"}, "expected a number, found 'soon'"),
        ({"url": "abc", "retries": 1.5}, "expected a whole number, found 1.5"),
        ({"url": "abc", "retries": None}, "expected a whole number, found nothing"),
        ({"url": "abc", "retries": True}, "expected a whole number, found true"),
        ({"url": "abc", "body": 5}, "expected text or a list, found 5"),
        ({"url": "abc", "body": [1, "x"]}, "1: expected a whole number, found 'x'"),
        ({"url": "abc", "headers": {"a": 1}}, "'config.headers.a' of task 't': expected text"),
        ({"url": "abc", "xyz": 1}, "'config' of task 't': unknown field 'xyz'"),
    ],
)
def test_config_mismatch_is_said_in_plain_words(config, message):
    assert message in only(check_tasks(task(kind="request", config=config))).message


@pytest.mark.parametrize(
    "config",
    [
        {"url": "${{ params.x }}"},
        {"url": "abc", "retries": "${{ params.x }}"},
        {"url": "abc", "method": "${{ params.x }}"},
        {"url": "abc", "body": "${{ params.x }}"},
        {"url": "abc", "body": [1, "${{ params.x }}"]},
        {"url": "abc", "headers": "${{ params.x }}"},
        {"url": "abc", "headers": {"a": "${{ params.x }}"}},
    ],
)
def test_expression_may_stand_for_any_value(config):
    params = (Parameter(name="x", schema={}),)

    assert check_tasks(task(kind="request", config=config), params=params) == ()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"url": "${{ params.x }}", "retries": "no"}, "expected a whole number"),
        ({"url": "abc", "body": ["y", "${{ params.x }}"]}, "body"),
        ({"method": "${{ params.x }}"}, "'url' is missing"),
        ({"url": "abc", "code": "${{ params.x }}", "retries": "x"}, "expected a whole number"),
    ],
)
def test_expression_excuses_only_its_own_place(config, message):
    params = (Parameter(name="x", schema={}),)

    assert message in only(check_tasks(task(kind="request", config=config), params=params)).message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "expected one of 'a', 'b', found none"),
        ({"a": "x", "b": 1}, "expected only one of 'a', 'b', found several"),
        ({"c": "${{ run.id }}"}, "expected one of 'a', 'b', found none"),
    ],
)
def test_alternative_fields_are_named(config, message):
    assert only(check_tasks(task(kind="either", config=config))).message.endswith(message)


def test_raw_field_holds_no_expressions():
    config = {"url": "abc", "code": "${{ nonsense"}

    assert check_tasks(task(kind="request", config=config)) == ()


@pytest.mark.parametrize(
    ("config", "hint"),
    [
        ("${{ params.hots }}", "did you mean 'host'?"),
        ("${{ env.HOM }}", "did you mean 'HOME'?"),
        ("${{ secrets.TOKN }}", "did you mean 'TOKEN'?"),
        ("${{ run.ident }}", "did you mean 'id'?"),
        ("${{ tasks.othr.output }}", "did you mean 'other'?"),
        ("${{ tasks.t.output }}", "name another task"),
        ("${{ params.host + ( }}", ""),
        ("${{ size(params.host) + }}", ""),
    ],
)
def test_expression_mentions_only_what_there_is(config, hint):
    problem = only(
        check_tasks(
            task(config={"x": config}),
            task("other"),
            params=(Parameter(name="host"),),
            env={"HOME": None},
            secrets={"TOKEN": "TOKEN"},
        )
    )

    assert problem.severity == "error"
    assert problem.field == "tasks[0].config.x"
    assert problem.hint == hint or "id" in problem.hint


def test_undeclared_name_says_where_to_declare_it():
    problem = only(check_tasks(task(when="params.zzz > 1")))

    assert problem.hint == "declare it under 'params:'"


@pytest.mark.parametrize("text", ["true", "1 < 2", "'x' == 'y'"])
def test_constant_condition_is_a_warning(text):
    problem = only(check_tasks(task(when=text)))

    assert (problem.severity, problem.code) == ("warning", "constant-condition")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"depends_on": ("t",)}, "self-dependency"),
        ({"inputs": {"x": Selector("t")}}, "self-dependency"),
        ({"depends_on": ("nobody",)}, "unknown-task"),
        ({"inputs": {"x": Selector("nobody")}}, "unknown-task"),
        ({"inputs": {"x-y": Selector("other")}}, "bad-port"),
        ({"inputs": {"class": Selector("other")}}, "bad-port"),
    ],
)
def test_parents_and_ports_are_checked(fields, code):
    assert only(check_tasks(task(**fields), task("other"))).code == code


def test_one_cycle_is_named_for_every_group():
    problems = check_tasks(
        task("a", depends_on=("b",)),
        task("b", inputs={"x": Selector("a")}),
        task("c", when="tasks.d.output == 1"),
        task("d", depends_on=("c",)),
        task("e", depends_on=("d",)),
    )

    assert [problem.code for problem in problems] == ["cycle", "cycle"]
    assert "a -> b -> a" in problems[0].message
    assert "c -> d -> c" in problems[1].message


def test_long_cycle_is_found_without_recursion():
    size = 100_000
    tasks = [task(f"t{i}", depends_on=(f"t{(i + 1) % size}",)) for i in range(size)]

    problem = only(check_tasks(*tasks))

    assert problem.code == "cycle"
    assert len(problem.message) < 500


@pytest.mark.parametrize(
    ("kind", "fields", "word"),
    [
        ("work", {"executor": ExecutorKind.INLINE, "timeout_s": 3.0}, "timeout"),
        ("work", {"executor": ExecutorKind.ASYNC}, "not async"),
        ("work", {"executor": ExecutorKind.PROCESS}, "cannot leave"),
        ("loop", {"executor": ExecutorKind.THREAD}, "I/O loop"),
        ("loop", {"executor": ExecutorKind.PROCESS}, "cannot leave"),
    ],
)
def test_executor_that_cannot_run_the_task_is_refused(kind, fields, word):
    problem = only(check_tasks(task(kind=kind, **fields)))

    assert problem.code == "executor-conflict"
    assert word in problem.message


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("work", {"executor": ExecutorKind.INLINE}),
        ("work", {"executor": ExecutorKind.THREAD, "timeout_s": 3.0}),
        ("loop", {"executor": ExecutorKind.ASYNC}),
        ("movable", {"executor": ExecutorKind.PROCESS}),
    ],
)
def test_executor_that_can_run_the_task_is_accepted(kind, fields):
    assert check_tasks(task(kind=kind, **fields)) == ()


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("broken", "cannot be imported"),
        ("crashing", "boom"),
        ("bad_schema", "not valid JSON Schema"),
        ("remote_schema", "not valid JSON Schema"),
    ],
)
def test_broken_task_type_is_reported_and_nothing_else_lost(kind, word):
    problems = check_tasks(task("a", kind, config={"x": 1}), task("b", depends_on=("nobody",)))

    assert [problem.code for problem in problems] == ["broken-task-type", "unknown-task"]
    assert word in problems[0].message


def test_untrusted_type_is_a_warning_once_and_checked_by_its_schema():
    problems = check_tasks(
        task("a", "plain_plugin"), task("b", "plain_plugin"), task("c", "described_plugin")
    )

    assert [(p.task, p.severity) for p in problems] == [
        ("a", "warning"),
        ("c", "warning"),
        ("c", "error"),
    ]
    assert "trust" in problems[0].hint
    assert "'x' is missing" in problems[2].message


def test_warning_of_a_type_stays_a_warning():
    problem = only(check_tasks(task(kind="request", config={"url": "http://old"})))

    assert problem.severity == "warning"


@pytest.mark.parametrize("twin", ["T", "ｔ"])
def test_names_that_look_the_same_are_refused(twin):
    assert only(check_tasks(task("t"), task(twin))).code == "duplicate-name"


def test_python_values_without_text_form_are_refused_not_raised():
    problem = only(check_tasks(task(kind="request", config={"url": "abc", "body": object()})))

    assert problem.code == "bad-config"


def test_inner_tasks_of_a_sub_workflow_are_left_to_its_unfolding():
    class WithWorkflow(Types):
        def find(self, name):
            return Work() if name == "workflow" else super().find(name)

    inner = {"tasks": [{"name": "x", "config": {"y": "${{ params.inner }}"}}]}
    spec = WorkflowSpec(name="w", tasks=(task("sub", "workflow", config=inner),))

    assert check_workflow(spec, WithWorkflow()) == ()


def test_places_are_looked_up_only_for_problems():
    class Source:
        file, text, asked = "f", "", 0

        def locate(self, path):
            self.asked += 1

        def locate_line(self, path, line):
            self.asked += 1

    source = Source()
    check_tasks(task("a"), task("b", depends_on=("a",)), source=source)
    assert source.asked == 0

    check_tasks(task("a", depends_on=("nobody",)), source=source)
    assert source.asked == 1


def test_large_workflow_is_checked_in_time():
    tasks = [task("t0", "request", config={"url": "abc"})]
    tasks += [
        task(
            f"t{i}",
            "request",
            depends_on=(f"t{i - 1}",),
            config={
                "url": "http://x" if i % 2 else f"${{{{ tasks.t{i - 1}.output }}}}",
                "timeout": i,
            },
        )
        for i in range(1, 30_000)
    ]
    began = time.process_time()

    assert check_tasks(*tasks) == ()
    assert time.process_time() - began < 10


def test_many_unknown_names_do_not_make_the_check_slow():
    tasks = [task(f"t{i}", depends_on=(f"x{i}",)) for i in range(20_000)]
    began = time.process_time()

    problems = check_tasks(*tasks)

    assert len(problems) == 20_000
    assert problems[0].hint
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("param", "code"),
    [
        (Parameter(name="p", schema={"type": "strng"}), "bad-schema"),
        (Parameter(name="p", schema={"$ref": "http://127.0.0.1:9/x"}), "bad-schema"),
        (
            Parameter(name="p", schema={"type": "integer"}, is_required=False, default="x"),
            "bad-default",
        ),
        (
            Parameter(name="p", schema={"type": "table"}, is_required=False, default=3),
            "bad-default",
        ),
    ],
)
def test_parameter_is_checked_against_its_own_schema(param, code):
    problem = only(check_tasks(task(), params=(param,)))

    assert problem.code == code
    assert problem.field.startswith("params.p")


NUMBER = Parameter(name="n", schema={"type": "integer", "minimum": 3}, is_required=False, default=4)
URL = Parameter(name="url", schema={"type": "string"})
TABLE = Parameter(name="trades", schema={"type": "table"})
FREE = Parameter(name="free", is_required=False, default=[1])


def bind(given, *params):
    return check_parameters(WorkflowSpec(name="w", tasks=(), params=params), given)


def test_parameters_get_their_defaults_and_keep_their_objects():
    frame = pl.DataFrame({"a": [1]})
    values = bind({"trades": frame, "url": "x"}, NUMBER, URL, TABLE, FREE)

    assert values == {"n": 4, "url": "x", "trades": frame, "free": [1]}
    assert list(values) == ["n", "url", "trades", "free"]
    assert values["trades"] is frame


def test_default_of_a_parameter_cannot_be_changed_by_a_run():
    bind({}, FREE)["free"].append(2)

    assert bind({}, FREE)["free"] == [1]


def test_all_problems_of_parameters_come_at_once():
    with pytest.raises(WorkflowValidationError) as caught:
        bind({"ulr": 1, "n": 1}, NUMBER, URL)

    messages = {problem.code: problem for problem in caught.value.problems}
    assert set(messages) == {"unknown-parameter", "wrong-parameter", "missing-parameter"}
    assert messages["unknown-parameter"].hint == "did you mean 'url'?"
    assert "expected at least 3, found 1" in messages["wrong-parameter"].message


def test_missing_table_names_both_ways_to_give_it():
    with pytest.raises(WorkflowValidationError) as caught:
        bind({}, TABLE)

    hint = only(caught.value.problems).hint
    assert "run()" in hint
    assert "-p trades=@trades.parquet" in hint


@pytest.mark.parametrize("value", [3, "trades.parquet", None, [1], {"a": [1]}, object()])
def test_table_parameter_takes_only_tables(value):
    with pytest.raises(WorkflowValidationError, match="expects a table"):
        bind({"trades": value}, TABLE)


@pytest.mark.parametrize("value", [pl.DataFrame(), object(), {1, 2}, None])
def test_parameter_without_schema_takes_anything(value):
    assert bind({"free": value}, FREE)["free"] is value


@pytest.mark.parametrize("value", [object(), {1}, pl.DataFrame(), 2.5, True, "3"])
def test_parameter_with_schema_refuses_other_values(value):
    with pytest.raises(WorkflowValidationError, match="parameter 'n'"):
        bind({"n": value}, NUMBER)


def test_catastrophic_pattern_of_a_schema_is_bounded():
    param = Parameter(name="p", schema={"type": "string", "pattern": "^(?=(a+)+$)(a+)+\\1$"})
    began = time.perf_counter()

    with pytest.raises(WorkflowValidationError):
        bind({"p": "a" * 5_000 + "b"}, param)

    assert time.perf_counter() - began < 5
