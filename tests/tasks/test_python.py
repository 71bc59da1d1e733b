"""Python tasks: found and checked as text, imported only when run."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowbuilder.errors import TaskFailedError
from flowbuilder.plugins.task_type import TaskCall
from flowbuilder.tasks.function_import import find_imported, import_function
from flowbuilder.tasks.function_source import find_module
from flowbuilder.tasks.python import PythonTask, find_function_source
from flowbuilder.tasks.tracebacks import user_traceback

SOURCE = '''
"""Importing this would fail the test."""
raise SystemExit("imported")

import functools
from os import path as renamed, sep

def clean(raw: list, limit: int, *, ratio: float = 0.5, name: str = "x") -> list: ...

async def fetch(url: str): ...

def anything(first, /, *args, **more): ...

@functools.cache
def wrapped(a): ...

@fb.task(retries=2)
def task(a: bool): ...

if True:
    def either(a): ...
else:
    def either(b): ...

try:
    def guarded(): ...
except ImportError:
    guarded = None

class Model:
    def fit(self, x): ...

    @staticmethod
    def load(file): ...

made = functools.partial(clean, limit=1)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "mod.py").write_text(SOURCE)
    (tmp_path / "pkg" / "inner").mkdir(parents=True)
    (tmp_path / "pkg" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "pkg" / "inner" / "deep.py").write_text("def f(a): ...")
    (tmp_path / "space" / "part").mkdir(parents=True)
    (tmp_path / "space" / "part" / "m.py").write_text("def g(): ...")
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def findings(folder: Path, function: str, ports: tuple[str, ...] = (), **args: object) -> list[str]:
    config = {"function": function, "args": args}
    task = PythonTask()
    found = [*task.check(config, folder), *task.check_inputs(config, ports, folder)]
    return [f"{item.severity}: {item.message} {item.hint}".strip() for item in found]


def test_right_calls_have_no_findings(folder):
    assert findings(folder, "mod:clean", ("raw",), limit=3, ratio=1) == []
    assert findings(folder, "mod:clean", ("raw", "limit")) == []
    assert findings(folder, "mod:anything", ("x",), y=1) == []
    assert findings(folder, "mod:wrapped", nonsense=1) == []
    assert findings(folder, "mod:made", nonsense=1) == []
    assert findings(folder, "mod:either", b=1) == []
    assert findings(folder, "mod:guarded") == []
    assert findings(folder, "mod:sep") == []
    assert findings(folder, "mod:Model", ("x",)) == []
    assert findings(folder, "mod:Model.load", file="f") == []
    assert findings(folder, "mod:renamed.join") == []
    assert findings(folder, "pkg.inner.deep:f", a=1) == []
    assert findings(folder, "space.part.m:g") == []
    assert findings(folder, "__main__:clean", anything=1) == []
    assert findings(folder, "json:dumps", ("obj",)) == []
    assert findings(folder, "math:sqrt") == []
    assert findings(folder, "${{ params.f }}") == []


@pytest.mark.parametrize(
    ("function", "ports", "args", "expected"),
    [
        ("mod:claen", (), {}, "did you mean 'clean'?"),
        ("mod:clean", ("row",), {"limit": 1}, "no parameter 'row' for the input port"),
        ("mod:clean", ("raw",), {"limits": 1}, "did you mean 'limit'?"),
        ("mod:clean", ("raw",), {}, "needs 'limit'"),
        ("mod:clean", (), {"limit": 1}, "needs 'raw'"),
        ("mod:clean", ("raw", "limit"), {"limit": 1}, "given by 'args' and by 'inputs'"),
        ("mod:task", (), {"b": 1}, "no parameter 'b'"),
        ("clean", (), {}, "expected 'module:function'"),
        ("a b:c", (), {}, "expected 'module:function'"),
        ("mod:", (), {}, "expected 'module:function'"),
        ("pkg.inner.deep:h", (), {}, "defines no 'h'"),
    ],
)
def test_mistakes_are_errors(folder, function, ports, args, expected):
    found = findings(folder, function, ports, **args)

    assert any(expected in text and text.startswith("error:") for text in found), found


@pytest.mark.parametrize(
    ("args", "count"),
    [
        ({"limit": "three"}, 1),
        ({"limit": True}, 1),
        ({"limit": 1.5}, 1),
        ({"ratio": 1}, 0),
        ({"ratio": "1"}, 1),
        ({"name": 3}, 1),
        ({"name": "${{ params.n }}", "limit": "${{ params.n }}"}, 0),
    ],
)
def test_constants_that_do_not_fit_the_annotation_are_warnings(folder, args, count):
    config = {"function": "mod:clean", "args": args}

    found = list(PythonTask().check(config, folder))

    assert [item.severity for item in found] == ["warning"] * count


def test_absent_module_is_a_warning(folder):
    assert [text.partition(":")[0] for text in findings(folder, "no.such.module:f")] == ["warning"]


def test_module_that_cannot_be_parsed_is_an_error(folder):
    (folder / "bad.py").write_text("def f(:\n")

    assert "line 1" in findings(folder, "bad:f")[0]


def test_module_that_is_no_text_is_left_alone(folder):
    (folder / "blob.py").write_bytes(b"\xff\xfe\0\0")
    (folder / "deep.py").write_text("x = " + "(" * 100_000)

    for name in ("blob", "deep"):
        assert all("cannot be read" in text for text in findings(folder, f"{name}:f"))


def test_names_that_may_come_from_elsewhere_are_not_judged(folder):
    (folder / "star.py").write_text("from os import *\n")
    (folder / "lazy.py").write_text("def __getattr__(name): ...\n")

    assert findings(folder, "star:getcwd") == []
    assert findings(folder, "lazy:anything") == []


def test_source_tells_what_is_async(folder):
    fetch, clean = (find_function_source(f"mod:{name}", folder) for name in ("fetch", "clean"))

    assert fetch is not None
    assert clean is not None
    assert (fetch.is_async, clean.is_async) == (True, False)


def test_changed_file_is_read_again(folder):
    file = folder / "changing.py"
    file.write_text("def one(): ...")
    assert "one" in find_module("changing", folder).functions
    file.write_text("def two_longer(): ...")

    assert "two_longer" in find_module("changing", folder).functions


def call(folder: Path, function: str, **fields: object) -> TaskCall:
    config = {"function": function, "args": fields.pop("args", {})}
    return TaskCall(
        name="t", key="t", run_id="r", attempt=1, config=config, directory=folder, **fields
    )


def test_run_passes_arguments_and_ports_by_name(folder):
    (folder / "run_mod.py").write_text("def f(a, b, *, c=3): return (a, b, c)")
    rows: list[int] = []

    result = PythonTask().run(call(folder, "run_mod:f", args={"b": 2}, inputs={"a": rows}))

    assert result == ([], 2, 3)
    assert result[0] is rows


def test_module_may_import_its_neighbour_later(folder):
    (folder / "run_main.py").write_text(
        "def f():\n    import run_neighbour\n    return run_neighbour.X"
    )
    (folder / "run_neighbour.py").write_text("X = 5")

    assert PythonTask().run(call(folder, "run_main:f")) == 5


def test_unexpected_coroutine_is_run_to_its_end(folder):
    (folder / "run_async_mod.py").write_text("async def inner(): return 7\ndef f(): return inner()")

    assert PythonTask().run(call(folder, "run_async_mod:f")) == 7


def test_remote_call_pickles_by_name(folder):
    (folder / "run_remote.py").write_text("def f(a, b): return a + b")
    task = call(folder, "run_remote:f", args={"b": 2}, inputs={"a": 1})

    remote = pickle.loads(pickle.dumps(PythonTask().remote(task)))

    assert "run_remote" not in sys.modules
    assert remote.function(*remote.args, **remote.kwargs) == 3


def test_error_points_at_the_function_of_the_user(folder):
    (folder / "run_error.py").write_text("import json\n\ndef f():\n    return json.loads('{')\n")

    with pytest.raises(ValueError, match="Expecting") as caught:
        PythonTask().run(call(folder, "run_error:f"))
    text, location = user_traceback(caught.value)

    assert location is not None
    assert (location.file, location.line) == (str(folder / "run_error.py"), 4)
    assert "return json.loads('{')" in text
    assert "function_import" not in text


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("no_such_module_here:f", "was not found"),
        ("pkg_absent.mod:f", "was not found"),
        ("json:no_such", "has no 'no_such'"),
        ("json:__name__", "to be a function"),
        ("json", "expected 'module:function'"),
    ],
)
def test_import_failures_are_explained(folder, function, message):
    with pytest.raises(TaskFailedError, match=message):
        import_function(function, folder)


def test_missing_module_inside_the_module_keeps_its_own_error(folder):
    (folder / "run_needs.py").write_text("import absent_dependency")

    with pytest.raises(ModuleNotFoundError, match="absent_dependency"):
        import_function("run_needs:f", folder)


def test_module_of_another_folder_is_never_taken_for_ours(folder):
    other = folder / "other"
    other.mkdir()
    for place in (folder, other):
        (place / "same_name.py").write_text(f"def where(): return {str(place)!r}")
    assert import_function("same_name:where", folder)() == str(folder)

    assert find_imported("same_name:where", other) is None
    with pytest.raises(TaskFailedError, match="already imported another one"):
        import_function("same_name:where", other)
    assert find_imported("same_name:where", folder) is not None
