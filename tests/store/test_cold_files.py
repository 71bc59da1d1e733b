"""The cold tier: packed tables come back equal with their types, and damage never does."""

from __future__ import annotations

import datetime as dt
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbuilder.errors import StorageError
from flowbuilder.store.cold_files import find_packed, pack
from flowbuilder.store.janitor import PARTIAL_FOLDER
from flowbuilder.store.local_artifacts import LocalArtifactStore

ROWS = 20_000


@pytest.fixture
def store(tmp_path):
    return LocalArtifactStore(tmp_path)


def pack_all(store):
    return sum(pack(path, store.folder / PARTIAL_FOLDER) for path in store.folder.glob("*/*.arrow"))


TYPES = {
    "plain": pa.table(
        {"i": range(ROWS), "s": ["text"] * ROWS, "f": [0.0, float("nan")] * (ROWS // 2)}
    ),
    "views": pa.table({"s": pa.array(["text of some length"] * ROWS, pa.string_view())}),
    "times": pa.table(
        {
            "t": pa.array([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)] * ROWS),
            "d": pa.array([dt.timedelta(1)] * ROWS),
        }
    ),
    "dictionary": pa.table({"c": pa.array(["a", "b"] * (ROWS // 2)).dictionary_encode()}),
    "decimal": pa.table({"d": pa.array([decimal.Decimal("1.5"), None] * (ROWS // 2))}),
    "nested": pa.table({"n": pa.array([[{"a": 1}], None] * (ROWS // 2))}),
    "intervals": pa.table({"m": pa.array([pa.MonthDayNano([1, 2, 3])] * ROWS)}),
    "null": pa.table({"n": pa.nulls(ROWS)}),
}


@pytest.mark.parametrize("kind", TYPES)
def test_packed_tables_come_back_with_their_types(store, kind):
    table = TYPES[kind]
    artifact = store.save("run-1", 1, 1, "a", table)

    pack_all(store)

    found = store.load(artifact)
    assert found.schema.equals(table.schema, check_metadata=True)
    assert str(found.to_pydict()) == str(table.to_pydict())


@pytest.mark.parametrize(
    "value",
    [pl.DataFrame({"x": [1] * ROWS, "s": ["a"] * ROWS}), pd.DataFrame({"x": np.zeros(ROWS)})],
    ids=["polars", "pandas"],
)
def test_packed_frames_come_back_as_what_they_were(store, value):
    artifact = store.save("run-1", 1, 1, "a", value)
    before = store.size_bytes()

    freed = pack_all(store)

    assert 0 < freed == before - store.size_bytes()
    found = store.load(artifact)
    assert type(found) is type(value)
    assert found.equals(value)


def test_a_full_store_packs_what_was_not_used_for_long(tmp_path):
    store = LocalArtifactStore(tmp_path, max_store_bytes=1_000_000)
    tables = [pa.table({"x": np.full(50_000, seed)}) for seed in range(10)]

    artifacts = [store.save("run-1", seed, 1, "a", table) for seed, table in enumerate(tables)]

    assert all(artifacts)
    assert store.size_bytes() < 1_500_000
    for artifact, table in zip(artifacts, tables, strict=True):
        assert store.load(artifact).equals(table)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damage_before_or_after_packing_is_never_a_wrong_answer(tmp_path_factory, data):
    store = LocalArtifactStore(tmp_path_factory.mktemp("store"))
    table = pa.table({"x": np.arange(2000) % 3})
    artifact = store.save("run-1", 1, 1, "a", table)
    path = store.folder.parent / artifact.path
    is_before = data.draw(st.booleans())
    if not is_before:
        pack_all(store)
    target = path if is_before else find_packed(path)
    content = bytearray(target.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    target.chmod(0o600)
    target.write_bytes(content)
    if is_before:
        pack_all(store)

    with pytest.raises(StorageError, match=r"damaged|unreadable"):
        store.load(artifact)


def test_what_is_no_table_or_would_not_shrink_stays(store):
    sealed = store.save("run-1", 1, 1, "a", TYPES["plain"], encrypt=True)
    noise = pa.table({"x": np.random.default_rng(1).random(10)})
    tiny = store.save("run-1", 2, 1, "b", noise)

    assert pack_all(store) == 0
    assert store.load(sealed).num_rows == ROWS
    assert store.load(tiny).equals(noise)


def test_removing_a_run_removes_its_packed_files(store):
    store.save("run-1", 1, 1, "a", TYPES["plain"])
    pack_all(store)

    store.remove_run("run-1")

    assert store.size_bytes() == 0


def test_checks_and_backups_know_packed_files(store, tmp_path):
    from flowbuilder.store.artifact_inspection import inspector_of

    artifact = store.save("run-1", 1, 1, "a", TYPES["plain"])
    inspector = inspector_of(store)
    pack_all(store)

    assert inspector.inspect(artifact) == ""
    assert [found.path for found in inspector.stored()] == [artifact.path]
    inspector.copy_to(artifact.path, tmp_path / "copy" / artifact.path, may_link=True)
    assert LocalArtifactStore(tmp_path / "copy").load(artifact).schema == TYPES["plain"].schema
    packed = find_packed(tmp_path / artifact.path)
    content = bytearray(packed.read_bytes())
    content[100] ^= 1
    packed.unlink()
    packed.write_bytes(content)
    assert inspector.inspect(artifact) == "its content does not match its digest"
    packed.unlink()
    assert inspector.inspect(artifact) == "it is missing"
