"""Workflow functions: what is recorded, and what is refused with its line and advice."""

import copy
import json
import operator

import pytest

import flowbuilder as fb
from flowbuilder.errors import WorkflowError, WorkflowValidationError


@fb.task
def load(day):
    return [1, 2, day]


@fb.task(retries=2, timeout="30s")
def pair(left, right=None, **more):
    return (left, right, more) if more else (left, right)


REFUSED = {
    "if": lambda x: 1 if x else 2,
    "and": lambda x: x and 1,
    "not": operator.not_,
    "len": len,
    "for": lambda x: [item for item in x],  # noqa: C416
    "unpack": lambda x: max(*x),
    "sum": sum,
    "sorted": sorted,
    "next": next,
    "in": lambda x: 1 in x,
    "==": lambda x: x == 1,
    "!=": lambda x: x != 1,
    "<": lambda x: x < 1,
    "reflected <": lambda x: 1 < x,  # noqa: SIM300
    "+": lambda x: x + 1,
    "reflected +": lambda x: 1 + x,
    "text +": lambda x: "a" + x,
    "+=": lambda x: operator.iadd(x, 1),
    "-x": operator.neg,
    "+x": operator.pos,
    "~x": operator.invert,
    "abs": abs,
    "round": round,
    "**": lambda x: x**2,
    "reflected **": lambda x: 2**x,
    "//": lambda x: x // 2,
    "%": lambda x: x % 2,
    "divmod": lambda x: divmod(x, 2),
    "<<": lambda x: x << 1,
    "&": lambda x: x & 1,
    "reflected |": lambda x: 1 | x,
    "reflected @": lambda x: 1 @ x,
    "int": int,
    "float": float,
    "complex": complex,
    "range": range,
    "index": lambda x: [1, 2][x],
    "str": str,
    "f-string": lambda x: f"{x}",
    "format": "{}".format,
    "percent": lambda x: "%s" % x,  # noqa: UP031
    "call": lambda x: x(),
    "method": lambda x: x.upper(),
    "slice": lambda x: x[1:2],
    "boolean index": lambda x: x[True],
    "set attribute": lambda x: setattr(x, "a", 1),
    "delete attribute": lambda x: delattr(x, "a"),
    "set item": lambda x: operator.setitem(x, "a", 1),
    "delete item": lambda x: operator.delitem(x, "a"),
    "with": lambda x: x.__enter__(),
    "await": operator.methodcaller("__await__"),
    "private": lambda x: x._hidden,
    "json": json.dumps,
    "open": lambda x: open(x).close(),  # noqa: PTH123
    "join": lambda x: ",".join(["a", "b", x][1:]),
}


