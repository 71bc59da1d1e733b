from collections import defaultdict

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbuilder.errors import ExpressionError
from flowbuilder.expressions import follow, format_path, read_expression
from flowbuilder.expressions.paths import read_path, take_step

KEYS = st.text(
    st.characters(exclude_characters="\\'\n\r\x00", exclude_categories=["Cs", "Cc"]),
    min_size=1,
    max_size=12,
).filter(lambda text: '"' not in text)
STEPS = st.lists(KEYS | st.integers(0, 10**8), max_size=5)
FRAMES = [
    pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
    pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
    pa.table({"a": [1, 2], "b": ["x", "y"]}),
]


class Recorder:
    def __init__(self):
        self.paths = []

    def root(self, name):
        return {"x": {"y": [1, 2]}}


@given(st.sampled_from(["params", "env", "secrets", "run"]), KEYS.filter(str.isascii), STEPS)
def test_path_survives_being_written_and_read(root, name, steps):
    path = (root, name, *steps)
    text = format_path(path)

    expression = read_expression(text)

    assert expression.is_path
    assert expression._path == path


@given(KEYS.filter(str.isascii), st.sampled_from(["output", "state"]), STEPS)
def test_task_path_survives_being_written_and_read(name, field, steps):
    path = ("tasks", name, field, *steps)

    assert read_expression(format_path(path))._path == path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("params.url", ("params", "url")),
        ("tasks.a.output.b", ("tasks", "a", "output", "b")),
        ("tasks['x-y'].output[0].name", ("tasks", "x-y", "output", 0, "name")),
        ('params["a b"]', ("params", "a b")),
        (" run.id ", ("run", "id")),
    ],
)
def test_read_path_understands_plain_paths(text, path):
    assert read_path(text) == path


@pytest.mark.parametrize("text", ["params.a + 1", "size(params.a)", "other.a", "1", "params.a()"])
def test_read_path_leaves_other_expressions_alone(text):
    assert read_path(text) is None


@pytest.mark.parametrize(
    "text", ["tasks.清洗.output", "params . a", "params.a // why", "params['''a''']"]
)
def test_expression_is_path_also_when_only_a_scan_shows_it(text):
    assert read_expression(text).is_path


def test_task_name_is_brought_to_the_form_tasks_are_stored_in():
    decomposed = "tasks['cafe\u0301'].output"

    assert read_expression(decomposed).references == {("tasks", "caf\u00e9", "output")}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("params", "a name after 'params'", "params.name"),
        ("params[0]", "a name after 'params'", "params.name"),
        ("tasks.clean", "'.output' or '.state'", "tasks.clean.output"),
        ("tasks.clean.ouput", "'.output' or '.state'", "'output'"),
        ("tasks.x-y.output", "'.output' or '.state'", "tasks['x-y']"),
        ("tasks[params.name].output", "a name after 'tasks'", "tasks.clean.output"),
    ],
)
def test_incomplete_path_says_what_is_missing(text, message, hint):
    with pytest.raises(ExpressionError) as caught:
        read_expression(text)

    assert message in caught.value.message
    assert hint in caught.value.hint


def test_follow_returns_the_object_itself():
    row = {"name": object()}

    assert follow({"rows": [row]}, ("rows", 0)) is row


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__module__.split(".")[0])
def test_follow_takes_columns_of_tables_by_name(frame):
    assert follow(frame, ("b", 1)) in ("y", pa.scalar("y"))


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__module__.split(".")[0])
def test_follow_gives_facts_of_tables(frame):
    assert follow(frame, ("num_rows",)) == 2
    assert follow(frame, ("columns",)) == ["a", "b"]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__module__.split(".")[0])
@pytest.mark.parametrize("name", ["c", "__class__", "shape", "schema", "to_pandas"])
def test_follow_reads_no_attribute_of_a_table(frame, name):
    with pytest.raises(ExpressionError, match="has no column"):
        follow(frame, (name,), start=("tasks", "t", "output"))


class Thing:
    secret = "s"

    def __init__(self):
        self.visible = 1


@pytest.mark.parametrize("value", [Thing(), 3, "text", None, [1], {"a": 1}, print, Thing])
@pytest.mark.parametrize("name", ["__class__", "__dict__", "visible", "secret", "__init__"])
def test_follow_never_reads_attributes(value, name):
    with pytest.raises(ExpressionError):
        follow(value, (name,))


def test_take_step_does_not_add_keys_to_a_defaultdict():
    value = defaultdict(list)

    with pytest.raises(LookupError):
        take_step(value, "new")
    assert not value


def test_missing_key_names_the_place_and_what_is_nearby():
    with pytest.raises(ExpressionError) as caught:
        follow({"url": 1, "user": 2}, ("ulr",), start=("params", "http"))

    assert caught.value.message == "`params.http` has no 'ulr'"
    assert caught.value.hint == "did you mean 'url'?"


def test_position_behind_the_end_says_how_many_there_are():
    with pytest.raises(ExpressionError, match=r"element 5 in `params\.x`, found 2 elements"):
        follow([1, 2], (5,), start=("params", "x"))


@pytest.mark.parametrize("name", ["a\x1b[31mred", "a\u202egnp", "\u200b", "a\nb", "<img src=x>"])
def test_error_about_a_strange_key_cannot_forge_a_log(name):
    with pytest.raises(ExpressionError) as caught:
        follow({"k": 1}, (name,), start=("params", "x"))

    assert str(caught.value).isprintable()
