"""Inputs are handed over by reference, and changing one never changes what others see."""

import pytest

import flowbuilder as fb


def run_two(make, change, executor="inline"):
    """Let one task change its input before another and the caller look at the same output."""

    @fb.task
    def source():
        return make()

    @fb.task(executor=executor)
    def changer(table):
        try:
            change(table)
        except Exception as error:
            return type(error).__name__
        return "changed"

    @fb.task(executor=executor)
    def reader(table, _after):
        return table

    @fb.workflow
    def flow():
        table = source()
        return reader(table, changer(table))

    return flow.run()


def polars_change(frame):
    frame[0, "a"] = 99


def pandas_change(frame):
    frame.loc[0, "a"] = 99


def pandas_inplace(frame):
    frame.drop(columns="a", inplace=True)


def numpy_change(array):
    array[0] = 99


@pytest.mark.parametrize("executor", ["inline", "thread"])
@pytest.mark.parametrize(
    ("library", "change"),
    [
        ("polars", polars_change),
        ("pandas", pandas_change),
        ("pandas", pandas_inplace),
        ("numpy", numpy_change),
    ],
)
def test_change_of_an_input_is_seen_by_nobody_else(library, change, executor):
    module = pytest.importorskip(library)
    data = {"a": [1, 2, 3], "b": [4, 5, 6]}
    make = {
        "polars": lambda: module.DataFrame(data),
        "pandas": lambda: module.DataFrame(data),
        "numpy": lambda: module.array([1, 2, 3]),
    }[library]

    run = run_two(make, change, executor)

    for table in (run["source"], run["reader"]):
        first = table[0] if library == "numpy" else next(iter(table["a"]))
        assert first == 1
        assert len(table) == 3


def test_arrow_tables_are_handed_over_as_they_are():
    pyarrow = pytest.importorskip("pyarrow")
    run = run_two(
        lambda: pyarrow.table({"a": [1, 2]}), lambda table: table.append_column("b", [[1, 2]])
    )

    assert run["source"] is run["reader"]
    assert run["source"].column_names == ["a"]


def test_handing_over_copies_no_buffer():
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(10)
    run = run_two(lambda: array, lambda _: None)

    assert run["source"] is array
    assert array.flags.writeable
    assert numpy.shares_memory(run["reader"], array)


def test_the_caller_may_change_what_is_its_own():
    polars = pytest.importorskip("polars")
    run = run_two(lambda: polars.DataFrame({"a": [1]}), lambda _: None)

    run["source"][0, "a"] = 5

    assert run["source"]["a"].to_list() == [5]
    assert run["reader"]["a"].to_list() == [1]