@pytest.mark.parametrize("operation", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("kind", ["output", "parameter"])
def test_placeholder_refuses_what_needs_its_value(operation, kind):
    @fb.workflow
    def daily(day):
        raw = load(day)
        operation(raw if kind == "output" else day)

    with pytest.raises(WorkflowError) as caught:
        daily.plan()

    assert caught.value.location.file == __file__
    assert caught.value.location.line == daily.function.__code__.co_firstlineno + 3
    assert caught.value.hint


def test_placeholder_can_be_copied_and_shown():
    @fb.workflow
    def daily(day):
        raw = load(day)
        assert copy.copy(raw) is raw
        assert copy.deepcopy([raw])[0] is raw
        assert repr(raw[2]["k"].x) == (
            "<tasks.load.output[2].k.x, known only when the workflow runs>"
        )
        pair(raw)

    assert daily.task_names == ("load", "pair")


def test_outputs_travel_in_containers_and_keep_their_identity():
    @fb.workflow
    def daily(day: str):
        raw = load(day)
        return pair([raw, {"k": raw, "p": day}], {"deep": (1, raw[2])})

    run = daily.run(day="mon")

    left, right = run["pair"]
    assert left == [[1, 2, "mon"], {"k": [1, 2, "mon"], "p": "mon"}]
    assert left[0] is run["load"]
    assert right == {"deep": [1, "mon"]}


def test_keyword_arguments_are_recorded_and_constants_kept():
    @fb.workflow
    def daily():
        return pair(1, right="${{ not.an.expression }}", extra=load("x"))

    assert daily.run()["pair"] == (1, "${{ not.an.expression }}", {"extra": [1, 2, "x"]})


def test_names_are_unique_and_can_be_given():
    @fb.workflow
    def daily():
        load(1)
        load(2)
        load.named("load_2")(3)
        load.named("清洗")(4)
        load(5)

    assert daily.task_names == ("load", "load_2", "load_2_2", "清洗", "load_3")
    assert daily.run()["清洗"] == [1, 2, 4]


def test_after_orders_without_passing_data():
    @fb.workflow
    def daily():
        first = load(1)
        second = load(2)
        return pair.after(first, second[0])(3)

    (*_, last) = daily.spec.tasks
    assert last.depends_on == ("load", "load_2")
    assert daily.run()["pair"] == (3, None)


def test_conditions_nest_and_join_a_tasks_own():
    careful = fb.task(when="params.full", name="careful")(load.function)

    @fb.workflow
    def daily(n: int = 1, full: bool = True):
        raw = load(n)
        with fb.when("params.n > 1"):
            pair(raw)
            with fb.when("params.n > 2"):
                careful(raw)
        return load(0)

    def states(**params):
        return {task.name: task.state for task in daily.run(**params).task_runs}

    assert daily.spec.tasks[2].when == "(params.n > 1) && (params.n > 2) && (params.full)"
    assert states(n=1)["pair"] == "skipped"
    assert states(n=2) == {
        "load": "succeeded",
        "load_2": "succeeded",
        "pair": "succeeded",
        "careful": "skipped",
    }
    assert states(n=3, full=False)["careful"] == "skipped"
    assert states(n=3)["careful"] == "succeeded"


def test_expressions_are_computed_at_run_time():
    @fb.workflow
    def daily(n: int):
        raw = load(n)
        return pair(fb.expr("params.n * 2 + 1"), fb.expr("size(tasks.load.output)")), raw

    assert daily.run(n=4)["pair"] == (9, 3)


@pytest.mark.parametrize("text", ["params.n *", "", "tasks..a"])
def test_malformed_expression_is_refused_at_its_line(text):
    @fb.workflow
    def daily(n: int):
        pair(fb.expr(text))

    with pytest.raises(WorkflowError) as caught:
        daily.plan()

    assert caught.value.location.line == daily.function.__code__.co_firstlineno + 2


def test_add_records_any_type_with_the_fields_of_a_file():
    @fb.workflow
    def daily(n: int = 3):
        raw = load(n)
        return fb.add(
            "shell",
            "say",
            config={"argv": ["echo", n, raw[2]]},
            depends_on=[raw],
            timeout="5s",
            retry={"max_attempts": 2, "delay": "1s"},
        )

    task = daily.spec.tasks[1]
    assert (task.timeout_s, task.retry.max_attempts, task.retry.delay_s) == (5.0, 2, 1.0)
    assert daily.run()["say"] == "3 3"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"timeot": 5}, "did you mean 'timeout'?"),
        ({"retry": {"max_attempts": 0}}, "max_attempts"),
        ({"inputs": {"a": 1}}, "expected the output of a task, found 1"),
        ({"name": "a b"}, "a space"),
    ],
)
def test_add_refuses_what_a_file_would_refuse(fields, message):
    @fb.workflow
    def daily():
        fb.add("sleep", config={"duration": 1}, **fields)

    with pytest.raises(WorkflowError) as caught:
        daily.plan()

    assert message in str(caught.value)
    assert caught.value.location.line == daily.function.__code__.co_firstlineno + 2


@pytest.mark.parametrize("what", ["add", "when"])
def test_recording_outside_a_workflow_function_is_refused(what):
    with pytest.raises(WorkflowError, match=r"inside a function decorated with @fb.workflow"):
        fb.add("sleep") if what == "add" else fb.when("true").__enter__()


def test_outside_a_workflow_a_task_is_the_function():
    assert load("x") == [1, 2, "x"]
    assert load.__name__ == "load"
    assert load.__wrapped__ is load.function

    class Shop:
        @fb.task
        def price(self, amount):
            return amount * 2

    assert Shop().price(4) == 8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load(*()), "missing a required argument: 'day'"),
        (lambda: load(1, 2), "too many positional arguments"),
        (lambda: load(dya=1), "missing a required argument: 'day'"),
        (lambda: load(object()), "found a value of type object"),
        (lambda: load({1: 2}), "found a value of type dict"),
        (lambda: load.after(3)(1), "expected the output of a task, found 3"),
        (lambda: load.named("a b")(1), "for example 'a_b'"),
        (lambda: fb.task(_positional)(1), "remove the '/'"),
        (lambda: fb.task(_starred)(1), "which a workflow cannot record"),
    ],
)
def test_wrong_task_call_names_its_line(call, message):
    @fb.workflow
    def daily():
        call()

    with pytest.raises(WorkflowError) as caught:
        daily.plan()

    assert message in str(caught.value)
    assert caught.value.location.line == daily.function.__code__.co_firstlineno + 2


