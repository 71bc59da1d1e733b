"""Tables and arrays come back in the same library, with the same types and values."""

from __future__ import annotations

import datetime as dt
import decimal

import pytest

from flowbuilder.errors import StorageError
from flowbuilder.store.local_artifacts import LocalArtifactStore

np = pytest.importorskip("numpy")
pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

DAY = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - tables have times without a zone


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    return LocalArtifactStore(tmp_path / "store")


def round_trip(store, value):
    artifact = store.save("run-1", 0, 1, "output", value)
    return artifact, store.load(artifact)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12).reshape(3, 4),
        np.arange(12, dtype=">i2").reshape(3, 4).T,
        np.array([], dtype="f4"),
        np.zeros((0, 3)),
        np.array(1.5),
        np.array([np.nan, -0.0, np.inf], dtype="f2"),
        np.array(["a", "bcd"]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.zeros(2, dtype=[("a", "i4"), ("b", "S3")]),
        np.array([1 + 2j]),
        np.asfortranarray(np.ones((2, 3))),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_numpy_arrays_are_exact(store, array):
    artifact, found = round_trip(store, array)

    assert (artifact.format, artifact.type_name) == ("npy", "numpy.ndarray")
    assert type(found) is np.ndarray
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()
    assert found.flags.f_contiguous == array.flags.f_contiguous


def test_arrays_of_objects_and_subclasses_are_pickled(store):
    objects = np.array([{}, None], dtype=object)
    masked = np.ma.array([1, 2], mask=[True, False])

    for value in (objects, masked):
        artifact, found = round_trip(store, value)
        assert artifact.format == "pickle"
        assert type(found) is type(value)
        assert repr(found) == repr(value)


def test_large_arrays_are_mapped_not_read(store):
    _, found = round_trip(store, np.arange(100_000))

    assert not found.flags.owndata


ARROW = pa.table(
    {
        "i": pa.array([1, None], pa.int8()),
        "s": pa.array(["é", None], pa.string_view()),
        "n": pa.array([[1], None], pa.list_(pa.int64())),
        "d": pa.array([decimal.Decimal("1.20"), None], pa.decimal128(5, 2)),
        "t": pa.array([DAY, None], pa.timestamp("us", "Europe/Paris")),
        "c": pa.array(["a", "b"]).dictionary_encode(),
        "z": pa.nulls(2),
    }
).replace_schema_metadata({"k": "v"})


@pytest.mark.parametrize(
    "table", [ARROW, ARROW.slice(0, 0), pa.table({}), pa.concat_tables([ARROW] * 2)]
)
def test_arrow_tables_are_exact_and_mapped(store, table):
    before = pa.total_allocated_bytes()
    artifact, found = round_trip(store, table)

    assert (artifact.format, artifact.type_name) == ("arrow", "pyarrow.Table")
    assert artifact.num_rows == table.num_rows
    assert found.equals(table, check_metadata=True)
    assert pa.total_allocated_bytes() - before < 100_000


POLARS = {
    "plain": pl.DataFrame({"a": [1, None], "b": ["x", None], "c": [1.5, float("nan")]}),
    "small ints": pl.DataFrame({"a": [1]}, schema={"a": pl.UInt8}),
    "empty": pl.DataFrame(),
    "no rows": pl.DataFrame(schema={"a": pl.String, "b": pl.List(pl.Int32)}),
    "times": pl.DataFrame({"t": [DAY], "d": [dt.timedelta(1)], "x": [dt.time(1)]}),
    "zone": pl.DataFrame({"t": [DAY]}).with_columns(pl.col("t").dt.replace_time_zone("Asia/Tokyo")),
    "enum": pl.DataFrame({"e": ["a", "b"]}, schema={"e": pl.Enum(["a", "b"])}),
    "categorical": pl.DataFrame({"e": ["a", "b"]}, schema={"e": pl.Categorical}),
    "decimal": pl.DataFrame({"d": [decimal.Decimal("1.25")]}),
    "struct": pl.DataFrame({"s": [{"a": 1, "b": [None, "x"]}]}),
    "array": pl.DataFrame({"a": [[1, 2]]}, schema={"a": pl.Array(pl.Int8, 2)}),
    "binary": pl.DataFrame({"b": [b"\xff"]}),
    "null": pl.DataFrame({"n": [None]}),
    "int128": pl.DataFrame({"i": [2**100]}, schema={"i": pl.Int128}),
}


@pytest.mark.parametrize("name", POLARS)
def test_polars_frames_are_exact(store, name):
    frame = POLARS[name]
    artifact, found = round_trip(store, frame)

    assert type(found) is pl.DataFrame
    assert found.schema == frame.schema
    assert found.equals(frame)
    assert artifact.format in {"arrow", "pickle"}


@pytest.mark.parametrize("name", ["plain", "enum", "zone", "struct", "no rows"])
def test_common_polars_frames_need_no_pickle(store, name):
    artifact, _ = round_trip(store, POLARS[name])

    assert (artifact.format, artifact.type_name) == ("arrow", "polars.DataFrame")


@pytest.mark.parametrize("name", ["plain", "times", "zone", "enum", "decimal", "binary"])
def test_polars_frames_need_no_pyarrow(store, name, monkeypatch):
    from flowbuilder.store import tables

    monkeypatch.setattr(tables, "_has", lambda _: False)
    artifact, found = round_trip(store, POLARS[name])

    assert artifact.format == "arrow"
    assert found.schema == POLARS[name].schema
    assert found.equals(POLARS[name])


INDEXED = pd.DataFrame({"a": [1.5, np.nan]}, index=pd.Index([7, 3], name="key"))
WITH_ATTRS = pd.DataFrame({"a": [1]})
WITH_ATTRS.attrs["source"] = {"deep": (1, 2)}
PANDAS = {
    "numbers": pd.DataFrame({"i": np.array([1, 2], "i2"), "f": [0.5, np.nan], "b": [True, False]}),
    "text": pd.DataFrame({"s": ["a", None, "é"]}),
    "index": INDEXED,
    "text index": pd.DataFrame({"a": [1, 2]}, index=["x", "y"]),
    "range index": pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(5, 9, 2)),
    "time": pd.DataFrame({"t": pd.to_datetime(["2020-01-01", None])}),
    "zone": pd.DataFrame({"t": pd.to_datetime(["2020-01-01"]).tz_localize("Europe/Paris")}),
    "delta": pd.DataFrame({"t": pd.to_timedelta(["1s"])}),
    "no rows": pd.DataFrame({"a": np.array([], "f4")}),
    "empty": pd.DataFrame(),
    "dates": pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2020", periods=2, freq="D")),
    "multi": pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, "x")])),
    "multi columns": pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])),
    "int columns": pd.DataFrame([[1, 2]]),
    "twin columns": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "named columns": pd.DataFrame([[1]], columns=pd.Index(["a"], name="n")),
    "objects": pd.DataFrame({"o": [1, "x"]}, dtype=object),
    "lists": pd.DataFrame({"o": [[1], [2, 3]]}),
    "category": pd.DataFrame({"c": pd.Categorical(["a", "b"], ["b", "a", "z"], ordered=True)}),
    "nullable": pd.DataFrame({"n": pd.array([1, None], dtype="Int8")}),
    "arrow": pd.DataFrame({"n": pd.array([1, None], dtype="int8[pyarrow]")}),
    "arrow text": pd.DataFrame({"n": pd.array(["a", None], dtype="string[pyarrow]")}),
    "python text": pd.DataFrame({"n": pd.array(["a", None], dtype="string[python]")}),
    "period": pd.DataFrame({"p": pd.period_range("2020", periods=2, freq="M")}),
    "complex": pd.DataFrame({"c": [1j]}),
    "attrs": WITH_ATTRS,
    "big endian": pd.DataFrame({"a": np.array([1, 2], ">i4")}),
}


