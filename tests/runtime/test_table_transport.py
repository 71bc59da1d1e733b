"""Tables handed over by files: same type, same content, nothing copied by the receiver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowbuilder.errors import StorageError
from flowbuilder.runtime import table_links, table_transport
from flowbuilder.runtime.payload import dump_payload, load_payload
from flowbuilder.runtime.table_transport import adopting, export_table, import_table, release
from flowbuilder.runtime.transport_folder import TransportFolder

N = 20_000


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "w0"
    place.mkdir()
    return place


def arrow_table(n=N):
    return pa.table(
        {
            "i": pa.array(range(n), pa.int64()),
            "f": pa.array(np.linspace(0, 1, n)),
            "b": pa.array([True, None] * (n // 2)),
            "s": pa.array([f"a text longer than twelve bytes {i}" for i in range(n)]),
            "v": pa.array(
                [f"a view longer than twelve bytes {i}" for i in range(n)], pa.string_view()
            ),
            "t": pa.array(range(n), pa.timestamp("us", "Europe/Vienna")),
            "l": pa.array([[1, 2], None] * (n // 2), pa.list_(pa.int32())),
            "d": pa.array(["x", "y"] * (n // 2)).dictionary_encode(),
        }
    ).replace_schema_metadata({"owner": "me"})


def addresses(table):
    return [
        buffer.address
        for column in table.columns
        for chunk in column.chunks
        for buffer in chunk.buffers()
        if buffer
    ]


@pytest.mark.parametrize("n", [0, 10, N], ids=["empty", "inline", "file"])
def test_arrow_table_comes_back_as_it_was(folder, n):
    table = arrow_table(n)

    ref = export_table(table, folder)
    back = import_table(ref)

    assert type(back) is pa.Table
    assert back.schema.equals(table.schema, check_metadata=True)
    assert back.equals(table)
    assert bool(ref.path) == (n == N)


@pytest.mark.parametrize("n", [0, 10, N])
def test_record_batch_comes_back_as_it_was(folder, n):
    batch = pa.RecordBatch.from_pydict({"a": pa.array(range(n), pa.int64())})

    back = import_table(export_table(batch, folder))

    assert type(back) is pa.RecordBatch
    assert back.equals(batch)


@pytest.mark.parametrize("n", [0, 10, N])
def test_polars_frame_comes_back_as_it_was(folder, n):
    frame = pl.DataFrame(
        {
            "s": [f"a text longer than twelve bytes {i}" for i in range(n)],
            "x": pl.Series(range(n), dtype=pl.Int16),
            "c": pl.Series(["u", "v"] * (n // 2), dtype=pl.Categorical),
            "e": pl.Series(["u", "v"] * (n // 2), dtype=pl.Enum(["u", "v"])),
            "d": pl.Series([None] * n, dtype=pl.Datetime("ms", "UTC")),
            "n": pl.Series([[1], None] * (n // 2), dtype=pl.List(pl.UInt8)),
        }
    )

    back = import_table(export_table(frame, folder))

    assert type(back) is pl.DataFrame
    assert back.schema == frame.schema
    assert back.equals(frame)


def test_polars_strings_stay_views_in_the_file(folder):
    frame = pl.DataFrame({"s": ["a text longer than twelve bytes"] * N})

    ref = export_table(frame, folder)

    with pa.OSFile(ref.path) as file:
        assert pa.ipc.open_file(file).schema.field("s").type == pa.string_view()


def pandas_frame(n=N):
    frame = pd.DataFrame(
        {
            "i": np.arange(n, dtype="uint8"),
            "f": np.linspace(0, 1, n),
            "s": ["a text"] * n,
            "o": pd.Series([None, (1, 2)] * (n // 2), dtype=object),
            "a": pd.array(range(n), dtype="int64[pyarrow]"),
            "c": pd.Categorical(["x", "y"] * (n // 2)),
            "t": pd.date_range("2024-03-31", periods=n, freq="h", tz="Europe/Vienna"),
        },
        index=pd.MultiIndex.from_arrays([range(n), range(n)], names=["p", "q"]),
    )
    frame.attrs["unit"] = "km"
    return frame


def test_pandas_frame_comes_back_as_it_was_and_writable(folder):
    frame = pandas_frame()

    back = import_table(export_table(frame, folder))
    again = back.copy()
    back.iloc[0, 1] = 7.0

    pd.testing.assert_frame_equal(again, frame, check_freq=False)
    assert back.attrs == {"unit": "km"}
    assert back.iloc[0, 1] == 7.0


def test_small_pandas_frame_needs_no_file(folder):
    assert export_table(pd.DataFrame({"a": [1]}), folder) is None
    assert not list(folder.iterdir())


def test_array_comes_back_as_it_was_and_writable(folder):
    array = np.asfortranarray(np.arange(60_000, dtype=">f8").reshape(300, 200))

    back = import_table(export_table(array, folder))
    expected = array.copy()
    back[0, 0] = 5

    assert type(back) is np.ndarray
    assert back.dtype == array.dtype
    assert back.flags.f_contiguous
    assert np.array_equal(back[1:], expected[1:])
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(100),
        np.array([object()] * N),
        5,
        "text",
        {"a": 1},
        None,
        pa.array([1]),
        pl.Series([1]),
    ],
    ids=["small", "objects", "int", "str", "dict", "none", "arrow-array", "polars-series"],
)
def test_other_values_are_left_alone(folder, value):
    assert export_table(value, folder) is None


def test_imported_arrow_lies_in_the_file(folder):
    back = import_table(export_table(arrow_table(), folder))
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no list of mappings on this system")
    line = next(line for line in maps.read_text().splitlines() if str(folder) in line)
    start, end = (int(text, 16) for text in line.split()[0].split("-"))

    flat = back.select(["i", "f", "b", "s", "v", "t"])
    assert all(start <= address < end for address in addresses(flat))


@pytest.mark.parametrize("convert", [lambda t: t, pl.from_arrow], ids=["arrow", "polars"])
def test_table_from_a_file_is_passed_on_by_a_link(folder, convert):
    table = pa.table(
        {"i": np.arange(N), "s": pa.array(["some text that is long"] * N, pa.string_view())}
    )
    arrived = import_table(export_table(convert(table), folder))

    passed_on = export_table(arrived, folder)

    assert Path(passed_on.path).stat().st_nlink == 2
    assert import_table(passed_on).equals(arrived)


def test_table_on_its_way_is_given_to_another_by_a_link(folder):
    table = pa.table({"i": np.arange(N)})
    first = export_table(table, folder)
    second = export_table(table, folder)
    release(first.path)
    third = export_table(pa.table({"i": table["i"]}), folder)

    assert first.path != second.path
    assert import_table(second).equals(table)
    assert Path(third.path).stat().st_nlink == 1


def test_table_that_is_gone_is_not_taken_for_one_in_its_memory(folder):
    table = pa.table({"i": np.arange(N)})
    memory = table["i"].chunk(0).buffers()[1]
    export_table(table, folder)
    del table
    again = pa.table({"i": pa.Array.from_buffers(pa.int64(), N, [None, memory])})

    assert Path(export_table(again, folder).path).stat().st_nlink == 1


def test_slice_of_a_table_from_a_file_is_not_taken_for_the_whole(folder):
    arrived = import_table(export_table(pa.table({"i": np.arange(N), "j": np.arange(N)}), folder))

    for part in (
        arrived.slice(5),
        arrived.slice(0, N - 1),
        arrived.select(["j"]),
        arrived.rename_columns(["j", "i"]),
    ):
        assert import_table(export_table(part, folder)).equals(part)


def test_dictionaries_that_differ_are_not_taken_for_each_other(folder):
    indices = pa.array(np.zeros(N, "int32"))
    red, blue = (
        pa.table({"c": pa.DictionaryArray.from_arrays(indices, pa.array([name]))})
        for name in ("red", "blue")
    )

    export_table(red, folder)

    assert import_table(export_table(blue, folder)).equals(blue)


def test_file_lives_exactly_as_long_as_its_data(folder):
    ref = export_table(pa.table({"i": np.arange(N)}), folder)
    column = import_table(ref)["i"]

    assert Path(ref.path).exists()
    assert column[N - 1].as_py() == N - 1
    del column
    assert not Path(ref.path).exists()
    assert ref.path not in table_links._signature_by_path


def test_adopted_file_leaves_the_folder_of_its_writer(folder):
    with adopting():
        table = import_table(export_table(pa.table({"i": np.arange(N)}), folder))

    assert not list(folder.iterdir())
    assert table.num_rows == N
    assert len(list(folder.parent.glob("*.arrow"))) == 1


def test_missing_file_is_a_storage_error(folder):
    ref = export_table(pa.table({"i": np.arange(N)}), folder)
    release(ref.path)

    with pytest.raises(StorageError, match="no such file"):
        import_table(ref)


def test_full_memory_falls_back_to_disk(folder, tmp_path, monkeypatch):
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(table_transport, "_has_room", lambda place, _size: place != memory)

    ref = export_table(pa.table({"i": np.arange(N)}), memory, folder)

    assert Path(ref.path).parent == folder


def test_no_room_anywhere_is_a_storage_error_that_says_how_much(folder, monkeypatch):
    monkeypatch.setattr(table_transport, "_SPARE_BYTES", 1 << 62)

    with pytest.raises(StorageError, match="160,000 bytes"):
        export_table(pa.table({"i": np.arange(N)}), folder)


def test_failed_write_leaves_no_file(folder, monkeypatch):
    def fail(_table, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table_transport, "_write_ipc", fail)

    with pytest.raises(StorageError):
        export_table(pa.table({"i": np.arange(N)}), folder)
    assert not list(folder.iterdir())


def test_memory_file_system_must_leave_as_much_memory_again(monkeypatch):
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no memory file system here")
    monkeypatch.setattr(table_transport, "memory_available_bytes", lambda: 1000)

    assert table_transport._has_room(Path("/dev/shm"), 500)
    assert not table_transport._has_room(Path("/dev/shm"), 501)


def test_room_is_what_the_disk_has(folder):
    assert table_transport._has_room(folder, 1)
    assert not table_transport._has_room(folder, 1 << 62)


def test_payload_sets_tables_aside_at_any_depth_and_once(folder):
    table = pa.table({"i": np.arange(N)})
    value = ([{"x": table}], (table, np.arange(N)), "text")

    payload = dump_payload(value, [folder])
    back = load_payload(payload.parts)

    assert len(payload.paths) == 2
    assert sum(map(len, payload.parts)) < 3000
    assert back[0][0]["x"] is back[1][0]
    assert back[1][0].equals(table)
    assert np.array_equal(back[1][1], np.arange(N))


def test_payload_that_cannot_be_pickled_leaves_no_file(folder):
    with pytest.raises(TypeError):
        dump_payload([pa.table({"i": np.arange(N)}), (x for x in "")], [folder])

    assert not list(folder.iterdir())


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text()
        | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    )
)
def test_payload_round_trips_plain_data(folder, value):
    assert load_payload(dump_payload(value, [folder]).parts) == value


def test_plain_payload_imports_no_library(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from flowbuilder.runtime.payload import dump_payload, load_payload\n"
        "load_payload(dump_payload({'a': [1, 'x']}, [Path('.')]).parts)\n"
        "print(sorted({'numpy', 'pandas', 'polars', 'pyarrow', 'cloudpickle', 'asyncio'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    assert said.stdout.strip() == "[]"


def test_transport_folder_is_private_and_goes_with_its_owner(tmp_path):
    folder = TransportFolder(tmp_path / "scratch", memory_root=tmp_path / "absent")
    (place,) = folder.open_worker(3)
    (place / "left.arrow").write_bytes(b"x")

    assert place.parent.parent == tmp_path / "scratch"
    assert os.name != "posix" or place.parent.stat().st_mode & 0o777 == 0o700
    folder.close_worker([place])
    assert not place.exists()
    folder.close()
    assert not list((tmp_path / "scratch").iterdir())


def test_transport_folder_of_a_killed_owner_is_removed_by_the_next(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from flowbuilder.runtime.transport_folder import TransportFolder\n"
        "folder = TransportFolder(Path(sys.argv[1]), memory_root=Path(sys.argv[2]))\n"
        "[(place / 'x.arrow').write_bytes(b'x') for place in folder.open_worker(0)]\n"
        "os.kill(os.getpid(), getattr(signal, 'SIGKILL', signal.SIGTERM))"
    )
    memory, scratch = tmp_path / "memory", tmp_path / "scratch"
    memory.mkdir()
    alive = TransportFolder(scratch, memory_root=memory)
    subprocess.run([sys.executable, "-c", code, str(scratch), str(memory)], check=False)
    (scratch / "something-else").mkdir()
    before = [len(list(memory.iterdir())), len(list(scratch.iterdir()))]

    TransportFolder(scratch, memory_root=memory).close()

    assert before == [2, 3]
    assert [len(list(memory.iterdir())), len(list(scratch.iterdir()))] == [1, 2]
    alive.close()


def test_what_is_confidential_travels_in_the_parts_alone():
    table = pa.table({"a": np.arange(100_000)})
    value = {"table": table, "array": np.arange(100_000.0), "frame": pl.DataFrame({"a": [1, 2]})}

    payload = dump_payload(value, ())

    assert payload.paths == ()
    found = load_payload([bytes(part) for part in payload.parts])
    assert found["table"].equals(table)
    assert (found["array"] == value["array"]).all()
    assert found["frame"].equals(value["frame"])