def _positional(a, /):
    return a


def _starred(*a):
    return a


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"retries": -1}, "expected retries of 0 or more, found -1"),
        ({"timeout": "5 parsecs"}, "expected a duration"),
        ({"executor": "gpu"}, "one of auto, inline, thread"),
        ({"effects": "many"}, "one of none, idempotent, external"),
        ({"join": "some"}, "all_success"),
        ({"persist": "maybe"}, "always"),
        ({"name": "a\x1bb"}, "U+001B"),
        ({"retry": {"max_attempts": "x"}}, "retry:"),
        ({"cache": {"ttl": -1}}, "cache: "),
    ],
)
def test_wrong_setting_of_a_task_says_what_is_possible(settings, message):
    with pytest.raises(WorkflowError) as caught:
        fb.task(**settings)(_starred)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    "thing", [int, 5, load, lambda x: x], ids=["class", "number", "task", "lambda"]
)
def test_only_functions_can_be_tasks(thing):
    with pytest.raises(WorkflowError, match="expected"):
        fb.task(thing)


def test_lambda_with_a_name_and_closures_are_tasks_of_their_own():
    def adder(amount):
        def add(x):
            return x + amount

        return fb.task(add)

    one, ten = adder(1), adder(10)
    double = fb.task(name="double")(lambda x: x * 2)

    @fb.workflow
    def daily():
        return double(ten(one(0)))

    assert daily.run()["double"] == 22


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_local_functions_run_on_every_executor(executor):
    @fb.task(executor=executor)
    def local(x):
        return x + 1

    @fb.workflow
    def daily():
        return local(local(1))

    assert daily.run()["local_2"] == 3


async def _coroutine():
    load(1)


def _generator():
    yield load(1)


@pytest.mark.parametrize("function", [_coroutine, _generator])
def test_workflow_function_is_a_plain_function(function):
    with pytest.raises(WorkflowError, match="plain def"):
        fb.workflow(function).plan()


def test_error_in_a_workflow_function_keeps_its_cause():
    @fb.workflow
    def daily():
        load(1)
        raise AttributeError("mine")

    with pytest.raises(WorkflowError, match="AttributeError while it was recorded: mine") as caught:
        daily.run()

    assert isinstance(caught.value.__cause__, AttributeError)
    assert not hasattr(caught.value, "nonsense")


def test_workflow_function_without_tasks_is_refused():
    @fb.workflow
    def empty():
        pass

    with pytest.raises(WorkflowValidationError, match="expected at least one task"):
        empty.run()


def test_workflow_function_is_a_workflow_and_refuses_calls():
    @fb.workflow(name="other", durability="none", timeout="1m")
    def daily(day: str, limit: float = 0.5):
        """Do it daily.

        And more.
        """
        load(day)

    assert isinstance(daily, fb.Workflow)
    assert daily.__name__ == "daily"
    assert (daily.name, daily.spec.description) == ("other", "Do it daily.")
    assert (daily.spec.durability, daily.spec.timeout_s) == ("none", 60.0)
    assert repr(daily) == "<Workflow 'other': 1 task, params day, limit>"
    assert [dict(item.schema) for item in daily.spec.params] == [
        {"type": "string"},
        {"type": "number"},
    ]
    assert not hasattr(daily, "nonsense")
    with pytest.raises(WorkflowError, match=r"expected daily\.run"):
        daily("x")


@pytest.mark.parametrize("settings", [{"durability": "all"}, {"timeout": "soon"}])
def test_wrong_setting_of_a_workflow_is_refused_where_it_stands(settings):
    with pytest.raises(WorkflowError):
        fb.workflow(**settings)


def test_workflow_function_is_traced_once_and_late():
    calls = []

    @fb.workflow
    def daily():
        calls.append(1)
        later(1)

    @fb.task
    def later(x):
        return x

    assert calls == []
    daily.run()
    daily.run()
    assert daily.plan()
    assert calls == [1]


def test_running_a_workflow_while_one_is_recorded_is_refused():
    @fb.workflow
    def inner():
        load(1)

    @fb.workflow
    def outer():
        inner.run()

    with pytest.raises(WorkflowError, match="found a run of 'inner'"):
        outer.plan()


def test_foreach_says_that_it_is_not_there_yet():
    with pytest.raises(WorkflowError, match="not supported yet"):
        fb.foreach([1], load)
