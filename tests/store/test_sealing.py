"""Encrypted outputs: nothing in clear on disk, and a file opens only where it belongs."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbuilder.errors import ConfigurationError, FlowBuilderError, PluginError, StorageError
from flowbuilder.store.artifact_files import ByteSink
from flowbuilder.store.local_artifacts import LocalArtifactStore
from flowbuilder.store.sealing import KEY_VARIABLE, encryption_key, require_sealing, seal, unseal

KEY = bytes(range(32))
SECRET = "the-patient-is-called-Ada"


class Memory(ByteSink):
    def __init__(self):
        super().__init__()
        self.content = b""

    def write(self, data):
        self.content += bytes(data)
        return len(data)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    return tmp_path / "home"


@pytest.fixture
def store(tmp_path):
    return LocalArtifactStore(tmp_path / "store")


def sealed(data, *, key=KEY, binding=b"here"):
    sink = Memory()
    seal(sink, key, binding, lambda inner: [inner.write(part) for part in data])
    return sink.content


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=2000), max_size=5), st.binary(max_size=50))
def test_what_is_sealed_opens_with_the_same_key_and_binding(parts, binding):
    content = sealed(parts, binding=binding)

    assert bytes(unseal(content, KEY, binding, "x")) == b"".join(parts)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_changed_or_missing_byte_is_an_error(data):
    content = bytearray(sealed([b"some content"]))
    where = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[where] ^= data.draw(st.integers(1, 255))
    else:
        del content[where]

    with pytest.raises(StorageError):
        unseal(bytes(content), KEY, b"here", "x")


def test_another_key_or_another_place_is_an_error_that_says_so():
    content = sealed([b"some content"])

    with pytest.raises(StorageError, match=f"was encrypted with key .*set {KEY_VARIABLE}"):
        unseal(content, bytes(32), b"here", "x")
    with pytest.raises(StorageError, match="changed, or belongs to another task"):
        unseal(content, KEY, b"there", "x")


def test_each_file_has_a_nonce_of_its_own():
    assert sealed([b"same"]) != sealed([b"same"])


def values():
    import numpy as np
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    return [
        {"name": SECRET},
        SECRET.encode() * 1000,
        [SECRET, (1, 2)],
        pa.table({"name": [SECRET] * 100}),
        pl.DataFrame({"name": [SECRET] * 100}),
        pd.DataFrame({"name": [SECRET] * 100}),
        np.array([SECRET] * 100),
    ]


@pytest.mark.parametrize("number", range(7))
def test_nothing_is_on_disk_in_clear_and_values_come_back_equal(store, tmp_path, number):
    value = values()[number]

    artifact = store.save("run-1", 3, 1, "people", value, encrypt=True)

    found = store.load(artifact)
    assert type(found) is type(value)
    same = found == value if isinstance(value, dict | bytes | list) else None
    if same is None:
        same = value.equals(found) if hasattr(value, "equals") else bool((value == found).all())
    assert same
    assert artifact.cipher == "aes-256-gcm"
    assert artifact.num_rows == -1
    assert SECRET not in repr(artifact)
    wide = SECRET.encode("utf-32-le")
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.parent.name != "home":
            assert SECRET.encode() not in path.read_bytes()
            assert wide not in path.read_bytes()


def test_a_file_put_in_the_place_of_another_does_not_open(store, tmp_path):
    from msgspec.structs import replace

    first = store.save("run-1", 1, 1, "a", {"x": 1}, encrypt=True)
    second = store.save("run-1", 2, 1, "b", {"x": 2}, encrypt=True)
    (tmp_path / "store" / second.path).write_bytes((tmp_path / "store" / first.path).read_bytes())

    with pytest.raises(StorageError, match="belongs to another task"):
        store.load(replace(second, digest=first.digest))
    with pytest.raises(StorageError, match="belongs to another task"):
        store.load(replace(first, name="b"))


def test_the_variable_goes_before_the_file(store, monkeypatch, home):
    monkeypatch.setenv(KEY_VARIABLE, KEY.hex())
    artifact = store.save("run-1", 1, 1, "a", SECRET, encrypt=True)

    assert store.load(artifact) == SECRET
    assert not (home / "encryption.key").exists()
    monkeypatch.setenv(KEY_VARIABLE, bytes(32).hex())
    with pytest.raises(StorageError, match=f"the key here is .*set {KEY_VARIABLE}"):
        store.load(artifact)
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(StorageError, match="there is no encryption key"):
        store.load(artifact)
    monkeypatch.setenv(KEY_VARIABLE, "secret!")
    with pytest.raises(ConfigurationError, match="64 hexadecimal digits") as caught:
        store.load(artifact)
    assert "secret!" not in str(caught.value)


def test_the_key_file_is_made_once_and_for_the_user_alone(home):
    require_sealing()
    first = encryption_key(create=True)

    assert encryption_key(create=False) == first
    if os.name == "posix":
        assert (home / "encryption.key").stat().st_mode & 0o077 == 0
        (home / "encryption.key").chmod(0o644)
        with pytest.raises(StorageError, match=r"open to other users.*chmod 600"):
            encryption_key(create=False)


def test_a_missing_library_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)

    with pytest.raises(PluginError, match=r"flowbuilder\[encrypt\]"):
        require_sealing()


def test_an_unknown_cipher_is_an_error(store):
    from msgspec.structs import replace

    artifact = store.save("run-1", 1, 1, "a", SECRET, encrypt=True)

    with pytest.raises(FlowBuilderError, match="does not know"):
        store.load(replace(artifact, cipher="rot13"))


def test_the_catalogue_keeps_what_it_takes_to_read_one(tmp_path, store):
    from flowbuilder.store.batch import artifact_row

    artifact = store.save("run-1", 1, 1, "a", SECRET, encrypt=True)

    assert artifact_row("run-1", artifact)[4] == "msgpack+aes-256-gcm"
