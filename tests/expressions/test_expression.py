import math
import subprocess
import sys
from types import MappingProxyType

import numpy as np
import polars as pl
import pytest

from flowbuilder.errors import ExpressionError, RunError
from flowbuilder.expressions import parse_expression


class Roots:
    """A scope of plain mappings that remembers what was asked for."""

    def __init__(self, **roots):
        self._roots = roots
        self.asked = []

    def root(self, name):
        self.asked.append(name)
        return self._roots.get(name, {})


class Lazy(dict):
    """Tasks whose outputs are fetched one at a time; a failed one raises."""

    def __init__(self, **outputs):
        super().__init__(outputs)
        self.fetched = []

    def __getitem__(self, name):
        value = super().__getitem__(name)
        self.fetched.append(name)
        if value is None:
            raise RunError(f"task {name!r} failed")
        return MappingProxyType({"output": value, "state": "succeeded"})


SCOPE = Roots(
    params={
        "n": 3,
        "x": 1.5,
        "s": "text",
        "list": [1, 2, 3],
        "rows": [{"name": "a", "v": 1}, {"name": "b", "v": 5}],
        "map": {"k": {"深": 7}},
        "in": 4,
        "a-b": 5,
        "nothing": None,
    },
    tasks={"清洗": {"output": {"n": 2}, "state": "succeeded"}},
    run={"id": "r1"},
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("params.n", 3),
        ("params['a-b']", 5),
        ("params.n + 1", 4),
        ("params.n > 2 && params.s == 'text'", True),
        ("params['a-b'] * 2", 10),
        ("params.in - 1", 3),
        ("params.map.k.深 + 1", 8),
        ("tasks.清洗.output.n == 2", True),
        ("tasks.清洗.state == 'succeeded' ? 'yes' : 'no'", "yes"),
        ("params.list.map(x, x * 2)", [2, 4, 6]),
        ("params.rows.filter(r, r.v > 2).map(r, r.name)", None),
        ("params.rows.exists(r, r.name == 'b')", True),
        ("params.rows.exists(r, r.深 == 'b')", None),
        ("params.list[params.n - 1]", 3),
        ("size(params.list) + params.s.size()", 7),
        ("has(params.zzz)", False),
        ("has(params.map.k)", True),
        ("has(params.zzz.deeper)", False),
        ("params.zzz || true", True),
        ("params.n == 3 ? 1 : params.zzz", 1),
        ("[params.n, {'a': params.s}]", [3, {"a": "text"}]),
        ("params.s.matches('^t.x')", True),
        ("'}' + \"{\"", "}{"),
        ("r'\\d' + 'a'", "\\da"),
        ("params.n // a comment", 3),
        ("params.nothing == null", True),
        ("type(params.n) == int", True),
        ("timestamp('2024-01-01T00:00:00Z') < timestamp('2025-01-01T00:00:00Z')", True),
        ("1 == 1.0", True),
        ("7", 7),
        ("-1.5", -1.5),
        ("'text'", "text"),
        ("true", True),
        ("null", None),
    ],
)
def test_expression_gives(text, value):
    if value is None and text != "null":
        with pytest.raises(ExpressionError):
            parse_expression(text).evaluate(SCOPE)
    else:
        result = parse_expression(text).evaluate(SCOPE)
        assert result == value
        assert type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "references"),
    [
        ("params.url", {("params", "url")}),
        ("tasks['x-y'].output[0].name + 1", {("tasks", "x-y", "output")}),
        (
            "run.id == env.HOME + secrets.TOKEN",
            {("run", "id"), ("env", "HOME"), ("secrets", "TOKEN")},
        ),
        ("'params.not' + \"tasks.not\"", set()),
        ("params.a // params.b", {("params", "a")}),
        ("params.list.map(x, x.params)", {("params", "list")}),
        ("params.s.startsWith('a')", {("params", "s")}),
        ("has(params.maybe)", {("params", "maybe")}),
        ("params.a[params.b]", {("params", "a"), ("params", "b")}),
        ("1 + 1", set()),
    ],
)
def test_references_are_the_paths_mentioned(text, references):
    expression = parse_expression(text)

    assert expression.references == references
    assert expression.is_constant == (not references)


