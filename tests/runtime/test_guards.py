"""Outputs shared by reference: nobody changes what another sees, on any path."""

from __future__ import annotations

import pytest

from flowbuilder.runtime.guards import find_guard
from flowbuilder.runtime.program import InputSlot, Program
from flowbuilder.testing import plan_of
from flowbuilder.vocabulary import RunState

PATHS = {
    "segment": {},
    "dynamic": {"has_condition": True},
    "thread": {"executor": "thread"},
    "auto": {"executor": "auto"},
}


def consumer(function, *slots):
    return Program(function=function, arguments=slots, condition=lambda _run: True, code_key="c")


def change_polars(frame):
    frame[0, "x"] = 99
    return frame["x"].to_list()


def change_pandas(frame):
    frame.loc[0, "x"] = 99
    return frame["x"].tolist()


def change_numpy(values):
    values[0] = 99


def make_polars():
    import polars as pl

    return pl.DataFrame({"x": [1, 2, 3]})


def make_pandas():
    import pandas as pd

    return pd.DataFrame({"x": [1, 2, 3]})


def make_numpy():
    import numpy as np

    return np.arange(3)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("make", "change"), [(make_polars, change_polars), (make_pandas, change_pandas)]
)
def test_consumer_that_changes_a_frame_changes_its_own(execute, path, make, change):
    fields = PATHS[path]
    plan = plan_of("a -> b -> c, a -> c", b=fields, c=fields)

    run = execute(
        plan,
        {
            "a": make,
            "b": consumer(change, InputSlot(0)),
            "c": consumer(lambda frame: frame["x"].to_list(), InputSlot(0)),
        },
    )

    assert run.finished is RunState.SUCCEEDED, run.error
    assert [run.value(1), run.value(2)] == [[99, 2, 3], [1, 2, 3]]
    assert list(run.value(0)["x"]) == [1, 2, 3]


@pytest.mark.parametrize("path", PATHS)
def test_consumer_gets_arrays_read_only(execute, path):
    fields = PATHS[path]

    run = execute(
        plan_of("a -> b", b=fields), {"a": make_numpy, "b": consumer(change_numpy, InputSlot(0))}
    )

    assert run.failures[1].error_type == "ValueError"
    assert run.value(0).tolist() == [0, 1, 2]
    assert run.value(0).flags.writeable


@pytest.mark.parametrize("make", [make_polars, make_pandas, make_numpy])
def test_guarded_outputs_are_not_copied(make):
    import numpy as np

    value = make()
    shared = find_guard(type(value))(value)

    assert shared is not value
    if isinstance(value, np.ndarray):
        assert np.shares_memory(value, shared)
    else:
        assert np.shares_memory(value["x"].to_numpy(), shared["x"].to_numpy())


@pytest.mark.parametrize("path", PATHS)
def test_twin_of_a_guarded_output_is_guarded(execute, path):
    plan = plan_of("a -> b, a -> t, t -> c, b -> c", c=PATHS[path])
    names = [task.key for task in plan.tasks]
    plan.twins[names.index("t")] = names.index("b")

    run = execute(
        plan,
        {
            "b": lambda _a: make_numpy(),
            "c": consumer(change_numpy, InputSlot(names.index("t"))),
        },
    )

    assert run.state(names.index("t")) == "cached"
    assert run.failures[names.index("c")].error_type == "ValueError"


def test_subclass_of_a_guarded_type_is_guarded():
    import numpy as np

    class Mine(np.ndarray):
        """An array of ours."""

    guard = find_guard(Mine)

    assert guard is not None
    assert not guard(np.arange(3).view(Mine)).flags.writeable


def test_types_made_on_the_fly_do_not_pile_up():
    import gc
    import weakref

    held = []
    for _ in range(3):
        kind = type("Fleeting", (), {})
        find_guard(kind)
        held.append(weakref.ref(kind))
    del kind
    gc.collect()

    assert [reference() for reference in held] == [None] * 3


@pytest.mark.parametrize("path", PATHS)
def test_coroutine_as_output_is_an_error_on_every_path(execute, path):
    async def forgotten():
        """Never awaited."""

    run = execute(plan_of("a -> b", a=PATHS[path]), {"a": consumer(forgotten)})

    assert run.state(0) == "failed"
    assert run.failures[0].kind == "contract"