@pytest.mark.parametrize("name", PANDAS)
def test_pandas_frames_are_exact(store, name):
    frame = PANDAS[name]
    _, found = round_trip(store, frame)

    pd.testing.assert_frame_equal(
        found,
        frame,
        check_exact=True,
        check_freq=True,
        check_index_type="exact",
        check_column_type="exact",
    )
    assert type(found.index) is type(frame.index)
    assert found.attrs == frame.attrs
    assert [type(v) for v in found.to_numpy().ravel()] == [
        type(v) for v in frame.to_numpy().ravel()
    ]


@pytest.mark.parametrize("name", ["numbers", "text", "index", "range index", "time", "zone"])
def test_common_pandas_frames_need_no_pickle_and_can_be_changed(store, name):
    artifact, found = round_trip(store, PANDAS[name])

    assert (artifact.format, artifact.type_name) == ("arrow", "pandas.DataFrame")
    for column in found:
        found.loc[found.index[0], column] = found[column].iloc[0]
        found[column].to_numpy(copy=True)


@pytest.mark.parametrize("value", [ARROW, POLARS["plain"], PANDAS["numbers"], np.arange(100)])
def test_flipped_bit_in_a_table_is_noticed(store, tmp_path, value):
    artifact = store.save("run-1", 0, 1, "output", value)
    path = tmp_path / "store" / artifact.path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(StorageError, match="damaged"):
        store.load(artifact)


def test_mapped_table_outlives_its_file(store):
    _, found = round_trip(store, ARROW)
    store.remove_run("run-1")

    assert found.equals(ARROW)


def test_frame_subclasses_are_pickled(store):
    class Frame(pd.DataFrame):
        pass

    artifact, _ = round_trip(store, Frame({"a": [1]}))

    assert artifact.format == "pickle"
