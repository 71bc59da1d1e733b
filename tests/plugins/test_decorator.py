"""Task types from functions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, Optional

import pytest

from flowbuilder.errors import PluginError
from flowbuilder.plugins import decorator
from flowbuilder.plugins.decorator import FunctionTaskType, declared_types, task_type, type_of
from flowbuilder.plugins.signature_schema import schema_of_signature
from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.vocabulary import Effects, ExecutorKind


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decorator, "_declared", {})


def call(**config: object) -> TaskCall:
    return TaskCall(name="t", key="t", run_id="r", attempt=1, config=config)


def test_decorated_function_stays_a_function_and_becomes_a_type():
    @task_type("shout", effects="none", executor="thread")
    def shout(call: TaskCall, *, text: str, times: int = 1) -> str:
        """Shout it.

        More.
        """
        return f"{call.name}:{text.upper() * times}"

    declared = declared_types()["shout"]
    assert declared is type_of(shout)
    assert shout(call(), text="a") == "t:A"
    assert declared.run(call(text="a", times=2)) == "t:AA"
    assert declared.summary == "Shout it."
    assert declared.effects({}) is Effects.NONE
    assert declared.executor is ExecutorKind.THREAD
    assert declared.schema == {
        "type": "object",
        "properties": {"text": {"type": "string"}, "times": {"type": "integer", "default": 1}},
        "required": ["text"],
        "additionalProperties": False,
    }


def test_function_without_call_gets_only_its_config():
    found = FunctionTaskType("f", lambda a, b=2: (a, b))

    assert found.run(call(a=1)) == (1, 2)
    assert found.effects({}) is Effects.EXTERNAL


def test_async_function_is_awaited():
    async def later(call: TaskCall, *, x: int) -> int:
        return x + 1

    found = FunctionTaskType("later", later)

    assert found.is_async
    assert asyncio.run(found.run_async(call(x=1))) == 2


def test_running_a_cell_again_replaces_its_type():
    for answer in (1, 2):
        task_type("again")(lambda answer=answer: answer)

    assert declared_types()["again"].run(call()) == 2


def test_snapshot_of_declared_types_does_not_change():
    before = declared_types()
    task_type("new")(lambda: None)

    assert "new" not in before
    assert "new" in declared_types()


def test_given_schema_wins():
    schema = {"type": "object", "properties": {"x": {"minimum": 3}}}

    assert FunctionTaskType("f", lambda x: x, schema=schema).schema is schema


@pytest.mark.parametrize("name", ["", "  ", None, 3, len])
def test_name_is_demanded(name):
    with pytest.raises(PluginError, match="expected the name"):
        task_type(name)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (list, {"type": "array"}),
        (dict, {"type": "object"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (tuple[int, str], {"type": "array"}),
        (Optional[str], {"type": ["string", "null"]}),  # noqa: UP045
        (int | None, {"type": ["integer", "null"]}),
        (
            list[int] | str,
            {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "string"}]},
        ),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (Any, {}),
        (object, {}),
        (Callable[[], int], {}),
        (int | bytes, {}),
    ],
)
def test_annotations_become_schemas(annotation, expected):
    def function(x): ...

    function.__annotations__ = {"x": annotation}

    assert schema_of_signature(function)["properties"] == {"x": expected}


def test_signature_schema_marks_required_and_open():
    def function(call, a, b=[1, {"c": None}], *args, d=object(), **more): ...  # noqa: B006, B008

    assert schema_of_signature(function, skip=["call"]) == {
        "type": "object",
        "properties": {"a": {}, "b": {"default": [1, {"c": None}]}, "d": {}},
        "required": ["a"],
        "additionalProperties": True,
    }


def test_annotations_that_name_nothing_describe_nothing():
    def function(x: NoSuchName, y: str): ...  # noqa: F821

    assert schema_of_signature(function)["properties"] == {"x": {}, "y": {}}
