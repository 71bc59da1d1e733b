"""What every artifact store keeps: the contract of `flowbuilder.store.ports.ArtifactStore`, for
each implementation.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from flowbuilder.errors import StorageError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def store(artifact_place):
    return artifact_place.open()


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is Point and other.x == self.x

    __hash__ = None


def tables():
    np = pytest.importorskip("numpy")
    pa = pytest.importorskip("pyarrow")
    pl = pytest.importorskip("polars")
    pd = pytest.importorskip("pandas")
    columns = {"a": [1, None, 3], "s": ["x", "é", None], "f": [0.5, float("inf"), None]}
    yield "numpy", np.arange(12.0).reshape(3, 4), np.array_equal
    yield "pyarrow", pa.table(columns), lambda a, b: a.equals(b)
    yield "polars", pl.DataFrame(columns), lambda a, b: a.equals(b)
    yield (
        "pandas",
        pd.DataFrame({"a": [1, 2], "t": pd.to_datetime([1, 2])}),
        lambda a, b: a.equals(b),
    )


VALUES = [
    None,
    {"a": [1, {"b": b"\0", "": None}], "big": "é" * 10_000},
    b"",
    b"\0\xff" * 10_000,
    (1, (2,)),
    {1: "a", (2, 3): {4}},
    [2**70, 1j, -0.0],
    "\ud800",
    Point([1]),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: repr(v)[:20])
def test_values_come_back_equal_wherever_they_are_read(artifact_place, store, value):
    artifact = store.save("run-1", 3, 1, "output", value)

    for reader in (store, artifact_place.open(), store):
        found = reader.load(artifact)
        assert repr(found) == repr(value) or found == value
        assert type(found) is type(value)
    assert (artifact.instance, artifact.attempt, artifact.name) == (3, 1, "output")
    assert artifact.size_bytes == len(artifact_place.read(artifact.path))


def test_tables_come_back_equal_with_their_library(artifact_place, store):
    for library, table, is_equal in tables():
        artifact = store.save("run-1", 0, 1, library, table)
        assert artifact.type_name.startswith(library)
        for reader in (store, artifact_place.open()):
            found = reader.load(artifact)
            assert type(found) is type(table)
            assert is_equal(found, table)


def test_large_outputs_come_back_whole(artifact_place, store):
    value = os.urandom(2**16) * 300  # several parts of an upload
    artifact = store.save("run-1", 0, 1, "output", value)

    assert artifact_place.open().load(artifact) == value


def test_encrypted_outputs_are_sealed_wherever_they_are(artifact_place, store, tmp_path):
    artifact = store.save("run-1", 0, 1, "output", b"plainly visible" * 100, encrypt=True)

    assert b"plainly" not in artifact_place.read(artifact.path)
    copies = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert not any(b"plainly" in path.read_bytes() for path in copies)
    assert artifact_place.open().load(artifact) == b"plainly visible" * 100


def test_live_objects_are_volatile_and_leave_nothing(artifact_place, store):
    for value in (threading.Lock(), iter([1]), (i for i in ()), {"lock": threading.Lock()}):
        assert store.save("run-1", 0, 1, "output", value) is None

    assert artifact_place.paths() == set()


def test_too_large_outputs_are_volatile(artifact_place):
    store = artifact_place.open(max_bytes=1000)

    for value in (b"x" * 1001, "x" * 1001, Point("x" * 1001)):
        assert store.save("run-1", 0, 1, "output", value) is None
    assert artifact_place.paths() == set()
    assert store.save("run-1", 0, 1, "output", b"x" * 1000) is not None


@pytest.mark.parametrize("value", [b"abc", {"a": 1}, Point(1)], ids=["bytes", "tree", "pickle"])
@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "empty", "gone"])
def test_damaged_outputs_count_as_absent(artifact_place, store, value, damage):
    artifact = store.save("run-1", 0, 1, "output", value)
    content = artifact_place.read(artifact.path)
    damaged = {
        "flip": bytes([content[0] ^ 1]) + content[1:],
        "cut": content[:-1],
        "longer": content + b"x",
        "empty": b"",
        "gone": None,
    }
    artifact_place.write(artifact.path, damaged[damage])

    with pytest.raises(StorageError, match="missing" if damage == "gone" else "damaged"):
        artifact_place.open().load(artifact)


def test_pickles_without_a_valid_signature_are_never_read(artifact_place, store, tmp_path):
    artifact = store.save("run-1", 0, 1, "output", Point(1))
    content = artifact_place.read(artifact.path)
    ran = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(ran),))

    attack = pickle.dumps(Attack())
    magic = content[: content.index(b"\n") + 1]
    for forged in (attack, magic + attack + content[-32:], magic + attack, content[:-1] + b"?"):
        artifact_place.write(artifact.path, forged)
        digest = hashlib.blake2b(forged, digest_size=32).hexdigest()
        edited = msgspec.structs.replace(artifact, digest=digest, size_bytes=len(forged))
        with pytest.raises(StorageError, match="not signed"):
            artifact_place.open().load(edited)
    assert not ran.exists()


def test_pickles_of_another_user_are_never_read(artifact_place, store, home):
    artifact = store.save("run-1", 0, 1, "output", Point(1))
    (home / "signing.key").unlink()

    with pytest.raises(StorageError, match="no signing key"):
        artifact_place.open().load(artifact)


PATHS = ["../secret", "/etc/passwd", "artifacts/../../secret", "secret", "artifacts/a/../../../x"]


@pytest.mark.parametrize("path", PATHS)
def test_paths_outside_the_store_are_refused(store, path):
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
def test_output_names_may_be_anything(artifact_place, store, name):
    artifact = store.save("run-1", 0, 1, name, b"x")

    assert artifact_place.open().load(artifact) == b"x"
    assert store.save("run-1", 0, 1, name + "2", b"y").path != artifact.path


def test_attempts_do_not_overwrite_each_other(artifact_place, store):
    saved = [store.save("run-1", 0, attempt, "output", attempt) for attempt in (1, 2, 3)]

    assert [artifact_place.open().load(artifact) for artifact in saved] == [1, 2, 3]


def test_saving_the_same_output_again_replaces_it(artifact_place, store):
    first = store.save("run-1", 0, 1, "output", b"x")
    again = artifact_place.open().save("run-1", 0, 1, "output", b"y")

    assert artifact_place.open().load(again) == b"y"
    with pytest.raises(StorageError, match="damaged"):
        artifact_place.open().load(first)


def test_remove_run_deletes_its_files_and_no_others(artifact_place, store):
    one = [store.save("run-1", n, 1, "output", b"x") for n in range(3)]
    two = store.save("run-10", 0, 1, "output", b"x")
    store.remove_run("run-1")
    store.remove_run("run-9")

    for reader in (store, artifact_place.open()):
        for artifact in one:
            with pytest.raises(StorageError, match="missing"):
                reader.load(artifact)
        assert reader.load(two) == b"x"
    assert artifact_place.paths() == {two.path}


def test_many_threads_save_and_load_at_once(artifact_place, store):
    def work(number: int) -> bool:
        artifact = store.save("run-1", number, 1, "output", {"n": number})
        return store.load(artifact) == artifact_place.open().load(artifact) == {"n": number}

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(24)))
    assert len(artifact_place.paths()) == 24


def test_encrypted_outputs_come_back_and_are_nowhere_in_clear(artifact_place, store, tmp_path):
    value = ["the patient is called Ada"] * 10

    artifact = store.save("run-1", 1, 1, "a", value, encrypt=True)

    assert artifact.cipher
    assert artifact_place.open().load(artifact) == value
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(b"Ada" in path.read_bytes() for path in files)