def test_path_gives_the_very_object():
    frame = pl.DataFrame({"a": [1]})

    assert (
        parse_expression("tasks.t.output").evaluate(Roots(tasks={"t": {"output": frame}})) is frame
    )


def test_only_mentioned_outputs_are_fetched():
    tasks = Lazy(a=1, b=2, c=3)

    assert parse_expression("tasks.a.output + tasks.c.output").evaluate(Roots(tasks=tasks)) == 4
    assert tasks.fetched == ["a", "c"]


def test_scope_is_asked_only_for_mentioned_roots():
    scope = Roots(params={"a": 1})

    parse_expression("params.a + 1").evaluate(scope)

    assert scope.asked == ["params"]


def test_failed_output_matters_only_where_it_is_needed():
    scope = Roots(tasks=Lazy(ok=1, bad=None))

    assert parse_expression("tasks.ok.output == 1 || tasks.bad.output == 1").evaluate(scope) is True
    with pytest.raises(RunError, match="'bad' failed"):
        parse_expression("tasks.bad.output == 1").evaluate(scope)


def test_missing_name_in_a_computed_expression_is_explained_like_in_a_path():
    with pytest.raises(ExpressionError) as caught:
        parse_expression("params.rwos.size() > 1").evaluate(SCOPE)

    assert caught.value.message == "params has no 'rwos'"
    assert caught.value.hint == "did you mean 'rows'?"


def test_tables_are_facts_in_computed_expressions():
    scope = Roots(tasks={"t": {"output": pl.DataFrame({"a": [1, 2]})}})

    assert parse_expression("tasks.t.output.num_rows > 1").evaluate(scope) is True
    assert parse_expression("'a' in tasks.t.output.columns").evaluate(scope) is True
    assert parse_expression("tasks.t.output == tasks.t.output && true").evaluate(scope) is True
    assert parse_expression("[tasks.t.output][0].size_bytes").evaluate(scope) > 0


def test_other_objects_are_the_name_of_their_type():
    scope = Roots(tasks={"t": {"output": {1, 2}}, "u": {"output": object()}})

    assert parse_expression("tasks.t.output + tasks.u.output").evaluate(scope) == "setobject"


def test_scalars_of_array_libraries_are_numbers():
    scope = Roots(params={"i": np.int64(3), "f": np.float32(0.5), "b": np.bool_(True)})

    assert parse_expression("params.b && params.i == 3 && params.f < 0.6").evaluate(scope) is True


def test_nan_equals_nothing_and_has_no_order():
    scope = Roots(params={"x": math.nan})

    assert parse_expression("params.x == params.x").evaluate(scope) is False
    with pytest.raises(ExpressionError, match="does not fit"):
        parse_expression("params.x < 1.0").evaluate(scope)


def test_error_about_a_secret_does_not_show_it():
    scope = Roots(secrets={"T": "hunter2"}, params={"m": {"a": 1}})

    for text in ["params.m[secrets.T]", "int(secrets.T)", "secrets.T < 1", "duration(secrets.T)"]:
        with pytest.raises(ExpressionError) as caught:
            parse_expression(text).evaluate(scope)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("parms.a", "did you mean 'params'?"),
        ("params.a and params.b", "'&&'"),
        ("not params.a", "'!'"),
        ("params.a = 1", "'=='"),
        ("params.a & params.b", "'&&'"),
        ("params.s.starts_with('a')", "did you mean 'startsWith'?"),
        ("len(params.s)", "size(...)"),
        ("True", "write true"),
        ("hello", "text is written in quotes"),
        ("params.list.map(x, y)", "text is written in quotes"),
    ],
)
def test_malformed_expression_suggests_the_right_one(text, hint):
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text)

    assert hint in caught.value.hint


def test_paths_and_literals_never_import_cel():
    code = (
        "import sys\n"
        "from flowbuilder.expressions import parse_expression, parse_template\n"
        "class S:\n"
        "    def root(self, name): return {'a': {'b': [1]}}\n"
        "parse_expression('params.a.b[0]').evaluate(S())\n"
        "parse_template({'x': '${{ params.a }} ${{ 1 }}', 'y': ['${{ true }}']}).render(S())\n"
        "heavy = {'cel.cel', 'numpy', 'pandas', 'polars', 'pyarrow', 'duckdb'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
