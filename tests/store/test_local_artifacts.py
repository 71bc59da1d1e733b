"""Outputs on disk: what is stored comes back equal, with its type, or not at all."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowbuilder.errors import StorageError
from flowbuilder.records import ArtifactStored
from flowbuilder.store.local_artifacts import LocalArtifactStore
from flowbuilder.store.signing import signing_key


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def store(tmp_path):
    return LocalArtifactStore(tmp_path / "store")


def round_trip(store, value):
    artifact = store.save("run-1", 3, 1, "output", value)
    assert artifact is not None
    return artifact, store.load(artifact)


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is Point and other.x == self.x

    __hash__ = None


@pytest.mark.parametrize(
    ("value", "file_format"),
    [
        (None, "msgpack"),
        ("é" * 10_000, "msgpack"),
        ({"a": [1, {"b": b"\0", "__type__": "tuple", "": None}]}, "msgpack"),
        (b"\0" * 10_000, "bytes"),
        (bytearray(b"x"), "pickle"),
        ((1, (2,)), "pickle"),
        ({1: "a", (2, 3): {4}}, "pickle"),
        ([2**70, 1j], "pickle"),
        ("\ud800", "pickle"),
        ({"a": (1, 2)}, "pickle"),
        (Point([1]), "pickle"),
    ],
    ids=lambda v: repr(v)[:20],
)
def test_values_come_back_equal_with_their_type(store, value, file_format):
    artifact, found = round_trip(store, value)

    assert artifact.format == file_format
    assert found == value
    assert type(found) is type(value)
    assert (artifact.instance, artifact.attempt, artifact.name) == (3, 1, "output")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]))
    | st.binary()
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner)
        | st.sets(st.integers(), max_size=1)
    ),
    max_leaves=12,
)


@given(VALUES)
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_tree_comes_back_as_it_was(value):
    with tempfile.TemporaryDirectory() as folder:
        _, found = round_trip(LocalArtifactStore(Path(folder)), value)

    assert repr(found) == repr(value)


def test_lambdas_and_notebook_classes_are_stored(store):
    _, found = round_trip(store, lambda x: x + 1)

    assert found(1) == 2


@contextmanager
def managed():
    yield


def volatile_values():
    async def coroutine():
        pass

    pending = coroutine()
    with Path(os.devnull).open() as file:
        yield from (file, threading.Lock(), (i for i in ()), iter([1]), map(str, [1]), pending)
        yield from ({"lock": threading.Lock()}, [file], managed(), sys._getframe(), memoryview(b""))
    pending.close()


def test_live_objects_are_volatile_and_leave_no_file(store, tmp_path):
    for value in volatile_values():
        assert store.save("run-1", 0, 1, "output", value) is None

    assert [p for p in (tmp_path / "store").rglob("*") if p.is_file()] == []
    assert asyncio.iscoroutinefunction(volatile_values) is False


class Explosive:
    def __reduce__(self):
        raise SystemError("no")


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("/nonexistent/bomb",))


def test_object_that_fails_to_pickle_is_volatile(store):
    assert store.save("run-1", 0, 1, "output", Explosive()) is None


def test_object_that_fails_to_load_counts_as_absent(store):
    artifact = store.save("run-1", 0, 1, "output", Bomb())

    with pytest.raises(StorageError, match="unreadable"):
        store.load(artifact)


def test_too_large_outputs_are_volatile(tmp_path):
    np = pytest.importorskip("numpy")
    store = LocalArtifactStore(tmp_path / "store", max_bytes=1000)

    for value in (b"x" * 1001, "x" * 1001, Point("x" * 1001), np.zeros(200)):
        assert store.save("run-1", 0, 1, "output", value) is None
    assert store.save("run-1", 0, 1, "output", b"x" * 1000) is not None
    assert len([p for p in (tmp_path / "store").rglob("*") if p.is_file()]) == 1


def test_full_store_takes_nothing_more(tmp_path):
    store = LocalArtifactStore(tmp_path / "store", max_store_bytes=1000)

    assert store.save("run-1", 0, 1, "output", b"x" * 1000) is not None
    assert store.save("run-2", 0, 1, "output", b"x") is None
    store.remove_run("run-1")
    assert store.save("run-2", 0, 1, "output", b"x") is not None
    assert store.size_bytes() == 1


@pytest.mark.parametrize("value", [b"abc", {"a": 1}, Point(1)], ids=["bytes", "tree", "pickle"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_damaged_files_count_as_absent(store, tmp_path, value, damage):
    artifact = store.save("run-1", 0, 1, "output", value)
    path = tmp_path / "store" / artifact.path
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        flipped = bytes([content[0] ^ 1]) + content[1:]
        path.write_bytes({"flip": flipped, "cut": content[:-1], "empty": b""}[damage])

    with pytest.raises(StorageError, match="missing" if damage == "gone" else "damaged"):
        store.load(artifact)


def resealed(store_dir: Path, artifact: ArtifactStored, content: bytes) -> ArtifactStored:
    """Somebody edits the file and the journal alike: only the signature can tell."""
    import hashlib

    (store_dir / artifact.path).write_bytes(content)
    digest = hashlib.blake2b(content, digest_size=32).hexdigest()
    return msgspec.structs.replace(artifact, digest=digest)


def test_pickles_without_a_valid_signature_are_never_read(store, tmp_path):
    import pickle

    artifact = store.save("run-1", 0, 1, "output", Point(1))
    content = (tmp_path / "store" / artifact.path).read_bytes()
    ran = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(ran),))

    attack = pickle.dumps(Attack())
    magic = content[: content.index(b"\n") + 1]
    forgeries = [
        attack,
        magic + attack + content[-32:],
        magic + attack + b"\0" * 32,
        magic + attack,
        content[:-1] + bytes([content[-1] ^ 1]),
        b"",
        b"\0" * 31,
    ]
    for forged in forgeries:
        with pytest.raises(StorageError, match="not signed"):
            store.load(resealed(tmp_path / "store", artifact, forged))
    assert not ran.exists()


def test_pickles_of_another_user_are_never_read(store, home):
    artifact = store.save("run-1", 0, 1, "output", Point(1))
    (home / "signing.key").unlink()

    with pytest.raises(StorageError, match="no signing key"):
        store.load(artifact)
    signing_key(create=True)
    with pytest.raises(StorageError, match="not signed with this user's key"):
        store.load(artifact)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "artifacts/../../secret", "secret"])
def test_paths_outside_the_store_are_refused(store, tmp_path, path):
    (tmp_path / "secret").write_bytes(b"s")
    artifact = store.save("run-1", 0, 1, "output", b"x")

    with pytest.raises(StorageError, match="outside"):
        store.load(msgspec.structs.replace(artifact, path=path))


@pytest.mark.parametrize("run_id", ["", "..", "a/b", "/tmp", "a" * 300, "x\0"])
def test_run_ids_that_are_no_names_are_refused(store, run_id):
    with pytest.raises(StorageError, match="expected a run id"):
        store.save(run_id, 0, 1, "output", b"x")
    with pytest.raises(StorageError, match="expected a run id"):
        store.remove_run(run_id)


@pytest.mark.parametrize("name", ["", "../x", "a" * 10_000, "con", "\ud800", "a/b\n"])
def test_output_names_may_be_anything(store, name):
    artifact = store.save("run-1", 0, 1, name, b"x")

    assert store.load(artifact) == b"x"
    assert store.save("run-1", 0, 1, name + "2", b"y").path != artifact.path


def test_unwritable_place_is_an_error(tmp_path):
    (tmp_path / "artifacts").write_text("in the way")

    with pytest.raises(StorageError, match="could not store"):
        LocalArtifactStore(tmp_path).save("run-1", 0, 1, "output", b"x")


def test_remove_run_deletes_its_files_and_no_others(store, tmp_path):
    one = store.save("run-1", 0, 1, "output", b"x")
    two = store.save("run-2", 0, 1, "output", b"x")
    store.remove_run("run-1")
    store.remove_run("run-9")

    with pytest.raises(StorageError, match="missing"):
        store.load(one)
    assert store.load(two) == b"x"


def test_folders_are_private(store, tmp_path, home):
    store.save("run-1", 0, 1, "output", Point(1))

    if os.name == "posix":
        for path in (home, tmp_path / "store" / "artifacts", home / "signing.key"):
            assert path.stat().st_mode & 0o077 == 0


def test_store_imports_no_table_library():
    program = (
        "import sys, flowbuilder.store as s; s.small_output({'a': 1});"
        "heavy = {'numpy', 'pyarrow', 'polars', 'pandas', 'duckdb', 'asyncio', 'cloudpickle'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert done.stdout.strip() == b"[]"
