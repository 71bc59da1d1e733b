"""Content hashes of tables and arrays."""

from __future__ import annotations

import datetime as dt
import decimal
import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbuilder.cache.owned_memory import owned_memory
from flowbuilder.cache.values import ValueHash

np = pytest.importorskip("numpy")
pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")


def digest(value):
    return ValueHash(lambda thing: repr(thing).encode()).digest(value)


DAY = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - tables have times without a zone
COLUMNS = {
    "int": ([1, None, 3, 4, 5, 6, 7, 8, 9], pa.int64()),
    "float": ([1.5, None, -0.0, 0.0, float("nan"), 6.0, 7.0, 8.0, 9.0], pa.float64()),
    "half": ([1.5, None, 3.0], pa.float16()),
    "bool": ([True, None, False, True, True, False, True, True, None], pa.bool_()),
    "string": (["a", None, "", "dé", "e", "ff", "g", "h", "ab"], pa.string()),
    "large_string": (["a", None, "", "dé"], pa.large_string()),
    "string_view": (["a", None, "", "a text longer than the prefix of a view"], pa.string_view()),
    "binary": ([b"a", None, b"", b"\0"], pa.binary()),
    "fixed": ([b"aa", None, b"bb"], pa.binary(2)),
    "decimal": ([decimal.Decimal("1.10"), None, decimal.Decimal("2.20")], pa.decimal128(10, 2)),
    "timestamp": ([DAY, None, DAY + dt.timedelta(1)], pa.timestamp("us")),
    "zoned": ([DAY, None, DAY + dt.timedelta(1)], pa.timestamp("us", "UTC")),
    "date": ([DAY.date(), None, dt.date(1900, 1, 1)], pa.date32()),
    "duration": ([dt.timedelta(1), None, dt.timedelta(2)], pa.duration("ns")),
    "dictionary": (["x", None, "y", "x"], pa.dictionary(pa.int8(), pa.string())),
    "list": ([[1, 2], None, [], [3, None], [4]], pa.list_(pa.int64())),
    "large_list": ([["a"], None, [], ["b", None]], pa.large_list(pa.string())),
    "fixed_list": ([[1, 2], None, [3, 4], [5, None]], pa.list_(pa.int32(), 2)),
    "struct": ([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}], pa.struct([("a", pa.int8()), ("b", pa.string())])),
    "map": ([[("a", 1)], None, [], [("b", None), ("c", 3)]], pa.map_(pa.string(), pa.int64())),
    "nested": ([[{"a": ["x", None]}], None, [{"a": None}, None]], pa.list_(pa.struct([("a", pa.list_(pa.string()))]))),
    "null": ([None, None, None], pa.null()),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_equal_tables_hash_equal_however_they_are_chunked_and_sliced(name):
    values, kind = COLUMNS[name]
    whole = pa.table({"x": pa.array(values, kind)})
    # A dictionary is in order of appearance, so nothing may stand in front of it.
    lead = 0 if name == "dictionary" else 2
    padded = pa.table({"x": pa.array([*values[:lead], *values, *values[:2]], kind)})
    sliced = padded.slice(lead, len(values))
    chunks = [whole.slice(start, 1) for start in range(len(values))]
    if name != "dictionary":  # its slices carry the dictionary of the whole
        chunked = pa.table({"x": pa.chunked_array([pa.array([value], kind) for value in values])})
        assert digest(chunked) == digest(whole)

    assert digest(sliced) == digest(whole)
    assert digest(pa.concat_tables(chunks)) == digest(whole)
    assert digest(pa.concat_tables([whole.slice(0, 0), *chunks, whole.slice(0, 0)])) == digest(
        whole
    )


@pytest.mark.parametrize("name", [name for name in COLUMNS if name != "null"])
def test_any_change_of_a_table_changes_its_hash(name):
    values, kind = COLUMNS[name]
    present = [value for value in values if value is not None]
    variants = [
        values,
        values[::-1],
        [*values, None],
        [*values, present[0]],
        [None, *values[1:]],
        values[:-1],
        [present[1] if value == present[0] else value for value in values],
        [],
    ]
    tables = [pa.table({"x": pa.array(each, kind)}) for each in variants]
    tables.append(pa.table({"y": pa.array(values, kind)}))
    tables.append(pa.table({"x": pa.array(values, kind), "y": pa.array(values, kind)}))

    distinct = {digest(table) for table in tables}
    assert len(distinct) == len({str(table.to_pydict()) for table in tables})


def test_what_stands_in_empty_slots_does_not_count():
    data = pa.py_buffer(np.array([1, 77, 3]).tobytes())
    other = pa.py_buffer(np.array([1, 99, 3]).tobytes())
    valid = pa.py_buffer(bytes([0b101]))
    one = pa.Array.from_buffers(pa.int64(), 3, [valid, data])
    two = pa.Array.from_buffers(pa.int64(), 3, [valid, other])

    assert one.equals(two)
    assert digest(one) == digest(two)


def test_types_and_metadata_count():
    base = pa.table({"x": pa.array([1, 2], pa.int64())})
    others = [
        base.cast(pa.schema([("x", pa.int32())])),
        base.cast(pa.schema([("x", pa.uint64())])),
        base.replace_schema_metadata({"a": "b"}),
        base.to_batches()[0],
        base.column(0),
        pl.from_arrow(base),
        base.to_pandas(),
    ]

    assert len({digest(each) for each in [base, *others]}) == 8


@st.composite
def table_and_cuts(draw):
    size = draw(st.integers(0, 40))
    kinds = [
        (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
        (pa.bool_(), st.booleans()),
        (pa.string(), st.text(max_size=4)),
        (pa.list_(pa.float64()), st.lists(st.floats() | st.none(), max_size=3)),
    ]
    columns = {
        f"c{index}": pa.array(
            draw(st.lists(st.none() | values, min_size=size, max_size=size)), kind
        )
        for index, (kind, values) in enumerate(kinds)
    }
    cuts = sorted(draw(st.lists(st.integers(0, size), max_size=5)))
    return pa.table(columns), cuts


@settings(max_examples=60, deadline=None)
@given(table_and_cuts())
def test_random_tables_hash_equal_after_any_cut(case):
    table, cuts = case
    pieces = [
        table.slice(start, end - start)
        for start, end in zip([0, *cuts], [*cuts, table.num_rows], strict=True)
    ]

    assert digest(pa.concat_tables(pieces)) == digest(table)
    assert digest(pa.concat_tables(pieces).combine_chunks()) == digest(table)


def test_polars_frames_hash_by_content():
    frame = pl.DataFrame({"a": [1, 2, 3], "s": ["x", None, "a text longer than a view's prefix"]})

    assert digest(frame) == digest(frame.clone())
    assert digest(frame) == digest(pl.concat([frame[:1], frame[1:]], rechunk=False))
    assert digest(frame) == digest(pl.concat([frame, frame])[:3])
    assert digest(frame) != digest(frame.with_columns(a=pl.lit(1)))
    assert digest(frame) != digest(frame.cast({"a": pl.Int32}))
    categories = frame.with_columns(pl.col("s").cast(pl.Categorical))
    assert digest(categories) == digest(categories.clone()) != digest(frame)


def pandas_frame():
    return pd.DataFrame(
        {
            "i": [1, 2, 3],
            "f": [1.0, float("nan"), 3.0],
            "o": pd.Series(["x", None, 1.5], dtype=object),
            "s": ["a", "b", None],
            "c": pd.Categorical(["u", "v", "u"]),
            "t": pd.date_range("2020", periods=3, tz="UTC"),
            "n": pd.array([1, None, 3], dtype="Int64"),
            "d": pd.array([1, None, 3], dtype=pd.ArrowDtype(pa.int64())),
        }
    )


def test_pandas_frames_hash_by_content_index_and_types():
    frame = pandas_frame()
    variants = [frame.copy() for _ in range(9)]
    variants[1].loc[0, "i"] = 9
    variants[2].loc[2, "o"] = "z"
    variants[3].index = [5, 6, 7]
    variants[4]["i"] = variants[4]["i"].astype("int32")
    variants[5]["c"] = variants[5]["c"].cat.add_categories("w")
    variants[6] = variants[6].rename(columns={"i": "j"})
    variants[7].loc[1, "n"] = 2
    variants[8].attrs["unit"] = "m"

    assert digest(frame) == digest(pandas_frame())
    assert len({digest(each) for each in variants}) == 9


def test_numpy_arrays_hash_by_content_type_and_shape():
    base = np.arange(6.0)
    masked = np.ma.masked_array([1, 2, 3], mask=[0, 1, 0])
    hidden = np.ma.masked_array([1, 9, 3], mask=[0, 1, 0])
    structured = np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "i8")], align=True))
    arrays = [
        base, base.reshape(2, 3), base.astype("f4"), base.astype(">f8"), base[::-1],
        np.asfortranarray(base.reshape(2, 3)), np.array([1, "a"], dtype=object), np.array(5),
        base.view("m8[s]"), structured, masked, np.array([]), np.array([], dtype="i4"),
    ]  # fmt: skip

    assert len({digest(each) for each in arrays}) == len(arrays)
    assert digest(np.arange(12.0)[::2]) == digest(np.arange(0.0, 12.0, 2.0))
    assert digest(masked) == digest(hidden)
    changed = base.copy()
    before = digest(changed)
    changed[0] = 7
    assert digest(changed) != before


def test_hashes_are_remembered_only_while_the_owner_of_the_memory_lives():
    table = pa.table({"x": np.arange(1000)})
    asked = []

    def ask(column):
        owned_memory.column_digest(column, lambda: asked.append(1) or b"digest")

    ask(table["x"])
    ask(table["x"])
    assert len(asked) == 2  # nobody owns it: it may alias an array somebody writes to

    owned_memory.adopt(table, table)
    for _ in range(3):
        ask(table["x"])
    assert len(asked) == 3
    ask(table["x"].slice(1))
    assert len(asked) == 4  # another part is another content

    column = table["x"]
    del table
    gc.collect()
    ask(column)
    ask(column)
    assert len(asked) == 6
